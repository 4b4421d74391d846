"""Agents that leave before the others or come after them: which steps of D are theirs, how each agent's own part ends.

``keys.END`` says of every agent ``RUNS`` while it is there, ``ABSENT`` before it comes (or where it never does), and
``TERMINATED`` or ``TRUNCATED`` from its end on. It is there only for tasks with ``agents_leave``; elsewhere all agents
begin and end with the episode.

A step belongs to an agent that is there when it begins. So its last one is that which ends its part, and what it is
paid afterwards is not its reward: its return goes to its own end, also where the team is rewarded as one.
"""

import torch
from tensordict import TensorDictBase
from torch import Tensor

from lit_maprops import keys
from lit_maprops.envs.faults import Faults

RUNS, TERMINATED, TRUNCATED, ABSENT = 0, 1, 2, 3
# Of what follows what in an episode: rows are the state before a step, columns the state after it.
_MAY_FOLLOW = torch.tensor([[1, 1, 1, 0], [0, 1, 0, 0], [0, 0, 1, 0], [1, 1, 1, 1]]).bool()


def living(data: TensorDictBase) -> Tensor | None:
    """Whose step it is in D ``[*B]``: ``[*B, A]`` bool, False for agents that are not there; None if all always are."""
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

    0 where an agent is not there, T / (its own steps) where it is; 1 if it always is; None if all of them always are.
    """
    present = living(data)
    if present is None:
        return None
    dim = data.batch_dims - 1
    own = present.sum(dim, keepdim=True).clamp(min=1)
    return present * (present.shape[dim] / own)


def agents_with_steps(weight: Tensor | None, n_agents: int) -> Tensor | int:
    """How many of the agents a mean over agents is one of, from ``weights`` ``[R, T, A]``: those with a step of D.

    Returns:
        ``[R]`` int64, at least 1; ``n_agents`` if there are no weights.
    """
    return n_agents if weight is None else (weight.amax(1) > 0).sum(-1).clamp(min=1)


def weighted(value: Tensor, weight: Tensor | None) -> Tensor:
    """Values times ``weights``; 0 where the weight is 0, whatever the value."""
    return value if weight is None else torch.where(weight == 0, 0.0, value * weight)


def only_living(value: Tensor, data: TensorDictBase) -> Tensor:
    """Numbers of every agent ``[*B, A, ...]`` with 0 for those that are not there in the steps ``[*B]`` of ``data``."""
    present = living(data)
    if present is None:
        return value
    return torch.where(present.reshape(*present.shape, *[1] * (value.dim() - present.dim())), value, 0)


@torch.no_grad()
def check_ends(batch: TensorDictBase, faults: Faults) -> None:
    """Search the newest env steps ``[R, T, E]`` for agents whose ends do not follow from each other, or that are paid.

    One device sync if there are none.

    Args:
        batch: of a task whose agents may leave; nothing is looked at otherwise.
        faults: of the run.

    Raises:
        EnvironmentFault: see ``Faults.found``.
    """
    before = batch.get(keys.END, None)
    if before is None:
        return
    after, reward = batch.get(("next", *keys.END)), batch.get(("next", *keys.REWARD)).squeeze(-1)
    known = (before <= ABSENT) & (after <= ABSENT)
    follows = known & _MAY_FOLLOW.to(after.device)[before.clamp(max=ABSENT).long(), after.clamp(max=ABSENT).long()]
    wrong = ~follows | ((before != RUNS) & (reward != 0))  # [R, T, E, A]
    if not wrong.any():
        return
    _, steps, envs, _ = wrong.shape
    for seed in wrong.flatten(1).any(1).nonzero().flatten().tolist():
        t, env, agent = wrong[seed].nonzero()[0].tolist()
        then, now = int(before[seed, t, env, agent]), int(after[seed, t, env, agent])
        if not known[seed, t, env, agent]:
            what = (
                f"{then if then > ABSENT else now} in agent_ends of agent {agent}, where {RUNS} to {ABSENT} are known"
            )
        elif follows[seed, t, env, agent]:
            what = f"a reward of {float(reward[seed, t, env, agent]):g} for agent {agent}, which is not there"
        elif now == ABSENT:
            what = f"agent {agent} is absent without an end"
        else:
            what = f"agent {agent} acts after its end" if now == RUNS else f"agent {agent} ends twice"
        faults.found(what, seed, env, faults.env_steps + (t - steps) * envs + env + 1)
