"""What the tables say of a cell, with 95% intervals over seeds; cells are compared seed by seed."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest, t, ttest_1samp

from lit_maprops.metrics.reliability import RESAMPLES, wilson_interval
from studies.delta_epsilon.fixed import AGES, FIGURES
from studies.delta_epsilon.grid import BASE, Cell
from studies.delta_epsilon.kept import Kept, Row
from studies.delta_epsilon.training import DIAGNOSTICS, WHEN

Floats = NDArray[np.floating]
SIDES = ("own", "on-policy", "change")


class Interval(NamedTuple):
    """A figure and the ends of its interval."""

    value: float
    low: float
    high: float

    def text(self, digits: str = "+.3f", scale: float = 1.0) -> str:
        """For a table."""
        value, low, high = (format(scale * number, digits) for number in self)
        return f"{value} [{low}, {high}]"


class Typical(NamedTuple):
    """A ratio in the geometric mean over seeds, and the p-value of its being 1 (paired t-test of the logarithms)."""

    ratio: Interval
    p: float


class Training(NamedTuple):
    """The training runs of a cell, all its blocks together."""

    solved: NDArray[np.bool_]  # [R]
    error: dict[str, Interval]  # joint total variation of D by ``WHEN`` and side, as "end change"
    diagnostics: dict[str, float]


def training_of(table: Kept, task: str, cell: Cell) -> Training | None:
    """Of a cell; None where nothing was run."""
    rows = sorted(table.of(task=task, delta=cell.delta, epsilon=cell.epsilon), key=lambda row: int(row["first seed"]))
    if not rows:
        return None
    solved = np.array([digit == "1" for row in rows for digit in row["solved"]])
    weights = [len(row["solved"]) for row in rows]
    error = {f"{when} {side}": _mean_of_blocks(rows, f"{when} {side}", weights) for when in WHEN for side in SIDES}
    diagnostics = {
        name: float(np.average([float(row[name] or "nan") for row in rows], weights=weights)) for name in DIAGNOSTICS
    }
    return Training(solved, error, diagnostics)


def _mean_of_blocks(rows: Sequence[Row], name: str, weights: Sequence[int]) -> Interval:
    """Mean over the seeds of all blocks, with Student's interval, from the blocks' means and variances."""
    means = np.array([float(row[name]) for row in rows])
    within = np.array([float(row[f"{name} variance"]) for row in rows])
    mean, seeds = float(np.average(means, weights=weights)), sum(weights)
    variance = float(np.average(within + (means - mean) ** 2, weights=weights))
    reach = float(t.ppf(0.975, seeds - 1)) * (variance / (seeds - 1)) ** 0.5
    return Interval(mean, mean - reach, mean + reach)


def paired_difference(own: ArrayLike, base: ArrayLike) -> Interval:
    """Difference of two shares of the same seeds ``[R]`` (Newcombe 1998, method 10 for paired data)."""
    a, b = np.asarray(own, bool), np.asarray(base, bool)
    seeds, first, second = len(a), float(a.mean()), float(b.mean())
    both, only_a, only_b = int((a & b).sum()), int((a & ~b).sum()), int((b & ~a).sum())
    neither = seeds - both - only_a - only_b
    spread = (both + only_a) * (only_b + neither) * (both + only_b) * (only_a + neither)
    product: float = both * neither - only_a * only_b
    if product > 0:
        product = max(product - seeds / 2, 0.0)  # his continuity correction
    correlation = product / spread**0.5 if spread else 0.0
    (low_a, high_a), (low_b, high_b) = (wilson_interval(int(x.sum()), seeds) for x in (a, b))

    def reach(to_a: float, to_b: float) -> float:
        return max(0.0, to_a**2 - 2 * correlation * to_a * to_b + to_b**2) ** 0.5

    difference = first - second
    return Interval(
        difference,
        difference - reach(first - low_a, high_b - second),
        difference + reach(high_a - first, second - low_b),
    )


def compared(own: Training, base: Training) -> Interval:
    """Solved share against on-policy sampling, on the seeds that both have."""
    seeds = min(len(own.solved), len(base.solved))
    return paired_difference(own.solved[:seeds], base.solved[:seeds])


def paired_p(own: ArrayLike, base: ArrayLike) -> float:
    """Of equal shares of the same seeds ``[R]``, two-sided (McNemar's exact test)."""
    a, b = np.asarray(own, bool), np.asarray(base, bool)
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    return float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0


def together(own: Sequence[Training], base: Training) -> Interval:
    """Solved share of all cells together against on-policy sampling, seed by seed (Student's t)."""
    seeds = min(len(run.solved) for run in (*own, base))
    change = np.mean([run.solved[:seeds] for run in own], 0) - base.solved[:seeds]
    return _student(change)


def _student(values: Floats) -> Interval:
    mean, reach = float(values.mean()), float(t.ppf(0.975, len(values) - 1)) * values.std(ddof=1) / len(values) ** 0.5
    return Interval(mean, mean - reach, mean + reach)


def bootstrapped(values: Floats, kind: str) -> Interval:
    """Over seeds, the percentile bootstrap.

    Args:
        values: ``[ages, 1, seeds]`` for ``mean``, the mean over ages and seeds; ``[ages, 2, seeds]`` for ``ratio``, the
            mean over ages of the ratio of the means over seeds.
        kind: of the two.
    """

    def of(means: Floats) -> Floats:  # [ages, 1 or 2, ...]
        return (means[:, 0] if kind == "mean" else means[:, 0] / means[:, 1]).mean(0)

    seeds = values.shape[-1]
    drawn = np.random.default_rng(0).integers(0, seeds, (RESAMPLES, seeds))
    low, high = np.percentile(of(values[..., drawn].mean(-1)), [2.5, 97.5])
    return Interval(float(of(values.mean(-1))), float(low), float(high))


class Fixed:
    """Bias and variance of the cells at ages that all cells were measured at.

    Args:
        table: of ``measure.fixed_table``.
    """

    def __init__(self, table: Kept) -> None:
        self.table = table

    def has(self, cell: Cell, age: str) -> bool:
        """Whether a cell was measured there, and on-policy sampling, too."""
        return all(self.table.has(age=age, delta=c.delta, epsilon=c.epsilon) for c in (cell, BASE))

    def ages(self, cell: Cell) -> list[str]:
        """At which it was."""
        return [age for age in AGES if self.has(cell, age)]

    def seeds(self, cell: Cell, age: str) -> dict[str, Floats]:
        """Every figure, seed by seed ``[R]``."""
        rows = self.table.of(age=age, delta=cell.delta, epsilon=cell.epsilon)
        rows = sorted(rows, key=lambda row: int(row["seed"]))
        return {name: np.array([float(row[name]) for row in rows]) for name in (*FIGURES, "return", "norm_squared")}

    def mean(self, cell: Cell, ages: Sequence[str], name: str, less: str | None = None) -> Interval:
        """A figure, or the difference of two."""
        found = [self.seeds(cell, age) for age in ages]
        return bootstrapped(np.array([[one[name] - (one[less] if less else 0.0)] for one in found]), "mean")

    def ratio(self, cell: Cell, ages: Sequence[str], name: str, over: str = "variance") -> Interval:
        """A figure as a multiple of on-policy sampling's ``over``."""
        pairs = [(self.seeds(cell, age)[name], self.seeds(BASE, age)[over]) for age in ages]
        return bootstrapped(np.array(pairs), "ratio")

    def typical(self, cell: Cell, ages: Sequence[str], name: str = "variance") -> Typical:
        """A figure of a typical seed as a multiple of on-policy sampling's of the same seed."""
        logs = np.mean([np.log(self.seeds(cell, age)[name] / self.seeds(BASE, age)[name]) for age in ages], 0)
        return Typical(Interval(*(float(end) for end in np.exp(_student(logs)))), float(ttest_1samp(logs, 0.0).pvalue))

    def effective_seeds(self, age: str, name: str = "variance") -> float:
        """How many seeds the mean of on-policy sampling's figure rests on, (sum v)^2 / sum v^2."""
        values = self.seeds(BASE, age)[name]
        return float(values.sum() ** 2 / np.square(values).sum())
