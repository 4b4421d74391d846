"""Cells of a page's tables: figures of an outcome with their 95% intervals, and tests of many comparisons."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import fisher_exact, t

from lit_maprops.metrics.reliability import difference_interval, wilson_interval
from studies.runs import SQUARE, Outcome


def share_of(solved: int, runs: int) -> str:
    """A share with its Wilson interval."""
    low, high = wilson_interval(solved, runs)
    return f"{solved / runs:.0%} [{low:.0%}, {high:.0%}]"


def points(solved: int, runs: int, base_solved: int, base_runs: int, digits: int = 0) -> str:
    """Percentage points between two shares with the Newcombe interval."""
    low, high = difference_interval(solved, runs, base_solved, base_runs)
    return signed(100 * (solved / runs - base_solved / base_runs), 100 * low, 100 * high, digits)


def signed(value: float, low: float, high: float, digits: int = 0) -> str:
    """A difference with its interval; -0 lies below 0."""
    return "{} [{}, {}]".format(*(f"{x:+.{digits}f}" for x in (value, low, high)))


def share(result: Outcome) -> str:
    """Solved share of an outcome."""
    return share_of(result.solved, result.seeds)


def difference(result: Outcome, base: Outcome) -> str:
    """Percentage points against ``base``."""
    return points(result.solved, result.seeds, base.solved, base.seeds)


def mean_success(result: Outcome) -> str:
    """Mean success with its interval over seeds, by Student's t (needs ``SQUARE``)."""
    variance = max(0.0, result.means[SQUARE] - result.mean_success**2) / max(1, result.seeds - 1)
    reach = float(t.ppf(0.975, max(1, result.seeds - 1))) * variance**0.5
    low, high = max(0.0, result.mean_success - reach), min(1.0, result.mean_success + reach)
    return f"{result.mean_success:.2f} [{low:.2f}, {high:.2f}]"


def p_value(result: Outcome, base: Outcome) -> float:
    """Of equal shares, two-sided (Fisher's exact test)."""
    table = [[o.solved, o.seeds - o.solved] for o in (result, base)]
    return float(fisher_exact(np.array(table)).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted for their number (Holm 1979)."""
    order = sorted(range(len(p_values)), key=lambda k: p_values[k])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for place, k in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[k]))
        adjusted[k] = largest
    return adjusted


def adjusted_p(p: float | None) -> str:
    """A p-value's cell; empty for a row that is compared with nothing."""
    return "" if p is None else "below 0.001" if p < 0.001 else f"{p:.3f}"
