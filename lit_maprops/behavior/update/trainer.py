"""What trains Delta_phi on D, as a behavior policy sees it."""

from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor

from lit_maprops.stacked.nets import DeltaNet
from lit_maprops.stacked.optimizer import SeedAdam
from lit_maprops.stacked.streams import SeedStreams


class UpdateSettings(NamedTuple):
    """Of Algorithm 2, whichever way it runs; see ``AdjustedPolicy``."""

    clip_epsilon: float
    kl_cutoff: float  # nats; infinite where updates stop otherwise
    systematic: bool  # they stop where systematic sampling would, see ``systematic``
    epochs: int
    minibatches: int
    reset_optimizer: bool


class DeltaTrainer(ABC):
    """Holds D in the form that its updates need, and trains Delta_phi on it.

    Args:
        net: Delta_phi.
        optimizer: over ``net``.
        streams: random numbers of the R seeds, for minibatches.
        settings: of Algorithm 2.

    Attributes:
        restart: entries that the next update starts from Delta_phi = 0, ``[*stack]`` bool; None: all.
        has_kernel: a compiled kernel can run its updates.
        native: it does.
    """

    restart: Tensor | None = None
    has_kernel: bool = False
    native: bool = False

    def __init__(self, net: DeltaNet, optimizer: SeedAdam, streams: SeedStreams, settings: UpdateSettings) -> None:
        self.net, self.optimizer, self.streams, self.settings = net, optimizer, streams, settings

    @abstractmethod
    def append(self, inputs: Tensor, *facts: Tensor) -> None:
        """Add ``b`` steps to D.

        Args:
            inputs: of Delta_phi, ``[*stack, b, I]``.
            *facts: what else of a step the objective depends on: pi_theta and the action taken.
        """

    @abstractmethod
    def update(self, measure: bool = True) -> dict[str, Tensor]:
        """Algorithm 2 on all of D.

        Args:
            measure: also return the statistics that cost another pass over D.

        Returns:
            Statistics as ``algorithm2.update_behavior`` returns them, and ``gradient_steps_allowed``: ``[R]``, or
            ``[R, A]`` where every agent has a ratio and a stop of its own.
        """

    @abstractmethod
    def clear(self) -> None:
        """Forget D and the updates on it."""
