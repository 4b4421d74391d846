"""Algorithm 2 on tables of actions (``lit_maprops.behavior.update.fused``), and what lets it do less arithmetic."""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from lit_maprops.behavior.update import fused, native
from lit_maprops.behavior.update.minibatches import minibatches_of
from lit_maprops.behavior.update.samples import SampleStore
from lit_maprops.behavior.update.trainer import DeltaTrainer, UpdateSettings
from lit_maprops.stacked.graphs import Graphed, can_record
from lit_maprops.stacked.nets import DeltaNet, LayeredNet
from lit_maprops.stacked.optimizer import SeedAdam
from lit_maprops.stacked.streams import SeedStreams


class CostOptions(NamedTuple):
    """What saves arithmetic; see ``EnumeratedPolicy``. The defaults are the paper's way."""

    trained_layers: str = "all"
    merge_states: bool = False
    max_states: int | None = None
    max_sample_passes: int | None = None
    warm_start: bool = False
    compile: bool = False

    def used(self) -> list[str]:
        """The options that are not at their defaults."""
        return [name for name, value in self._asdict().items() if value != self._field_defaults[name]]


class TableTrainer(DeltaTrainer):
    """Trains on the table of all actions that Delta_phi adjusts.

    The facts of a step are log pi_theta of those K actions ``[*stack, b, K]`` (nats) and the numbers of the actions
    taken ``[*stack, b]``; where an entry's steps are not all of D, also which are, ``[*stack, b]`` bool.

    Args:
        net: see ``DeltaTrainer``.
        optimizer: see ``DeltaTrainer``.
        streams: see ``DeltaTrainer``.
        settings: see ``DeltaTrainer``.
        options: what saves arithmetic.
        masked: in some states fewer actions are legal than exist; states are equal only if the same ones are.
    """

    def __init__(
        self,
        net: DeltaNet,
        optimizer: SeedAdam,
        streams: SeedStreams,
        settings: UpdateSettings,
        options: CostOptions,
        masked: bool = False,
    ) -> None:
        super().__init__(net, optimizer, streams, settings)
        self.masked = masked
        self.options, self.last_layer = options, options.trained_layers == "last"
        self.store = SampleStore(options.merge_states, settings.systematic)
        self._steps = Graphed(fused.masked_update, "behavior updates")

    has_kernel = True

    @property
    def needs_only_steps(self) -> bool:
        """An update depends on the steps of D alone, in no order: nothing is drawn, and no other seed's rows count."""
        options = self.options
        return (
            self.settings.minibatches == 1
            and options.max_states is None
            and not (self.last_layer or options.compile or (options.merge_states and options.max_sample_passes))
        )

    @override
    def append(self, inputs: Tensor, *facts: Tensor) -> None:
        log_probs, taken, *own = facts
        if self.settings.systematic:  # which looks at whole counts; elsewhere there is nothing to be short of
            own = []
        states = inputs.flatten(0, -3).float()
        x = self._features(inputs) if self.last_layer else states
        target = log_probs.flatten(0, -3).exp()
        if self.masked and (self.store.merge_states or self.store.number_states):
            states = torch.cat([states, (target > 0).float()], -1)
        self.store.append(x, target, taken.flatten(0, -2), states, *(steps.flatten(0, -2) for steps in own))

    def _features(self, inputs: Tensor) -> Tensor:
        net = self.net
        assert isinstance(net, LayeredNet)  # ``EnumeratedPolicy`` refuses ``trained_layers`` last of others
        return net.features(inputs)

    @override
    def update(self, measure: bool = True) -> dict[str, Tensor]:
        """Starts from Delta_phi = 0, or with ``warm_start`` from that of the update before."""
        settings, options = self.settings, self.options
        self.net.zero_output(self.restart if options.warm_start else None)
        if settings.reset_optimizer:
            self.optimizer.reset_state()
        rows = min(self.store.rows, options.max_states or self.store.rows)
        epochs = settings.epochs
        if options.max_sample_passes is not None:
            epochs = max(1, min(epochs, options.max_sample_passes // rows))
        graphs = can_record(self.optimizer.device)
        few_sizes = options.compile or graphs
        size = fused.padded_rows(-(-rows // settings.minibatches)) if few_sizes else 0  # rows per gradient step
        samples = self.store.samples(fused.padded_rows(rows) if graphs else size if settings.minibatches == 1 else 0)
        if options.max_states is not None and self.store.rows > options.max_states:
            samples = samples.subsampled(options.max_states, self.streams)
        copies = len(samples.inputs) // len(self.streams.generators)  # which share a seed's order
        if settings.systematic and not self.native:
            samples = self.store.wanting(samples)
        masked = self.optimizer.device.type != "cpu" and not options.compile and not settings.systematic
        own: dict[str, Any] = {"compiled": options.compile, "steps": self._steps if masked else None}
        if self.native:
            own = {"keep_moments": not settings.reset_optimizer}
            own |= {"steps_of_data": self.store.steps, "masked": self.masked} if settings.systematic else {}
        stats = (native if self.native else fused).update_behavior(
            self.net,
            self.optimizer,
            samples,
            minibatches_of(self.streams, rows, epochs, settings.minibatches, copies, size),
            settings.clip_epsilon,
            settings.kl_cutoff,
            last_layer=self.last_layer,
            from_zero=not options.warm_start,
            measure=measure,
            **own,
        )
        self.restart = stats["cutoff_hit"]
        allowed = epochs * min(settings.minibatches, rows)
        return stats | {"gradient_steps_allowed": torch.full_like(stats["gradient_steps"], allowed)}

    @override
    def clear(self) -> None:
        self.restart = None
        self.store.clear()
