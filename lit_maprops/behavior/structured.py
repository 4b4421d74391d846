"""Behavior policies whose joint ratio and KL take no table of joint actions."""

from abc import abstractmethod
from collections.abc import Sequence

import torch
from tensordict import TensorDictBase
from torch import Tensor
from typing_extensions import override

from lit_maprops import keys
from lit_maprops.behavior.adjusted import AdjustedPolicy
from lit_maprops.behavior.algorithm2 import minibatches_of
from lit_maprops.behavior.base import UpdateStats
from lit_maprops.behavior.update.rows import Ratios, RatiosOf, Rows, RowStore, update_rows


class StructuredPolicy(AdjustedPolicy):
    """A behavior policy trained on the ratio of each step of D (``behavior.update.rows``); subclasses say how.

    Args:
        clip_epsilon: see ``AdjustedPolicy``; of the joint ratio.
        kl_cutoff: see ``AdjustedPolicy``; of the joint KL.
        epochs: see ``AdjustedPolicy``.
        minibatches: see ``AdjustedPolicy``.
        learning_rate: see ``AdjustedPolicy``.
        hidden: see ``AdjustedPolicy``.
        reset_optimizer: see ``AdjustedPolicy``.
    """

    store: RowStore  # type: ignore[assignment]  # steps stand by themselves here: no table of actions, no merging

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
        super().__init__(clip_epsilon, kl_cutoff, epochs, minibatches, learning_rate, hidden, reset_optimizer)
        self.store = RowStore()

    @abstractmethod
    def ratios(self, delta: Tensor, rows: Rows) -> Ratios:
        """Joint ratios under the adjustment ``[R * C, K, U]`` (nats); R may be some of the seeds."""

    @abstractmethod
    def experience(self, data: TensorDictBase) -> tuple[Tensor, ...]:
        """What Algorithm 2 needs of steps ``[R, b]``: Delta's inputs ``[*stack, b, I]`` and the facts of ``Rows``."""

    @override
    def extend(self, data: TensorDictBase) -> None:
        extend_rows(self.store, self.experience(data))

    @override
    def update(self, measure: bool = True) -> UpdateStats:
        """Algorithm 2, starting from Delta_phi = 0."""
        return train_on_rows(self, self.store, self.ratios, measure)


@torch.no_grad()
def extend_rows(store: RowStore, experience: tuple[Tensor, ...]) -> None:
    """Add steps as ``StructuredPolicy.experience`` gives them."""
    inputs, *facts = experience
    store.append(inputs.flatten(0, -3).float(), *facts)


def train_on_rows(policy: AdjustedPolicy, store: RowStore, ratios: RatiosOf, measure: bool) -> UpdateStats:
    """One update of a policy, from Delta_phi = 0, on the ratio of each step; statistics ``[G]`` (see ``Rows``)."""
    policy.net.zero_last_layer()
    if policy.reset_optimizer:
        policy.optimizer.reset_state()
    rows = store.samples()
    copies = len(rows.weight) // policy.n_seeds  # which share a seed's order
    minibatches = minibatches_of(policy.minibatch_streams, store.rows, policy.epochs, policy.minibatches, copies)
    stats = update_rows(
        policy.net, policy.optimizer, rows, minibatches, ratios, policy.clip_epsilon, policy.kl_cutoff, measure
    )
    return stats | {"gradient_steps_allowed": torch.full_like(stats["gradient_steps"], len(minibatches))}


def targets_and_taken(data: TensorDictBase) -> tuple[Tensor, Tensor]:
    """log pi_theta_i ``[R, A, N, b]`` (nats) and the actions taken ``[R, A, b]`` of steps ``[R, b]``."""
    return data.get(keys.PARAMETERS).permute(0, 2, 3, 1), data.get(keys.ACTION).mT
