"""Networks of other kinds against torch.nn, seed by seed; their initial weights; modules of a user's own."""

import itertools

import own_modules
import pytest
import torch
from torch import nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from lit_maprops.stacked.layers import Architecture, Picture, StackedLayers
from lit_maprops.stacked.modules import StackedModule
from lit_maprops.stacked.nets import StackedMLP, StackedNet
from lit_maprops.stacked.streams import SeedStreams

STACKS = [(3,), (2, 2)]
PICTURE = Picture(3, (2, 6, 5))
IN, OUT = 3 + 60 + 2, 4  # numbers before the picture and behind it
CNN = [[4, 3, 1], [5, 2, 2]]  # 4 x 4 x 3, then 5 x 2 x 1


def generators(ids: list[int]) -> list[torch.Generator]:
    return SeedStreams(7, ids, "test").generators


def stacked(architecture: Architecture, stack: tuple[int, ...], ids: list[int] | None = None) -> StackedNet:
    own = generators(list(range(stack[0])) if ids is None else ids)
    return architecture.stacked(IN, OUT, stack, 0.5, own, PICTURE if architecture.cnn else None)


class Reference(nn.Module):
    """One network, written with torch's own layers."""

    def __init__(self, activation: type[nn.Module], layer_norm: bool, cnn: bool) -> None:
        super().__init__()
        self.convolutions = nn.Sequential()
        width = IN
        if cnn:
            self.convolutions = nn.Sequential(nn.Conv2d(2, 4, 3), activation(), nn.Conv2d(4, 5, 2, 2), activation())
            width = 5 + 5 * 2 * 1
        first = [nn.Linear(width, 8), nn.LayerNorm(8)] if layer_norm else [nn.Linear(width, 8)]
        second = [nn.Linear(8, 6), nn.LayerNorm(6)] if layer_norm else [nn.Linear(8, 6)]
        self.layers = nn.Sequential(*first, activation(), *second, activation(), nn.Linear(6, OUT))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if len(self.convolutions):
            picture = self.convolutions(x[:, 3:63].reshape(-1, 2, 6, 5))
            x = torch.cat([x[:, :3], x[:, 63:], picture.reshape(len(x), -1)], 1)
        return self.layers(x)


KINDS = {"tanh": nn.Tanh, "relu": nn.ReLU, "leaky_relu": nn.LeakyReLU, "elu": nn.ELU, "silu": nn.SiLU, "gelu": nn.GELU}


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("cnn", [False, True])
@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("activation", KINDS)
def test_they_are_torchs_layers_for_every_seed(activation, layer_norm, cnn, stack):
    """Outputs and gradients."""
    if activation == "tanh" and not layer_norm and not cnn:
        assert type(stacked(Architecture([8, 6]), stack)) is StackedMLP
        return
    net = stacked(Architecture([8, 6], activation, layer_norm, cnn=CNN if cnn else ()), stack)
    assert type(net) is StackedLayers
    nn.init.normal_(net.flat, std=0.3, generator=torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(2)
    inputs = torch.randn(*stack, 7, IN, generator=generator)
    pull = torch.randn(*stack, 7, OUT, generator=generator)
    output = net(inputs)
    (output * pull).sum().backward()
    with torch.no_grad():  # as what trains an adjustment goes through them
        layers = net.passes.layers(net.flat.flatten(0, -2))
        saved, passed = net.passes.forward(layers, inputs.flatten(0, -3))
        gradients = net.passes.backward(layers, saved, pull.flatten(0, -3).mT)
    torch.testing.assert_close(passed.mT.unflatten(0, stack), output.detach())
    torch.testing.assert_close(gradients.unflatten(0, stack), net.flat.grad)
    for entry in itertools.product(*map(range, stack)):
        reference = Reference(KINDS[activation], layer_norm, cnn)
        vector_to_parameters(net.flat[entry].detach().clone(), reference.parameters())
        expected = reference(inputs[entry])
        (expected * pull[entry]).sum().backward()
        torch.testing.assert_close(output[entry], expected, rtol=1e-5, atol=1e-6)
        gradient = parameters_to_vector([p.grad for p in reference.parameters()])
        torch.testing.assert_close(net.flat.grad[entry], gradient, rtol=1e-5, atol=1e-5)


def assert_orthogonal(weight: torch.Tensor, gain: float) -> None:
    matrix = weight.flatten(1).double()
    matrix = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    expected = gain**2 * torch.eye(len(matrix), dtype=torch.float64)
    torch.testing.assert_close(matrix @ matrix.T, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("kind", ["tanh", "gelu", "cnn"])
def test_initial_weights_are_orthogonal_with_their_gain(kind, stack):
    architecture = Architecture([8, 6], "tanh" if kind == "tanh" else "gelu", False, 1.5, 0.01)
    net = stacked(architecture._replace(cnn=CNN if kind == "cnn" else ()), stack)
    for entry in itertools.product(*map(range, stack)):
        if isinstance(net, StackedModule):
            parts = [p for p in net.entry(*entry).modules() if isinstance(p, nn.Linear | nn.Conv2d)]
            weights, biases = [p.weight for p in parts], [p.bias for p in parts]
        else:
            place = entry[0] if len(entry) == 1 else entry[0] * stack[1] + entry[1]
            weights, biases = [w[place] for w, _ in net.layers()], [b[place] for _, b in net.layers()]
        assert len(weights) == (5 if kind == "cnn" else 3)
        for weight in weights[:-1]:
            assert_orthogonal(weight.detach(), 1.5)
        assert_orthogonal(weights[-1].detach(), 0.01)
        assert not any(bias.any() for bias in biases)


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize(
    "architecture",
    [Architecture([8], "relu"), Architecture([8], cnn=CNN), Architecture([], own=own_modules.Residual)],
    ids=["relu", "cnn", "own"],
)
def test_a_seeds_weights_depend_on_the_run_seed_and_its_own_number(architecture, stack):
    before = torch.random.get_rng_state()
    many = stacked(architecture, stack)
    alone = stacked(architecture, (1, *stack[1:]), [stack[0] - 1])
    assert torch.equal(many.flat[-1:], alone.flat)
    for one, other in zip(many.buffers(), alone.buffers(), strict=True):
        assert torch.equal(one[-1:], other)
    assert many.flat.flatten(0, -2).unique(dim=0).shape[0] == many.flat.flatten(0, -2).shape[0]
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("stack", STACKS)
def test_an_own_module_is_a_loop_over_seeds(stack):
    """Outputs, gradients, and what is no weight: buffers and weights that are not trained are every seed's own."""
    net = stacked(Architecture([], own=own_modules.Residual), stack)
    inputs = torch.randn(*stack, 9, IN, generator=torch.Generator().manual_seed(3))
    net(inputs).square().sum().backward()
    places = list(itertools.product(*map(range, stack)))
    for seed, generator in enumerate(generators(list(range(stack[0])))):
        torch.manual_seed(0)
        torch.set_rng_state(generator.get_state())
        for entry in [place for place in places if place[0] == seed]:
            module = own_modules.Residual(IN, OUT)
            output = module(inputs[entry])
            output.square().sum().backward()
            torch.testing.assert_close(net(inputs)[entry], output, rtol=1e-5, atol=1e-6)
            gradient = parameters_to_vector([p.grad for p in module.parameters() if p.requires_grad])
            torch.testing.assert_close(net.flat.grad[entry], gradient, rtol=1e-5, atol=1e-5)


def test_repeated_networks_stand_in_a_row():
    net = stacked(Architecture([], own=own_modules.Residual), (2, 2))
    inputs = torch.randn(2, 2, 3, IN)
    outputs = net.repeated(3)(inputs.repeat_interleave(3, 0))
    torch.testing.assert_close(outputs, net(inputs).repeat_interleave(3, 0))


def test_many_rows_go_through_in_parts(monkeypatch):
    net = stacked(Architecture([8], "relu"), (3,))
    inputs = torch.randn(3, 50, IN)
    with torch.no_grad():
        whole = net(inputs)
        monkeypatch.setattr("lit_maprops.stacked.modules.PART_NUMBERS", 1000)
        torch.testing.assert_close(net(inputs), whole)
        assert net(inputs[:, :0]).shape == (3, 0, OUT)
