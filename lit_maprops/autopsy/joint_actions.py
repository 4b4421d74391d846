"""Which joint actions a batch holds too often or too rarely, against what pi_theta gives in the states visited."""

from typing import NamedTuple

import torch
from tensordict import TensorDictBase
from torch import Tensor

from lit_maprops import keys
from lit_maprops.distributions import joint
from lit_maprops.envs import Task
from lit_maprops.envs.games.matrix_game import OneStepGame

MOST_JOINT = 4096  # joint actions that are counted one by one; of more only those that D holds
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class JointAction(NamedTuple):
    """One joint action in one batch."""

    name: str
    in_batch: int  # times in D
    expected: float  # the sum of its probability over D's states
    z: float  # (in_batch - expected) / standard deviation of independent draws in those states; NaN if that is 0


def joint_actions(task: Task, batch: TensorDictBase) -> list[JointAction]:
    """Of one seed's batch ``[T, E]``, the most over-sampled first.

    Given the states, on-policy counts have the mean ``expected`` and the variance sum of p (1 - p).
    """
    parameters = batch.get(keys.PARAMETERS).flatten(0, -3)  # [B, A, N], log-probabilities
    action = batch.get(keys.ACTION).flatten(0, -2)  # [B, A]
    if task.n_actions**task.n_agents <= MOST_JOINT:
        numbers = torch.arange(task.n_actions**task.n_agents, device=action.device)
        candidates = joint.split_joint(numbers, task.n_agents, task.n_actions)
    else:
        candidates = action.unique(dim=0)
    counts, means, variances = _figures(parameters.double(), action, candidates)
    found = []
    for row, count, mean, variance in zip(candidates, counts.tolist(), means.tolist(), variances.tolist(), strict=True):
        if count or mean > 0:
            z = (count - mean) / variance**0.5 if variance > 0 else float("nan")
            found.append(JointAction(_name(task, row.tolist()), count, mean, z))
    return sorted(found, key=lambda one: -one.z if one.z == one.z else 0.0)


def _figures(parameters: Tensor, action: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Counts, means and variances of every candidate ``[C, A]``, each ``[C]``."""
    results = []
    for candidate in candidates:
        chosen = parameters.gather(-1, candidate.expand(len(parameters), -1).unsqueeze(-1)).squeeze(-1)
        chance = chosen.sum(-1).exp()  # [B]
        count = (action == candidate).all(-1).sum()
        results.append((count, chance.sum(), (chance * (1 - chance)).sum()))
    counts, means, variances = (torch.stack(parts) for parts in zip(*results, strict=True))
    return counts, means, variances


def _name(task: Task, actions: list[int]) -> str:
    """Words or letters of the agents' actions: ``(north, west)``, ``(A, B)``."""
    if isinstance(task, OneStepGame) and task.n_actions <= len(LETTERS):
        words = [LETTERS[number] for number in actions]
    else:
        words = [task.interface(agent).actions[number] for agent, number in enumerate(actions)]
    return f"({', '.join(words)})"
