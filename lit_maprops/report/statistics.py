"""Figures of merit over seeds with 95% percentile-bootstrap intervals.

IQM, stratified bootstrap and probability of improvement: Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge
of the Statistical Precipice", arXiv 2108.13264 (rliable). A score is a seed's final greedy success rate, a stratum the
seeds of one setting. The resampling is seeded, so that equal runs give equal pages. Two samplers are resampled
independently, although equal seed numbers share their initial policies: this is conservative.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lit_maprops.metrics.reliability import RESAMPLES, difference_interval, wilson_interval

Floats = NDArray[np.floating]
Strata = Sequence[Floats]
BATCH_NUMBERS = 4_000_000  # resampled numbers held in memory at a time


@dataclass(frozen=True)
class Interval:
    """A figure with its 95% interval; both ends are NaN where there is none (a single seed)."""

    value: float
    low: float
    high: float
    method: str = "bootstrap"

    def beats(self, neutral: float) -> int:
        """1: the interval lies above ``neutral``; -1: below; 0: it holds it, or there is none."""
        return int(self.low > neutral) - int(self.high < neutral)


def iqm(*strata: Floats, axis: int = -1) -> Any:
    """Interquartile mean: the mean of the middle half of all scores."""
    from scipy.stats import trim_mean

    return trim_mean(np.concatenate(strata, axis=axis), 0.25, axis=axis)


def mean_difference(*samples: Floats, axis: int = -1) -> Any:
    """Mean over strata of mean(x) - mean(y); ``samples`` are the strata of x, then those of y."""
    half = len(samples) // 2
    pairs = zip(samples[:half], samples[half:], strict=True)
    return sum(x.mean(axis) - y.mean(axis) for x, y in pairs) / half


def improvement(x: Strata, y: Strata) -> Interval:
    """P(x > y) + P(x = y) / 2, the Mann-Whitney form, mean over strata, with its stratified interval."""
    # Scores are shares of a few episodes, so few values occur: counting each is far cheaper than ranking all seeds.
    levels = [np.union1d(*pair) for pair in zip(x, y, strict=True)]

    def mean_over_strata(*samples: Floats, axis: int = -1) -> Any:
        pairs = zip(samples[: len(x)], samples[len(x) :], levels, strict=True)
        return sum(_mann_whitney(a, b, values, axis) for a, b, values in pairs) / len(x)

    return bootstrap(mean_over_strata, [*x, *y])


def _mann_whitney(x: Floats, y: Floats, levels: Floats, axis: int) -> Any:
    total: Any = 0.0
    below: Any = 0.0  # share of y under the current level
    for level in levels:
        equal = (y == level).mean(axis)
        total = total + (x == level).mean(axis) * (below + equal / 2)
        below = below + equal
    return total


def bootstrap(statistic: Callable[..., Any], samples: Strata) -> Interval:
    """The statistic with its interval; every sample is resampled by itself (stratified)."""
    from scipy.stats import bootstrap as resample

    value = float(statistic(*samples))
    if min(map(len, samples)) < 2:
        return Interval(value, math.nan, math.nan)
    ends = resample(
        tuple(samples),
        statistic,
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=max(1, BATCH_NUMBERS // sum(map(len, samples))),
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return Interval(value, float(ends.low), float(ends.high))


def share(solved: Floats) -> Interval:
    """Share of solved seeds (``[seeds]``, 0 or 1) with its Wilson score interval."""
    return Interval(float(solved.mean()), *wilson_interval(int(solved.sum()), len(solved)), method="Wilson")


def share_difference(x: Strata, y: Strata) -> Interval:
    """Difference of solved shares, mean over strata.

    Where a share is 0 or 1 resampling it can show nothing else; then, for one stratum, Newcombe's hybrid of the two
    Wilson intervals (Statistics in Medicine 17, 1998, method 10) takes the bootstrap's place.
    """
    if len(x) == 1 and any(s.mean() in (0, 1) for s in (x[0], y[0])):
        ends = difference_interval(int(x[0].sum()), len(x[0]), int(y[0].sum()), len(y[0]))
        return Interval(float(x[0].mean() - y[0].mean()), *ends, method="Newcombe")
    return bootstrap(mean_difference, [*x, *y])


@dataclass(frozen=True)
class PowerLaw:
    """y = factor * x ** slope, fitted by least squares on logarithms; ``error`` is the slope's standard error."""

    slope: float
    error: float
    factor: float


def power_law(x: Floats, y: Floats) -> PowerLaw | None:
    """Fit a power law to positive numbers ``[points]``; None with fewer than three of them."""
    from scipy.stats import linregress

    usable = (x > 0) & (y > 0)
    if len(np.unique(x[usable])) < 3:
        return None
    fit = linregress(np.log(x[usable]), np.log(y[usable]))
    return PowerLaw(float(fit.slope), float(fit.stderr), float(np.exp(fit.intercept)))
