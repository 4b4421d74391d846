"""Reliability: the share of runs that solve the task, and intervals over seeds."""

import math
from statistics import NormalDist
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 2_000
NORMAL_QUANTILE = 1.959963984540054  # of 0.975, so that 95% of the standard normal lie within plus and minus it
SUCCESS: Final = "success"
RETURN: Final = "return"
ALMOST = 1e-9  # a share this near to 0 or 1 is 0 or 1
SUCCESS_THRESHOLD = 0.8  # share of episodes, where no threshold is given


class Criterion(NamedTuple):
    """When a seed counts as solved, by its greedy policies' last evaluation.

    Attributes:
        on: ``success`` or ``return``.
        threshold: the least success rate (share) or return (reward) of a solved seed; None: returns are judged as they
            are, and nothing says which seeds are solved.
    """

    on: str
    threshold: float | None

    @property
    def by_return(self) -> bool:
        """Whether returns are judged."""
        return self.on == RETURN

    @property
    def tells_solved(self) -> bool:
        """Whether seeds can be solved: without a threshold there is no share of solved seeds."""
        return self.threshold is not None

    def solved(self, scores: ArrayLike) -> NDArray[np.bool_]:
        """Which seeds are solved, by success rates or returns ``[seeds]``; NaN never is, nor any without threshold."""
        values = np.asarray(scores, dtype=np.float32)  # as they are measured: 14 of 20 episodes reach 0.7
        return values >= np.float32(self.threshold) if self.threshold is not None else np.zeros(values.shape, bool)


def criterion(solved_on: str | None, solved_threshold: float | None, tells_success: bool) -> Criterion:
    """What ``solved_on`` and ``solved_threshold`` of a run mean.

    Args:
        solved_on: ``success``, ``return``, or None: success where the task tells it, else return.
        solved_threshold: None: 0.8 for success, none for return. Where ``solved_on`` is None it is a share of
            successes, so it says nothing of returns.
        tells_success: whether the task says which episodes succeed.
    """
    if solved_on == RETURN:
        return Criterion(RETURN, solved_threshold)
    if solved_on is None and not tells_success:
        return Criterion(RETURN, None)
    return Criterion(SUCCESS, SUCCESS_THRESHOLD if solved_threshold is None else solved_threshold)


def share_text(share: float, digits: int = 0) -> str:
    """``75%``; a share that is neither 0 nor 1 does not read as if it were: ``99.5%``.

    Args:
        share: from 0 to 1.
        digits: behind the point, at least.
    """
    return _apart_from_ends(share, digits, "%")


def rate_text(rate: float) -> str:
    """``0.75``, likewise: ``0.995``."""
    return _apart_from_ends(rate, 2, "f")


def _apart_from_ends(value: float, digits: int, form: str) -> str:
    """With as many digits more as keep it from reading 0 or 1, unless it is that up to rounding errors."""
    inside = ALMOST < value < 1 - ALMOST
    while inside and f"{value:.{digits}{form}}" in (f"{end:.{digits}{form}}" for end in (0, 1)):
        digits += 1
    return f"{value:.{digits}{form}}"


def wilson_interval(successes: int, runs: int, quantile: float = NORMAL_QUANTILE) -> tuple[float, float]:
    """Wilson score interval of a share, without continuity correction (Newcombe 1998, method 3).

    Args:
        successes: of the runs.
        runs: at least 1.
        quantile: standard errors to either end; that of 95% unless another level is wanted.
    """
    share, square = successes / runs, quantile**2
    center = (2 * runs * share + square) / (2 * (runs + square))
    half = quantile / (2 * (runs + square)) * math.sqrt(4 * runs * share * (1 - share) + square)
    return 0.0 if successes == 0 else center - half, 1.0 if successes == runs else center + half


def difference_interval(a: int, runs_a: int, b: int, runs_b: int) -> tuple[float, float]:
    """95% interval of the difference of two shares, a / runs_a - b / runs_b (Newcombe 1998, method 10)."""
    share_a, share_b = a / runs_a, b / runs_b
    (low_a, high_a), (low_b, high_b) = wilson_interval(a, runs_a), wilson_interval(b, runs_b)
    below = np.hypot(share_a - low_a, high_b - share_b)
    above = np.hypot(high_a - share_a, share_b - low_b)
    return float(share_a - share_b - below), float(share_a - share_b + above)


def corrected_quantile(comparisons: int) -> float:
    """Standard errors to the ends of one of several intervals that hold together with 95% (Bonferroni)."""
    return NORMAL_QUANTILE if comparisons == 1 else NormalDist().inv_cdf(1 - 0.025 / comparisons)


def mean_interval(values: NDArray[np.floating]) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """95% percentile-bootstrap interval of the mean over seeds.

    Args:
        values: ``[points, seeds]``.

    Returns:
        Lower and upper ends, ``[points]``; the value itself where there is one seed only. The resampling is seeded, so
        that equal data give equal figures.
    """
    seeds = values.shape[1]
    if seeds == 1:
        return values[:, 0], values[:, 0]
    drawn = np.random.default_rng(0).integers(0, seeds, (RESAMPLES, seeds))
    numbered = drawn + seeds * np.arange(RESAMPLES)[:, None]
    # How often each resample holds each seed: all means are then one matrix product, fast with thousands of seeds.
    counts = np.bincount(numbered.ravel(), minlength=RESAMPLES * seeds).reshape(RESAMPLES, seeds)
    low, high = np.percentile(values @ counts.T / seeds, [2.5, 97.5], axis=1)
    return low, high
