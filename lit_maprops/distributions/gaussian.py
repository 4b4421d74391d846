"""Diagonal Gaussian policies of agents with continuous actions, before the environment bounds them.

Agent i draws the D components of its action u_i independently, component d from N(mean, std^2). Agents may have fewer
than D components; ``mask`` (``[A, D]`` bool) is True for those that exist, the others are padding: mean 0, log std 0,
action 0. ``parameters`` ``[..., A, 2 D]`` hold the means and after them the log standard deviations.

*Whitened* actions z = (u - mean) / std are those of all agents in one vector: agents in order, each agent's existing
components in order, J = ``mask.sum()`` numbers. Under the policies z is standard normal.
"""

import math

import torch
from torch import Tensor

LOG_2PI = math.log(2 * math.pi)


def split(parameters: Tensor) -> tuple[Tensor, Tensor]:
    """Means and log standard deviations: ``[..., 2 D]`` -> two of ``[..., D]``."""
    mean, log_std = parameters.chunk(2, -1)
    return mean, log_std


def standardized(parameters: Tensor, action: Tensor) -> Tensor:
    """How many standard deviations actions are from the means: ``[..., 2 D]`` and ``[..., D]`` -> ``[..., D]``."""
    mean, log_std = split(parameters)
    return (action - mean) * (-log_std).exp()


def log_prob(parameters: Tensor, action: Tensor, mask: Tensor) -> Tensor:
    """Log density of every agent's action: ``[..., A, 2 D]`` and ``[..., A, D]`` -> ``[..., A]`` (nats)."""
    z, (_, log_std) = standardized(parameters, action), split(parameters)
    return _sum_existing(-0.5 * (z.square() + LOG_2PI) - log_std, mask)


def kl_divergence(p: Tensor, q: Tensor, mask: Tensor) -> Tensor:
    """Exact KL(p || q) of every agent's policy: parameters ``[..., A, 2 D]`` -> ``[..., A]`` (nats)."""
    (mean_p, log_std_p), (mean_q, log_std_q) = split(p), split(q)
    wider = log_std_p - log_std_q
    shift = (mean_p - mean_q) * (-log_std_q).exp()
    # expm1 keeps small divergences, which a difference of exp and 1 would round away.
    return _sum_existing(0.5 * (torch.expm1(2 * wider) - 2 * wider + shift.square()), mask)


def entropy(parameters: Tensor, mask: Tensor) -> Tensor:
    """Differential entropy of every agent's policy: ``[..., A, 2 D]`` -> ``[..., A]`` (nats)."""
    _, log_std = split(parameters)
    return _sum_existing(log_std + 0.5 * (1 + LOG_2PI), mask)


def sample(parameters: Tensor, uniform: Tensor, mask: Tensor) -> Tensor:
    """Draw by inverting the distribution functions.

    Args:
        parameters: ``[..., A, 2 D]``.
        uniform: ``[..., A, D]``, uniform on [0, 1).
        mask: ``[A, D]`` bool.

    Returns:
        ``[..., A, D]``; 0 in components that do not exist.
    """
    mean, log_std = split(parameters)
    return torch.where(mask, mean + log_std.exp() * standard_normal(uniform), 0.0)


def standard_normal(uniform: Tensor) -> Tensor:
    """The inverse of the standard normal distribution function.

    Args:
        uniform: any shape, float32 in [0, 1); from ``SeedStreams`` these are multiples of 2^-24.

    Returns:
        Likewise, finite: each number stands for the middle of its interval of length 2^-24, so that 0 gives -5.4.
    """
    middle = uniform.double() + 2**-25  # in float32 the largest would round to 1
    return torch.special.ndtri(middle).to(uniform.dtype)


def whiten(parameters: Tensor, action: Tensor, mask: Tensor) -> Tensor:
    """The agents' actions as z: ``[..., A, 2 D]`` and ``[..., A, D]`` -> ``[..., J]``; the mask is on the CPU."""
    return standardized(parameters, action).flatten(-2).index_select(-1, _places(mask, action.device))


def unwhiten(parameters: Tensor, z: Tensor, mask: Tensor) -> Tensor:
    """The inverse of ``whiten``, 0 where no component is: ``[..., A, 2 D]``, ``[..., J]`` -> ``[..., A, D]``."""
    mean, log_std = split(parameters)
    padded = z.new_zeros(*z.shape[:-1], mask.numel()).index_copy_(-1, _places(mask, z.device), z)
    drawn = mean + log_std.exp() * padded.unflatten(-1, mask.shape)
    return torch.where(mask.to(z.device, non_blocking=True), drawn, 0.0)


def _places(mask: Tensor, device: torch.device) -> Tensor:
    """Where the existing components stand among all: found on the CPU, since to ask a device is to wait for it."""
    return mask.flatten().nonzero().squeeze(1).to(device, non_blocking=True)


def _sum_existing(values: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask, values, 0.0).sum(-1)
