"""Low-discrepancy draws: the visits of a state draw from one randomized Sobol sequence.

The joint error of a batch comes from uniform numbers that are independent. Here every distinct state of D has its own
scrambled low-discrepancy sequence (randomized quasi-Monte Carlo, Owen 1995): the k-th visit since the last target
update takes its k-th point, one coordinate per column. Every draw is uniform by itself, so every action keeps its
probability; together the draws of a state fill the unit cube evenly, and with it the joint actions. Parallel
environments in the same state take consecutive points. At its first visit a state draws what independent sampling
would: where no state is visited twice nothing changes, bit for bit.
"""

import math
from typing import Any, Literal

import torch
from tensordict import TensorDictBase
from torch import Tensor
from typing_extensions import override

from lit_maprops.behavior.draws import Draws
from lit_maprops.behavior.visits import Found, Visits
from lit_maprops.envs import Task
from lit_maprops.stacked.sobol import BITS, PERIOD, owen, sobol_points, to_bits, to_uniform
from lit_maprops.stacked.streams import SeedStreams

FirstVisits = Literal["independent", "sequence"]
Scrambling = Literal["shift", "owen"]


def scrambled(points: Tensor, shift: Tensor, nested: bool) -> Tensor:
    """Randomized points; point 0 becomes the shift itself.

    Args:
        points: ``[*B, W]`` int32.
        shift: likewise, uniform; for equal shifts points are randomized alike.
        nested: by Owen's scrambling, keyed by the shift, beside the digital shift.
    """
    if nested:
        keys = shift.long() + (torch.arange(shift.shape[-1], device=shift.device) << BITS)
        points = owen(points, keys) ^ owen(torch.zeros_like(points), keys)
    return points ^ shift


class LowDiscrepancyDraws(Draws):
    """A sequence per state and seed.

    Args:
        columns: see ``Draws``.
        task: whose states are told apart.
        n_seeds: R.
        scrambling_streams: for what a batch begins with: the order of the coordinates, and where ``first_visits``
            begin.
        first_visits: what states draw from at their first visits: ``independent`` numbers, or a ``sequence`` over the
            distinct states of D.
        scrambling: ``shift``, every coordinate's bits are flipped alike for all of a state's visits; ``owen``, each bit
            also by those above it.

    Attributes:
        visits: rows of D with what randomizes their states' sequences, ``[R, ., W]``.
        points: Sobol's, ``[PERIOD, W]`` int32.
        order: which of Sobol's coordinates each column takes, ``[R, W]`` int64: direction numbers are of unequal
            quality.
        begin: where a sequence over first visits begins, ``[R, W]`` int32.
        met: distinct states met since ``begin`` was drawn, ``[R]`` int64.
    """

    order: Tensor
    begin: Tensor
    met: Tensor

    def __init__(
        self,
        columns: tuple[int, ...],
        task: Task,
        n_seeds: int,
        scrambling_streams: SeedStreams,
        first_visits: FirstVisits = "independent",
        scrambling: Scrambling = "shift",
    ) -> None:
        super().__init__(columns)
        width = math.prod(columns)
        self.visits, self.points = Visits(task, n_seeds, width), sobol_points(width)
        self.in_sequence, self.nested = first_visits == "sequence", scrambling == "owen"
        self.scrambling_streams = scrambling_streams
        self.reset(0)

    @override
    def arranged(self, fresh: Tensor, data: TensorDictBase) -> Tensor:
        found = self.visits.find(data)
        new = self._first_shifts(found, to_bits(fresh.reshape(*fresh.shape[:2], -1)))
        shift = torch.where(found.known.unsqueeze(2), self.visits.numbers_of(found), new)
        self.visits.add(found, shift)
        point = scrambled(self._points(found.visit), shift, self.nested)
        return to_uniform(point).reshape(*found.state.shape, *self.columns)

    def _points(self, number: Tensor) -> Tensor:
        """Sobol's points ``[R, E]`` in the seeds' orders of coordinates, ``[R, E, W]`` int32."""
        number = number % PERIOD  # first visits are counted on while D retains anything: there can be more than rows
        return self.points.take(number.unsqueeze(2) * self.points.shape[1] + self.order.unsqueeze(1))

    def _first_shifts(self, found: Found, fresh: Tensor) -> Tensor:
        """What randomizes the sequences of states that are not known, ``[R, E, W]`` int32."""
        if self.in_sequence:
            new = ~found.known & (found.leader == torch.arange(found.leader.shape[1], device=fresh.device))
            place = self.met.unsqueeze(1) + new.cumsum(1) - 1
            self.met = self.met + new.sum(1)
            fresh = self._points(place.clamp(min=0)) ^ self.begin.unsqueeze(1)
        return fresh if fresh.shape[1] == 1 else fresh.gather(1, found.leader.unsqueeze(2).expand_as(fresh))

    @override
    def reset(self, retained: int) -> None:
        """Sequences of states that D retains go on; with none, everything is randomized anew."""
        self.visits.keep(retained)
        if not retained:
            self.order = self.scrambling_streams.permutation(self.points.shape[1])
            self.begin = to_bits(self.scrambling_streams.uniform(self.points.shape[1]))
            self.met = torch.zeros_like(self.order[:, 0])

    @override
    def move(self, device: torch.device) -> None:
        self.scrambling_streams.device = device
        self.visits.move(device)
        for name in ("points", "order", "begin", "met"):
            setattr(self, name, getattr(self, name).to(device))

    @override
    def checkpoint_state(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in ("order", "begin", "met")}
        return own | {"visits": self.visits.state_dict(), "scrambling_streams": self.scrambling_streams.state_dict()}

    @override
    def restore(self, saved: dict[str, Any]) -> None:
        for name in ("order", "begin", "met"):
            setattr(self, name, saved[name].to(self.points.device))
        self.visits.load_state_dict(saved["visits"])
        self.scrambling_streams.load_state_dict(saved["scrambling_streams"])

    @override
    def take_over(self, other: "LowDiscrepancyDraws", times: int) -> None:
        for name in ("order", "begin", "met"):
            setattr(self, name, getattr(other, name).repeat_interleave(times, 0))
        visits = {name: value.repeat_interleave(times, 0) for name, value in other.visits.state_dict().items()}
        self.visits.load_state_dict(visits)
