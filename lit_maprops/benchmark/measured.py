"""What the runs of a benchmark came to, read from their folders."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lit_maprops.benchmark.cells import Cell
from lit_maprops.benchmark.rows import Row
from lit_maprops.benchmark.turns import progress_of
from lit_maprops.report.load import Run, Unreadable, read_run
from lit_maprops.sweep.journal import Entry


@dataclass(frozen=True)
class Failed:
    """A cell of which a run failed, or cannot be read; its other runs count."""

    name: tuple[str, str, str]
    reason: str


def measured(cells: Sequence[Cell], entries: Sequence[Entry], folder: Path) -> tuple[list[Row], list[Failed]]:
    """Rows of the cells with finished runs, in their order, and what went wrong."""
    rows, failed = [], []
    progress = progress_of(cells, entries)
    for cell in cells:
        own, runs = progress[cell.name], []
        if own.failed is not None:
            failed.append(Failed(cell.name, own.failed.error or "it could not be started"))
        for entry in own.blocks:
            try:
                runs.append(read_run(folder / entry.id))
            except Unreadable as error:
                failed.append(Failed(cell.name, f"{entry.id}: {error}"))
        if runs:
            rows.append(_row(cell, runs))
    return rows, failed


def _row(cell: Cell, runs: Sequence[Run]) -> Row:
    task, learner, sampler = cell.name
    seeds = sum(len(run.seeds) for run in runs)
    if cell.task.metric == "solved":
        return Row(task, learner, sampler, seeds, solved=sum(run.solved for run in runs))
    final = np.concatenate([run.others["greedy_return"][-1] for run in runs])
    return Row(task, learner, sampler, seeds, returns=tuple(final[np.isfinite(final)].tolist()))
