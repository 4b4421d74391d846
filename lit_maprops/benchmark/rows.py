"""Results of a benchmark as rows, and as a file of rows that anybody can add to the leaderboard."""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lit_maprops.benchmark.benchmark_file import MOST_SEEDS, BenchmarkFile
from lit_maprops.system.errors import ConfigError, check, did_you_mean, printable

MOST_BYTES, MOST_ROWS = 5_000_000, 2_000  # of a file
MOST_CHARACTERS = 200  # of a text in it
MOST_RETURN = 1e15
TEXTS = ("by", "date", "machine", "software", "note")
OF_FILE = {"benchmark", "version", "rows", *TEXTS}
OF_ROW = {"task", "learner", "sampler", "seeds", "solved", "returns"}
DATE = re.compile(r"\d{4}-\d\d-\d\d")


@dataclass(frozen=True)
class Row:
    """What the seeds of a cell came to.

    Attributes:
        task: name in the benchmark's list.
        learner: class.
        sampler: class, or whatever name others give theirs.
        seeds: number of training runs.
        solved: how many of them solved the task; None where returns are judged.
        returns: final greedy return of every seed that has one, where returns are judged; else None.
        by: whose it is; empty: this machine's.
    """

    task: str
    learner: str
    sampler: str
    seeds: int
    solved: int | None = None
    returns: tuple[float, ...] | None = None
    by: str = ""


@dataclass(frozen=True)
class RowFile:
    """A file of rows.

    Attributes:
        by: who measured them.
        date: when, as 2026-11-29.
        machine: on what.
        software: with which versions.
        note: anything a reader should know.
        rows: the results.
    """

    by: str
    date: str
    machine: str
    software: str
    note: str
    rows: tuple[Row, ...]


def as_json(benchmark: BenchmarkFile, content: RowFile) -> dict[str, Any]:
    """A file of rows as JSON takes it; ``read_rows`` reads it back."""
    rows = []
    for row in content.rows:
        fields = {key: value for key, value in asdict(row).items() if value is not None and key != "by"}
        rows.append(fields)
    texts = {key: getattr(content, key) for key in TEXTS}
    return {"benchmark": benchmark.name, "version": benchmark.version, **texts, "rows": rows}


def read_row_files(folder: Path, benchmark: BenchmarkFile) -> list[RowFile]:
    """Every ``*.json`` of a folder, in the order of their names.

    Raises:
        ConfigError: it is no folder, or a file in it is none of rows of this benchmark.
    """
    check(folder.is_dir(), f"<rows> is {folder}, no folder: give one with files of rows, such as leaderboard")
    return [read_rows(path, benchmark) for path in sorted(folder.glob("*.json"))]


def read_rows(path: Path, benchmark: BenchmarkFile) -> RowFile:
    """Read a file of rows: plain data, checked key by key.

    Raises:
        ConfigError: it cannot be read, or is none of rows of this benchmark.
    """
    try:
        check(path.is_file() and path.stat().st_size <= MOST_BYTES, f"{path} is no file, or larger than 5 MB")
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{path} is no file of rows: {_reason(error)}: see CONTRIBUTING.md") from None
    check(isinstance(content, dict), f"{path} holds no keys and values: see CONTRIBUTING.md")
    _check_keys(str(path), content, OF_FILE, OF_FILE - {"note"})
    for key in TEXTS:
        text = content.get(key, "")
        fine = isinstance(text, str) and len(text) <= MOST_CHARACTERS and text == printable(text)
        check(fine and (bool(text) or key == "note"), f"{path}: {key} is no short text on one line")
    check(bool(DATE.fullmatch(content["date"])), f"{path}: date is {content['date']!r}: give one such as 2026-11-29")
    same = (content["benchmark"], content["version"]) == (benchmark.name, benchmark.version)
    check(
        same,
        f"{path} is of {printable(str(content['benchmark']))[:60]} version {str(content['version'])[:20]}, not of "
        f"{benchmark.name} version {benchmark.version}: measure again",
    )
    rows = content["rows"]
    check(isinstance(rows, list) and 0 < len(rows) <= MOST_ROWS, f"{path}: rows is no list of 1 to {MOST_ROWS:,} rows")
    read = tuple(_row(f"{path}: row {k + 1}", row, content["by"], benchmark) for k, row in enumerate(rows))
    names = [(row.task, row.learner, row.sampler) for row in read]
    twice = next((name for name in names if names.count(name) > 1), None)
    check(twice is None, f"{path} has {twice} twice: give each task, learner and sampler one row")
    texts = {key: content.get(key, "") for key in TEXTS}
    return RowFile(**texts, rows=read)


def _row(where: str, row: Any, by: str, benchmark: BenchmarkFile) -> Row:
    check(isinstance(row, dict), f"{where} holds no keys and values")
    _check_keys(where, row, OF_ROW, {"task", "learner", "sampler", "seeds"})
    for key in ("task", "learner", "sampler"):
        text = row[key]
        fine = isinstance(text, str) and 0 < len(text) <= 60 and text == printable(text)
        check(fine, f"{where}: {key} is no short name")
    task = benchmark.tasks.get(row["task"])
    if task is None:
        known = list(benchmark.tasks)
        raise ConfigError(f"{where}: task {row['task']} is none of the list{did_you_mean(row['task'], known)}")
    _check_number(f"{where}: seeds", row["seeds"], 1)
    needed, other = ("solved", "returns") if task.metric == "solved" else ("returns", "solved")
    check(needed in row and other not in row, f"{where}: {task.name} is judged by {needed}: give that, not {other}")
    if needed == "solved":
        _check_number(f"{where}: solved", row["solved"], 0)
        check(row["solved"] <= row["seeds"], f"{where}: {row['solved']} of {row['seeds']} seeds cannot be solved")
        return Row(task.name, row["learner"], row["sampler"], row["seeds"], solved=row["solved"], by=by)
    values = row["returns"]
    check(isinstance(values, list) and len(values) <= row["seeds"], f"{where}: returns is no list, one of every seed")
    for value in values:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        check(number and abs(value) <= MOST_RETURN, f"{where}: returns has {str(value)[:20]}: give finite numbers")
    return Row(task.name, row["learner"], row["sampler"], row["seeds"], returns=tuple(map(float, values)), by=by)


def _check_keys(where: str, content: dict[str, Any], known: set[str], needed: set[str]) -> None:
    for key in content:
        check(key in known, f"{where} has the key {printable(key)[:60]!r}{did_you_mean(key, known)}")
    missing = sorted(needed - set(content))
    check(not missing, f"{where} lacks {', '.join(missing)}: see CONTRIBUTING.md")


def _check_number(where: str, value: Any, least: int) -> None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    check(whole and least <= value <= MOST_SEEDS, f"{where} is {str(value)[:20]}: give a whole number from {least} on")


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no number of JSON")


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError):
        return error.strerror or "cannot be read"
    return printable(str(error).splitlines()[0] if str(error) else type(error).__name__)[:120]


def pooled(rows: Sequence[Row]) -> dict[tuple[str, str, str, str], Row]:
    """Rows by task, learner, sampler and whose they are."""
    return {(row.task, row.learner, row.sampler, row.by): row for row in rows}


def mean_return(row: Row) -> float:
    """Over the seeds that have one; NaN if none has."""
    return sum(row.returns) / len(row.returns) if row.returns else math.nan
