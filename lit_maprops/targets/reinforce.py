"""REINFORCE with a mean baseline (Williams 1992): the plain learner the theory of matrix games speaks about."""

from collections.abc import Sequence
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor
from typing_extensions import override

from lit_maprops import keys
from lit_maprops.buffer import Buffer
from lit_maprops.envs import Task
from lit_maprops.envs.ends import agents_with_steps, own_done, weighted, weights
from lit_maprops.system.argument_types import ClosedUnitInterval, Count, LearningRate
from lit_maprops.targets.learner import Learner


class Reinforce(Learner):
    """One gradient step per target batch: every agent ascends mean((G - mean G) grad log pi_theta_i).

    G is the discounted return to go, its mean that of the seed's batch. Plain gradient ascent without momentum.
    A return is cut where a batch ends. The means over D are those over every agent's own steps, if agents leave.

    Args:
        learning_rate: see ``Learner``.
        gamma: see ``Learner``.
        hidden: see ``Learner``.
        **learner: the other arguments of ``Learner``.
    """

    def __init__(
        self,
        learning_rate: LearningRate = 1.0,
        gamma: ClosedUnitInterval = 1.0,
        hidden: Sequence[Count] = (),
        **learner: Any,
    ) -> None:
        super().__init__(learning_rate=learning_rate, gamma=gamma, hidden=hidden, **learner)

    @override
    def build(self, task: Task, run_seed: int, seed_ids: list[int]) -> None:
        super().build(task, run_seed, seed_ids)
        self.optimizer = torch.optim.SGD(self.policies.parameters(), self.learning_rate)

    @override
    def update(self, buffer: Buffer) -> dict[str, Tensor]:
        data = buffer.trajectories()  # [R, k, T, E]
        reward = data.get(("next", *keys.REWARD)).squeeze(-1)  # [R, k, T, E, A]
        returns = returns_to_go(reward, own_done(data.get("next")).squeeze(-1), self.gamma).flatten(1, 3)  # [R, B, A]
        weight = weights(data.flatten(1, 3))
        advantage = weighted(returns - weighted(returns, weight).mean(1, keepdim=True), weight)

        rows, own = advantage.shape[1], self.team.every
        steps = data.select(*self.policies.in_keys, keys.ACTION).flatten(1, 3)[:, own]
        parameters = self.policies.parameters_in(steps)  # [R, B, A, K]
        log_prob = self.policies.family.log_prob(parameters, steps.get(keys.ACTION))
        loss = -((advantage[:, own] * log_prob).sum(1) / rows).sum(-1)  # [R]
        self.optimizer.zero_grad()
        loss.sum().backward()
        entropy = self.policies.family.entropy(parameters)
        entropy = weighted(entropy, None if weight is None else weight[:, own])
        entropy = entropy.sum((1, 2)) / (rows * agents_with_steps(weight, entropy.shape[2]))
        stats = {"policy_loss": loss.detach(), "entropy": entropy.detach()}
        self.sum_over_team(stats)
        if self.learning is not None:
            for gradient in (parameter.grad for parameter in self.policies.parameters()):
                assert gradient is not None
                gradient[~self.learning.to(gradient.device)] = 0.0
        self.step_optimizer()
        return stats

    @override
    def advantages(self, data: TensorDictBase) -> Tensor:
        """The return to go minus the mean of the batch's other steps.

        ``update`` subtracts the mean of all n steps, the own one included, which for independent steps shortens the
        gradient by the factor 1 - 1/n; leaving the own one out (Kool et al. 2019) removes that bias.
        """
        reward = data.get(("next", *keys.REWARD)).squeeze(-1)  # [R, k, T, E, A]
        returns = returns_to_go(reward, own_done(data.get("next")).squeeze(-1), self.gamma)
        flat, weight = returns.flatten(2, 3), weights(data.flatten(2, 3))
        steps = flat.shape[2] if weight is None else (weight != 0).sum(2, keepdim=True)
        others = flat - weighted(flat, weight).mean(2, keepdim=True)
        scale = steps / max(1, steps - 1) if isinstance(steps, int) else steps / (steps - 1).clamp(min=1)
        return weighted(others * scale, weight).reshape(returns.shape)


def returns_to_go(reward: Tensor, done: Tensor, gamma: float) -> Tensor:
    """Discounted sum of the rewards from each step to the end of its episode or batch.

    TorchRL's ``reward2go`` fails for gamma = 0 (0.14.1), hence our own.

    Args:
        reward: ``[R, k, T, E, A]``.
        done: of every agent by itself, ``[R, k, T, E, A]`` bool, or of all at once, ``[R, k, T, E, 1]``.
        gamma: discount per step.

    Returns:
        ``[R, k, T, E, A]``.
    """
    returns = reward.clone()
    for t in reversed(range(reward.shape[2] - 1)):
        following = torch.where(done[:, :, t], 0.0, returns[:, :, t + 1])
        returns[:, :, t] += gamma * following
    return returns
