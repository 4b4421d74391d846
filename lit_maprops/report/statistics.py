"""Figures of merit over seeds with 95% intervals: score intervals of shares, else percentile bootstrap.

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

from lit_maprops.metrics.reliability import RESAMPLES, corrected_quantile, wilson_interval
from lit_maprops.metrics.score_interval import score_interval

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]
Strata = Sequence[Floats]
BATCH_NUMBERS = 4_000_000  # resampled numbers held in memory at a time


@dataclass(frozen=True)
class Interval:
    """A figure with its 95% interval; both ends are NaN where there is none (a bootstrap of a single seed)."""

    value: float
    low: float
    high: float

    def beats(self, neutral: float) -> int:
        """1: the interval lies above ``neutral``; -1: below; 0: it holds it, or there is none."""
        return int(self.low > neutral) - int(self.high < neutral)


def iqm(*strata: Floats) -> Any:
    """Interquartile mean of each row: the mean of the middle half of all its scores, ``[..., seeds]``."""
    scores = np.concatenate(strata, axis=-1)
    cut, end = scores.shape[-1] // 4, scores.shape[-1] - scores.shape[-1] // 4
    return np.partition(scores, (cut, end - 1), axis=-1)[..., cut:end].mean(-1)


def mean_difference(*samples: Floats) -> Any:
    """Mean over strata of mean(x) - mean(y) of each row; ``samples`` are the strata of x, then those of y."""
    half = len(samples) // 2
    pairs = zip(samples[:half], samples[half:], strict=True)
    return sum(x.mean(-1) - y.mean(-1) for x, y in pairs) / half


def improvement(x: Strata, y: Strata, comparisons: int = 1) -> Interval:
    """P(x > y) + P(x = y) / 2, the Mann-Whitney form, mean over strata, with its stratified interval.

    The interval is one of ``comparisons`` that hold together with 95%.

    Where all scores of a sample are equal, resampling it shows nothing: then the strata's intervals after Newcombe
    (``_rank_distances``) take the bootstrap's place, joined by the square root of their squares' sum (MOVER; Zou and
    Donner, Statistics in Medicine 27, 2008).
    """
    # Scores are shares of a few episodes, so few values occur: counting each is far cheaper than ranking all seeds.
    levels = [np.union1d(*pair) for pair in zip(x, y, strict=True)]
    numbers = [np.searchsorted(values, scores) for values, scores in zip([*levels, *levels], [*x, *y], strict=True)]

    def mean_over_strata(*samples: Ints) -> Any:
        pairs = zip(samples[: len(x)], samples[len(x) :], levels, strict=True)
        return sum(_mann_whitney(a, b, len(values)) for a, b, values in pairs) / len(x)

    if min(map(len, numbers)) < 2 or all(np.ptp(sample) > 0 for sample in numbers):
        return bootstrap(mean_over_strata, numbers, comparisons)
    pairs = zip(numbers[: len(x)], numbers[len(x) :], levels, strict=True)
    each = [float(_mann_whitney(a, b, len(values))) for a, b, values in pairs]
    quantile = corrected_quantile(comparisons)
    distances = [_rank_distances(value, len(a), len(b), quantile) for value, a, b in zip(each, x, y, strict=True)]
    below, above = np.hypot.reduce(distances, axis=0) / len(x)
    value = sum(each) / len(x)
    return Interval(value, max(0.0, float(value - below)), min(1.0, float(value + above)))


def _rank_distances(value: float, runs_x: int, runs_y: int, quantile: float) -> tuple[float, float]:
    """How far the ends of an interval are below and above a Mann-Whitney probability.

    Score-like, with Hanley and McNeil's variance at the ends themselves (Newcombe, Statistics in Medicine 25, 2006,
    method 5); ties make it conservative.
    """
    from scipy.optimize import brentq

    def variance(end: float) -> float:
        pairs = (runs_x + runs_y) / 2 - 1
        return end * (1 - end) / (runs_x * runs_y) * (1 + pairs * ((1 - end) / (2 - end) + end / (1 + end)))

    def excess(end: float) -> float:
        return (value - end) ** 2 - quantile**2 * variance(end)

    inside = min(max(value, 1e-9), 1 - 1e-9)  # the variance is 0 at 0 and 1, which are roots then, but no ends
    low = 0.0 if value == 0 else brentq(excess, 0.0, inside)
    high = 1.0 if value == 1 else brentq(excess, inside, 1.0)
    return value - low, high - value


def _mann_whitney(x: Ints, y: Ints, levels: int) -> Any:
    """P(x > y) + P(x = y) / 2 of each row of scores, which are numbered from 0 to ``levels`` - 1, ``[..., seeds]``."""
    equal_x, equal_y = _counts(x, levels), _counts(y, levels)
    below = np.cumsum(equal_y, axis=-1) - equal_y
    return (equal_x * (2 * below + equal_y)).sum(-1) / (2 * x.shape[-1] * y.shape[-1])


def _counts(scores: Ints, levels: int) -> Ints:
    """How often each level occurs in each row, ``[..., levels]``."""
    rows = scores.reshape(-1, scores.shape[-1])
    apart = rows + levels * np.arange(len(rows))[:, None]
    return np.bincount(apart.ravel(), minlength=levels * len(rows)).reshape(*scores.shape[:-1], levels)


def bootstrap(statistic: Callable[..., Any], samples: Sequence[NDArray[Any]], comparisons: int = 1) -> Interval:
    """The statistic of the last axis with its interval; every sample is resampled by itself (stratified).

    The interval is one of ``comparisons`` that hold together with 95%.

    The draws are those of ``scipy.stats.bootstrap`` with a generator that starts at 0, without what it adds to each.
    """
    value = float(statistic(*samples))
    sizes = [len(sample) for sample in samples]
    if min(sizes) < 2:
        return Interval(value, math.nan, math.nan)
    generator, most = np.random.default_rng(0), max(1, BATCH_NUMBERS // sum(sizes))
    found = []
    for start in range(0, RESAMPLES, most):
        rows = min(most, RESAMPLES - start)
        drawn = [sample[generator.integers(0, len(sample), (rows, len(sample)))] for sample in samples]
        found.append(statistic(*drawn))
    low, high = np.percentile(np.concatenate(found), percentiles(comparisons))
    return Interval(value, float(low), float(high))


def percentiles(comparisons: int) -> list[float]:
    """Ends of a bootstrap's interval that is one of so many, in percent."""
    return [2.5 / comparisons, 100 - 2.5 / comparisons]


def share(solved: Floats) -> Interval:
    """Share of solved seeds (``[seeds]``, 0 or 1) with its Wilson score interval."""
    return Interval(float(solved.mean()), *wilson_interval(int(solved.sum()), len(solved)))


def share_difference(x: Strata, y: Strata, comparisons: int = 1) -> Interval:
    """Difference of solved shares, mean over strata, with its score interval; resampling collapses at 0 and 1.

    The interval is one of ``comparisons`` that hold together with 95%.
    """
    solved_x, solved_y = [s.sum() for s in x], [s.sum() for s in y]
    quantile = corrected_quantile(comparisons)
    low, high = score_interval(solved_x, [len(s) for s in x], solved_y, [len(s) for s in y], quantile=quantile)
    return Interval(float(mean_difference(*x, *y)), float(low), float(high))


def student(values: Floats, level: float) -> Interval:
    """Mean of ``[seeds]`` with Student's t interval; without ends where a seed is alone or all are equal."""
    value, error = float(values.mean()), _standard_error(values)
    half = _student_quantile(level, len(values) - 1) * error
    return Interval(value, value - half, value + half)


def welch(x: Floats, y: Floats, level: float) -> Interval:
    """mean(x) - mean(y) with Welch's t interval; without ends where a seed is alone or all of a sample are equal."""
    a, b = _standard_error(x), _standard_error(y)
    value = float(x.mean() - y.mean())
    if math.isnan(a + b):
        return Interval(value, math.nan, math.nan)
    freedom = (a**2 + b**2) ** 2 / (a**4 / (len(x) - 1) + b**4 / (len(y) - 1))
    half = _student_quantile(level, freedom) * math.hypot(a, b)
    return Interval(value, value - half, value + half)


def _standard_error(values: Floats) -> float:
    """Of the mean; NaN where nothing varies."""
    return (float(values.std(ddof=1)) if len(values) > 1 else 0.0) / math.sqrt(len(values)) or math.nan


def _student_quantile(level: float, freedom: float) -> float:
    from scipy.special import stdtrit  # not scipy.stats, which takes a second to import

    return float(stdtrit(freedom, 0.5 + level / 2)) if freedom > 0 else math.nan


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
