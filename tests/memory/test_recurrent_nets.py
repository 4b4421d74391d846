"""Stacked recurrent networks against TorchRL's modules, one network at a time: outputs, resets, gradients."""

import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule, TensorDictSequential
from torch import Tensor, nn
from torchrl.modules import GRUModule, LSTMModule, set_recurrent_mode

from lit_maprops.stacked.agents import agent_network, unroll_agents
from lit_maprops.stacked.cells import Cell
from lit_maprops.stacked.layers import Architecture
from lit_maprops.stacked.nets import StackedMLP
from lit_maprops.stacked.recurrent import RecurrentNet

SEEDS, AGENTS, STEPS, ROWS, SEEN, UNITS, OUT = 2, 3, 7, 4, 5, 6, 2
CELLS = pytest.mark.parametrize("kind", ["gru", "lstm"])
KINDS = {"tanh": Architecture([8]), "table": Architecture([]), "gelu": Architecture([8, 8], "gelu", layer_norm=True)}


def generators(seeds: int = SEEDS) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in range(seeds)]


def made(kind: str, share: bool = False, name: str = "tanh", seeds: int = SEEDS) -> RecurrentNet:
    architecture = KINDS[name]._replace(cell=Cell(kind, UNITS))
    net = agent_network(AGENTS, SEEN, architecture, OUT, share, 1.0, generators(seeds))
    for number, weight in enumerate(net.parameters()):  # biases, too
        nn.init.normal_(weight, std=0.5, generator=torch.Generator().manual_seed(number))
    return net


def data(carried: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs, memory, and begins: some in the middle, some at the first step."""
    rng = torch.Generator().manual_seed(seed)
    inputs = torch.randn(SEEDS, AGENTS, STEPS, ROWS, SEEN, generator=rng)
    memory = torch.randn(SEEDS, AGENTS, ROWS, carried, generator=rng)
    return inputs, memory, torch.rand(SEEDS, AGENTS, STEPS, ROWS, generator=rng) < 0.25


class TorchRL:
    """One entry of a ``RecurrentNet`` with tanh layers, of torch's and TorchRL's modules; weights are copies."""

    def __init__(self, net: RecurrentNet, entry: int) -> None:
        assert isinstance(net.encoder, StackedMLP)
        layers = net.encoder.layers()
        *hidden, (gates, offset) = [(w[entry].detach(), None if b is None else b[entry].detach()) for w, b in layers]
        self.parts: list[nn.Module] = []
        for weight, bias in hidden:
            layer = nn.Linear(weight.shape[1], weight.shape[0])
            layer.weight.data, layer.bias.data = weight.clone(), bias.clone()
            self.parts += [layer, nn.Tanh()]
        inner, bias, last, last_bias = (part.detach().clone() for part in net.weights_of(*divmod(entry, AGENTS)))
        self.is_gru = net.cell.kind == "gru"
        kind, states = (GRUModule, ["h"]) if self.is_gru else (LSTMModule, ["h", "c"])
        keys = {"in_keys": ["features", *states], "out_keys": ["hidden", *[("next", name) for name in states]]}
        cell = kind(gates.shape[1], UNITS, **keys)
        self.rnn = cell.gru if self.is_gru else cell.lstm
        self.rnn.weight_ih_l0.data, self.rnn.weight_hh_l0.data = gates.clone(), inner
        self.rnn.bias_ih_l0.data = torch.zeros(net.cell.gates) if offset is None else offset.clone()
        self.rnn.bias_hh_l0.data = bias
        self.last = nn.Linear(UNITS, OUT)
        self.last.weight.data, self.last.bias.data = last, last_bias
        first = TensorDictModule(nn.Sequential(*self.parts), in_keys=["x"], out_keys=["features"])
        end = TensorDictModule(self.last, in_keys=["hidden"], out_keys=["out"])
        self.whole = TensorDictSequential(first, cell, end)

    def __call__(self, inputs: Tensor, memory: Tensor, begins: Tensor) -> tuple[Tensor, Tensor]:
        """``[L, B, .]``, ``[B, .]`` and ``[L, B]`` to outputs and memories ``[L, B, .]``."""
        steps = {"x": inputs.transpose(0, 1), "is_init": begins.T.unsqueeze(-1)}
        for name, part in zip("hc", memory.split(UNITS, -1), strict=False):
            kept = torch.where(begins.T.unsqueeze(-1), 0.0, part.unsqueeze(1))  # it reads them where episodes begin
            steps[name] = kept.unsqueeze(2)
        with set_recurrent_mode(True):
            found = self.whole(TensorDict(steps, batch_size=[ROWS, STEPS]))
        after = [found.get(("next", name)).squeeze(2) for name in ("h" if self.is_gru else "hc")]
        return found["out"].transpose(0, 1), torch.cat(after, -1).transpose(0, 1)

    def gradients(self) -> tuple[Tensor, Tensor]:
        """In the order of the encoder's weights and of the net's own."""
        encoder = [layer for layer in self.parts if isinstance(layer, nn.Linear)]
        weights = [weight for layer in encoder for weight in (layer.weight, layer.bias)]
        weights += [self.rnn.weight_ih_l0, *([self.rnn.bias_ih_l0] if encoder else [])]
        shift = UNITS if self.is_gru else 0  # our order of its gates is another
        inner = [weight.grad.roll(shift, 0) for weight in (self.rnn.weight_hh_l0, self.rnn.bias_hh_l0)]
        own = [*inner, self.last.weight.grad, self.last.bias.grad]
        encoded = [weight.grad for weight in weights]
        return tuple(torch.cat([gradient.flatten() for gradient in part]) for part in (encoded, own))


@CELLS
@pytest.mark.parametrize("name", ["tanh", "table"])
def test_every_entry_is_torchrls_module(kind: str, name: str) -> None:
    net = made(kind, name=name)
    inputs, memory, begins = data(net.cell.carried)
    outputs, after = net.unroll(inputs, memory, begins)
    slope = torch.randn(outputs.shape, generator=torch.Generator().manual_seed(9))
    (outputs * slope).sum().backward()
    for entry in range(SEEDS * AGENTS):
        place = divmod(entry, AGENTS)
        reference = TorchRL(net, entry)
        begin = begins[place]
        wanted, remembered = reference(inputs[place], memory[place], begin)
        torch.testing.assert_close(outputs[place], wanted, rtol=1e-4, atol=1e-5)
        ends = torch.cat([begin[1:], torch.ones_like(begin[:1])])  # it tells what is remembered at an episode's end
        torch.testing.assert_close(after[place][ends], remembered[ends], rtol=1e-4, atol=1e-5)
        (wanted * slope[place]).sum().backward()
        of_encoder, own = reference.gradients()
        torch.testing.assert_close(net.encoder.flat.grad[place], of_encoder, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(net.flat.grad[place], own, rtol=1e-4, atol=1e-4)


@CELLS
@pytest.mark.parametrize("name", ["tanh", "table"])
@pytest.mark.parametrize("size", [1, 4, 100])
def test_backpropagation_is_what_autograd_makes_of_it(kind: str, name: str, size: int, monkeypatch) -> None:
    """In groups of networks of any size; gradients of before are overwritten."""
    net, twin = made(kind, name=name), made(kind, name=name)
    inputs, memory, begins = data(net.cell.carried)
    outputs, _ = twin.unroll(inputs, memory, begins)
    target = torch.randn(SEEDS * AGENTS, OUT, STEPS * ROWS, generator=torch.Generator().manual_seed(9))
    (outputs.flatten(2, 3).flatten(0, 1).mT - target).square().sum().backward()

    def loss(output: Tensor, part: slice) -> tuple[dict[str, Tensor], Tensor]:
        error = output.sub_(target[part])
        return {"squares": error.square().sum((1, 2))}, 2 * error

    count = SEEDS * AGENTS
    parts = [slice(first, min(first + size, count)) for first in range(0, count, size)]
    monkeypatch.setattr(RecurrentNet, "groups", lambda self, rows: parts)
    for _ in range(2):
        losses = net.backpropagate(*(tensor.flatten(0, 1) for tensor in (inputs, memory, begins)), loss)
        for one, other in zip(net.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-4)
    wanted = (outputs.flatten(2, 3).flatten(0, 1).mT - target).square().sum((1, 2))
    torch.testing.assert_close(losses["squares"], wanted.detach())


@CELLS
@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("share", [True, False], ids=["shared", "separate"])
def test_sequences_are_their_steps(kind: str, name: str, share: bool) -> None:
    """Unrolled at once, or step by step with the memory carried by hand; agents side by side or one by one."""
    net = made(kind, share, name)
    inputs, memory, begins = data(net.cell.carried)
    seen, memory, begins = inputs.permute(0, 2, 3, 1, 4), memory.transpose(1, 2), begins[:, 0]
    outputs, after = unroll_agents(net, seen, memory, begins)
    for step in range(STEPS):
        memory = torch.where(begins[:, step, :, None, None], 0.0, memory)
        output, now = unroll_agents(net, seen[:, step : step + 1], memory)
        torch.testing.assert_close(output[:, 0], outputs[:, step])
        torch.testing.assert_close(now[:, 0], after[:, step])
        memory = now[:, 0]


@CELLS
def test_gradients_are_those_of_finite_differences(kind: str) -> None:
    net = made(kind).double()
    inputs, memory, begins = data(net.cell.carried)
    flats = [weight.detach().requires_grad_() for weight in net.parameters()]

    def outputs(flat: Tensor, encoder: Tensor) -> Tensor:
        given = {"flat": flat, "encoder.flat": encoder}
        call = (inputs[:, :, :3, :2].double(), memory[:, :, :2].double(), begins[:, :, :3, :2])
        return torch.func.functional_call(Unrolling(net), {f"net.{k}": v for k, v in given.items()}, call)

    small = [flat[:1, :1].expand_as(flat).clone() for flat in flats]
    assert torch.autograd.gradcheck(outputs, [one.requires_grad_() for one in small], fast_mode=True)


class Unrolling(nn.Module):
    def __init__(self, net: RecurrentNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, *given: Tensor) -> Tensor:
        return self.net.unroll(*given)[0]


@CELLS
def test_repeated_networks_stand_in_a_row(kind: str) -> None:
    net = made(kind)
    inputs, memory, begins = data(net.cell.carried)
    wanted = net.unroll(inputs, memory, begins)
    three = [tensor.repeat_interleave(3, 0) for tensor in (inputs, memory, begins)]
    found = net.repeated(3).unroll(*three)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other.repeat_interleave(3, 0))


@CELLS
def test_seeds_start_by_themselves(kind: str) -> None:
    """Seed 1 of three is seed 1 of two; every matrix is orthogonal."""
    two, three = (
        Architecture([8], cell=Cell(kind, UNITS)).stacked(SEEN, OUT, (n, AGENTS), 0.5, generators(n)) for n in (2, 3)
    )
    for one, other in zip(two.parameters(), three.parameters(), strict=True):
        torch.testing.assert_close(one, other[:2])
    inner, bias, last, last_bias = two.weights_of(1, 2)
    torch.testing.assert_close(inner.T @ inner, torch.eye(UNITS))
    torch.testing.assert_close(last @ last.T, 0.25 * torch.eye(OUT))
    assert not bias.any() and not last_bias.any()


def test_moderate() -> None:
    net = made("gru")
    assert net.moderate()
    for weight in net.parameters():
        before = weight.detach().clone()
        weight.data[1, 2, 3] = torch.nan
        assert not net.moderate()
        weight.data.copy_(before)


@CELLS
def test_a_nan_stays_in_its_seed(kind: str) -> None:
    net = made(kind)
    inputs, memory, begins = data(net.cell.carried)
    memory[1, 0, 0] = torch.nan
    begins[1, 0, :, 0] = False
    outputs, after = net.unroll(inputs, memory, begins)
    outputs.sum().backward()
    for found in (outputs, after, net.flat.grad, net.encoder.flat.grad):
        assert found[0].isfinite().all() and found[1].isnan().any() and found[1, 1:].isfinite().all()
