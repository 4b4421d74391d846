"""Behavior policies over few agents written down joint action by joint action, with autograd: slow and obvious."""

import itertools

import torch
from torch import Tensor


def joint_actions(n_agents: int, n_actions: int) -> list[tuple[int, ...]]:
    return list(itertools.product(range(n_actions), repeat=n_agents))


def log_target(logits: Tensor) -> Tensor:
    """log pi_theta of every joint action ``[n_joint]`` from one state's ``[A, N]``."""
    actions = joint_actions(*logits.shape)
    return torch.stack([torch.stack([logits[i, a] for i, a in enumerate(joint)]).sum() for joint in actions])


def graph_log_probs(logits: Tensor, unary: Tensor, pair: Tensor, edges: list[tuple[int, int]]) -> Tensor:
    """log pi_phi of every joint action: pi_theta exp(all terms), normalized over the list.

    ``unary`` is ``[A, N]``, ``pair`` ``[edges, N, N]``.
    """
    scores = []
    for joint in joint_actions(*logits.shape):
        terms = [logits[i, a] + unary[i, a] for i, a in enumerate(joint)]
        terms += [pair[number, joint[i], joint[j]] for number, (i, j) in enumerate(edges)]
        scores.append(torch.stack(terms).sum())
    return torch.stack(scores).log_softmax(0)


def autoregressive_log_probs(logits: Tensor, delta_of) -> Tensor:
    """log pi_phi of every joint action; ``delta_of(agent, earlier actions) -> [N]``."""
    result = []
    for joint in joint_actions(*logits.shape):
        terms = [(logits[i] + delta_of(i, joint[:i])).log_softmax(0)[action] for i, action in enumerate(joint)]
        result.append(torch.stack(terms).sum())
    return torch.stack(result)


def divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p || q), actions with p = 0 left out."""
    possible = log_p > -torch.inf
    return (log_p[possible].exp() * (log_p[possible] - log_q[possible])).sum()
