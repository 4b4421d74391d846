"""A learner's update as one CUDA graph: all of its gradient steps are a single launch."""

from collections.abc import Callable, Hashable, Sequence

import torch
from tensordict import TensorDictBase
from torch import Tensor

from lit_maprops.stacked.graphs import Graphed
from lit_maprops.stacked.optimizer import SeedAdam

Learn = Callable[[TensorDictBase, Sequence[Tensor], Tensor], dict[str, Tensor]]


class RecordedUpdate:
    """``learn`` for CUDA devices, recorded once D has its place in memory.

    Args:
        learn: learns from trajectories ``[R, k, T, E]`` in the orders ``[R, B]`` of the passes, where seeds are active
            ``[R]``; returns statistics ``[R]``. It asks the device nothing and draws nothing.
        optimizer: that it steps, of one group.
    """

    def __init__(self, learn: Learn, optimizer: SeedAdam) -> None:
        self._learn, self._optimizer = learn, optimizer
        self._graphed = Graphed(self._run, "target updates")
        self._trajectories: TensorDictBase | None = None
        self._names: tuple[str, ...] = ()

    def __call__(self, trajectories: TensorDictBase, orders: Sequence[Tensor], active: Tensor) -> dict[str, Tensor]:
        """What ``learn`` returns."""
        self._trajectories = trajectories
        (group,) = self._optimizer.param_groups
        # As a tensor: as a number it would stay what it was when the graph was recorded.
        rate = torch.full((), group["lr"], device=active.device)
        own = [tensor for p in group["params"] for tensor in (p, *self._optimizer.state[p].values())]
        results = self._graphed([*orders, active, rate], [*trajectories.values(True, True), *own], len(orders))
        self._trajectories = None
        return dict(zip(self._names, results, strict=True))

    def _run(self, given: Sequence[Tensor], held: Sequence[Tensor], *settings: Hashable) -> tuple[Tensor, ...]:
        assert self._trajectories is not None  # whose memory is ``held``
        *orders, active, rate = given
        (group,) = self._optimizer.param_groups
        number, group["lr"] = group["lr"], rate
        try:
            statistics = self._learn(self._trajectories, orders, active)
        finally:
            group["lr"] = number
        self._names = tuple(statistics)
        return tuple(statistics.values())
