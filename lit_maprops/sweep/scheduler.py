"""The loop of a sweep: keep K runs at work, remember what became of them, stop what hyperband gives up on."""

import signal
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from lit_maprops.sweep.journal import Entry, Journal
from lit_maprops.sweep.processes import Process
from lit_maprops.sweep.progress import Progress, varied_of
from lit_maprops.sweep.results import best_value, is_complete, share_done
from lit_maprops.sweep.sweep_file import SweepFile

POLL_SECONDS = 0.1
HYPERBAND_SECONDS = 1.0  # between looks at the running runs' metrics
PROGRESS_SECONDS = 2.0  # likewise, for the bar


class Proposals(Protocol):
    """What says which run is next: a sweep's search, or a benchmark's turns."""

    def propose(self, entries: Sequence[Entry]) -> dict[str, Any] | None:
        """Parameters of the next run; None if there is none."""

    def to_stop(self, entries: Sequence[Entry]) -> set[str]:
        """Ids of runs at work that are given up."""


class Scheduler:
    """Runs the sweep to its end, or until a signal.

    Args:
        file: the sweep.
        folder: of the sweep.
        search: proposes runs.
        journal: of the sweep.
        workers: runs at a time.
        total: runs in all.
        run_hours: that a run may take; None: any time.

    Attributes:
        deadline: ``time.monotonic`` from which on no run begins; None: there is none.
    """

    deadline: float | None = None

    def __init__(
        self,
        file: SweepFile,
        folder: Path,
        search: Proposals,
        journal: Journal,
        workers: int,
        total: int,
        run_hours: float | None = None,
    ) -> None:
        self.file, self.folder, self.search, self.journal = file, folder, search, journal
        self.workers, self.total, self.run_hours = workers, total, run_hours
        self.received: int | None = None
        self._active: list[Process] = []
        self._next_look = 0.0
        self._next_progress = 0.0

    def run(self) -> int | None:
        """Run; returns the signal that ended it early, if one did."""
        done = sum(entry.state in ("finished", "stopped", "failed") for entry in self.journal.entries)
        self.progress = Progress(done, self.total, varied_of(self.file.content["parameters"]), self.deadline)
        # SIGHUP: the terminal is closed, which nohup lets the program ignore.
        stopping = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
        if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
            stopping.remove(signal.SIGHUP)
        previous = {number: signal.signal(number, self._receive) for number in stopping}
        try:
            self._loop()
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
            self.progress.close()
        return self.received

    def _loop(self) -> None:
        while True:
            if self.received is None:
                self._fill()
            elif all(process.adopted for process in self._active):
                return
            if not self._active:
                return
            time.sleep(POLL_SECONDS)
            for process in [process for process in self._active if not process.alive()]:
                self._active.remove(process)
                self._settle(process)
            if self.run_hours is not None:
                for process in self._active:
                    process.keep_to(3600 * self.run_hours)
            if time.monotonic() >= self._next_progress:
                self.progress.at_work([(p.entry, share_done(p.run)) for p in self._active])
                self._next_progress = time.monotonic() + PROGRESS_SECONDS
            if self.file.stops_early and self.received is None and time.monotonic() >= self._next_look:
                self._stop_early()
                self._next_look = time.monotonic() + HYPERBAND_SECONDS

    def _fill(self) -> None:
        """Start runs until all workers have one: those a kill interrupted first, then new ones."""
        while len(self._active) < self.workers:
            at_work = {process.entry.id for process in self._active}
            open_ones = [e for e in self.journal.entries if e.state in ("running", "waiting") and e.id not in at_work]
            entry = min(open_ones, key=lambda e: e.state, default=None) or self._propose()  # "running" comes first
            if entry is None:
                return
            entry.state = "running"
            process = Process(entry, self.folder)
            entry.log = str(process.log)
            self.journal.save()
            process.start(self.file, self.workers)
            self._active.append(process)
            self.progress.started(entry)

    def _propose(self) -> Entry | None:
        entries = self.journal.entries
        parameters = self.search.propose(entries) if len(entries) < self.total else None
        return None if parameters is None else self.journal.add(parameters)

    def _settle(self, process: Process) -> None:
        """Remember what became of a run."""
        entry, code = process.entry, process.exit_code
        if code == 0 or (process.adopted and is_complete(process.run)):
            entry.state = "finished"
        elif process.stopping:
            entry.state = "stopped"
        elif process.late:
            entry.state, entry.exit_code = "failed", code
            entry.error = f"it took longer than {self.run_hours:g} hours; given again, it goes on from its checkpoint"
        elif process.adopted or self.received is not None:
            return  # interrupted: it stays `running` and is continued, now or by the next sweep
        else:
            entry.state, entry.exit_code, entry.error = "failed", code, process.last_line()
        self.journal.save()
        self.progress.ended(entry, self._value(entry))

    def _value(self, entry: Entry) -> str:
        metric = self.file.metric
        value = None if metric is None else best_value(self.folder / entry.id, metric, self.file.maximizes)
        return "" if value is None else f", {metric} {value:.4g}"

    def _stop_early(self) -> None:
        unwanted = self.search.to_stop(self.journal.entries)
        for process in self._active:
            if process.entry.id in unwanted and not process.stopping and not process.adopted:
                process.stopping = True
                process.signal(signal.SIGTERM)

    def _receive(self, number: int, frame: FrameType | None) -> Any:
        """Stop the runs: the first signal lets them save, the second kills them."""
        first, self.received = self.received is None, self.received or number
        for process in self._active:
            process.signal(signal.SIGTERM if first else signal.SIGKILL)
        if first:
            self.progress.say("stopping the runs; they save first (again: kill them)")
