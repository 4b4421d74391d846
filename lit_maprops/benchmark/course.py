"""A benchmark from its first run to its page."""

import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import IO

from lit_maprops.benchmark.benchmark_file import MOST_SEEDS, BenchmarkFile
from lit_maprops.benchmark.cells import Cell, LeftOutCell, as_sweep
from lit_maprops.benchmark.measured import Failed, measured
from lit_maprops.benchmark.page import as_html, as_markdown
from lit_maprops.benchmark.rows import Row, RowFile, as_json
from lit_maprops.benchmark.tables import leaderboard
from lit_maprops.benchmark.turns import TimedScheduler, Turns
from lit_maprops.sweep.journal import LOCK, Entry, Journal
from lit_maprops.sweep.leases import Leases
from lit_maprops.system.errors import ConfigError
from lit_maprops.system.files import no_link, write_atomically, write_json
from lit_maprops.system.threads import cores
from lit_maprops.system.version import __version__

PAGE, MARKDOWN, RESULTS = "leaderboard.html", "tables.md", "results.json"
YOU = "you"  # whose the rows of results.json are, until their owner says


class Course:
    """Runs a benchmark and writes its page.

    Args:
        file: the list.
        cells: that are asked for.
        left_out: what is not, with reasons.
        others: rows of others.
        folder: of the runs.

    Attributes:
        failed: cells with a run that failed; known after ``write``.
    """

    def __init__(
        self,
        file: BenchmarkFile,
        cells: Sequence[Cell],
        left_out: Sequence[LeftOutCell],
        others: Sequence[RowFile],
        folder: Path,
    ) -> None:
        self.file, self.cells, self.left_out, self.others, self.folder = file, cells, left_out, others, folder
        self.failed: list[Failed] = []
        self._entries: list[Entry] = []

    def run(self, seeds: int, workers: int, deadline: float | None, retry_failed: bool) -> int | None:
        """Run until every cell has its seeds, or time is up.

        Args:
            seeds: of every cell in the end.
            workers: runs at a time.
            deadline: ``time.monotonic`` at which runs must have ended; None: any time.
            retry_failed: whether failed runs wait again.

        Returns:
            The signal that ended it early, if one did.

        Raises:
            ConfigError: the folder cannot be written, or holds runs of another list.
            WriteError: the disk is full or gone.
        """
        sweep = as_sweep(self.file, MOST_SEEDS)
        with _joined(self.folder) as held, Leases(self.folder) as leases:
            journal = Journal(self.folder, sweep, held)
            self._entries = journal.entries
            if retry_failed:
                journal.retry_failed(leases)
            turns = Turns(self.cells, seeds, self.folder, deadline)
            total = turns.blocks(journal.entries)
            scheduler = TimedScheduler(sweep, self.folder, turns, journal, workers, total, leases)
            scheduler.deadline = deadline
            received = scheduler.run()
        return None if scheduler.out_of_time else received

    def write(self, place: Path, command: str) -> str:
        """Write the page, and this machine's rows as a file that can be added to a leaderboard.

        Args:
            place: folder of the page.
            command: that made it.

        Returns:
            One line that says what and where.

        Raises:
            ConfigError: there is nothing to show.
            WriteError: the disk is full or gone.
        """
        if not self._entries and (self.folder / "sweep.json").exists():
            with _joined(self.folder) as held:
                self._entries = Journal(self.folder, as_sweep(self.file, MOST_SEEDS), held).entries
        rows, self.failed = measured(self.cells, self._entries, self.folder)
        others = [row for one in self.others for row in one.rows]
        own = RowFile(YOU, datetime.now(UTC).strftime("%Y-%m-%d"), _machine(), _software(), "", tuple(rows))
        if not self._entries and not others:
            raise ConfigError(f"benchmark: {self.folder} has no runs: leave out <page_only>")
        facts = _facts(own if self._entries else None, self.others, command)
        notes = [f"{one.by}: {one.note}" for one in self.others if one.note]
        board = leaderboard(self.file, self.cells, self.left_out, [*rows, *others], self.failed, facts, notes)
        write_atomically(place / PAGE, as_html(board))
        write_atomically(place / MARKDOWN, as_markdown(board))
        if rows:
            write_json(self.folder / RESULTS, as_json(self.file, own))
        shown = [*rows, *others]
        return (
            f"benchmark {self.file.name}: {_seeds(shown)} seeds in {len(shown)} rows, {len(self.cells)} cells, "
            f"{len(self.failed)} failed -> {place / PAGE}"
        )


def _seeds(rows: Sequence[Row]) -> str:
    return f"{sum(row.seeds for row in rows):,}"


def _facts(own: RowFile | None, others: Sequence[RowFile], command: str) -> list[tuple[str, str]]:
    """Names and texts at the top of the page; those of others stand as they gave them."""
    facts = [("rows of", f"{one.by}, {one.date}, {one.machine}, {one.software}") for one in others]
    if own is not None:
        facts = [("measured until", own.date), ("on", own.machine), ("with", own.software), ("by", command), *facts]
    return facts


def _machine() -> str:
    load = f", load {os.getloadavg()[0]:.0f}" if hasattr(os, "getloadavg") else ""
    return f"{platform.machine()}, {cores()} cores{load}"


def _software() -> str:
    return f"lit_maprops {__version__}, torch {version('torch')}, Python {platform.python_version()}"


@contextmanager
def _joined(folder: Path) -> Iterator[IO[str]]:
    """Make or find the folder of the runs, which several commands may share.

    Raises:
        ConfigError: it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = open(folder / LOCK, "a", opener=no_link)  # noqa: SIM115 (closed below)
    except OSError as error:
        raise ConfigError(
            f"<runs_dir>: {folder} cannot be written ({error.strerror}): choose a writable folder"
        ) from None
    with held:
        yield held
