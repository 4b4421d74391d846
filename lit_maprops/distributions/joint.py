"""The joint action set: A agents with N actions each make N**A joint actions.

Joint action k is the mixed-radix number whose most significant digit is agent 0's action, the order in which
``torch.cartesian_prod`` enumerates.
"""

import torch
from torch import Tensor
from torch.nn.functional import one_hot


def count(n_agents: int, n_actions: int) -> tuple[int, str]:
    """How many joint actions there are, as a number and in words short enough for a message."""
    n_joint = n_actions**n_agents
    return n_joint, f"{n_joint:,}" if n_joint < 10**15 else f"{n_actions}**{n_agents}"


def joint_log_probs(log_probs: Tensor) -> Tensor:
    """Log-probabilities of all joint actions under independent agents: ``[..., A, N] -> [..., N**A]`` (nats)."""
    joint = log_probs[..., 0, :]
    for agent in range(1, log_probs.shape[-2]):
        joint = (joint.unsqueeze(-1) + log_probs[..., agent, None, :]).flatten(-2)
    return joint


def joint_index(action: Tensor, n_actions: int) -> Tensor:
    """Number of the joint action: ``[..., A] -> [...]`` int64."""
    index = action[..., 0]
    for agent in range(1, action.shape[-1]):
        index = index * n_actions + action[..., agent]
    return index


def split_joint(index: Tensor, n_agents: int, n_actions: int) -> Tensor:
    """The agents' actions of a joint action number: ``[...] -> [..., A]`` int64."""
    digits = []
    for _ in range(n_agents):
        digits.append(index % n_actions)
        index = torch.div(index, n_actions, rounding_mode="floor")
    return torch.stack(digits[::-1], dim=-1)


def earlier_actions(action: Tensor, n_actions: int) -> Tensor:
    """What each agent knows if agents choose in order: ``[..., A] -> [..., A, (A - 1) * N]`` float32.

    The actions of the agents before it, one-hot agent by agent; zeros in the places of those that come later.
    """
    n_agents = action.shape[-1]
    chosen = one_hot(action[..., :-1], n_actions).float().unsqueeze(-3)  # [..., 1, A - 1, N]
    index = torch.arange(n_agents, device=action.device)
    is_earlier = index[:-1] < index.unsqueeze(1)  # [A, A - 1]
    return (chosen * is_earlier.unsqueeze(-1)).flatten(-2)


def sample(log_probs: Tensor, uniform: Tensor) -> Tensor:
    """Draw from categoricals by inverting their distribution functions.

    Args:
        log_probs: ``[..., K]``, normalized; illegal entries are -inf (nats).
        uniform: ``[...]``, uniform on [0, 1).

    Returns:
        ``[...]`` int64 in ``range(K)``; a NaN row gives some number in that range too, so that a broken seed breaks no
        other.
    """
    cumulative = log_probs.exp().cumsum(-1)
    below = cumulative <= uniform.unsqueeze(-1) * cumulative[..., -1:]
    return below.sum(-1).clamp(max=log_probs.shape[-1] - 1)


def kl_divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Exact KL(p || q) of categoricals, ``[..., K] -> [...]`` (nats).

    Entries with p = 0 count 0, also where q = 0 (masked actions).
    """
    p = log_p.exp()
    return torch.where(p > 0, p * (log_p - log_q), torch.zeros_like(p)).sum(-1)
