"""Whose turn it is: cells take turns, block by block, and no block begins that cannot end in time."""

import json
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from typing_extensions import override

from lit_maprops.benchmark.cells import FIRST, SEEDS, Cell
from lit_maprops.sweep.journal import Entry
from lit_maprops.sweep.results import read_summary
from lit_maprops.sweep.scheduler import Scheduler

START_SECONDS = 8.0  # of a process until it trains; on a busy machine


@dataclass
class Progress:
    """The runs of a cell so far.

    Attributes:
        blocks: finished ones.
        failed: one that failed; the cell gets no other.
        open: whether one is at work, or was interrupted.
    """

    blocks: list[Entry] = field(default_factory=list)
    failed: Entry | None = None
    open: bool = False

    @property
    def seeds(self) -> int:
        """Of the finished blocks."""
        return sum(entry.parameters[SEEDS] for entry in self.blocks)


def progress_of(cells: Sequence[Cell], entries: Sequence[Entry]) -> dict[tuple[str, str, str], Progress]:
    """The runs of each cell, by its name."""
    names = {_identity(cell.flags()): cell.name for cell in cells}
    found = {cell.name: Progress() for cell in cells}
    for entry in entries:
        name = names.get(_identity({k: v for k, v in entry.parameters.items() if k not in (SEEDS, FIRST)}))
        if name is None:
            continue  # of a task or sampler that is not asked for now
        if entry.state == "finished":
            found[name].blocks.append(entry)
        elif entry.state == "failed":
            found[name].failed = entry
        else:
            found[name].open = True
    return found


def _identity(flags: dict[str, Any]) -> str:
    return json.dumps(flags, sort_keys=True)


class Turns:
    """Proposes blocks, in place of a sweep's search.

    Fair queueing (Demers, Keshav and Shenker 1989): next is the cell whose time so far and next block come to least,
    so every cell gets about the same share of the time, whatever its task costs. Small blocks come first. Among
    equals all tasks come with their first learner and sampler, then all with the second, and so on.

    Args:
        cells: that take turns.
        seeds: of every cell in the end.
        folder: of the runs.
        deadline: ``time.monotonic`` at which all must have ended; None: there is no end.
    """

    def __init__(self, cells: Sequence[Cell], seeds: int, folder: Path, deadline: float | None) -> None:
        self.cells, self.seeds, self.folder, self.deadline = cells, seeds, folder, deadline
        ranks: dict[str, int] = {}
        self._rank: dict[tuple[str, str, str], int] = {}
        for cell in sorted(cells, key=lambda cell: cell.task.learners.index(cell.learner)):
            self._rank[cell.name] = ranks[cell.task.name] = ranks.get(cell.task.name, -1) + 1

    def propose(self, entries: Sequence[Entry]) -> dict[str, Any] | None:
        """Flags of the next block; None if every cell is done, or nothing can end in time any more."""
        progress = progress_of(self.cells, entries)
        waiting = [
            cell
            for cell in self.cells
            if not (own := progress[cell.name]).open and own.failed is None and own.seeds < self.seeds
        ]
        turns: list[tuple[float, int, int, float, dict[str, Any]]] = []
        for number, cell in enumerate(waiting):
            own = progress[cell.name]
            block = cell.block(own.seeds, self.seeds)
            needed = self._seconds(cell, block, progress)
            spent = sum(self._measured(entry, entry.parameters[SEEDS]) or 0.0 for entry in own.blocks)
            turns.append((spent + needed, self._rank[cell.name], number, needed, block))
        now = time.monotonic()
        fitting = [turn for turn in turns if self.deadline is None or now + turn[3] < self.deadline]
        return min(fitting, key=lambda turn: turn[:3])[-1] if fitting else None

    def to_stop(self, entries: Sequence[Entry]) -> set[str]:
        """No run is stopped because it does badly."""
        return set()

    def blocks(self, entries: Sequence[Entry]) -> int:
        """How many there are in the end, if time allows; those that are there included."""
        progress, total = progress_of(self.cells, entries), len(entries)
        for cell in self.cells:
            own, done = progress[cell.name], progress[cell.name].seeds
            while own.failed is None and done < self.seeds:
                done += cell.block(done, self.seeds)[SEEDS]
                total += 1
            total -= own.open
        return total

    def _seconds(self, cell: Cell, block: dict[str, Any], progress: dict[tuple[str, str, str], Progress]) -> float:
        """How long a block takes: as the cell's last one did, else the slowest of its task, else as the file says."""
        known = [self._measured(entry, block[SEEDS]) for entry in progress[cell.name].blocks[-1:]]
        if not known:
            same = [own for name, own in progress.items() if name[0] == cell.task.name]
            known = [self._measured(entry, block[SEEDS]) for own in same for entry in own.blocks[:1]]
        return max((seconds for seconds in known if seconds is not None), default=cell.task.seconds)

    def _measured(self, entry: Entry, seeds: int) -> float | None:
        wall = read_summary(self.folder / entry.id).get("wall_seconds")
        # Of more seeds it is an upper bound: a step of many costs less for each.
        return None if wall is None else START_SECONDS + wall * max(1.0, seeds / entry.parameters[SEEDS])


class TimedScheduler(Scheduler):
    """A sweep's scheduler that stops what is still at work when time is up; that goes on in the next call."""

    out_of_time = False

    @override
    def _fill(self) -> None:
        if self.deadline is not None and time.monotonic() > self.deadline:
            if self._active:  # they save, and are continued by the next call
                self.progress.say("time is up: runs at work save and stop")
            self.out_of_time, self.received = True, int(signal.SIGTERM)
            for process in self._active:
                process.signal(self._stop_signal)
            return
        super()._fill()
