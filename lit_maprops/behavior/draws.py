"""Where behavior policies take the uniform numbers from that become actions."""

from typing import Any, Literal

import torch
from tensordict import TensorDictBase
from torch import Tensor
from typing_extensions import override

from lit_maprops.behavior.same_state import leaders_of
from lit_maprops.behavior.stratified import stratify
from lit_maprops.stacked.streams import SeedStreams

DrawKind = Literal["independent", "stratified", "low_discrepancy"]


class Draws:
    """Independent draws, for every environment and column by itself.

    Args:
        columns: shape of the numbers from which one environment's joint action is drawn, ``W`` of them.
    """

    def __init__(self, columns: tuple[int, ...]) -> None:
        self.columns = columns

    def layers(self, n_envs: int) -> int:
        """Of ``E * W`` numbers that every vector step takes from the streams."""
        return 1

    def uniform(self, streams: SeedStreams, data: TensorDictBase) -> Tensor:
        """For one vector step ``[R, E]``, from the seeds' streams: ``[R, E, *columns]``, each uniform on [0, 1)."""
        return self.arranged(streams.uniform(*self.fresh_shape(data.batch_size[1])), data)

    def fresh_shape(self, n_envs: int) -> tuple[int, ...]:
        """Of a seed's independent numbers for one vector step, which ``arranged`` takes."""
        layers = self.layers(n_envs)
        return (*((layers,) if layers > 1 else ()), n_envs, *self.columns)

    def arranged(self, fresh: Tensor, data: TensorDictBase) -> Tensor:
        """What ``uniform`` makes of independent numbers ``[R, *fresh_shape(E)]``: ``[R, E, *columns]``."""
        return fresh

    def reset(self, retained: int) -> None:
        """A new batch begins; D retains so many of the newest steps of each seed."""

    def move(self, device: torch.device) -> None:
        """Let numbers arrive on a device."""

    def checkpoint_state(self) -> dict[str, Any]:
        """State beside the streams'; plain tensors and integers."""
        return {}

    def restore(self, saved: dict[str, Any]) -> None:
        """Continue from a ``checkpoint_state``."""

    def take_over(self, other: Any, times: int) -> None:
        """Go on from the draws of the same kind of fewer seeds, each of them ``times`` times in a row; own streams."""


class StratifiedDraws(Draws):
    """Environments of a seed that stand in the same state share the unit interval evenly (``behavior.stratified``)."""

    @override
    def layers(self, n_envs: int) -> int:
        return 1 + (n_envs > 1)

    @override
    def arranged(self, fresh: Tensor, data: TensorDictBase) -> Tensor:
        return fresh if data.batch_size[1] == 1 else stratify(leaders_of(data), fresh.transpose(0, 1))
