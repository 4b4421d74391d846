"""What PROPS and MA-PROPS share: target logits plus a learned adjustment Delta_phi, trained by Algorithm 2."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor
from typing_extensions import override

from lit_maprops.behavior.algorithm2 import minibatches_of
from lit_maprops.behavior.base import BehaviorPolicy, UpdateStats
from lit_maprops.behavior.update import fused
from lit_maprops.behavior.update.samples import SampleStore
from lit_maprops.envs import Task
from lit_maprops.stacked.nets import StackedMLP
from lit_maprops.stacked.optimizer import SeedAdam
from lit_maprops.stacked.streams import SeedStreams
from lit_maprops.system.errors import check, check_choice, check_count, check_layers, check_positive


class AdjustedPolicy(BehaviorPolicy):
    """A behavior policy with a trained adjustment; subclasses say what is adjusted.

    The defaults from ``trained_layers`` on are the paper's way. The others do less arithmetic; docs/evidence/speed.md
    measures what each costs in sampling error and in solved runs.

    Args:
        clip_epsilon: epsilon, how far one update may move the ratio pi_phi / pi_theta of a sampled action (paper:
            0.3 to 10).
        kl_cutoff: delta, KL(pi_theta || pi_phi) at which an update stops (nats).
        epochs: passes over all of D per update.
        minibatches: parts of D, one gradient step each, per pass.
        learning_rate: Adam step size.
        hidden: units of each hidden layer of Delta_phi; empty for a table.
        reset_optimizer: forget Adam's moments at every update. Decided here: on; the PROPS authors' code keeps them,
            measured, that costs sampling error (docs/evidence/matrix_games.md).
        trained_layers: ``all``, or ``last``: the hidden layers stay random and their output is computed once per step
            (as ROS, Zhong et al. 2022, and an option of the PROPS authors' code do).
        merge_states: evaluate Delta once per distinct state of D instead of once per step: the same sums, up to
            rounding. Needs ``minibatches`` 1.
        max_states: most rows per update, drawn by how far d_D is from pi_theta in them; None is all. Needs
            ``minibatches`` 1.
        max_sample_passes: lowers ``epochs``, to no less than 1, where epochs times rows of D would exceed it; None is
            off.
        warm_start: continue from the Delta of the update before, unless ``kl_cutoff`` stopped that one.
        compile: run gradient steps through torch.compile (a minute at the start; pays in long runs).
        stratified: see ``BehaviorPolicy``.
    """

    net: StackedMLP
    optimizer: SeedAdam

    def __init__(
        self,
        clip_epsilon: float = 0.3,
        kl_cutoff: float = 0.05,
        epochs: int = 8,
        minibatches: int = 1,
        learning_rate: float = 3e-3,
        hidden: Sequence[int] = (64, 64),
        reset_optimizer: bool = True,
        trained_layers: str = "all",
        merge_states: bool = False,
        max_states: int | None = None,
        max_sample_passes: int | None = None,
        warm_start: bool = False,
        compile: bool = False,
        stratified: bool = False,
    ) -> None:
        super().__init__(stratified)
        check_positive("behavior.clip_epsilon", clip_epsilon)
        check_positive("behavior.kl_cutoff", kl_cutoff)
        check_count("behavior.epochs", epochs)
        check_count("behavior.minibatches", minibatches)
        check_positive("behavior.learning_rate", learning_rate)
        check_layers("behavior.hidden", hidden)
        check_choice("behavior.trained_layers", trained_layers, ["all", "last"])
        for name, limit in (("max_states", max_states), ("max_sample_passes", max_sample_passes)):
            if limit is not None:
                check_count(f"behavior.{name}", limit)
        for name, on in (("merge_states", merge_states), ("max_states", max_states is not None)):
            check(
                minibatches == 1 or not on,
                f"<behavior.{name}> works on all of D and <behavior.minibatches> is {minibatches}: "
                "set minibatches to 1",
            )
        check(
            not compile or torch.cuda.is_available() or fused.has_compiler(),
            "<behavior.compile> is true and there is no C++ compiler: install g++ or name one in CXX, or set "
            "it to false",
        )
        self.clip_epsilon, self.kl_cutoff = clip_epsilon, kl_cutoff
        self.epochs, self.minibatches = epochs, minibatches
        self.learning_rate, self.hidden = learning_rate, list(hidden)
        self.reset_optimizer, self.last_layer = reset_optimizer, trained_layers == "last"
        self.max_states, self.max_sample_passes = max_states, max_sample_passes
        self.warm_start, self.compile_steps = warm_start, compile
        self.counts_rows_of_all_seeds = merge_states and (max_states is not None or max_sample_passes is not None)
        self.store = SampleStore(merge_states)
        self.restart: Tensor | None = None  # [*stack], entries that start from Delta = 0; None: all

    @override
    def build(self, task: Task, run_seed: int, seed_ids: list[int]) -> None:
        super().build(task, run_seed, seed_ids)
        self.minibatch_streams = SeedStreams(run_seed, seed_ids, "behavior minibatches")
        generators = SeedStreams(run_seed, seed_ids, "behavior weights").generators
        self.net = self.make_adjustment(task, generators)
        self.optimizer = SeedAdam(
            self.net.parameters(), self.learning_rate, self.net.stack, lockstep=self.reset_optimizer
        )

    def cost_options(self) -> list[str]:
        """The options that save arithmetic and are not at their defaults."""
        used = {
            "trained_layers": self.last_layer,
            "merge_states": self.store.merge_states,
            "max_states": self.max_states is not None,
            "max_sample_passes": self.max_sample_passes is not None,
            "warm_start": self.warm_start,
            "compile": self.compile_steps,
        }
        return [name for name, is_used in used.items() if is_used]

    @abstractmethod
    def make_adjustment(self, task: Task, generators: list[torch.Generator]) -> StackedMLP:
        """Delta_phi with a zero last layer."""

    @abstractmethod
    def experience(self, data: TensorDictBase) -> tuple[Tensor, ...]:
        """What Algorithm 2 needs of steps ``[R, b]``.

        Returns:
            Delta's inputs ``[*stack, b, I]``, log pi_theta of the K actions that Delta adjusts ``[*stack, b, K]``
            (nats) and the numbers of those taken ``[*stack, b]``.
        """

    @override
    @torch.no_grad()
    def extend(self, data: TensorDictBase) -> None:
        inputs, log_probs, taken = self.experience(data)
        states = inputs.flatten(0, -3).float()
        x = self.net.features(inputs) if self.last_layer else states
        self.store.append(x, log_probs.flatten(0, -3).exp(), taken.flatten(0, -2), states)

    @override
    def update(self, measure: bool = True) -> UpdateStats:
        """Algorithm 2, starting from Delta_phi = 0."""
        self.net.zero_last_layer(self.restart if self.warm_start else None)
        if self.reset_optimizer:
            self.optimizer.reset_state()
        rows = min(self.store.rows, self.max_states or self.store.rows)
        epochs = self.epochs
        if self.max_sample_passes is not None:
            epochs = max(1, min(epochs, self.max_sample_passes // rows))
        size = fused.padded_rows(-(-rows // self.minibatches)) if self.compile_steps else 0  # rows per gradient step
        samples = self.store.samples(size if self.minibatches == 1 else 0)
        if self.max_states is not None and self.store.rows > self.max_states:
            samples = samples.most_wrong(self.max_states, self.minibatch_streams)
        entries = len(samples.inputs) // self.n_seeds
        stats = fused.update_behavior(
            self.net,
            self.optimizer,
            samples,
            minibatches_of(self.minibatch_streams, rows, epochs, self.minibatches, entries, size),
            self.clip_epsilon,
            self.kl_cutoff,
            last_layer=self.last_layer,
            from_zero=not self.warm_start,
            measure=measure,
            compiled=self.compile_steps,
        )
        self.restart = stats["cutoff_hit"]
        allowed = epochs * min(self.minibatches, rows)
        return stats | {"gradient_steps_allowed": torch.full_like(stats["gradient_steps"], allowed)}

    @override
    def reset(self, data: TensorDictBase | None) -> None:
        self.net.zero_last_layer()
        self.restart = None
        self.store.clear()
        if data is not None:
            self.extend(data)

    @override
    def move_streams(self, device: torch.device) -> None:
        super().move_streams(device)
        self.minibatch_streams.device = device

    @override
    def checkpoint_state(self) -> dict[str, Any]:
        return super().checkpoint_state() | {"minibatch_streams": self.minibatch_streams.state_dict()}

    @override
    def restore(self, saved: dict[str, Any]) -> None:
        super().restore(saved)
        self.minibatch_streams.load_state_dict(saved["minibatch_streams"])
