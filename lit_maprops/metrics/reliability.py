"""Reliability: the share of runs that solve the task, and intervals over seeds."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2_000
NORMAL_QUANTILE = 1.959963984540054  # of 0.975, so that 95% of the standard normal lie within plus and minus it


def solved_share(success_rate: Sequence[float], threshold: float) -> float:
    """Share of runs whose success rate reaches ``threshold``; a run that ended in NaN is not solved."""
    return float(np.mean(np.asarray(success_rate, dtype=float) >= threshold))


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
