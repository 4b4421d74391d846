"""D as Algorithm 2 sees it, against counting by hand: shares, merged states, minibatches, the most wrong rows."""

import itertools
from collections import Counter

import pytest
import torch
from behavior_helpers import generator, written
from torch import Tensor

from lit_maprops.behavior.algorithm2 import clipped_loss, log_ratio_and_kl
from lit_maprops.behavior.update.minibatches import minibatches_of
from lit_maprops.behavior.update.samples import Samples, SampleStore, fingerprint
from lit_maprops.stacked.nets import StackedMLP
from lit_maprops.stacked.streams import SeedStreams

ENTRIES, STEPS, WIDTH, ACTIONS = 4, 150, 6, 5


class Steps:
    """Steps of ``ENTRIES`` entries; entry ``g`` knows ``3 + 4 g`` states, with a policy for each."""

    def __init__(self, seed: int = 0) -> None:
        draw = generator(seed)
        most = 3 + 4 * (ENTRIES - 1)
        states = torch.randn(ENTRIES, most, WIDTH, generator=draw)
        states[:, 1] = 0  # the fingerprint of zeros is zero
        policies = torch.randn(ENTRIES, most, ACTIONS, generator=draw).softmax(-1)
        known = torch.tensor([[3 + 4 * g] for g in range(ENTRIES)])
        self.number = (torch.rand(ENTRIES, STEPS, generator=draw) * known).long()
        self.taken = torch.randint(ACTIONS, (ENTRIES, STEPS), generator=draw)
        entry = torch.arange(ENTRIES).unsqueeze(1)
        self.inputs, self.target = states[entry, self.number], policies[entry, self.number]

    def stored(self, *cuts: int, merge_states: bool = False) -> SampleStore:
        """In a store, appended in parts that end at ``cuts``."""
        store = SampleStore(merge_states)
        for first, last in itertools.pairwise((0, *cuts)):
            store.append(*(tensor[:, first:last] for tensor in (self.inputs, self.target, self.taken)))
        return store


def shares_by_state(samples: Samples, entry: int) -> dict[tuple[float, ...], Tensor]:
    """Inputs of a state -> its share of D by action; rows not in use are left out."""
    result: dict[tuple[float, ...], Tensor] = {}
    for row in samples.visits[entry].nonzero().flatten().tolist():
        key = tuple(samples.inputs[entry, row].tolist())
        result[key] = result.get(key, 0) + samples.share[entry, :, row].double()
    return result


def assert_counted(samples: Samples, steps: Steps, count: int) -> None:
    """Shares are those of the first ``count`` steps, targets are those of their states."""
    torch.testing.assert_close(samples.visits, samples.share.sum(1))
    torch.testing.assert_close(samples.share.sum((1, 2)), torch.ones(ENTRIES))
    torch.testing.assert_close(samples.target.sum(1), torch.ones_like(samples.visits))
    for entry in range(ENTRIES):
        keys = [tuple(row) for row in steps.inputs[entry, :count].tolist()]
        counted = Counter(zip(keys, steps.taken[entry, :count].tolist(), strict=True))
        shares = shares_by_state(samples, entry)
        assert shares.keys() == set(keys)
        for key, share in shares.items():
            expected = torch.tensor([counted[key, k] / count for k in range(ACTIONS)], dtype=torch.float64)
            torch.testing.assert_close(share, expected, atol=1e-6, rtol=0)
        policy_of = dict(zip(keys, steps.target[entry], strict=False))
        for row in samples.visits[entry].nonzero().flatten().tolist():
            assert torch.equal(samples.target[entry, :, row], policy_of[tuple(samples.inputs[entry, row].tolist())])


# collecting


@pytest.mark.parametrize("merge_states", [False, True])
def test_shares_are_counted_however_the_steps_arrive(merge_states):
    steps = Steps()
    reference = steps.stored(STEPS, merge_states=merge_states).samples()
    assert_counted(reference, steps, STEPS)
    for cuts in (range(1, STEPS + 1), (7, 70, 71, 140, STEPS), (64, 128, STEPS)):
        store = steps.stored(*cuts, merge_states=merge_states)
        assert store.steps == STEPS
        for own, expected in zip(store.samples()[:4], reference[:4], strict=True):
            assert torch.equal(own, expected)


@pytest.mark.parametrize("merge_states", [False, True])
def test_samples_between_the_steps_and_after_clearing(merge_states):
    steps, store = Steps(), Steps(1).stored(90, merge_states=merge_states)
    store.clear()
    for first in range(0, STEPS, 10):
        store.append(*(tensor[:, first : first + 10] for tensor in (steps.inputs, steps.target, steps.taken)))
        assert_counted(store.samples(), steps, first + 10)
        assert_counted(store.samples(store.rows + 3), steps, first + 10)


def test_merged_rows_are_the_distinct_states_of_every_entry():
    steps = Steps()
    for count in (1, 5, STEPS):
        store = steps.stored(count, merge_states=True)
        visits = store.samples().visits
        distinct = [len(set(number)) for number in steps.number[:, :count].tolist()]
        assert visits.count_nonzero(1).tolist() == distinct
        assert store.rows == visits.shape[1] == max(distinct)
    assert distinct == [3, 7, 11, 15]


@pytest.mark.parametrize("parts", [1, 7, 150])
def test_rows_of_states_are_numbered_as_they_come(parts):
    """Against a dictionary of every entry, however many steps come at a time; one that has few states waits."""
    steps, store = Steps(3), SampleStore(merge_states=True)
    numbers: list[dict[int, int]] = [{} for _ in range(ENTRIES)]
    rows = [
        [own.setdefault(n, len(own)) for n in line] for own, line in zip(numbers, steps.number.tolist(), strict=True)
    ]
    for part in torch.arange(STEPS).tensor_split(parts):
        store.append(*(tensor[:, part] for tensor in (steps.inputs, steps.target, steps.taken)))
        assert store.steps_and_rows()[3].tolist() == [own[: int(part[-1]) + 1] for own in rows]


def test_steps_are_not_compared_one_by_one_with_all_rows():
    states = torch.randn(1, 1000, 2, generator=generator())
    store = SampleStore(merge_states=True)
    policies, taken = torch.full((1, 1000, 2), 0.5), torch.zeros(1, 1000, dtype=torch.int64)
    assert written(lambda: store.append(states, policies, taken)) < 1000**2 / 4


# loss, gradient and KL of Samples


def objective(samples: Samples) -> tuple[Tensor, Tensor, Tensor]:
    """Loss, KL and gradient per entry, of a network far from zero."""
    net = StackedMLP(WIDTH, [8], ACTIONS, (ENTRIES,), 1.0, [generator(seed) for seed in range(ENTRIES)])
    log_ratio, kl = log_ratio_and_kl(net(samples.inputs).mT, samples.target, samples.visits)
    loss = clipped_loss(log_ratio.exp(), samples.share, 0.3)
    (gradient,) = torch.autograd.grad(loss.sum(), net.flat)
    assert gradient.norm(dim=1).min() > 0.1 and kl.min() > 0.03
    return loss.detach(), kl.detach(), gradient


@pytest.mark.parametrize("merge_states", [False, True])
@pytest.mark.parametrize("rows", [0, STEPS + 1, 300])
def test_merging_and_filling_up_change_neither_loss_nor_gradient_nor_kl(merge_states, rows):
    steps = Steps()
    samples = steps.stored(60, STEPS, merge_states=merge_states).samples(rows)
    assert samples.visits.shape[1] == rows or not rows
    for own, expected in zip(objective(samples), objective(steps.stored(STEPS).samples()), strict=True):
        torch.testing.assert_close(own, expected, atol=2e-6, rtol=1e-5)


# fingerprints


@pytest.mark.parametrize("kind", ["bits", "floats", "neighbors"])
def test_fingerprints_are_equal_exactly_if_the_rows_are(kind):
    draw = generator(2)
    if kind == "bits":
        rows = torch.randint(2, (400, 8), generator=draw).float()
    else:
        rows = torch.randn(40, 8, generator=draw)[torch.randint(40, (400,), generator=draw)]
    if kind == "neighbors":  # the next float in one place
        upper = torch.nextafter(rows, torch.full_like(rows, torch.inf))
        place = torch.nn.functional.one_hot(torch.randint(8, (400,), generator=draw), 8).bool()
        rows = torch.where(place, upper, rows)
    prints = fingerprint(rows)
    same_rows = (rows.unsqueeze(0) == rows.unsqueeze(1)).all(-1)
    assert torch.equal(prints.unsqueeze(0) == prints.unsqueeze(1), same_rows)
    assert len(rows) < same_rows.sum() < len(rows) ** 2


def test_fingerprints_do_not_depend_on_the_place_in_the_batch():
    rows = torch.randn(60, 11, generator=generator(4))
    prints = fingerprint(rows)
    order = torch.randperm(60, generator=generator(5))
    assert torch.equal(fingerprint(rows[order]), prints[order])
    assert torch.equal(fingerprint(rows.view(4, 15, 11)).flatten(), prints)
    assert torch.equal(torch.stack([fingerprint(row) for row in rows]), prints)
    assert torch.equal(fingerprint(rows.T.contiguous().T), prints)


def test_fingerprints_of_zeros_and_ones_use_all_their_bits():
    prints = fingerprint(torch.randint(2, (200, 30), generator=generator(7)).float())
    assert len((prints % 2**16).unique()) > 190


# minibatches


@pytest.mark.parametrize(("parts", "size"), [(2, 0), (3, 0), (4, 64), (200, 3)])
def test_minibatches_of_an_epoch_average_to_all_of_d(parts, size):
    steps = Steps()
    samples = steps.stored(STEPS).samples()
    # Inputs that number the rows tell which ones a part holds.
    numbered = samples._replace(inputs=torch.arange(STEPS).float().expand(ENTRIES, -1).unsqueeze(-1))
    minibatches = minibatches_of(SeedStreams(0, [3, 4], "test"), STEPS, 2, parts, copies=2, size=size)
    per_epoch = min(parts, STEPS)
    assert len(minibatches) == 2 * per_epoch
    for epoch in (minibatches[:per_epoch], minibatches[per_epoch:]):
        mean, visits = torch.zeros_like(samples.share), torch.zeros_like(samples.visits)
        for minibatch in epoch:
            part = numbered.take(minibatch)
            rows = part.inputs.squeeze(-1).long()
            assert rows.shape[1] >= size and torch.equal(rows[0], rows[1]) and torch.equal(rows[2], rows[3])
            columns = rows.unsqueeze(1).expand_as(part.share)
            assert torch.equal(part.target, samples.target.gather(2, columns))
            of_epoch = int((minibatch.weight > 0).sum()) / STEPS
            mean.scatter_add_(2, columns, of_epoch * part.share)
            visits.scatter_add_(1, rows, of_epoch * part.visits)
            torch.testing.assert_close(part.visits.sum(1), torch.ones(ENTRIES))
        torch.testing.assert_close(mean, samples.share)
        torch.testing.assert_close(visits, samples.visits)
    assert samples.take(None) is samples


# the most wrong rows


class Starts:
    """Uniform numbers of two seeds that are given."""

    def __init__(self, *starts: float) -> None:
        self.generators = list(starts)

    def uniform(self, *shape: int) -> Tensor:
        return torch.tensor(self.generators, dtype=torch.float64).view(-1, *shape)


def numbered_samples(rows: int, right: int = 0) -> Samples:
    """One-hot rows of very different errors; in the first ``right`` d_D is pi_theta."""
    draw = generator(6)
    share = torch.rand(2, ACTIONS, rows, generator=draw) ** 3 * torch.rand(2, 1, rows, generator=draw)
    share /= share.sum((1, 2), keepdim=True)
    target = torch.randn(2, ACTIONS, rows, generator=draw).softmax(1)
    target[:, :, :right] = (share / share.sum(1, keepdim=True))[:, :, :right]
    return Samples.of(torch.eye(rows).expand(2, -1, -1), target, share)


def test_packed_samples_give_the_same_minibatches():
    samples = Steps().stored(STEPS).samples()
    packed = samples.packed()
    for minibatch in minibatches_of(SeedStreams(0, [3, 4], "test"), STEPS, 2, 3, copies=2, size=64):
        for own, other in zip(packed.take(minibatch), samples.take(minibatch), strict=True):
            torch.testing.assert_close(own, other, atol=0, rtol=0)
    kept = packed.entries(torch.tensor([2, 0]))
    assert torch.equal(kept.rows[1], packed.rows[0]) and len(kept.rows) == 2


@pytest.mark.parametrize("count", [1, 4, 11])
def test_subsampled_rows_are_unbiased(count):
    samples = numbered_samples(12)
    error = (samples.share - samples.visits.unsqueeze(1) * samples.target).abs().sum(1).double()
    ends = (error / error.sum(1, keepdim=True)).cumsum(1) * count
    for seed in (0, 1):
        # Between two of these starts the same rows are drawn: the expectation is a finite sum.
        cuts = torch.cat([torch.tensor([0.0, 1.0]), ends[seed] % 1]).sort().values
        expected = torch.zeros(ACTIONS, 12, dtype=torch.float64)
        for low, high in itertools.pairwise(cuts.tolist()):
            drawn = samples.subsampled(count, Starts(*[(low + high) / 2] * 2))
            assert drawn.inputs.shape == (2, count, 12)
            expected += (high - low) * (drawn.share[seed] @ drawn.inputs[seed]).double()
        torch.testing.assert_close(expected, samples.share[seed].double(), atol=1e-6, rtol=1e-5)


def test_subsampled_rows_keep_their_targets_and_seeds_draw_for_themselves():
    samples = Samples(*(tensor[:1].expand(4, *tensor.shape[1:]) for tensor in numbered_samples(20)[:4]))
    drawn = samples.subsampled(3, Starts(0.1, 0.9))
    rows = drawn.inputs.argmax(-1)
    assert torch.equal(rows[0], rows[1]) and torch.equal(rows[2], rows[3]) and not torch.equal(rows[0], rows[2])
    assert torch.equal(drawn.target, samples.target.gather(2, rows.unsqueeze(1).expand(-1, ACTIONS, -1)))
    torch.testing.assert_close(drawn.visits, drawn.share.sum(1))


def test_rows_without_error_are_not_drawn_and_few_rows_are_all_taken():
    samples = numbered_samples(12, right=5)
    for start in torch.linspace(0, 1, 200)[1:-1].tolist():
        rows = samples.subsampled(4, Starts(start, start)).inputs.argmax(-1)
        assert rows.min() >= 5 and rows.max() < 12
    for count in (12, 13):
        assert samples.subsampled(count, Starts(0.5, 0.5)) is samples


def test_subsampled_rows_are_never_unused_ones():
    samples = Steps().stored(STEPS, merge_states=True).samples(40)
    for start in (0.0, 1e-7, 0.3, 1 - 1e-7):
        drawn = samples.subsampled(10, Starts(start, start))
        assert drawn.share.isfinite().all() and (drawn.visits > 0).all()
