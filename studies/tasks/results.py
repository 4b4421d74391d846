"""Raw tables of docs/evidence/tasks.md: every seed's last evaluation, and every cell's learning curve."""

import csv
import io
import json
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lit_maprops.metrics.reliability import mean_interval
from lit_maprops.system.files import write_atomically
from lit_maprops.system.tables import read_table
from studies.runs import SOLVED, complete
from studies.tasks.plan import Cell, run_of

Row = dict[str, str]
FIGURES = ("greedy_return", "stochastic_return", "greedy_success_rate", "stochastic_success_rate")


class Results:
    """Finished cells, in the tables that are committed: none is run twice.

    Args:
        last: the table with a row per cell and seed.
        curves: the table with a row per cell and evaluation.
    """

    def __init__(self, last: Path, curves: Path) -> None:
        self.paths, self._lock = (last, curves), threading.Lock()
        self.last, self.curves = _read(last), _read(curves)

    def fill(self, chosen: Sequence[Cell], workers: int) -> None:
        """Run what is missing, ``workers`` at a time (see ``runs.complete``), and enter each when it ends."""

        def one(cell: Cell) -> None:
            run = run_of(cell)
            complete([run], min(workers, 1))
            with self._lock:
                self.enter(cell, run.folder, run.run_seed)

        missing = [cell for cell in chosen if cell not in self.last]
        if not workers:
            for cell in missing:
                one(cell)
            return
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(one, missing))

    def enter(self, cell: Cell, folder: Path, run_seed: int) -> None:
        """Keep what a finished run's folder says of a cell."""
        evaluations = read_table(folder / "eval.csv")
        seconds = json.loads((folder / "summary.json").read_text())["wall_seconds"]
        self.last[cell] = last_rows(evaluations, run_seed, seconds)
        self.curves[cell] = curve_rows(evaluations)
        for path, table in zip(self.paths, (self.last, self.curves), strict=True):
            _write(path, table)

    def values(self, cell: Cell, figure: str) -> NDArray[np.floating]:
        """A figure of every seed's last evaluation, ``[seeds]``; NaN where there is none."""
        return np.array([float(row[figure] or "nan") for row in self.last[cell]])

    def seconds(self, cell: Cell) -> float:
        """That the run took."""
        return float(self.last[cell][0]["seconds"])


def last_rows(evaluations: dict[str, NDArray[np.floating]], run_seed: int, seconds: float) -> list[Row]:
    """A row per seed, of the columns of eval.csv; the run's seconds are repeated in each."""
    last = evaluations["env_steps"] == evaluations["env_steps"].max()
    rows = []
    for k in np.flatnonzero(last):
        row = {"run seed": str(run_seed)} | {name: str(int(evaluations[name][k])) for name in ("seed", "env_steps")}
        row |= {name: _text(evaluations[name][k]) for name in FIGURES}
        rows.append(row | {"seconds": f"{seconds:.1f}"})
    return rows


def curve_rows(evaluations: dict[str, NDArray[np.floating]]) -> list[Row]:
    """A row per evaluation: mean returns over seeds with 95% bootstrap intervals, and the share of solved seeds.

    A seed whose policies gave NaN has no return, and is not solved; where no seed has a success rate, the task tells
    no success, and there is no share.
    """
    rows = []
    for step in np.unique(evaluations["env_steps"]):
        at = {name: evaluations[name][evaluations["env_steps"] == step] for name in FIGURES}
        row = {"env_steps": str(int(step)), "seeds": str(len(at["greedy_return"]))}
        for name in FIGURES[:2]:
            values = at[name][np.isfinite(at[name])]
            ends = [end[0] for end in mean_interval(values[None])] if len(values) else [np.nan, np.nan]
            mean = values.mean() if len(values) else np.nan
            row |= {name: _text(mean), f"{name}_low": _text(ends[0]), f"{name}_high": _text(ends[1])}
        success = at["greedy_success_rate"]
        share = np.nan if np.isnan(success).all() else (success.astype(np.float32) >= np.float32(SOLVED)).mean()
        rows.append(row | {"solved": _text(share)})
    return rows


def _text(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.6g}"


def _read(path: Path) -> dict[Cell, list[Row]]:
    table: dict[Cell, list[Row]] = {}
    if path.exists():
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                cell = Cell(*(row.pop(name) for name in Cell._fields))
                table.setdefault(cell, []).append(row)
    return table


def _write(path: Path, table: dict[Cell, list[Row]]) -> None:
    rows = [cell._asdict() | row for cell, found in table.items() for row in found]
    with io.StringIO() as text:
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(path, text.getvalue())
