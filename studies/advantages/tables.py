"""The page's tables of advantages and gradients, from advantages.csv; intervals: percentile bootstrap over seeds."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from studies.advantages.measure import POINTS, SAMPLERS, Row
from studies.advantages.watch import LEARNERS, RETURNS

Floats = NDArray[np.floating]
RESAMPLES = 4000
EARLY, LATE = POINTS[:3], POINTS[3:]
STEPS = ("actions", "states")  # what is put right of a gradient's estimate, one after the other


class Table:
    """Figures by learner, sampler and update."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows: dict[tuple[str, str, int], list[Row]] = {}
        for row in rows:
            self._rows.setdefault((row["learner"], row["sampler"], int(row["update"])), []).append(row)

    def measured(self) -> list[tuple[str, str]]:
        """Learners and samplers that have been run, by sampler."""
        pairs = [(learner, sampler) for sampler in SAMPLERS for learner in LEARNERS]
        return [pair for pair in pairs if (*pair, POINTS[0]) in self._rows]

    def of(self, learner: str, sampler: str, updates: Sequence[int], name: str) -> Floats:
        """A figure of every seed, its mean over the updates."""
        each = [[float(row[name]) for row in self._rows[learner, sampler, update]] for update in updates]
        return np.mean(np.array(each), 0)


def interval(figure: Callable[..., Floats], *columns: Floats) -> tuple[float, float, float]:
    """``figure`` of columns ``[seeds]``, over seeds in the last dimension, and its interval."""
    seeds = len(columns[0])
    drawn = np.random.default_rng(0).integers(0, seeds, (RESAMPLES, seeds))
    low, high = np.percentile(figure(*(column[drawn] for column in columns)), [2.5, 97.5])
    return float(figure(*columns)), float(low), float(high)


def mean(values: Floats) -> Floats:
    """Over seeds."""
    return np.asarray(values.mean(-1))


def difference(a: Floats, b: Floats) -> Floats:
    """Of means."""
    return mean(a) - mean(b)


def median(values: Floats) -> Floats:
    """Over seeds."""
    return np.asarray(np.median(values, -1))


def text(figure: tuple[float, float, float], form: str = ".2g") -> str:
    """With its interval."""
    value, low, high = (f"{number:{form}}" for number in figure)
    return f"{value} [{low}, {high}]"


def lines(rows: Iterator[list[str]]) -> str:
    """Rows of a table in Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def critics(table: Table, sampler: str) -> Iterator[list[str]]:
    """Both critics on the same batches, update by update: the central one less the individual ones."""
    for learner, own in table.measured():
        for update in POINTS if own == sampler else ():
            cells = [learner, str(update)]
            for name, form in (("value rmse", ".2g"), ("rmse", ".2g"), ("correlation", "z.2f"), ("wrong", ".0%")):
                each = [table.of(learner, own, [update], f"{name} {critic}") for critic in LEARNERS]
                cells.append(" / ".join(f"{one.mean():{form}}" for one in each))
                if name in ("value rmse", "correlation"):
                    cells.append(text(interval(difference, each[1], each[0]), "+.2g"))
            each = [table.of(learner, own, [update], f"used {critic}") for critic in LEARNERS]
            cells.append(" / ".join(f"{one.mean():z.2f}" for one in each))
            yield [*cells, text(interval(difference, each[1], each[0]), "+.2f")]


def advantages(table: Table) -> Iterator[list[str]]:
    """Of the run's own critic, by sampler."""
    names = ("bias", "rmse", "correlation", "wrong")
    for when, updates in (("1 to 8", EARLY), ("20, 60", LATE)):
        for learner, sampler in table.measured():
            cells = [text(interval(mean, table.of(learner, sampler, updates, f"{n} {learner}"))) for n in names]
            cells += [f"{table.of(learner, sampler, updates, 'true_rms').mean():.2g}"]
            own = [f"{name} {learner}" for name in ("value rmse", "in batch", "cosine", "used")]
            cells += [text(interval(mean, table.of(learner, sampler, updates, name))) for name in own]
            yield [when, learner, sampler, *cells]


def errors(table: Table) -> Iterator[list[str]]:
    """Squared errors of the gradient, in multiples of the expected one's squared norm, as more of it is put right."""
    for update in POINTS:
        for learner, sampler in table.measured():
            norm = table.of(learner, sampler, [update], "norm")
            names = (learner, RETURNS, *STEPS)
            each = [table.of(learner, sampler, [update], f"error {name}") / norm for name in names]
            cells = [text(interval(median, one)) for one in each]
            cosines = [table.of(learner, sampler, [update], f"cosine {name}") for name in names]
            yield [str(update), learner, sampler, *cells, " / ".join(f"{one.mean():z.2f}" for one in cosines)]
