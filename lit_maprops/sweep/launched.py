"""A sweep whose runs a launcher's tasks do: they are put into its queue, and waited for.

The launcher says when and where a task runs. Which run it does the tasks settle among each other, as several sweep
commands in one folder do, so that one that is lost, repeated or superfluous does no harm.
"""

import json
import math
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from lit_maprops.sweep.journal import ENDED, Entry, Journal
from lit_maprops.sweep.progress import Progress, varied_of
from lit_maprops.sweep.results import best_value, share_done
from lit_maprops.sweep.sweep_file import SweepFile
from lit_maprops.system.files import write_json

RECORD = "launched.json"  # of a sweep's folder: what is in which queue
JOURNAL_SECONDS = 1.0  # between looks at what tasks have written


class Launcher(Protocol):
    """What queues tasks."""

    name: str
    ask_seconds: float  # between questions to it
    outlives_us: bool  # whether its tasks go on without this process

    def check(self) -> None:
        """See whether it would take tasks, before anything is written."""

    def tasks_for(self, runs: int, at_a_time: int | None) -> int:
        """How many tasks the runs are for."""

    def submit(self, words: list[str], tasks: int, logs: Path, at_a_time: int | None) -> str:
        """Queue ``tasks`` times a command, which prints into the folder ``logs``; returns the job's name."""

    def is_queued(self, job: str) -> bool:
        """Whether a task of the job waits or is at work."""

    def cancel(self, job: str) -> None:
        """Take the job's tasks out of the queue; those at work are told to save."""

    def close(self) -> None:
        """Let go of it."""


class LaunchedSweep:
    """Queues what is left of a sweep, unless its tasks are there already, and waits.

    Args:
        file: the sweep.
        folder: of the sweep.
        journal: of the sweep.
        launcher: does the queueing.
        command: of a task that ends after so many runs.
        total: runs in all.
        at_a_time: tasks at work at a time; None: as many as the launcher lets.

    Attributes:
        received: the signal that ended it early. SIGINT and SIGTERM cancel the tasks. SIGHUP leaves them in a
            queue that outlives us, on purpose: terminals on login nodes close; the same command finds them again.
    """

    def __init__(
        self,
        file: SweepFile,
        folder: Path,
        journal: Journal,
        launcher: Launcher,
        command: Callable[[int], list[str]],
        total: int,
        at_a_time: int | None,
    ) -> None:
        self.file, self.folder, self.journal, self.launcher = file, folder, journal, launcher
        self.command, self.total, self.at_a_time = command, total, at_a_time
        self.received: int | None = None
        self._told = {entry.id for entry in journal.entries if entry.state in ENDED}

    def run(self) -> int | None:
        """Queue and wait; returns the signal that ended it early, if one did.

        Raises:
            ConfigError: the launcher refuses the tasks.
        """
        left = self.total - self.journal.ended
        if left == 0:
            return None
        self.progress = Progress(self.journal.ended, self.total, varied_of(self.file.content["parameters"]))
        previous = {n: signal.signal(n, self._receive) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        try:
            job = self._queued_before() or self._submit(left)
            self._wait(job)
            if self.received == signal.SIGHUP and self.launcher.outlives_us:
                self.progress.say(f"{self.launcher.name} job {job} stays in the queue")
            elif self.received is not None:
                self._cancel(job)
            elif self.journal.ended < self.total:
                left = self.total - self.journal.ended
                self.progress.say(f"{self.launcher.name} job {job} has ended, {left} runs have not: see {self.logs}")
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
            self.progress.close()
            self.launcher.close()
        return self.received

    @property
    def logs(self) -> Path:
        """Where tasks write what they print."""
        return self.folder / self.launcher.name

    def _submit(self, left: int) -> str:
        tasks = self.launcher.tasks_for(left, self.at_a_time)
        self.logs.mkdir(exist_ok=True)
        job = self.launcher.submit(self.command(math.ceil(left / tasks)), tasks, self.logs, self.at_a_time)
        write_json(self.folder / RECORD, {"launcher": self.launcher.name, "job": job})
        self.progress.say(f"{self.launcher.name} job {job}: {tasks} tasks for {left} runs")
        return job

    def _queued_before(self) -> str | None:
        """The job of an earlier call if it is still there."""
        try:
            found = json.loads((self.folder / RECORD).read_text())
            job = str(found["job"]) if found["launcher"] == self.launcher.name else None
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if job is None or not self.launcher.is_queued(job):
            return None
        self.progress.say(f"{self.launcher.name} job {job} is in the queue already: waiting for it")
        return job

    def _wait(self, job: str) -> None:
        asked = time.monotonic()
        while self.received is None:
            queued = True
            if time.monotonic() - asked >= self.launcher.ask_seconds:
                queued, asked = self.launcher.is_queued(job), time.monotonic()
            self._tell()  # after the question: whatever the last task wrote is there
            if self.journal.ended >= self.total or not queued:
                return
            self._sleep(JOURNAL_SECONDS)

    def _sleep(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while self.received is None and time.monotonic() < until:
            time.sleep(0.05)

    def _tell(self) -> None:
        """Say what has happened since the last look."""
        self.journal.refresh()
        for entry in self.journal.entries:
            if entry.state in ENDED and entry.id not in self._told:
                self.progress.recount(len(self._told))
                self._told.add(entry.id)
                self.progress.ended(entry, self._value(entry))
        running = [entry for entry in self.journal.entries if entry.state == "running"]
        self.progress.at_work([(entry, share_done(self.folder / entry.id)) for entry in running])

    def _value(self, entry: Entry) -> str:
        metric = self.file.metric
        value = None if metric is None else best_value(self.folder / entry.id, metric, self.file.maximizes)
        return "" if value is None else f", {metric} {value:.4g}"

    def _cancel(self, job: str) -> None:
        self.progress.say(f"canceling {self.launcher.name} job {job}; runs at work save first")
        self.launcher.cancel(job)
        while self.launcher.is_queued(job):
            time.sleep(min(self.launcher.ask_seconds, 1.0))
        self._tell()

    def _receive(self, number: int, frame: FrameType | None) -> Any:
        self.received = self.received or number
