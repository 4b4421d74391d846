"""The leaderboard as tables of text: standings, and every task by sampler."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from lit_maprops.benchmark.benchmark_file import BenchmarkFile
from lit_maprops.benchmark.cells import Cell, LeftOutCell
from lit_maprops.benchmark.comparisons import Judged, judge
from lit_maprops.benchmark.measured import Failed
from lit_maprops.benchmark.rows import Row
from lit_maprops.metrics.reliability import share_text
from lit_maprops.report.forms import signed_digits, signed_points, three_digits

FEW_SEEDS = 10
NOT_RUN = "not run"
STANDINGS = (
    "sampler", "learner", "tasks", "better than on-policy", "worse", "no difference shown", "tasks with success",
    "mean solved share there", "on-policy's there",
)  # fmt: skip
Names = tuple[str, str]  # of a column: sampler, and whose it is


@dataclass(frozen=True)
class Table:
    """Heads and rows of text."""

    title: str
    heads: tuple[str, ...]
    rows: list[list[str]]


@dataclass(frozen=True)
class Leaderboard:
    """Everything the page shows.

    Attributes:
        file: the benchmark.
        judged: every row with its intervals.
        standings: one row per sampler and learner.
        tables: one per learner, tasks by samplers.
        left_out: what cannot go together, or is not installed.
        failed: cells with a failed run.
        warnings: what a reader must know before anything else.
        facts: when, where, with what and by which command it was measured.
    """

    file: BenchmarkFile
    judged: list[Judged]
    standings: Table
    tables: list[Table]
    left_out: list[LeftOutCell]
    failed: list[Failed]
    warnings: list[str]
    facts: list[tuple[str, str]]


def leaderboard(
    file: BenchmarkFile,
    cells: Sequence[Cell],
    left_out: Sequence[LeftOutCell],
    rows: Sequence[Row],
    failed: Sequence[Failed],
    facts: Sequence[tuple[str, str]],
    notes: Sequence[str] = (),
) -> Leaderboard:
    """Lay out the tables.

    Args:
        file: the benchmark.
        cells: that were asked for, measured or not.
        left_out: what was not asked for, with reasons.
        rows: results, others' included.
        failed: what went wrong.
        facts: name and text, as they stand at the top.
        notes: of those who added rows; they stand at the top, too.
    """
    if len({row.by for row in rows}) == 1:  # nobody to be told apart from
        rows = [replace(row, by="") for row in rows]
    judged = judge(rows)
    learners = list(dict.fromkeys([cell.learner for cell in cells] + [row.learner for row in rows]))
    names = dict.fromkeys(
        [(cell.sampler.name, "") for cell in cells] if any(not r.by for r in rows) or not rows else []
    )
    columns = list(names | dict.fromkeys((row.sampler, row.by) for row in rows))
    tables = [_by_task(file, learner, cells, left_out, judged, columns) for learner in learners]
    return Leaderboard(
        file,
        judged,
        _standings(judged, learners, columns),
        tables,
        list(left_out),
        list(failed),
        [*_warnings(cells, rows), *notes],
        list(facts),
    )


def verdict(one: Judged) -> int:
    """1: better than on-policy sampling, by an interval that misses 0; -1: worse; 0: no difference shown."""
    return 0 if one.difference is None else one.difference.beats(0)


def cell_text(one: Judged) -> str:
    """``75% [51%, 90%], 16 seeds``, and whether it is better or worse than on-policy sampling."""
    form = share_text if one.row.solved is not None else three_digits
    text = "no return" if math.isnan(one.figure.value) else form(one.figure.value)
    if not math.isnan(one.figure.low):
        text += f" [{form(one.figure.low)}, {form(one.figure.high)}]"
    text += f", {one.row.seeds} seed{'s' if one.row.seeds > 1 else ''}"
    without = one.row.seeds - len(one.row.returns) if one.row.returns is not None else 0
    text += f", {without} of them in NaN" if without else ""
    return text + ("", ": better", ": worse")[verdict(one)]


def difference_text(one: Judged) -> str:
    """The difference to on-policy sampling with its interval."""
    if one.difference is None:
        return ""
    form = signed_points if one.row.solved is not None else signed_digits
    if math.isnan(one.difference.low):
        return f"{form(one.difference.value)} (no interval)"
    return f"{form(one.difference.value)} [{form(one.difference.low)}, {form(one.difference.high)}]"


def _column_name(column: Names) -> str:
    return f"{column[0]} ({column[1]})" if column[1] else column[0]


def _by_task(
    file: BenchmarkFile,
    learner: str,
    cells: Sequence[Cell],
    left_out: Sequence[LeftOutCell],
    judged: Sequence[Judged],
    columns: Sequence[Names],
) -> Table:
    found = {(one.row.task, one.row.sampler, one.row.by): one for one in judged if one.row.learner == learner}
    asked = {cell.name for cell in cells}
    without = {(one.task, one.sampler) for one in left_out}
    rows = []
    for name, task in file.tasks.items():
        texts = []
        for sampler, by in columns:
            one = found.get((name, sampler, by))
            if one is not None:
                texts.append(cell_text(one))
            elif (name, learner, sampler) in asked:
                texts.append(NOT_RUN)
            else:
                texts.append("left out" if {(name, sampler), (name, None)} & without else "")
        if any(text not in ("", "left out") for text in texts):
            what = "solved" if task.metric == "solved" else "mean return"
            rows.append([name, what, *texts])
    return Table(learner, ("task", "figure", *map(_column_name, columns)), rows)


def _standings(judged: Sequence[Judged], learners: Sequence[str], columns: Sequence[Names]) -> Table:
    """Per learner, those with the most tasks better than worse first."""
    rows = []
    for learner in learners:
        lines = []
        for column in columns:
            found = _of(judged, learner, column)
            verdicts = [verdict(one) for one in found if one.difference is not None]
            better, worse, neither = (verdicts.count(kind) for kind in (1, -1, 0))
            pairs = [one for one in found if one.row.solved is not None and one.difference is not None]
            shares = [one.figure.value for one in pairs]
            others = [one.figure.value - one.difference.value for one in pairs if one.difference is not None]
            counts = map(str, (len(found), better, worse, neither, len(pairs)))
            texts = [_column_name(column), learner, *counts, _mean(shares), _mean(others)]
            lines += [(worse - better, texts)] if found else []
        rows += [texts for _, texts in sorted(lines, key=lambda line: line[0])]
    return Table("Standings", STANDINGS, rows)


def _mean(shares: Sequence[float]) -> str:
    return share_text(sum(shares) / len(shares)) if shares else "\N{EN DASH}"


def _of(judged: Sequence[Judged], learner: str, column: Names) -> list[Judged]:
    return [one for one in judged if one.row.learner == learner and (one.row.sampler, one.row.by) == column]


def _warnings(cells: Sequence[Cell], rows: Sequence[Row]) -> list[str]:
    warnings = []
    few = [row for row in rows if row.seeds < FEW_SEEDS]
    if few:
        warnings.append(f"Seeds are few: {len(few)} of {len(rows)} cells have fewer than {FEW_SEEDS}. They say little.")
    ran = {(row.task, row.learner, row.sampler) for row in rows}
    missing = sum(cell.name not in ran for cell in cells)
    if missing:
        warnings.append(f"{missing} of {len(cells)} cells were not run: more minutes reach them.")
    return warnings
