"""Agents whose episode is over before the others': which steps of D are theirs, and how each agent's own ends.

``keys.END`` says of every agent ``RUNS``, ``TERMINATED`` or ``TRUNCATED``. It is there only for tasks with
``agents_leave``; elsewhere all agents end with the episode.
"""

import torch
from tensordict import TensorDictBase
from torch import Tensor

from lit_maprops import keys

RUNS, TERMINATED, TRUNCATED = 0, 1, 2


def living(data: TensorDictBase) -> Tensor | None:
    """Whose step it is in D ``[*B]``: ``[*B, A]`` bool, False for agents that have left; None if no agent can."""
    end = data.get(keys.END, None)
    return None if end is None else end == RUNS


def own_done(following: TensorDictBase) -> Tensor:
    """Whether every agent's own episode is over, from ``"next"`` ``[*B]``: ``[*B, A, 1]`` bool."""
    done, end = following.get(keys.DONE).unsqueeze(-2), following.get(keys.END, None)
    return _of_agents(done, following) if end is None else done | (end != RUNS).unsqueeze(-1)


def own_terminated(following: TensorDictBase) -> Tensor:
    """Whether it is by the task's rules, likewise.

    An agent that is truncated bootstraps by itself, also where the others have terminated, and the other way round.
    """
    terminated, end = following.get(keys.TERMINATED).unsqueeze(-2), following.get(keys.END, None)
    if end is None:
        return _of_agents(terminated, following)
    end = end.unsqueeze(-1)
    return (end == TERMINATED) | (terminated & (end == RUNS))


def _of_agents(flag: Tensor, following: TensorDictBase) -> Tensor:
    return flag.expand(*flag.shape[:-2], following.get(keys.REWARD).shape[-2], 1)


def weights(data: TensorDictBase) -> Tensor | None:
    """Weights ``[*B, T, A]`` of the steps of D ``[*B, T]``: a mean over T is then one over each agent's own steps.

    0 after an agent has left, T / (its own steps) before; 1 where it never did; None if no agent can.
    """
    present = living(data)
    if present is None:
        return None
    dim = data.batch_dims - 1
    own = present.sum(dim, keepdim=True).clamp(min=1)
    return present * (present.shape[dim] / own)


def weighted(value: Tensor, weight: Tensor | None) -> Tensor:
    """Values times ``weights``; 0 where the weight is 0, whatever the value."""
    return value if weight is None else torch.where(weight == 0, 0.0, value * weight)
