"""The loop of a sweep: keep K runs at work, remember what became of them, stop what hyperband gives up on."""

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from lit_maprops.sweep.journal import ENDED, Entry, Journal
from lit_maprops.sweep.leases import BEAT_SECONDS, Lease, Leases
from lit_maprops.sweep.processes import Process
from lit_maprops.sweep.progress import Progress, varied_of
from lit_maprops.sweep.results import best_value, is_complete, share_done
from lit_maprops.sweep.sweep_file import SweepFile

POLL_SECONDS = 0.1
CLAIM_SECONDS = 1.0  # between looks for a run that others have left
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
        leases: of this command.
        run_hours: that a run may take; None: any time.
        take: runs after which this command ends, whatever is left; None: it ends with the sweep, and waits for what
            other commands are at work on, to take it over if they die.

    Attributes:
        deadline: ``time.monotonic`` from which on no run begins; None: there is none.
        received: the signal that stopped it.
        failed: runs that failed here.
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
        leases: Leases,
        run_hours: float | None = None,
        take: int | None = None,
    ) -> None:
        self.file, self.folder, self.search, self.journal = file, folder, search, journal
        self.workers, self.total, self.run_hours = workers, total, run_hours
        self.leases, self.take = leases, take
        self.received: int | None = None
        self.failed = 0
        self._active: list[Process] = []
        self._taken = 0  # runs that this command has begun or continued
        self._elsewhere = 0  # runs that others are at work on, when there was nothing else to do
        self._next_claim = self._next_look = self._next_beat = self._next_progress = 0.0

    def run(self) -> int | None:
        """Run; returns the signal that ended it early, if one did."""
        self.progress = Progress(self.journal.ended, self.total, varied_of(self.file.proposed), self.deadline)
        # SIGHUP: the terminal is closed, which nohup lets the program ignore. SIGUSR1: a scheduler's time is up.
        stopping = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1]
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
            if not self._active and (self._elsewhere == 0 or self._all_taken()):
                return
            time.sleep(POLL_SECONDS)
            self._tend()

    def _tend(self) -> None:
        """Look after the runs at work here."""
        for process in [process for process in self._active if not process.alive()]:
            self._active.remove(process)
            self._settle(process)
        if self.run_hours is not None:
            for process in self._active:
                process.keep_to(3600 * self.run_hours)
        if time.monotonic() >= self._next_beat:
            self._keep_leases()
            self._next_beat = time.monotonic() + BEAT_SECONDS
        if time.monotonic() >= self._next_progress:
            self.progress.at_work([(p.entry, share_done(p.run)) for p in self._active])
            self._next_progress = time.monotonic() + PROGRESS_SECONDS
        if self.file.stops_early and self.received is None and time.monotonic() >= self._next_look:
            self._stop_early()
            self._next_look = time.monotonic() + HYPERBAND_SECONDS

    def _all_taken(self) -> bool:
        """Whether this command has taken as many runs as it was told to."""
        return self.take is not None and self._taken >= self.take

    def _fill(self) -> None:
        """Start runs until all workers have one: those a kill interrupted first, then new ones."""
        while len(self._active) < self.workers and not self._all_taken() and time.monotonic() >= self._next_claim:
            process = self._claim()
            if process is None:
                return
            self._taken += 1
            process.start(self.file, self.workers)
            self._active.append(process)
            self.progress.started(process.entry)
            if self.received is not None:  # meanwhile
                process.signal(self._stop_signal)

    def _claim(self) -> Process | None:
        """Take a run that nobody is at work on; None if there is none."""
        with self.journal.changing(self.leases):
            found = self._open_run() or self._new_run()
            if found is None:
                # What others have begun may still come to us: a look at it now and then is enough.
                self._elsewhere = 0 if self.take is not None else self._unfinished()
                self._next_claim = time.monotonic() + CLAIM_SECONDS
                if self._elsewhere and not self._active:
                    self.progress.others(self.journal.ended, self._elsewhere)
                return None
            entry, lease = found
            process = Process(entry, self.folder, lease)
            entry.state, entry.log = "running", str(process.log)
            self.journal.save()
            return process

    def _unfinished(self) -> int:
        """How many runs are not over, without those at work here."""
        return len(self.journal.entries) - self.journal.ended - len(self._active)

    def _open_run(self) -> tuple[Entry, Lease] | None:
        """A run that was interrupted, else one that was to be tried again."""
        at_work = {process.entry.id for process in self._active}
        open_ones = [e for e in self.journal.entries if e.state not in ENDED and e.id not in at_work]
        for entry in sorted(open_ones, key=lambda e: e.state):  # "running" comes first
            lease = self.leases.take(entry.id)
            if lease is None:
                continue
            left = Process(entry, self.folder, lease)
            if entry.state == "running" and is_complete(left.run) and not left.alive():
                self._end(entry, "finished", lease)  # its command died when all was done
                continue
            return entry, lease
        return None

    def _new_run(self) -> tuple[Entry, Lease] | None:
        entry = self._propose()
        lease = None if entry is None else self.leases.take(entry.id)
        return None if entry is None or lease is None else (entry, lease)

    def _propose(self) -> Entry | None:
        entries = self.journal.entries
        parameters = self.search.propose(entries) if len(entries) < self.total else None
        return None if parameters is None else self.journal.add(parameters)

    def _settle(self, process: Process) -> None:
        """Remember what became of a run."""
        entry, code = process.entry, process.exit_code
        with self.journal.changing(self.leases):
            if not process.lease.is_held():
                self.progress.say(f"{entry.id} was taken over by another sweep command while this one was away")
            elif code == 0 or (process.adopted and is_complete(process.run)):
                self._end(entry, "finished", process.lease)
            elif process.stopping:
                self._end(entry, "stopped", process.lease)
            elif process.late:
                entry.error = (
                    f"it took longer than {self.run_hours:g} hours; given again, it goes on from its checkpoint"
                )
                self._end(entry, "failed", process.lease, code)
            elif process.adopted or self.received is not None:
                # Interrupted: it stays `running` and is continued, now, by another command, or by the next one.
                process.lease.release()
                self._next_claim = 0.0
            else:
                entry.error = process.last_line()
                self._end(entry, "failed", process.lease, code)

    def _end(self, entry: Entry, state: str, lease: Lease, code: int | None = None) -> None:
        """Write down the end of a run, and say it."""
        entry.state = state
        if state == "failed":
            entry.exit_code = code
            self.failed += 1
        self.journal.save()
        lease.remove()
        self._next_claim = 0.0
        self.progress.recount(self.journal.ended - 1)
        self.progress.ended(entry, self._value(entry))

    def _keep_leases(self) -> None:
        """Leave alone what others have taken over: this machine, or its way to the folder, was gone for a while."""
        self.leases.keep_alive()
        for process in self._active:
            if not process.lease.is_held():
                process.kill()

    def _value(self, entry: Entry) -> str:
        metric = self.file.metric
        value = None if metric is None else best_value(self.folder / entry.id, metric, self.file.maximizes)
        return "" if value is None else f", {metric} {value:.4g}"

    def _stop_early(self) -> None:
        self.journal.refresh()
        unwanted = self.search.to_stop(self.journal.entries)
        for process in self._active:
            if process.entry.id in unwanted and not process.stopping and not process.adopted:
                process.stopping = True
                process.signal(signal.SIGTERM)

    @property
    def _stop_signal(self) -> int:
        """SLURM sends SIGTERM to every process of a job, and a second one of the same kind would not let ours save."""
        return signal.SIGUSR1 if self.file.is_ours and "SLURM_JOB_ID" in os.environ else signal.SIGTERM

    def _receive(self, number: int, frame: FrameType | None) -> Any:
        """Stop the runs: the first signal lets them save, the second kills them."""
        first, self.received = self.received is None, self.received or number
        for process in self._active:
            process.signal(self._stop_signal if first else signal.SIGKILL)
        if first:
            self.progress.say("stopping the runs; they save first (again: kill them)")
