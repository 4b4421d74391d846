"""Two runs side by side, as lines of text: settings that differ, their figures, and the difference of shares."""

import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from lit_maprops.metrics.reliability import Criterion, mean_interval, share_text, wilson_interval
from lit_maprops.report import returns
from lit_maprops.report.load import Floats, Run, Unreadable, read_run
from lit_maprops.report.remarks import near_deterministic
from lit_maprops.report.settings import NAMES_OF_THE_RUN, natural, other_environments, show
from lit_maprops.report.solved import criterion_of
from lit_maprops.report.statistics import share_difference
from lit_maprops.report.svg import shorten
from lit_maprops.system.errors import ConfigError, check, printable
from lit_maprops.system.tables import read_table

MOST_SETTINGS = 60  # in the table
MEASURES = ("joint_tv", "joint_kl", "joint_energy")
NOTHING = "-"
Row = tuple[str, str, str]


def compare(first: Path, second: Path) -> str:
    """What ``python -m lit_maprops compare`` prints.

    Args:
        first: folder of a finished run.
        second: of another one.

    Raises:
        ConfigError: a folder is missing, is no run's or is given twice, or a run is unfinished.
    """
    runs = _read(first), _read(second)
    check(
        first.resolve() != second.resolve(),
        f"compare: {first} and {second} are the same run: give two, such as runs/on_policy runs/ma_props",
    )
    names = [run.name for run in runs]
    if names[0] == names[1]:
        names = [printable(str(folder)) for folder in (first, second)]
    settings = _settings(*runs)
    head = ("", shorten(names[0]), shorten(names[1]))
    lines = _table([head, *(settings or [("settings", "equal", "equal")])])
    lines += ["", *_table([head, *(_row(label, cell, runs) for label, cell in CELLS.items())])]
    apart = [text for run in runs if (text := near_deterministic(run))]
    return "\n".join([*lines, *(["", *apart] if apart else []), "", _difference(runs, names) + _lengths(runs)])


def _read(folder: Path) -> Run:
    check(os.path.exists(folder), f"compare: {folder} does not exist: give a run's folder, such as runs/ma_props")
    check(os.path.isdir(folder), f"compare: {folder} is a file: give the folder of the run")
    try:
        run = read_run(folder)
    except Unreadable as error:
        raise ConfigError(f"compare: {folder} cannot be read: {error}: give a run's folder, which fit wrote") from None
    check(
        run.finished,
        f"compare: {folder} is unfinished at {run.env_steps[-1]:,.0f} env steps: continue it first, with fit and its "
        "newest checkpoint",
    )
    return run


def _settings(a: Run, b: Run) -> list[Row]:
    """Flags whose values differ, or that one of the runs does not have."""
    keys = [key for key in {**a.config, **b.config} if key not in NAMES_OF_THE_RUN]
    odd = [key for key in keys if key not in a.config or key not in b.config or a.config[key] != b.config[key]]
    rows = [(key, _value(a, key), _value(b, key)) for key in sorted(odd, key=natural)]
    if len(rows) > MOST_SETTINGS:
        rows[MOST_SETTINGS:] = [(f"and {len(rows) - MOST_SETTINGS} more", "", "")]
    return rows


def _value(run: Run, key: str) -> str:
    return shorten(show(run.config[key])) if key in run.config else NOTHING


def _row(label: str, cell: Callable[[Run], str], runs: Sequence[Run]) -> Row:
    return label, cell(runs[0]), cell(runs[1])


def _table(rows: Sequence[Row]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return [line.rstrip() for line in lines]


def _solved(run: Run) -> str:
    if not run.criterion.tells_solved:
        return NOTHING
    share, low, high = map(share_text, (run.solved / len(run.seeds), *wilson_interval(run.solved, len(run.seeds))))
    return f"{run.solved} of {len(run.seeds)}: {share} [{low}, {high}]"


def _last(run: Run, column: str) -> Floats:
    """A column of eval.csv at the newest evaluation, without seeds that have no number, ``[seeds]``."""
    table = read_table(run.path / "eval.csv")
    values = table.get(column, np.empty(0))
    values = values[table["env_steps"] == run.env_steps[-1]] if len(values) else values
    return values[np.isfinite(values)]


def _mean(values: Floats, form: Callable[[float], str]) -> str:
    if not len(values):
        return NOTHING
    text = form(float(values.mean()))
    if len(values) == 1 or np.ptp(values) == 0:  # resampling shows nothing
        return text
    low, high = (float(end[0]) for end in mean_interval(values[None]))
    return f"{text} [{form(low)}, {form(high)}]"


def _number(value: float) -> str:
    return f"{value:.4g}" if np.isfinite(value) else NOTHING


def _error(run: Run, suffix: str = "") -> str:
    known = [(name, run.mean(f"sampling_error/{name}{suffix}")) for name in MEASURES]
    measured = next(((name, value) for name, value in known if np.isfinite(value)), None)
    if measured is None:
        return NOTHING
    fitted = ", fitted: small ones count as 0" if measured[0].endswith("_kl") else ""
    return f"{_number(measured[1])} ({measured[0]}{fitted})"


def _speed(run: Run) -> str:
    seconds = float(run.metrics.get("wall_seconds", np.array([np.nan]))[-1])
    return f"{run.env_steps[-1] * len(run.seeds) / seconds:,.0f}" if seconds > 0 else NOTHING


# A cell's label, and what it says of a run.
CELLS: dict[str, Callable[[Run], str]] = {
    "seeds": lambda run: shorten(", ".join(map(str, run.seeds.tolist())), 20),
    "env steps per seed": lambda run: f"{run.env_steps[-1]:,.0f}",
    "solved seeds": _solved,
    "success, greedy": lambda run: _mean(run.final, _number) if run.tells_success else NOTHING,
    "success, sampled": lambda run: _mean(_last(run, "stochastic_success_rate"), _number),
    "return, greedy": lambda run: _mean(_last(run, "greedy_return"), _number),
    "return, sampled": lambda run: _mean(_last(run, "stochastic_return"), _number),
    "sampling error": _error,
    "sampling error, on-policy": lambda run: _error(run, "_on_policy"),
    "env steps/s, all seeds": _speed,
}


def _difference(runs: Sequence[Run], names: Sequence[str]) -> str:
    """The last line: the difference of solved shares, or of mean returns, unless the runs cannot be compared."""
    if odd := other_environments(runs[0].config, runs[1].config):
        return f"No difference is told: the runs are of different environments ({', '.join(odd[:3])})."
    told = any(run.tells_success for run in runs)  # a verdict of either says that the task has them
    judged = [criterion_of(run.config, told) for run in runs]
    if (judged[0].on, judged[0].tells_solved) != (judged[1].on, judged[1].tells_solved):
        return f"No difference is told: {names[0]} counts {_counted(judged[0])}, {names[1]} {_counted(judged[1])}."
    if not judged[0].tells_solved:
        return _of_returns(runs, names)
    solved = [run.solved_by(rule).astype(float) for run, rule in zip(runs, judged, strict=True)]
    found = share_difference([solved[0]], [solved[1]])
    points = "{:+.0f} points [95% {:+.0f} to {:+.0f}]".format(*(100 * n for n in (found.value, found.low, found.high)))
    verdict = {1: "the first solves more", -1: "the first solves fewer", 0: "no difference shown"}[found.beats(0)]
    return f"Solved, {names[0]} minus {names[1]}: {points}, {verdict}."


def _lengths(runs: Sequence[Run]) -> str:
    """What a difference of runs of unequal length is of, too; empty where they are of the same."""
    first, second = (run.env_steps[-1] for run in runs)
    return "" if first == second else f" After {first:,.0f} and {second:,.0f} env steps per seed."


def _counted(judged: Criterion) -> str:
    return f"seeds solved by their {judged.on}" if judged.tells_solved else f"mean {judged.on}"


def _of_returns(runs: Sequence[Run], names: Sequence[str]) -> str:
    finals = [_last(run, "greedy_return") for run in runs]
    if not all(len(values) for values in finals):
        return "No difference is told: a run has no return, all its seeds ended in NaN."
    found = returns.difference(finals[0], finals[1])
    text = f"Mean return, {names[0]} minus {names[1]}: {found.value:+.3g}"
    if math.isnan(found.low):
        return f"{text} (no interval, a single seed)."
    verdict = {1: "the first returns more", -1: "the first returns less", 0: "no difference shown"}[found.beats(0)]
    return f"{text} [95% {found.low:+.3g} to {found.high:+.3g}], {verdict}."
