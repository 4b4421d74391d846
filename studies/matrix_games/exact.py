"""Ascent along the expected gradient of a one-step game: what REINFORCE tends to as batches grow."""

import math

import torch
from torch import Tensor

from lit_maprops.distributions.joint import split_joint
from lit_maprops.envs import Task


def payoffs(task: Task) -> Tensor:
    """Of every joint action to every agent, asked of the task itself: ``[N] * A + [A]``."""
    n_joint = task.n_actions**task.n_agents
    noise = torch.zeros(n_joint, 64)  # more numbers than a one-shot game uses
    action = split_joint(torch.arange(n_joint), task.n_agents, task.n_actions)
    reward = task.transition(task.initial_state(noise), action, noise).reward
    return reward.view(*[task.n_actions] * task.n_agents, task.n_agents)


def ascent(payoff: Tensor, logits: Tensor, learning_rate: float, updates: int) -> Tensor:
    """Joint probabilities ``[R, n_joint]`` after simultaneous steps along every agent's expected gradient.

    Args:
        payoff: see ``payoffs``.
        logits: of the policies at the start, ``[R, A, N]``.
        learning_rate: a step's, d logit_k = rate * pi_i(k) (E[G_i | a_i = k] - E[G_i]).
        updates: steps.
    """
    logits = logits.clone()
    for _ in range(updates):
        policies = logits.softmax(-1)
        values = torch.stack([_own_values(payoff[..., i], policies, i) for i in range(logits.shape[1])], 1)
        logits += learning_rate * policies * (values - (policies * values).sum(-1, keepdim=True))
    return _joint(logits.softmax(-1)).flatten(1)


def _own_values(payoff: Tensor, policies: Tensor, agent: int) -> Tensor:
    """E[G_i | a_i = k] over the others' actions: ``[R, N]``."""
    others = [j for j in range(policies.shape[1]) if j != agent]
    flat = payoff.movedim(agent, 0).flatten(1)  # [N, n_others]
    if not others:
        return flat.T.expand(len(policies), -1)
    return _joint(policies[:, others]).flatten(1) @ flat.T


def _joint(policies: Tensor) -> Tensor:
    """Products of the agents' probabilities, ``[R, A, N] -> [R, N, ..., N]``."""
    joint = policies[:, 0]
    for agent in range(1, policies.shape[1]):
        joint = joint.unsqueeze(-1) * policies[:, agent].view(len(policies), *[1] * agent, -1)
    assert joint[0].numel() == math.prod([policies.shape[2]] * policies.shape[1])
    return joint
