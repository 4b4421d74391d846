"""The fast forms of Algorithm 2 against the plain one: gradients, whole updates, groups, compiled steps, NaN."""

import copy
import math
import shutil
from functools import partial

import pytest
import torch
from behavior_helpers import StatesTask, built, generator, random_data, random_policy
from torch import Tensor

from lit_maprops.behavior import algorithm2
from lit_maprops.behavior.algorithm2 import clipped_loss, log_ratio_and_kl, plain_mlp
from lit_maprops.behavior.update import fused, native
from lit_maprops.behavior.update.minibatches import minibatches_of
from lit_maprops.behavior.update.samples import Samples, SampleStore
from lit_maprops.native import build
from lit_maprops.stacked import mlp
from lit_maprops.stacked.mlp import size_of
from lit_maprops.stacked.nets import StackedMLP
from lit_maprops.stacked.optimizer import SeedAdam
from lit_maprops.stacked.streams import SeedStreams

N_INPUTS, N_ACTIONS = 5, 6
needs_kernels = pytest.mark.skipif(build.why_none() is not None, reason="the kernels need a C++ compiler")


class Masked:
    """``fused`` as accelerators run it."""

    update_behavior = partial(fused.update_behavior, steps=fused.masked_update)


FAST = pytest.mark.parametrize(
    "form", [fused, Masked, pytest.param(native, marks=needs_kernels)], ids=["fused", "masked", "native"]
)


def network(stack: tuple[int, ...], hidden: list[int], randomized: bool = False) -> StackedMLP:
    """With a zero last layer, or with every parameter drawn at random."""
    net = StackedMLP(N_INPUTS, hidden, N_ACTIONS, stack, 0.0, [generator(seed) for seed in range(stack[0])])
    if randomized:
        torch.nn.init.normal_(net.flat, std=0.6, generator=generator(9))
    return net


def masked_samples(entries: int, rows: int, dtype: torch.dtype = torch.float32) -> Samples:
    """Random inputs, policies with illegal actions in a third of the rows, and shares of the legal ones."""
    draw = generator(3)
    logits = torch.randn(entries, N_ACTIONS, rows, generator=draw, dtype=dtype)
    logits[:, 1, ::3] = -torch.inf
    logits[:, 4, ::6] = -torch.inf
    share = torch.rand(logits.shape, generator=draw, dtype=dtype).square() * logits.isfinite()
    inputs = torch.randn(entries, rows, N_INPUTS, generator=draw, dtype=dtype)
    return Samples.of(inputs, logits.softmax(1), share / share.sum((1, 2), keepdim=True))


# gradient, ratio and KL


def by_autograd(net: StackedMLP, samples: Samples, epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
    """Gradient ``[G, P]``, log r and KL of the plain form."""
    delta = plain_mlp(net.layers(), samples.inputs).mT
    log_ratio, kl = log_ratio_and_kl(delta, samples.target, samples.visits)
    (gradient,) = torch.autograd.grad(clipped_loss(log_ratio.exp(), samples.share, epsilon).sum(), net.flat)
    return gradient.flatten(0, -2), log_ratio.detach(), kl.detach()


@torch.no_grad()
def by_hand(net: StackedMLP, samples: Samples, epsilon: float, only_last: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The same by ``fused``."""
    x, delta = fused.delta_of(net.passes, net.layers(), samples.inputs)
    weight, total, kl = fused.weights_and_kl(delta, samples)
    log_ratio = (weight / total).log()
    grad = fused.gradient_of_delta(weight, total, samples, epsilon)
    return mlp.backward(net.layers(), x, grad, only_last), log_ratio, kl


@pytest.mark.parametrize("only_last", [False, True])
@pytest.mark.parametrize("epsilon", [0.1, 0.3, 1.0, 2.0])
@pytest.mark.parametrize("hidden", [[], [8], [16, 16]])
def test_gradient_ratio_and_kl_are_those_of_autograd(hidden, epsilon, only_last):
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-10)):
        net, samples = network((2, 2), hidden, randomized=True).to(dtype), masked_samples(4, 40, dtype)
        gradient, log_ratio, kl = by_autograd(net, samples, epsilon)
        assert (log_ratio.exp() < 0.7).any() and (log_ratio.exp() > 3).any()
        own_gradient, own_log_ratio, own_kl = by_hand(net, samples, epsilon, only_last)
        last = size_of(net.shapes[-1:])
        if only_last:
            assert (own_gradient[:, :-last] == 0).all()
            gradient[:, :-last] = 0
        assert gradient.abs().max() > 0.01
        torch.testing.assert_close(own_gradient, gradient, atol=0.1 * tolerance, rtol=tolerance)
        torch.testing.assert_close(own_log_ratio, log_ratio, atol=tolerance, rtol=tolerance)
        torch.testing.assert_close(own_kl, kl, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("hidden", [[], [8], [16, 16]])
def test_from_zero_only_the_last_layer_has_a_gradient(hidden):
    net, samples = network((3,), hidden), masked_samples(3, 40)
    gradient, _, kl = by_autograd(net, samples, 0.3)
    own_gradient, _, own_kl = by_hand(net, samples, 0.3, only_last=True)
    torch.testing.assert_close(own_gradient, gradient, atol=1e-6, rtol=1e-5)
    assert kl.abs().max() < 1e-6 and own_kl.abs().max() < 1e-6


@pytest.mark.parametrize("ratio", [0.01, 0.5, 0.69, 0.71, 1.0, 1.9])
@pytest.mark.parametrize("epsilon", [0.3, 0.99, 1.0, 2.0])
def test_gradient_of_delta_by_hand(ratio, epsilon):
    """Two equally likely actions, of which D holds the first."""
    samples = Samples.of(torch.ones(1, 1, 1), torch.full((1, 2, 1), 0.5), torch.tensor([[[1.0], [0.0]]]))
    weight, total, kl = fused.weights_and_kl(torch.tensor([[[ratio], [2 - ratio]]]).log(), samples)
    grad = fused.gradient_of_delta(weight, total, samples, epsilon).flatten().tolist()
    expected = ratio * (1 - ratio / 2) if ratio > 1 - epsilon else 0.0
    assert grad == pytest.approx([expected, -expected], abs=1e-6)
    assert kl.item() == pytest.approx(-0.5 * math.log(ratio * (2 - ratio)), abs=1e-6)


# whole updates


class Case:
    """One network, its optimizer and growing D, updated several times by either form."""

    def __init__(self, form, stack: tuple[int, ...], hidden: list[int], **options: bool) -> None:
        self.form, self.options = form, options
        self.net = network(stack, hidden)
        lockstep = options["reset"] and form is not algorithm2
        # So large an epsilon keeps Adam from turning rounding errors of small gradients into whole steps.
        self.optimizer = SeedAdam(self.net.parameters(), 0.05, stack, eps=1e-3, lockstep=lockstep)
        self.store = SampleStore(options.get("merge", False), options.get("systematic", False))
        self.streams = SeedStreams(0, list(range(stack[0])), "test")
        self.entries = self.net.flat.numel() // self.net.flat.shape[-1]
        self.broken: str | None = None  # what is NaN in entry 1
        self.draw = generator(5)
        # Few states and policies that a uniform D misses by far: gradients that are not close to zero. Entries with
        # smaller inputs need more steps to the cutoff.
        scale = torch.linspace(1.5, 0.1, self.entries).view(-1, 1, 1)
        self.states = scale * torch.randn(self.entries, 4, N_INPUTS, generator=self.draw)
        self.policies = (2 * torch.randn(self.entries, 4, N_ACTIONS, generator=self.draw)).softmax(-1)

    @torch.no_grad()
    def extend(self, steps: int) -> None:
        entry = torch.arange(self.entries).unsqueeze(1)
        state = torch.randint(4, (self.entries, steps), generator=self.draw)
        taken = torch.randint(N_ACTIONS, (self.entries, steps), generator=self.draw)
        x = self.states[entry, state]
        if self.options["last_layer"]:
            x = self.net.features(x.unflatten(0, self.net.stack))
        policies = self.policies[entry, state]
        if self.broken is not None:
            {"inputs": x, "target": policies}[self.broken][1] = torch.nan
        self.store.append(x, policies, taken)

    def update(self, parts: int = 1, from_zero: bool = True, size: int = 0, **arguments: object) -> dict[str, Tensor]:
        self.extend(23)
        if self.options["reset"]:
            self.optimizer.reset_state()
        if from_zero:
            self.net.zero_output()
        else:
            self.net.flat.detach()[..., -size_of(self.net.shapes[-1:]) :] *= 0.5  # below the cutoff
        if self.form is not algorithm2:
            arguments["from_zero"] = from_zero and self.options.get("tell", True)
        copies = self.entries // self.net.stack[0]
        minibatches = minibatches_of(self.streams, self.store.rows, 5 if parts == 1 else 3, parts, copies, size)
        arguments["last_layer"] = self.options["last_layer"]
        samples, cutoff = self.store.samples(), 0.1
        if self.options.get("systematic"):
            cutoff = math.inf
            if self.form is native:
                arguments["steps_of_data"] = self.store.steps
            else:
                samples = self.store.wanting(samples)
        return self.form.update_behavior(self.net, self.optimizer, samples, minibatches, 0.3, cutoff, **arguments)

    def tensors(self) -> list[Tensor]:
        state = self.optimizer.state[self.net.flat]
        return [self.net.flat.detach(), state["exp_avg"], state["exp_avg_sq"], state["steps_taken"]]


def assert_same(a: Case, b: Case, atol: float, entries: object = slice(None)) -> None:
    for own, other in zip(a.tensors(), b.tensors(), strict=True):
        torch.testing.assert_close(own[entries], other[entries], atol=atol, rtol=atol)


@pytest.mark.every(5)
@pytest.mark.parametrize("stack", [(4,), (2, 2)])
@pytest.mark.parametrize(("parts", "merge"), [(1, False), (1, True), (3, False)])
@pytest.mark.parametrize("last_layer", [False, True])
@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("hidden", [[], [8, 8]])
@FAST
def test_updates_are_those_of_the_plain_form(form, stack, parts, merge, last_layer, reset, hidden):
    options = {"merge": merge, "last_layer": last_layer, "reset": reset}
    plain, fast = Case(algorithm2, stack, hidden, **options), Case(form, stack, hidden, **options)
    differ = not_stopped = False
    for from_zero in (True, True, False, False, True):
        stats, own = plain.update(parts, from_zero), fast.update(parts, from_zero)
        assert own.keys() == stats.keys()
        for name in ("gradient_steps", "cutoff_hit", "first_step_cutoff"):
            assert torch.equal(own[name], stats[name]), name
        torch.testing.assert_close(own["kl"], stats["kl"], atol=1e-5, rtol=1e-3)
        torch.testing.assert_close(own["ratio_clipped"], stats["ratio_clipped"], atol=1e-5, rtol=0)
        assert_same(plain, fast, 5e-5)  # Adam turns 1e-7 of gradient into 50 times as much of a parameter
        differ |= len(set(own["gradient_steps"].flatten().tolist())) > 1 and own["cutoff_hit"].any()
        not_stopped |= not own["cutoff_hit"].all()
    assert differ, "choose data on which entries stop at different steps"
    assert not_stopped, "choose data on which an entry does not stop"


@pytest.mark.parametrize(("parts", "merge"), [(1, False), (1, True), (3, False)])
@pytest.mark.parametrize("last_layer", [False, True])
@pytest.mark.parametrize("hidden", [[], [8, 8]])
@pytest.mark.parametrize("form", [fused, pytest.param(native, marks=needs_kernels)], ids=["fused", "native"])
def test_systematic_updates_are_those_of_the_plain_form(form, parts, merge, last_layer, hidden):
    if form is native and (parts > 1 or last_layer):
        pytest.skip("done by torch")
    options = {"merge": merge, "last_layer": last_layer, "reset": True, "systematic": True}
    plain, fast = Case(algorithm2, (4,), hidden, **options), Case(form, (4,), hidden, **options)
    stopped = set()
    for from_zero in (True, True, False, True):
        stats, own = plain.update(parts, from_zero), fast.update(parts, from_zero)
        assert own.keys() == stats.keys()
        for name in ("gradient_steps", "cutoff_hit", "first_step_cutoff"):
            assert torch.equal(own[name], stats[name]), name
        torch.testing.assert_close(own["kl"], stats["kl"], atol=1e-5, rtol=1e-3)
        assert_same(plain, fast, 1e-4)
        stopped |= set(own["cutoff_hit"].tolist())
    assert stopped == {False, True}, "choose data on which some entries stop"


@pytest.mark.parametrize("parts", [1, 3])
@FAST
def test_saying_that_delta_is_zero_measuring_and_filling_up_change_nothing(form, parts):
    options = {"last_layer": False, "reset": True}
    plain = Case(form, (4,), [8, 8], **options)
    others = [Case(form, (4,), [8, 8], tell=False, **options), Case(form, (4,), [8, 8], **options)]
    others.append(Case(form, (4,), [8, 8], **options))
    for _ in range(3):
        stats = plain.update(parts)
        others[0].update(parts)
        unmeasured = others[1].update(parts, measure=False)
        others[2].update(parts, size=50)
        assert stats.keys() - unmeasured.keys() == {"kl", "ratio_clipped"}
        assert all(torch.equal(value, stats[name]) for name, value in unmeasured.items())
    assert_same(plain, others[0], 1e-5)
    assert_same(plain, others[1], 0)
    assert_same(plain, others[2], 1e-5)


@pytest.mark.parametrize("last_layer", [False, True])
@pytest.mark.parametrize("numbers", [1, 23 * 8 * 2])
def test_groups_of_entries_do_not_matter(last_layer, numbers, monkeypatch):
    options = {"last_layer": last_layer, "reset": True}
    together, apart = Case(fused, (5,), [8], **options), Case(fused, (5,), [8], **options)
    for parts in (1, 3, 1):
        stats = together.update(parts)
        with monkeypatch.context() as context:
            context.setattr(mlp, "GROUP_NUMBERS", numbers)
            own = apart.update(parts)
        for name, value in stats.items():
            torch.testing.assert_close(own[name], value, atol=1e-6, rtol=1e-5)
        assert_same(together, apart, 1e-5)
    assert len(set(stats["gradient_steps"].tolist())) > 1


# compiled


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_updates_are_the_eager_ones_and_growing_data_fits_one_size():
    task = StatesTask(n_states=3, n_agents=2, n_actions=3)
    theta = random_policy(task, 4)
    arguments = {"hidden": [8], "kl_cutoff": 0.03, "learning_rate": 0.02, "epochs": 6}
    eager = built("MAPROPS", task, 4, **arguments)
    compiled = built("MAPROPS", task, 4, compile=True, **arguments)
    counts = torch._dynamo.utils.counters["stats"]
    graphs, before = [], counts["unique_graphs"]
    for round_, steps in enumerate((20, 25, 19)):
        for behavior in (eager, compiled):
            behavior.extend(random_data(task, theta, rows=steps, seed=round_))
        stats, own = eager.update(), compiled.update()
        for name, value in stats.items():
            torch.testing.assert_close(own[name], value, atol=1e-5, rtol=1e-3)
        torch.testing.assert_close(compiled.net.flat, eager.net.flat, atol=1e-4, rtol=0)
        assert len(set(stats["gradient_steps"].tolist())) > 1
        graphs.append(counts["unique_graphs"])
    assert graphs[0] > before and graphs == graphs[:1] * 3


def test_padded_rows_are_few_and_not_much_larger():
    sizes = [fused.padded_rows(rows) for rows in range(1, 20_001)]
    assert all(size >= rows for rows, size in enumerate(sizes, 1))
    assert all(size <= 1.5 * rows for rows, size in enumerate(sizes, 1) if rows > 64)
    assert sizes == sorted(sizes) and sizes[0] == 64
    assert len(set(sizes)) <= 2 * 9  # two per doubling
    assert all(fused.padded_rows(size) == size for size in set(sizes))


# natively


@needs_kernels
@pytest.mark.parametrize("parts", [1, 3])
def test_threads_and_neighbors_change_no_bit(parts, monkeypatch):
    options = {"last_layer": False, "reset": True}
    one, two = Case(native, (5,), [8, 24], **options), Case(native, (5,), [8, 24], **options)
    for _ in range(3):
        stats = one.update(parts)
        with monkeypatch.context() as context:
            context.setattr(torch, "get_num_threads", lambda: 3)
            own = two.update(parts)
        assert all(torch.equal(value, own[name]) for name, value in stats.items())
    assert_same(one, two, 0)
    alone = copy.deepcopy(two.net.flat.detach()[3:4])
    samples, minibatches = two.store.samples(), [None] * 4
    before = [tensor.clone() for tensor in two.tensors()]
    native.update_behavior(two.net, two.optimizer, samples, minibatches, 0.3, 100.0)
    single = network((1,), [8, 24])
    single.flat.data.copy_(alone)
    adam = SeedAdam(single.parameters(), 0.05, (1,), eps=1e-3)
    for name, old in zip(("exp_avg", "exp_avg_sq", "steps_taken"), before[1:], strict=True):
        adam.state[single.flat][name].copy_(old[3:4])
    native.update_behavior(single, adam, samples.entries(slice(3, 4)), minibatches, 0.3, 100.0)
    assert torch.equal(single.flat[0], two.net.flat[3])
    assert not torch.equal(single.flat, alone)


@needs_kernels
def test_sparse_and_dense_inputs_are_one_arithmetic():
    """Pictures of ones go through the first layer as lists, other numbers as a product of matrices."""
    draw = generator(4)
    for share_of_ones in (0.05, 0.9):
        samples = masked_samples(3, 40)
        ones = (torch.rand(samples.inputs.shape, generator=draw) < share_of_ones).float()
        samples = samples._replace(inputs=ones)
        nets = [network((3,), [16], randomized=True) for _ in range(2)]
        stats = []
        for net, form in zip(nets, (fused, native), strict=True):
            adam = SeedAdam(net.parameters(), 0.01, (3,), eps=1e-3)
            stats.append(form.update_behavior(net, adam, samples, [None] * 3, 0.3, 100.0))
        torch.testing.assert_close(nets[0].flat, nets[1].flat, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(stats[0]["kl"], stats[1]["kl"], atol=1e-5, rtol=1e-4)


# sick entries


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("last_layer", [False, True])
@pytest.mark.parametrize("where", ["inputs", "target"])
@FAST
def test_nan_in_one_entry_leaves_the_others_as_they_are(form, parts, last_layer, where):
    options = {"last_layer": last_layer, "reset": True}
    healthy, ill = Case(form, (4,), [8], **options), Case(form, (4,), [8], **options)
    for update in range(3):
        if update:
            ill.broken = where
        before = copy.deepcopy(ill.net.flat.detach())
        stats, own = healthy.update(parts), ill.update(parts)
        # Not to the bit: the sick entry leaves the tensors, and products are rounded by where in memory a factor lies.
        for name, value in stats.items():
            torch.testing.assert_close(own[name][[0, 2, 3]], value[[0, 2, 3]], atol=1e-6, rtol=1e-5)
        assert_same(healthy, ill, 1e-6, [0, 2, 3])
    if parts == 1:
        assert own["gradient_steps"][1] == 0 and own["cutoff_hit"][1]
        before[1, -size_of(ill.net.shapes[-1:]) :] = 0
        assert torch.equal(ill.net.flat[1], before[1])


@FAST
def test_a_huge_delta_stays_finite(form):
    samples = masked_samples(3, 40)
    net = network((3,), [8], randomized=True)
    with torch.no_grad():
        net.flat[0, -size_of(net.shapes[-1:]) :] *= 1e4  # as far from pi_theta as can be
        net.flat[1, -size_of(net.shapes[-1:]) :] = 0
        net.flat[1, -N_ACTIONS:] = 1e4  # the same Delta for all actions: pi_phi = pi_theta
    legal = samples._replace(target=torch.full_like(samples.target, 1 / N_ACTIONS))
    for epsilon in (0.3, 2.0):
        assert all(value.isfinite().all() for value in by_hand(net, legal, epsilon, only_last=False)[::2])
    before = net.flat.detach().clone()
    stats = form.update_behavior(net, SeedAdam([net.flat], 0.01, (3,)), samples, [None] * 3, 0.3, 0.05)
    assert net.flat.isfinite().all() and all(value.isfinite().all() for value in stats.values())
    assert stats["gradient_steps"][0] == 0 and stats["kl"][0] > 1 and torch.equal(net.flat[0], before[0])
    assert stats["gradient_steps"][1] == 3 and stats["kl"][1] < 0.05
