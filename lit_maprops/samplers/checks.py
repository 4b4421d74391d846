"""What a loop may hand to a sampler; everything else is refused in one line."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lit_maprops.system.errors import check

TOLERANCE = 1e-3  # nats by which log-probabilities may miss a sum of 1: half precision does


def check_sizes(name: str, sizes: Sequence[int]) -> None:
    """Refuse sizes of the agents' actions that are no list of positive integers."""
    fine = len(sizes) > 0 and all(isinstance(size, int) and size >= 1 for size in sizes)
    check(fine, f"{name} is {list(sizes)}: give one positive integer per agent, such as [5, 5]")


def check_tensor(name: str, value: Tensor, shape: Sequence[int | str], device: torch.device) -> None:
    """Refuse what is no tensor of that shape on that device.

    Args:
        name: of the argument.
        value: the argument.
        shape: sizes; a name stands for any size of at least 1.
        device: of the sampler.
    """
    wanted = f"[{', '.join(map(str, shape))}]"
    check(isinstance(value, Tensor), f"{name} is of type {type(value).__name__}: give a tensor {wanted}")
    fits = value.dim() == len(shape) and all(
        there >= 1 if isinstance(size, str) else there == size for there, size in zip(value.shape, shape, strict=True)
    )
    check(fits, f"{name} has shape {list(value.shape)}: give {wanted}")
    same = value.device.type == device.type and device.index in (None, value.device.index)
    check(same, f"{name} is on {value.device} and the sampler on {device}: give JointSampler(..., device=...) that one")


def check_finite(name: str, value: Tensor) -> None:
    """Refuse NaN and infinity."""
    check(bool(value.isfinite().all()), f"{name} holds NaN or infinity: give finite numbers")


def check_log_probs(name: str, log_probs: Tensor, mask: Tensor) -> None:
    """Refuse what is not log pi_theta_i of every action.

    Args:
        name: of the argument.
        log_probs: ``[..., A, N]``.
        mask: which actions each agent has, ``[A, N]`` bool.
    """
    told = f"{name} holds NaN: the policy that computed it has diverged, or all actions of an agent were masked"
    check(not bool(log_probs.isnan().any()), told)
    padding = log_probs.masked_fill(mask, -torch.inf)
    check(
        bool((padding == -torch.inf).all()),
        f"{name} gives probability to an action that its agent does not have: pad with -inf",
    )
    stuck = (log_probs == -torch.inf).all(-1).nonzero()
    place = stuck[0].tolist() if len(stuck) else [0, 0]
    told = f"{name} leaves no action to agent {place[-1]} in environment {place[-2]}: give at least one a probability"
    check(not len(stuck), told)
    sums = log_probs.logsumexp(-1)
    worst = sums.flatten()[sums.abs().argmax()].item()
    check(
        abs(worst) <= TOLERANCE,
        f"{name} is not normalized, its probabilities sum to exp({worst:.3g}) in some row: give logits.log_softmax(-1)",
    )


def check_gaussians(name: str, parameters: Tensor, mask: Tensor) -> None:
    """Refuse what is not means and log standard deviations.

    Args:
        name: of the argument.
        parameters: ``[..., A, 2 D]``.
        mask: which components each agent's action has, ``[A, D]`` bool.
    """
    check_finite(name, parameters)
    padding = parameters.masked_fill(torch.cat([mask, mask], -1), 0.0)
    check(
        not bool(padding.any()), f"{name} is not 0 for a component that its agent does not have: pad both halves with 0"
    )
