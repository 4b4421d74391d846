"""D as Algorithm 2 sees it, kept ready between updates: what theta fixes is computed once, when a step is collected.

``G`` counts the independent entries: R seeds, or for PROPS R seeds times A agents. ``U`` counts the rows the adjustment
is evaluated on: every step of D, or with ``merge_states`` every distinct state.
"""

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from lit_maprops.behavior.update.minibatches import Minibatch
from lit_maprops.behavior.update.systematic import counts_in_state, next_draw
from lit_maprops.stacked.device_cache import DeviceCache
from lit_maprops.stacked.streams import SeedStreams


class Samples(NamedTuple):
    """D, or a part of it. Actions come before rows, so that sums over actions are sums of long vectors."""

    inputs: Tensor  # [G, U, I], input of Delta
    target: Tensor  # [G, K, U], pi_theta of all K (joint) actions
    share: Tensor  # [G, K, U], d_D: share of D's steps with this state and action; sums to 1 over K and U
    visits: Tensor  # [G, U], share of D's steps with this state: the sum of ``share`` over actions
    wanted: Tensor | None = None  # [G, K, U], where ``kl_cutoff`` is auto: ``systematic.next_draw``

    @staticmethod
    def of(inputs: Tensor, target: Tensor, share: Tensor) -> "Samples":
        """With the visits that belong to ``share``."""
        return Samples(inputs, target, share, share.sum(1))

    def entries(self, kept: "Tensor | slice") -> "Samples":
        """Of some of the entries."""
        wanted = None if self.wanted is None else self.wanted[kept]
        return Samples(self.inputs[kept], self.target[kept], self.share[kept], self.visits[kept], wanted)

    def take(self, minibatch: Minibatch | None) -> "Samples":
        """A minibatch, weighted to stand for all of D; None is all of D."""
        return self if minibatch is None else self.weighted(*minibatch)

    def weighted(self, rows: Tensor, weight: Tensor) -> "Samples":
        """Rows ``[G, b]``, their shares multiplied by ``weight`` ``[G or 1, b]``."""
        inputs = self.inputs.gather(1, rows.unsqueeze(-1).expand(-1, -1, self.inputs.shape[-1]))
        columns = rows.unsqueeze(1).expand(-1, self.target.shape[1], -1)
        share = self.share.gather(2, columns) * weight.unsqueeze(1)
        wanted = self.wanted if self.wanted is None else self.wanted.gather(2, columns)
        return Samples.of(inputs, self.target.gather(2, columns), share)._replace(wanted=wanted)

    def packed(self) -> "PackedSamples":
        """The same, laid out for drawing many minibatches."""
        return PackedSamples(torch.cat([self.inputs, self.target.mT, self.share.mT], 2), self.target.shape[1])

    def subsampled(self, count: int, streams: SeedStreams) -> "Samples":
        """``count`` rows per entry, drawn by how far d_D is from pi_theta there, weighted to stay unbiased.

        A row's chance is proportional to sum_k abs(d_D(k) - d_D pi_theta(k)), the size of its share of the first
        gradient; systematic sampling, one uniform number per seed. All rows if there are no more than ``count``.
        """
        if self.inputs.shape[1] <= count:
            return self
        expected = self.visits.unsqueeze(1) * self.target
        chance = (self.share - expected).abs().sum(1).double() + 1e-12 * self.visits  # [G, U]
        chance = chance / chance.sum(1, keepdim=True)
        start = streams.uniform(1).double().repeat_interleave(len(chance) // len(streams.generators), 0)  # [G, 1]
        points = (torch.arange(count, device=start.device) + start) / count
        rows = torch.searchsorted(chance.cumsum(1), points).clamp(max=chance.shape[1] - 1)
        return self.weighted(rows, (1 / (count * chance.gather(1, rows))).to(self.share.dtype))


class PackedSamples(NamedTuple):
    """Samples with the numbers of a row side by side: a random row costs one place in memory instead of 2 K + 1."""

    rows: Tensor  # [G, U, I + 2 K]: inputs, target, share
    actions: int  # K

    def entries(self, kept: Tensor) -> "PackedSamples":
        """Copies of the entries numbered ``kept``."""
        return PackedSamples(self.rows[kept], self.actions)

    def take(self, minibatch: Minibatch | None) -> Samples:
        """As ``Samples.take``, for a minibatch that is not None."""
        assert minibatch is not None
        entries, rows, _ = self.rows.shape
        first = rows * torch.arange(entries, device=self.rows.device).unsqueeze(1)
        chosen = self.rows.flatten(0, 1).index_select(0, (minibatch.rows + first).flatten())
        inputs, of_actions = chosen.unflatten(0, minibatch.rows.shape).tensor_split([-2 * self.actions], 2)
        target, share = of_actions.mT.contiguous().chunk(2, 1)
        return Samples.of(inputs, target, share * minibatch.weight.unsqueeze(1))


class SampleStore:
    """Collects ``Samples`` step by step.

    Args:
        merge_states: steps in equal states share one row: the same sums in fewer terms. Equal states must mean equal
            target policies, as they do under one theta.
        number_states: tell states apart in any case, for ``wanting``.
    """

    def __init__(self, merge_states: bool = False, number_states: bool = False) -> None:
        self.merge_states, self.number_states = merge_states, number_states
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.steps = 0  # of D
        self.rows = 0  # U
        self._inputs = self._target = self._fingerprints = torch.empty(0)
        self._own: Tensor | None = None
        self._taken = self._row = self._rows_used = torch.empty(0, dtype=torch.int64)

    def append(
        self, inputs: Tensor, target: Tensor, taken: Tensor, states: Tensor | None = None, own: Tensor | None = None
    ) -> None:
        """Add ``b`` steps.

        Args:
            inputs: ``[G, b, I]``.
            target: pi_theta of all actions, ``[G, b, K]``.
            taken: numbers of the actions taken, ``[G, b]`` int64.
            states: what makes states equal, ``[G, b, .]`` float32; None: the inputs.
            own: the steps that are the entry's, ``[G, b]`` bool: others have share 0. None: all; always, or never.
        """
        entries, steps, _ = inputs.shape
        if not self.steps:
            self._inputs = inputs.new_empty(entries, 0, inputs.shape[-1])
            self._target = target.new_empty(entries, target.shape[-1], 0)
            self._taken = self._row = self._fingerprints = taken.new_empty(entries, 0)
            self._rows_used = taken.new_zeros(entries)
        if self.rows + steps > self._inputs.shape[1]:
            self._grow(max(64, 2 * (self.rows + steps)))
        rows = torch.arange(self.rows, self.rows + steps, device=taken.device).expand(entries, -1)
        if self.merge_states:
            rows = self._merged_rows(inputs if states is None else states)
        elif self.number_states:
            self._fingerprints.scatter_(1, rows, fingerprint(inputs if states is None else states))
        self._inputs.scatter_(1, rows.unsqueeze(-1).expand_as(inputs), inputs)
        columns = target.mT
        self._target.scatter_(2, rows.unsqueeze(1).expand_as(columns), columns)
        self._taken = torch.cat([self._taken, taken], 1)
        self._row = torch.cat([self._row, rows], 1)
        if own is not None:
            self._own = own if self._own is None else torch.cat([self._own, own], 1)
        self.steps += steps
        self.rows = int(self._rows_used.max()) if self.merge_states else self.steps

    def _grow(self, capacity: int) -> None:
        def grown(old: Tensor, dim: int, fill: float) -> Tensor:
            shape = list(old.shape)
            shape[dim] = capacity
            new = old.new_full(shape, fill)
            new.narrow(dim, 0, old.shape[dim]).copy_(old)
            return new

        self._inputs, self._fingerprints = grown(self._inputs, 1, 0), grown(self._fingerprints, 1, 0)
        # A row that is not in use has share 0; its target must still be a distribution, for 0 times its KL to be 0.
        self._target = grown(self._target, 2, 1 / self._target.shape[1])

    def _merged_rows(self, states: Tensor) -> Tensor:
        """The row of each step's state, ``[G, b]``; new states get the next free row of their entry, as they come."""
        prints = fingerprint(states)
        steps = torch.arange(prints.shape[1], device=prints.device)
        ordered, step = prints.sort(dim=1, stable=True)
        place = torch.searchsorted(ordered, prints)  # where each state stands first
        # The rows in use, looked up among the steps: of two states that stand at one place one is no step's.
        used = torch.arange(self.rows, device=prints.device).expand(len(prints), -1)
        kept = self._fingerprints[:, : self.rows].contiguous()
        at = torch.searchsorted(ordered, kept).clamp(max=len(steps) - 1)
        found = (ordered.gather(1, at) == kept) & (used < self._rows_used.unsqueeze(1))
        row_at = prints.new_full((len(prints), len(steps) + 1), -1)  # the last is written to by the others
        row_at.scatter_(1, at.where(found, len(steps)), used)
        row = row_at.gather(1, place)
        leader = step.gather(1, place)  # the first of these steps in the same state
        new = (row < 0) & (leader == steps)
        number = self._rows_used.unsqueeze(1) + new.cumsum(1) - 1
        row = torch.where(row < 0, number.gather(1, leader), row)
        self._rows_used = self._rows_used + new.sum(1)
        self._fingerprints.scatter_(1, row, prints)
        return row

    def steps_and_rows(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Rows' inputs ``[G, ., I]`` and targets ``[G, K, .]``; steps' actions and rows ``[G, steps]``."""
        return self._inputs, self._target, self._taken, self._row

    def samples(self, rows: int = 0) -> Samples:
        """All steps of D, in at least ``rows`` rows; rows not in use have share 0."""
        rows = max(rows, self.rows)
        if rows > self._inputs.shape[1]:
            self._grow(rows)
        inputs, target = self._inputs[:, :rows], self._target[:, :, :rows]
        index = self._taken * rows + self._row
        share = torch.zeros_like(target).flatten(1)
        share.scatter_add_(1, index, self._weight(index))
        return Samples.of(inputs, target, share.unflatten(1, target.shape[1:]))

    def _weight(self, index: Tensor) -> Tensor:
        """What every step counts, shaped as ``index``."""
        if self._own is None:
            return torch.full(index.shape, 1 / self.steps, device=index.device)
        return self._own / self._own.sum(1, keepdim=True).clamp(min=1)

    def wanting(self, samples: Samples) -> Samples:
        """All steps of D as ``samples`` gave them, with what systematic sampling would draw next in their states."""
        states = self._fingerprints[:, : samples.target.shape[2]]
        counts = counts_in_state(states, samples.share * self.steps)
        return samples._replace(wanted=next_draw(samples.target, counts))


def fingerprint(rows: Tensor) -> Tensor:
    """``[..., I]`` float32 -> ``[...]`` int64, equal for equal rows; others differ but for a chance of about 2^-60.

    A multilinear hash of the bits (Carter & Wegman 1979), exact in integers and so independent of the order of sums.
    """
    bits = rows.contiguous().view(torch.int32).long() & 0xFFFFFFFF
    bits = bits ^ (bits >> 23)  # 1.0 ends in 23 zeros, which every sum of products would keep
    return (bits * _factors(rows.shape[-1]).on(rows.device)).sum(-1)


@cache
def _factors(count: int) -> DeviceCache:
    return DeviceCache(torch.randint(-(2**62), 2**62, (count,), generator=torch.Generator().manual_seed(0)))
