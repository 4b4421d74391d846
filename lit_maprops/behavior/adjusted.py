"""What PROPS and MA-PROPS share: target logits plus a learned adjustment Delta_phi, trained by Algorithm 2."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor

from lit_maprops.behavior.algorithm2 import LogRatioAndKL, minibatch_rows, update_behavior
from lit_maprops.behavior.base import BehaviorPolicy, UpdateStats
from lit_maprops.config import check_count, check_layers, check_positive
from lit_maprops.envs import Task
from lit_maprops.nets import SeedAdam, StackedMLP
from lit_maprops.streams import SeedStreams


class AdjustedPolicy(BehaviorPolicy):
    """A behavior policy with a trained adjustment; subclasses say what is adjusted.

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
    ) -> None:
        super().__init__()
        check_positive("--model.behavior.clip_epsilon", clip_epsilon)
        check_positive("--model.behavior.kl_cutoff", kl_cutoff)
        check_count("--model.behavior.epochs", epochs)
        check_count("--model.behavior.minibatches", minibatches)
        check_positive("--model.behavior.learning_rate", learning_rate)
        check_layers("--model.behavior.hidden", hidden)
        self.clip_epsilon, self.kl_cutoff = clip_epsilon, kl_cutoff
        self.epochs, self.minibatches = epochs, minibatches
        self.learning_rate, self.hidden = learning_rate, list(hidden)
        self.reset_optimizer = reset_optimizer

    def build(self, task: Task, run_seed: int, seed_ids: list[int]) -> None:
        """See ``BehaviorPolicy``."""
        super().build(task, run_seed, seed_ids)
        self.minibatch_streams = SeedStreams(run_seed, seed_ids, "behavior minibatches")
        generators = SeedStreams(run_seed, seed_ids, "behavior weights").generators
        self.net = self.make_adjustment(task, generators)
        self.optimizer = SeedAdam(self.net.parameters(), self.learning_rate, self.net.stack)

    @abstractmethod
    def make_adjustment(self, task: Task, generators: list[torch.Generator]) -> StackedMLP:
        """Delta_phi with a zero last layer."""

    @abstractmethod
    def log_ratio_and_kl(self, data: TensorDictBase) -> LogRatioAndKL:
        """Prepare Algorithm 2's view of D ``[R, B]``: everything that theta fixes is computed once, here."""

    def update(self, data: TensorDictBase) -> UpdateStats:
        """See ``BehaviorPolicy``; Algorithm 2, starting from Delta_phi = 0."""
        self.net.zero_last_layer()
        if self.reset_optimizer:
            self.optimizer.reset_state()
        rows = minibatch_rows(self.minibatch_streams, data.shape[1], self.epochs, self.minibatches)
        stats = update_behavior(self.log_ratio_and_kl(data), self.optimizer, rows, self.clip_epsilon, self.kl_cutoff)
        allowed = self.epochs * min(self.minibatches, data.shape[1])
        return stats | {"gradient_steps_allowed": torch.full_like(stats["kl"], allowed)}

    def reset(self, data: TensorDictBase | None) -> None:
        """See ``BehaviorPolicy``."""
        self.net.zero_last_layer()

    def move_streams(self, device: torch.device) -> None:
        """See ``BehaviorPolicy``."""
        super().move_streams(device)
        self.minibatch_streams.device = device

    def checkpoint_state(self) -> dict[str, Any]:
        """See ``BehaviorPolicy``."""
        return super().checkpoint_state() | {"minibatch_streams": self.minibatch_streams.state_dict()}

    def restore(self, saved: dict[str, Any]) -> None:
        """See ``BehaviorPolicy``."""
        super().restore(saved)
        self.minibatch_streams.load_state_dict(saved["minibatch_streams"])


def rows_of(tensor: Tensor, rows: Tensor | None) -> Tensor:
    """Rows of every seed: ``[R, B, ...]`` and ``[R, b]`` -> ``[R, b, ...]``; all of them if ``rows`` is None."""
    if rows is None:
        return tensor
    return tensor[torch.arange(len(rows), device=rows.device).unsqueeze(1), rows]
