"""Advantages: the recursion of the generalized estimate (Schulman et al. 2016) in log2(T) steps, and normalizing.

A_t = delta_t + c_t A_{t+1} is a linear recurrence, whose windows combine: over twice as many steps it is the window
that starts at t, and its factor times the window after it. Each step of the loop doubles the windows of all t at once
(Hillis & Steele 1986), where TorchRL's loop launches kernels of one time step each. Its own vectorized form asks the
device how long the trajectories are.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad

from lit_maprops.envs.ends import weighted


def summed_back(delta: Tensor, factor: Tensor) -> Tensor:
    """A with A_t = delta_t + factor_t A_{t+1} and nothing after the last: all ``[*B, T, F]``.

    A NaN spreads to all earlier t, as in the loop.
    """
    window = 1  # steps that ``total`` sums over; ``factor`` is the product of theirs
    total = delta
    while window < delta.shape[-2]:
        later = (0, 0, 0, window)
        total = total + factor * pad(total[..., window:, :], later)
        factor = factor * pad(factor[..., window:, :], later)
        window *= 2
    return total


def advantages(
    gamma: float,
    gae_lambda: float,
    value: Tensor,
    next_value: Tensor,
    reward: Tensor,
    done: Tensor,
    terminated: Tensor,
) -> tuple[Tensor, Tensor]:
    """Advantages and value targets as TorchRL's ``generalized_advantage_estimate``, up to rounding.

    Args:
        gamma: discount per step.
        gae_lambda: lambda.
        value: of the states, ``[*B, T, F]``.
        next_value: of those that follow.
        reward: of the steps.
        done: whether an episode is over after a step.
        terminated: whether that is by the task's rules, so that nothing follows.
    """
    delta = reward + gamma * (~terminated).to(value.dtype) * next_value - value
    advantage = summed_back(delta, gae_lambda * gamma * (~done).to(value.dtype))
    return advantage, advantage + value


def normalized(advantage: Tensor, value: Tensor, weight: Tensor | None) -> Tensor:
    """Mean 0 and deviation 1 per seed and agent, ``[R, B, A, 1]``; 0 where all are equal up to rounding.

    Rounding must not be blown up to size 1: a batched product need not give equal rows equal bits. ``weight``
    ``[R, B, A]`` is that of ``envs.ends.weights``: steps of an agent that has left count for nothing.
    """
    wide = advantage.double()
    squares = value.double().square() + wide.square()
    mean, deviation = wide.mean(1, keepdim=True), wide.std(1, keepdim=True, correction=0)
    if weight is not None:
        weight = weight.double().unsqueeze(-1)
        own = weighted(wide, weight).mean(1, keepdim=True)
        spread = weighted((wide - own).square(), weight).mean(1, keepdim=True).sqrt()
        whole = (weight == 1).all(1, keepdim=True)  # the same bits as without a weight
        mean, deviation = torch.where(whole, mean, own), torch.where(whole, deviation, spread)
        squares = weighted(squares, weight)
    centered = wide - mean
    size = squares.mean(1, keepdim=True).sqrt()
    # Not "> ", which would turn the NaN of a broken seed into a 0.
    normalized = torch.where(deviation <= 1e-6 * size, 0.0, centered / (deviation + 1e-8))
    return weighted(normalized, None if weight is None else (weight != 0).double()).to(advantage.dtype)
