"""Stacked networks and optimizer steps against torch.nn.Linear, torch.optim.Adam and torch's gradient clipping."""

import copy
import itertools

import pytest
import torch
from stacked_layers import biases, weights
from torch import Tensor, nn

from lit_maprops.stacked.nets import StackedMLP
from lit_maprops.stacked.optimizer import SeedAdam, clip_grad_norm

STACKS = [(3,), (2, 4)]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def generators(n_seeds: int) -> list[torch.Generator]:
    return [generator(seed) for seed in range(n_seeds)]


def entries(stack: tuple[int, ...]) -> list[tuple[int, ...]]:
    return list(itertools.product(*(range(size) for size in stack)))


def randomized(net: StackedMLP) -> StackedMLP:
    """Also the biases, which start at zero."""
    nn.init.normal_(net.flat, generator=generator())
    return net


# StackedMLP


def loop_forward(net: StackedMLP, features: Tensor, entry: tuple[int, ...]) -> Tensor:
    """One stack entry by ``torch.nn.Linear`` and tanh."""
    x = features[entry]
    for i, weight in enumerate(weights(net)):
        linear = nn.Linear(weight.shape[-2], weight.shape[-1], bias=bool(len(biases(net))))
        linear.weight = nn.Parameter(weight[entry].T.detach())
        if biases(net):
            linear.bias = nn.Parameter(biases(net)[i][entry].flatten().detach())
        x = linear(x)
        if i < len(weights(net)) - 1:
            x = x.tanh()
    return x


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("hidden", [[], [8], [16, 5]])
def test_stacked_mlp_is_a_loop_of_linear_layers(stack, hidden):
    net = randomized(StackedMLP(6, hidden, 3, stack, 1.0, generators(stack[0])))
    features = torch.randn(*stack, 7, 6, generator=generator())
    output = net(features)
    assert output.shape == (*stack, 7, 3)
    for entry in entries(stack):
        torch.testing.assert_close(output[entry], loop_forward(net, features, entry))


@pytest.mark.parametrize("group_numbers", [1, 2**18])
@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("hidden", [[], [8], [2, 16, 5]])
def test_gradients_are_those_of_autograd(stack, hidden, group_numbers, monkeypatch):
    monkeypatch.setattr("lit_maprops.stacked.mlp.GROUP_NUMBERS", group_numbers)
    net = randomized(StackedMLP(6, hidden, 3, stack, 1.0, generators(stack[0]))).double()
    x = torch.randint(4, (*stack, 7, 6), generator=generator()).to(torch.uint8)
    direction = torch.randn(*stack, 7, 3, dtype=torch.float64, generator=generator())
    (own,) = torch.autograd.grad((net(x) * direction).sum(), net.flat)
    y = x.double()
    for i, weight in enumerate(weights(net)):
        y = (y.tanh() if i else y) @ weight
        if biases(net):
            y = y + biases(net)[i].unsqueeze(-2)
    (expected,) = torch.autograd.grad((y * direction).sum(), net.flat)
    assert expected.abs().min() > 0
    torch.testing.assert_close(own, expected, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("hidden", [[8], [16, 5]])
def test_features_are_what_the_last_layer_sees(hidden):
    net = randomized(StackedMLP(6, hidden, 3, (2, 4), 1.0, generators(2)))
    x = torch.randn(2, 4, 7, 6, generator=generator())
    expected = net.features(x).unflatten(0, (2, 4)) @ weights(net)[-1] + biases(net)[-1].unsqueeze(-2)
    torch.testing.assert_close(net(x), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("stack", STACKS)
def test_without_hidden_layers_it_is_linear_and_has_no_bias(stack):
    net = randomized(StackedMLP(4, [], 3, stack, 1.0, generators(stack[0])))
    assert len(biases(net)) == 0
    assert [tuple(p.shape) for p in net.parameters()] == [(*stack, 12)]
    x, y = torch.randn(2, *stack, 5, 4, generator=generator())
    torch.testing.assert_close(net(2 * x - 3 * y), 2 * net(x) - 3 * net(y), atol=1e-5, rtol=1e-5)
    # On one-hot inputs it is a table.
    assert torch.equal(net(torch.eye(4).expand(*stack, 4, 4)), weights(net)[0])


@pytest.mark.parametrize("hidden", [[], [8, 8]])
def test_zero_gain_and_zeroed_last_layer_give_exactly_zero(hidden):
    features = 100 * torch.randn(3, 50, 6, generator=generator())
    net = StackedMLP(6, hidden, 4, (3,), 0.0, generators(3))
    assert (net(features) == 0).all()
    randomized(net).zero_output()
    assert (net(features) == 0).all()


@pytest.mark.parametrize("stack", STACKS)
def test_initial_weights_are_orthogonal_with_the_gains_of_ppo(stack):
    net = StackedMLP(6, [16, 16], 3, stack, 0.01, generators(stack[0]))
    for weight, gain in zip(weights(net), (2**0.5, 2**0.5, 0.01), strict=True):
        for entry in entries(stack):
            singular = torch.linalg.svdvals(weight[entry])
            torch.testing.assert_close(singular, torch.full_like(singular, gain))
    assert all((bias == 0).all() for bias in biases(net))
    first = weights(net)[0].flatten(0, -3)
    assert all(not torch.equal(a, b) for a, b in itertools.combinations(first, 2))


def test_weights_depend_on_their_own_generator_only():
    net = StackedMLP(4, [8], 2, (3,), 1.0, generators(3))
    alone = StackedMLP(4, [8], 2, (1,), 1.0, [generator(2)])
    for stacked, single in zip(net.parameters(), alone.parameters(), strict=True):
        assert torch.equal(stacked[2:], single)


# SeedAdam


def stacked_parameters(stack: tuple[int, ...]) -> list[nn.Parameter]:
    shapes = [(3, 2), (1, 2), (4,)]
    return [nn.Parameter(torch.randn(*stack, *s, generator=generator(i))) for i, s in enumerate(shapes)]


class LoopAdam:
    """One ``torch.optim.Adam`` per stack entry; an inactive entry's is not stepped."""

    def __init__(self, parameters: list[nn.Parameter], stack: tuple[int, ...], **arguments: object) -> None:
        self.copies = {e: [nn.Parameter(p[e].detach().clone()) for p in parameters] for e in entries(stack)}
        self.adams = {e: torch.optim.Adam(copies, **arguments) for e, copies in self.copies.items()}

    def step(self, gradients: list[Tensor], active: Tensor) -> None:
        for entry, copies in self.copies.items():
            if active[entry]:
                for single, gradient in zip(copies, gradients, strict=True):
                    single.grad = gradient[entry].clone()
                self.adams[entry].step()

    def assert_same(self, parameters: list[nn.Parameter], optimizer: SeedAdam) -> None:
        for entry, copies in self.copies.items():
            for p, single in zip(parameters, copies, strict=True):
                # The bias corrections 1 - beta^t are float32 here and float64 in torch: some 1e-5 of a step.
                torch.testing.assert_close(p[entry].detach(), single.detach(), atol=1e-5, rtol=1e-5)
                state = self.adams[entry].state[single]
                if state:
                    assert optimizer.state[p]["steps_taken"][entry] == state["step"]
                    for moment in ("exp_avg", "exp_avg_sq"):
                        torch.testing.assert_close(optimizer.state[p][moment][entry], state[moment])


def random_gradients(parameters: list[nn.Parameter], seed: int) -> list[Tensor]:
    scale = 10.0 ** (seed % 5 - 2)  # of very different sizes, so that the moments matter
    return [scale * torch.randn(p.shape, generator=generator(100 * seed + i)) for i, p in enumerate(parameters)]


def set_gradients(parameters: list[nn.Parameter], gradients: list[Tensor]) -> None:
    for p, gradient in zip(parameters, gradients, strict=True):
        p.grad = gradient.clone()


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("arguments", [{"lr": 0.05}, {"lr": 0.01, "betas": (0.7, 0.95), "eps": 1e-5}])
@pytest.mark.parametrize("fused", [False, True])
def test_seed_adam_is_torch_adam_per_entry(stack, arguments, fused):
    parameters = stacked_parameters(stack)
    optimizer = SeedAdam(parameters, stack=stack, fused=fused, **arguments)
    reference = LoopAdam(parameters, stack, **arguments)
    everyone = torch.ones(stack, dtype=torch.bool)
    for step in range(100):
        gradients = random_gradients(parameters, step)
        set_gradients(parameters, gradients)
        optimizer.step(active=None if step % 2 else everyone)
        reference.step(gradients, everyone)
    reference.assert_same(parameters, optimizer)


@pytest.mark.parametrize("options", [{}, {"fused": True}, {"lockstep": True}], ids=["", "fused", "lockstep"])
def test_a_step_is_seen_by_who_keeps_weights(options):
    """torch's fused kernel writes without a trace."""
    (parameter,) = parameters = stacked_parameters((3,))[:1]
    optimizer, before = SeedAdam(parameters, 0.05, (3,), **options), parameter._version
    set_gradients(parameters, random_gradients(parameters, 0))
    optimizer.step()
    assert parameter._version > before


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("stack", STACKS)
def test_inactive_entries_are_untouched_even_by_nan(stack, fused):
    parameters = stacked_parameters(stack)
    optimizer, reference = SeedAdam(parameters, 0.05, stack, fused=fused), LoopAdam(parameters, stack, lr=0.05)
    for step in range(100):
        active = torch.rand(stack, generator=generator(step)) < 0.6
        gradients = random_gradients(parameters, step)
        for gradient in gradients:
            gradient[~active] = float("nan") if step % 2 else float("inf")
        before = snapshot(parameters, optimizer)
        set_gradients(parameters, gradients)
        optimizer.step(active=active)
        reference.step(gradients, active)
        for old, new in zip(before, snapshot(parameters, optimizer), strict=True):
            assert torch.equal(old[~active], new[~active])
    reference.assert_same(parameters, optimizer)


def snapshot(parameters: list[nn.Parameter], optimizer: SeedAdam) -> list[Tensor]:
    tensors = [p.detach() for p in parameters]
    tensors += [optimizer.state[p][key] for p in parameters for key in ("steps_taken", "exp_avg", "exp_avg_sq")]
    return [tensor.clone() for tensor in tensors]


def test_entries_that_never_stepped_stay_where_they_are():
    parameters = stacked_parameters((2,))
    optimizer = SeedAdam(parameters, 0.05, (2,))
    before = snapshot(parameters, optimizer)
    set_gradients(parameters, random_gradients(parameters, 1))
    optimizer.step(active=torch.zeros(2, dtype=torch.bool))
    assert all(torch.equal(old, new) for old, new in zip(before, snapshot(parameters, optimizer), strict=True))


def test_a_masked_step_gives_active_entries_the_bits_of_an_unmasked_one():
    results = []
    for active in (None, torch.tensor([True, False, True])):
        parameters = stacked_parameters((3,))
        optimizer = SeedAdam(parameters, 0.05, (3,))
        for step in range(20):
            set_gradients(parameters, random_gradients(parameters, step))
            optimizer.step(active=active)
        results.append(snapshot(parameters, optimizer))
    for full, masked in zip(*results, strict=True):
        assert torch.equal(full[[0, 2]], masked[[0, 2]])


def test_nan_gradients_of_an_active_entry_stay_in_it():
    results = []
    for ill in (False, True):
        parameters = stacked_parameters((3,))
        optimizer = SeedAdam(parameters, 0.05, (3,))
        for step in range(5):
            gradients = random_gradients(parameters, step)
            if ill:
                gradients[0][1] = float("nan")
            set_gradients(parameters, gradients)
            clip_grad_norm(parameters, 1.0, 1)
            optimizer.step()
        results.append([p.detach().clone() for p in parameters])
    for clean, ill in zip(*results, strict=True):
        assert torch.equal(clean[[0, 2]], ill[[0, 2]])
        assert ill[1].isnan().all()


def test_reset_state_forgets_everything():
    parameters = stacked_parameters((2,))
    optimizer = SeedAdam(parameters, 0.05, (2,))
    set_gradients(parameters, random_gradients(parameters, 0))
    optimizer.step()
    optimizer.reset_state()
    reference = LoopAdam(parameters, (2,), lr=0.05)
    for step in range(5):
        gradients = random_gradients(parameters, step)
        set_gradients(parameters, gradients)
        optimizer.step()
        reference.step(gradients, torch.ones(2, dtype=torch.bool))
    reference.assert_same(parameters, optimizer)


def test_state_dict_continues_bit_for_bit():
    parameters = stacked_parameters((2,))
    optimizer = SeedAdam(parameters, 0.05, (2,))
    set_gradients(parameters, random_gradients(parameters, 0))
    optimizer.step(active=torch.tensor([True, False]))
    copies = [nn.Parameter(p.detach().clone()) for p in parameters]
    restored = SeedAdam(copies, 0.1, (2,))
    restored.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for step in range(1, 4):
        for group, adam in ((parameters, optimizer), (copies, restored)):
            set_gradients(group, random_gradients(group, step))
            adam.step(active=torch.tensor([True, step == 2]))
    for p, other in zip(parameters, copies, strict=True):
        assert torch.equal(p, other)


def test_learning_rate_of_the_param_group_is_used():
    parameters = stacked_parameters((2,))
    optimizer = SeedAdam(parameters, 0.05, (2,))
    before = [p.detach().clone() for p in parameters]
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    set_gradients(parameters, random_gradients(parameters, 0))
    optimizer.step()
    assert all(torch.equal(old, p) for old, p in zip(before, parameters, strict=True))


# clip_grad_norm


@pytest.mark.parametrize("stack", STACKS)
def test_clipping_is_torchs_per_entry(stack):
    parameters = stacked_parameters(stack)
    gradients = random_gradients(parameters, 2)
    for i, entry in enumerate(entries(stack)):
        for gradient in gradients:
            gradient[entry] *= 0.1 if i % 2 else 10  # some below and some above the limit
    set_gradients(parameters, gradients)
    norms = clip_grad_norm(parameters, 2.0, len(stack))
    assert norms.shape == stack
    assert (norms < 2.0).any() and (norms > 2.0).any()
    for entry in entries(stack):
        copies = [nn.Parameter(p[entry].detach().clone()) for p in parameters]
        set_gradients(copies, [gradient[entry] for gradient in gradients])
        expected = nn.utils.clip_grad_norm_(copies, 2.0)
        torch.testing.assert_close(norms[entry], expected)
        for p, single in zip(parameters, copies, strict=True):
            torch.testing.assert_close(p.grad[entry], single.grad)


def test_parameters_without_gradient_are_skipped_in_clipping_and_stepping():
    parameters = stacked_parameters((2,))
    set_gradients(parameters[:2], random_gradients(parameters[:2], 1))
    norms = clip_grad_norm(parameters, 1e-3, 1)
    assert norms.shape == (2,)
    before = parameters[2].detach().clone()
    SeedAdam(parameters, 0.05, (2,)).step()
    assert torch.equal(parameters[2], before)


def test_seed_adam_state_moves_with_lightning_and_with_loading() -> None:
    """Both leave a tensor named "step" where it is, which would stay on the CPU of a GPU run."""
    from lightning.fabric.utilities.optimizer import _optimizer_to_device

    parameter = torch.nn.Parameter(torch.zeros(3, 2))
    optimizer = SeedAdam([parameter], 1e-3, (3,))
    _optimizer_to_device(optimizer, torch.device("meta"))
    assert {value.device.type for value in optimizer.state[parameter].values()} == {"meta"}

    there = torch.nn.Parameter(torch.zeros(3, 2, device="meta"))
    other = SeedAdam([there], 1e-3, (3,))
    other.load_state_dict(SeedAdam([parameter], 1e-3, (3,)).state_dict())
    assert {value.device.type for value in other.state[there].values()} == {"meta"}
