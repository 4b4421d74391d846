"""Intervals that hold all at once: what the leaderboard says of every cell, and of every difference to on-policy.

Bonferroni's inequality: of k intervals at level 1 - 0.05 / k the chance that any misses is at most 5%, whatever depends
on what. Shares: Wilson's interval. Differences of shares: the score interval of ``lit_maprops.metrics.score_interval``.
Mean returns: Student's t; their differences: Welch's. The quantiles are those of the smaller level.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from lit_maprops.benchmark.rows import Row, pooled
from lit_maprops.metrics.reliability import wilson_interval
from lit_maprops.metrics.score_interval import score_interval
from lit_maprops.report.settings import ON_POLICY
from lit_maprops.report.statistics import Interval, student, welch

LEVEL = 0.95  # of all intervals of a kind together


@dataclass(frozen=True)
class Judged:
    """A row with its intervals.

    Attributes:
        row: the results.
        figure: share of solved seeds, or mean return.
        difference: to on-policy sampling with the same learner; None where there is nothing to compare.
    """

    row: Row
    figure: Interval
    difference: Interval | None


def level_of(intervals: int) -> float:
    """The level of each of ``intervals``, so that all of them hold together with ``LEVEL``."""
    return 1 - (1 - LEVEL) / max(1, intervals)


def judge(rows: Sequence[Row]) -> list[Judged]:
    """Every row with its intervals; those of the figures hold together, and those of the differences do."""
    index = pooled(rows)
    bases = [_base(row, index) for row in rows]
    figures, differences = level_of(len(rows)), level_of(sum(base is not None for base in bases))
    return [
        Judged(row, _figure(row, figures), None if base is None else _difference(row, base, differences))
        for row, base in zip(rows, bases, strict=True)
    ]


def _base(row: Row, index: dict[tuple[str, str, str, str], Row]) -> Row | None:
    """On-policy sampling with the same learner: of the same people, else of this machine."""
    own = index.get((row.task, row.learner, ON_POLICY, row.by)) or index.get((row.task, row.learner, ON_POLICY, ""))
    return None if row.sampler == ON_POLICY else own


def _figure(row: Row, level: float) -> Interval:
    if row.solved is not None:
        return Interval(row.solved / row.seeds, *wilson_interval(row.solved, row.seeds, _quantile(level)))
    values = np.array(row.returns or (), dtype=float)
    return student(values, level) if len(values) else Interval(math.nan, math.nan, math.nan)


def _difference(row: Row, base: Row, level: float) -> Interval | None:
    if row.solved is not None and base.solved is not None:
        low, high = score_interval([row.solved], [row.seeds], [base.solved], [base.seeds], quantile=_quantile(level))
        return Interval(row.solved / row.seeds - base.solved / base.seeds, float(low), float(high))
    x, y = (np.array(one.returns or (), dtype=float) for one in (row, base))
    if not len(x) or not len(y):
        return None
    return welch(x, y, level)


def _quantile(level: float) -> float:
    return NormalDist().inv_cdf(0.5 + level / 2)
