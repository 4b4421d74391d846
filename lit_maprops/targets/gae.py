"""Advantages: the recursion of the generalized estimate (Schulman et al. 2016) in log2(T) steps.

A_t = delta_t + c_t A_{t+1} is a linear recurrence, whose windows combine: over twice as many steps it is the window
that starts at t, and its factor times the window after it. Each step of the loop doubles the windows of all t at once
(Hillis & Steele 1986), where TorchRL's loop launches kernels of one time step each. Its own vectorized form asks the
device how long the trajectories are.
"""

from torch import Tensor
from torch.nn.functional import pad


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
