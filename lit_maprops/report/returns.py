"""Figures of merit of tasks without success: a score is a seed's final greedy return (reward), whatever its scale."""

import math

import numpy as np

from lit_maprops.metrics.reliability import RESAMPLES
from lit_maprops.report.statistics import BATCH_NUMBERS, Floats, Interval, bootstrap, percentiles


def mean(scores: Floats) -> Interval:
    """Mean return over seeds ``[seeds]`` with its bootstrap interval."""
    return bootstrap(lambda sample: sample.mean(-1), [scores])


def difference(x: Floats, y: Floats, comparisons: int = 1) -> Interval:
    """Difference of mean returns, mean(x) - mean(y); both are resampled by themselves."""
    return bootstrap(lambda a, b: a.mean(-1) - b.mean(-1), [x, y], comparisons)


def improvement(x: Floats, y: Floats, comparisons: int = 1) -> Interval:
    """P(x > y) + P(x = y) / 2 with its bootstrap interval; in time that grows with seeds, not with pairs of them."""
    ordered = np.sort(y)
    below, up_to = (np.searchsorted(ordered, x, side) for side in ("left", "right"))
    value = float((below + up_to).mean() / 2 / len(y))
    if min(len(x), len(y)) < 2:
        return Interval(value, math.nan, math.nan)
    generator, values = np.random.default_rng(0), []
    size = max(1, BATCH_NUMBERS // (len(x) + len(y)))
    for first in range(0, RESAMPLES, size):
        rows = min(size, RESAMPLES - first)
        of_x, of_y = (generator.multinomial(n, np.full(n, 1 / n), rows) for n in (len(x), len(y)))
        counted = np.concatenate([np.zeros((rows, 1)), of_y.cumsum(1)], axis=1)  # of the resampled y below each place
        values.append((of_x * (counted[:, below] + counted[:, up_to])).sum(1) / 2 / len(x) / len(y))
    low, high = np.percentile(np.concatenate(values), percentiles(comparisons))
    return Interval(value, float(low), float(high))
