"""How far an update goes where ``kl_cutoff`` is ``auto``: to what systematic sampling would draw next.

Systematic sampling (Madow and Madow 1944) holds every action, after N draws, either floor(N p) or ceil(N p) times, p
its probability under pi_theta, and in expectation N p times: no sampler without bias has less variance in a count.
Given that an action was drawn c times, x = N p - c is what it is short of, and its chance at the next draw is

    min(1, p / (1 - x)) if x >= 0,    max(0, (p + x) / (1 + x)) if x < 0,

0 or 1 beyond abs(x) = 1; the chances of all actions are scaled to sum to 1. Where N p is far below 1, as of the rare
actions of a nearly deterministic policy, that is almost p: what D lacks of them is less than a sample, and nothing is
to be made up for. The paper's objective knows no such end. It goes on pushing to what D lacks until a cutoff stops it,
and Adam's step is as large for a small shortfall as for a large one.

With wanted(s) these chances, an update minimizes the mean of KL(wanted || pi_phi) over D along the way that it takes:
for Delta scaled by t the slope of that mean in t is the mean of E_pi_phi[Delta] - E_wanted[Delta], the *excess*, and
grows with t. An update stops when its excess is above 0, and then scales Delta back until it is 0.

``G``, ``K`` and ``U`` are those of ``lit_maprops.behavior.update.samples``.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import pad

HALVINGS = 6  # of the interval that holds the scale
TINY = 1e-30


def next_draw(target: Tensor, counts: Tensor) -> Tensor:
    """Chances of all actions at the next draw, see above.

    Args:
        target: pi_theta, ``[..., K, U]``; actions that cannot be have 0.
        counts: how often D holds each action in the state of each row, likewise.

    Returns:
        ``[..., K, U]``, which sums to 1 over the K actions; pi_theta itself where nothing is held.
    """
    short = target * counts.sum(-2, keepdim=True) - counts
    behind = (target / (1 - short).clamp(min=TINY)).clamp(max=1.0)
    ahead = ((target + short) / (1 + short).clamp(min=TINY)).clamp(min=0.0)
    chance = torch.where(short >= 0, behind, ahead)
    return chance / chance.sum(-2, keepdim=True)


def counts_in_state(state: Tensor, held: Tensor) -> Tensor:
    """How often D holds each action in the state of each row, ``[G, K, U]``.

    Args:
        state: of each row, ``[G, U]`` int64; equal numbers, equal states.
        held: how often each row holds each action, ``[G, K, U]``; whole numbers up to rounding.
    """
    sorted_, order = state.sort(1)
    rank = pad((sorted_[:, 1:] != sorted_[:, :-1]).cumsum(1), (1, 0))
    number = torch.empty_like(rank).scatter_(1, order, rank).unsqueeze(1).expand_as(held)
    return torch.zeros_like(held).scatter_add_(2, number, held).gather(2, number).round()


def scale_to(excess_at: Callable[[Tensor], Tensor], like: Tensor) -> Tensor:
    """The largest scale in [0, 1] whose excess is not above 0; 0 where it is NaN.

    By halving, then on the line between the two ends: the scale follows small changes of the excess smoothly.

    Args:
        excess_at: excess ``[G]`` of Delta times a scale ``[G]``; grows with the scale.
        like: a float tensor ``[G]``.
    """
    low, high = torch.zeros_like(like), torch.ones_like(like)
    at_low, at_high = excess_at(low), excess_at(high)
    fits = at_high <= 0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        at_middle = excess_at(middle)
        inside = at_middle <= 0
        low, at_low = torch.where(inside, middle, low), torch.where(inside, at_middle, at_low)
        high, at_high = torch.where(inside, high, middle), torch.where(inside, at_high, at_middle)
    between = low + (high - low) * at_low / (at_low - at_high)
    return torch.where(fits, 1.0, torch.where(at_low <= 0, between, 0.0))
