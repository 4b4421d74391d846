"""Algorithm 2 on the ratio of each step of D (``lit_maprops.behavior.update.rows``)."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from typing_extensions import override

from lit_maprops.behavior.update.minibatches import minibatches_of
from lit_maprops.behavior.update.rows import RatiosOf, Rows, RowStore, update_rows
from lit_maprops.behavior.update.trainer import DeltaTrainer, UpdateSettings
from lit_maprops.stacked.nets import DeltaNet
from lit_maprops.stacked.optimizer import SeedAdam
from lit_maprops.stacked.streams import SeedStreams


class RowTrainer(DeltaTrainer):
    """Trains on steps that stand by themselves; the facts of a step are those of ``Rows``.

    Args:
        net: see ``DeltaTrainer``.
        optimizer: see ``DeltaTrainer``.
        streams: see ``DeltaTrainer``.
        settings: see ``DeltaTrainer``.
        ratios: what the adjustment says about rows.
        shape: of what has a ratio, a clip and a stop of its own: ``(R,)``, or ``(R, A)`` for every agent by itself.
        wanted: of ``Rows``, where updates stop where systematic sampling would.
        weight: of ``Rows``; None: all of D alike.
    """

    def __init__(
        self,
        net: DeltaNet,
        optimizer: SeedAdam,
        streams: SeedStreams,
        settings: UpdateSettings,
        ratios: RatiosOf,
        shape: tuple[int, ...],
        wanted: Callable[[Rows], Tensor] | None = None,
        weight: Callable[[Rows], Tensor] | None = None,
    ) -> None:
        super().__init__(net, optimizer, streams, settings)
        self.ratios, self.shape, self.wanted, self.weight = ratios, shape, wanted, weight
        self.store = RowStore()

    @override
    def append(self, inputs: Tensor, *facts: Tensor) -> None:
        self.store.append(inputs.flatten(0, -3).float(), *facts)

    @override
    def update(self, measure: bool = True) -> dict[str, Tensor]:
        """Starts from Delta_phi = 0."""
        settings = self.settings
        self.net.zero_output()
        if settings.reset_optimizer:
            self.optimizer.reset_state()
        copies = math.prod(self.shape) // len(self.streams.generators)  # which share a seed's order
        minibatches = minibatches_of(self.streams, self.store.rows, settings.epochs, settings.minibatches, copies)
        rows = self.store.samples()
        if self.weight is not None:
            rows = rows._replace(weight=self.weight(rows))
        if settings.systematic and self.wanted is not None:
            rows = rows._replace(wanted=self.wanted(rows))
        stats = update_rows(
            self.net,
            self.optimizer,
            rows,
            minibatches,
            self.ratios,
            settings.clip_epsilon,
            settings.kl_cutoff,
            measure,
        )
        stats["gradient_steps_allowed"] = torch.full_like(stats["gradient_steps"], len(minibatches))
        return {name: value.unflatten(0, self.shape) for name, value in stats.items()}

    @override
    def clear(self) -> None:
        self.store.clear()
