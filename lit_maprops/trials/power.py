"""Power of comparing two samplers: of solved shares, and of mean returns.

Shares: the test of two proportions on Cohen's arcsine scale, h = 2 asin(sqrt(p)) - 2 asin(sqrt(q)), whose variance
does not depend on the shares, so that one formula serves 0 and 1 too (Cohen, Statistical Power Analysis, 1988, chapter
6; statsmodels' ``NormalIndPower`` with ``proportion_effectsize``). Means: the two-sample t-test with equal numbers of
seeds (``TTestIndPower``). Both are two-sided. ``exact_power`` counts what the report's interval would show instead.
"""

import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np

NORMAL = NormalDist()
MOST_SEEDS = 10_000_000  # a sampler; of more nobody plans a run
SPARE = 0.0005  # power that a whole number of seeds may lack: it is told to a tenth of a percent
MOST_EXACT = 20_000  # seeds up to which outcomes are counted one by one
TAIL = 9.0  # standard deviations of a binomial number that are counted


def arcsine_effect(share: float, base: float) -> float:
    """Cohen's h of two shares."""
    return 2 * math.asin(math.sqrt(share)) - 2 * math.asin(math.sqrt(base))


def share_power(share: float, base: float, seeds: float, alpha: float) -> float:
    """Power to tell two shares apart.

    Args:
        share: of solved seeds, true, of one sampler.
        base: of the other.
        seeds: of each.
        alpha: two-sided error rate.
    """
    moved = abs(arcsine_effect(share, base)) * math.sqrt(seeds / 2)
    quantile = NORMAL.inv_cdf(1 - alpha / 2)
    return NORMAL.cdf(moved - quantile) + NORMAL.cdf(-moved - quantile)


def mean_power(effect: float, deviation: float, seeds: float, alpha: float) -> float:
    """Power to tell two means apart, by the noncentral t distribution.

    Args:
        effect: true difference of the means.
        deviation: standard deviation over seeds, of both samplers.
        seeds: of each, more than 1.
        alpha: two-sided error rate.
    """
    from scipy.stats import nct, t

    freedom, moved = 2 * seeds - 2, abs(effect) / deviation * math.sqrt(seeds / 2)
    quantile = t.isf(alpha / 2, freedom)
    return float(nct.sf(quantile, freedom, moved) + nct.cdf(-quantile, freedom, moved))


def exact_power(share: float, base: float, seeds: int, quantile: float) -> float:
    """How often the report's interval of the difference misses 0, summed over all outcomes of two samplers.

    Args:
        share: true, of one sampler.
        base: of the other.
        seeds: of each.
        quantile: normal, of the interval's level.
    """
    (a, weight_a), (b, weight_b) = (_outcomes(p, seeds) for p in (share, base))
    rejected = misses_zero(a[:, None], b[None, :], seeds, quantile)
    return float(weight_a @ rejected @ weight_b)


def exact_seeds(share: float, base: float, power: float, quantile: float) -> int | None:
    """Seeds at which ``exact_power`` reaches ``power``, as if it grew steadily; None: more than ``MOST_EXACT``.

    Args:
        share: true, of one sampler.
        base: of the other.
        power: to be reached.
        quantile: normal, of the interval's level.
    """
    below, above = 1, 2
    while exact_power(share, base, above, quantile) < power:
        below, above = above, 2 * above
        if above > MOST_EXACT:
            return None
    while above - below > 1:
        middle = (below + above) // 2
        enough = exact_power(share, base, middle, quantile) >= power
        below, above = (below, middle) if enough else (middle, above)
    return above


def misses_zero(a: np.ndarray, b: np.ndarray, seeds: int, quantile: float) -> np.ndarray:
    """Where ``metrics.score_interval`` of a / seeds - b / seeds does not hold 0; broadcasts.

    At a difference of 0 its likeliest shares are the pooled one, so that nothing is searched for.
    """
    pooled = (a + b) / (2 * seeds)
    variance = pooled * (1 - pooled) * 2 / seeds * (2 * seeds / (2 * seeds - 1))
    return np.abs(a - b) / seeds - 1 / (2 * seeds) > quantile * np.sqrt(variance)


def _outcomes(share: float, seeds: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of solved seeds that occur, and how often each does."""
    reach = TAIL * math.sqrt(seeds * share * (1 - share)) + TAIL
    solved = np.arange(max(0, math.floor(seeds * share - reach)), min(seeds, math.ceil(seeds * share + reach)) + 1)
    if share in (0.0, 1.0):
        return solved, (solved == seeds * share).astype(float)
    choices = [math.lgamma(seeds + 1) - math.lgamma(k + 1) - math.lgamma(seeds - k + 1) for k in solved.tolist()]
    return solved, np.exp(np.array(choices) + solved * math.log(share) + (seeds - solved) * math.log1p(-share))


def seeds_for(power_of: Callable[[float], float], power: float, least: float = 1.0) -> float:
    """The number of seeds, not rounded, at which a growing ``power_of`` reaches ``power``; infinity beyond the most."""
    if power_of(least) >= power:
        return least
    inside = least
    while inside < MOST_SEEDS and power_of(2 * inside) < power:
        inside *= 2
    return _crossing(power_of, inside, 2 * inside, power) if inside < MOST_SEEDS else math.inf


def whole_seeds(power_of: Callable[[float], float], power: float, least: float = 1.0) -> int:
    """``seeds_for`` in whole seeds: up, unless the number below lacks no more than ``SPARE``; 0: more than the most."""
    needed = seeds_for(power_of, power, least)
    if math.isinf(needed):
        return 0
    below = math.floor(needed)
    return below if below >= least and power_of(below) >= power - SPARE else math.ceil(needed)


def visible_effect(power_of: Callable[[float], float], power: float, most: float) -> float | None:
    """The smallest effect from 0 to ``most`` that ``power_of`` sees with ``power``; None: not even the largest."""
    return _crossing(power_of, 0.0, most, power) if power_of(most) >= power else None


def _crossing(power_of: Callable[[float], float], below: float, above: float, power: float) -> float:
    while above - below > 1e-12 * above:
        middle = (below + above) / 2
        if not below < middle < above:
            break
        below, above = (middle, above) if power_of(middle) < power else (below, middle)
    return above
