"""Algorithm 2 of arXiv 2508.01049 (v2 calls the method CoSER): one update of the behavior policy phi on the buffer D.

The objective is that of PROPS (arXiv 2311.08290, eq. 5): maximize the mean over D of

    min(-r, -clip(r, 1 - epsilon, 1 + epsilon)),   r = pi_phi(a | s) / pi_theta(a | s),

which pushes joint actions down in proportion to how often D holds them, so that those D lacks are pushed up. At
Delta = 0 its gradient in the logits is pi_theta - d_D; an action with r < 1 - epsilon gets none. Pure functions, no
Lightning: ``S`` stands for the stack dimensions that stop independently, ``(R,)`` or, for PROPS, ``(R, A)``.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from lit_maprops.nets import SeedAdam
from lit_maprops.streams import SeedStreams

# Maps a minibatch (None: all of D, or [R, b] row numbers) to log r [*S, b] and KL(pi_theta || pi_phi) [*S] in nats.
LogRatioAndKL = Callable[[Tensor | None], tuple[Tensor, Tensor]]


def clipped_loss(log_ratio: Tensor, clip_epsilon: float) -> Tensor:
    """The negative PROPS objective, averaged over D: ``[*S, b] -> [*S]``."""
    ratio = log_ratio.exp()
    return torch.maximum(ratio, ratio.clamp(1 - clip_epsilon, 1 + clip_epsilon)).mean(-1)


def update_behavior(
    log_ratio_and_kl: LogRatioAndKL,
    optimizer: SeedAdam,
    minibatches: Iterable[Tensor | None],
    clip_epsilon: float,
    kl_cutoff: float,
) -> dict[str, Tensor]:
    """Train phi on D until the minibatches end or, entry by entry, KL(pi_theta || pi_phi) exceeds the cutoff.

    The KL is that of the minibatch at hand, measured before its gradient step; the step that crossed the cutoff is
    kept, as in the paper. An entry with a NaN stops too.

    Args:
        log_ratio_and_kl: the behavior policy on a minibatch of D.
        optimizer: over phi, stacked as ``S``.
        minibatches: ``epochs`` passes over all of D.
        clip_epsilon: epsilon.
        kl_cutoff: delta (nats).

    Returns:
        Per entry ``[*S]``: ``kl`` reached (nats, after the last step), ``gradient_steps`` used, ``cutoff_hit``
        (stopped before the minibatches ended), ``first_step_cutoff`` (after one step at most) and ``ratio_clipped``,
        the share of samples with r < 1 - epsilon.
    """
    active = torch.ones(optimizer.stack, dtype=torch.bool, device=optimizer.device)
    gradient_steps = torch.zeros_like(active, dtype=torch.int64)
    for minibatch in minibatches:
        log_ratio, kl = log_ratio_and_kl(minibatch)
        active = active & (kl <= kl_cutoff)
        if not active.any():
            break
        optimizer.zero_grad()
        clipped_loss(log_ratio, clip_epsilon).sum().backward()
        optimizer.step(active)
        gradient_steps += active
    with torch.no_grad():
        log_ratio, kl = log_ratio_and_kl(None)
    clipped = (log_ratio.exp() < 1 - clip_epsilon).float().mean(-1)
    return {
        "kl": kl,
        "gradient_steps": gradient_steps,
        "cutoff_hit": ~active,
        "first_step_cutoff": ~active & (gradient_steps <= 1),
        "ratio_clipped": clipped,
    }


def minibatch_rows(streams: SeedStreams, rows: int, epochs: int, minibatches: int) -> list[Tensor | None]:
    """``epochs`` shuffled passes over ``rows`` rows in ``minibatches`` parts: ``[R, b]`` row numbers.

    All are drawn beforehand: how many numbers a seed uses must not depend on when the others stop. A single part is
    given as None (all rows, no shuffle). With fewer rows than parts every row is its own part.
    """
    if minibatches == 1 or rows == 1:
        return [None] * epochs
    orders = [streams.permutation(rows) for _ in range(epochs)]
    return [part for order in orders for part in order.tensor_split(min(minibatches, rows), dim=1)]
