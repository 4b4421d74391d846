"""``python -m lit_maprops sweep FILE``: runs a W&B sweep file in local processes; the same call continues it."""

import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from lit_maprops.cli.parser import Parser
from lit_maprops.sweep.journal import LOCK, Entry, Journal
from lit_maprops.sweep.processes import command_line
from lit_maprops.sweep.results import best_value
from lit_maprops.sweep.sweep_file import MOST_RUNS, SweepFile, read_sweep_file
from lit_maprops.system.errors import ConfigError, FolderLost, WriteError, check, check_count
from lit_maprops.system.files import home_path, lock
from lit_maprops.system.shipped import locate, nothing_there

MOST_HOURS = 1_000_000
TASK = "data.env"  # what runs have in common whose results can be compared
DESCRIPTION = """Run a W&B sweep file on this machine, without an account. Every run is a process of its own with a
folder RUNS_DIR/<sweep name>/<run id>. Give the same command again to continue a sweep that was stopped or killed:
finished runs are kept, interrupted ones go on from their checkpoint."""


def _parse(args: list[str]) -> Namespace | None:
    parser = Parser("sweep", DESCRIPTION)
    parser.add_argument("file", metavar="FILE", help="W&B sweep file, or the name of one that lit-maprops conf lists")
    parser.add_argument("--workers", type=int, default=1, help="runs at a time; they share the cores (default: 1)")
    parser.add_argument("--max_runs", type=int, help="most runs in all; needed for random and bayes without a run_cap")
    parser.add_argument(
        "--runs_dir", type=home_path, default=Path("runs"), help="where runs are written (default: runs)"
    )
    parser.add_argument("--run_hours", type=float, help="hours that a run may take; then it saves and counts as failed")
    parser.add_argument("--retry_failed", action="store_true", help="run failed runs again")
    parser.add_former("--max-runs", "max_runs", type=int)
    parser.add_former("--runs-dir", "runs_dir", type=home_path)
    parser.add_former("--retry-failed", "retry_failed", action="store_true")
    return parser.parsed(args)


def run(args: list[str]) -> int:
    """Run or continue a sweep.

    Returns:
        0: all runs finished (or were stopped early). 1: some failed. 129 / 130 / 143: stopped by SIGHUP / SIGINT /
        SIGTERM.

    Raises:
        ConfigError: bad input, found before anything is written.
    """
    options = _parse(args)
    if options is None:
        return 0
    check_count("workers", options.workers, most=1024)
    if options.max_runs is not None:
        check_count("max_runs", options.max_runs, most=MOST_RUNS)
    hours = options.run_hours
    check(
        hours is None or 0 < hours <= MOST_HOURS, f"--run_hours is {hours}: give a value between 0 and {MOST_HOURS:,}"
    )
    path = locate("sweeps", options.file)
    if path is None:
        raise ConfigError(f"FILE: {nothing_there('sweeps', options.file)}")
    file = read_sweep_file(path)
    command_line(file, {})
    folder = options.runs_dir.resolve() / file.name
    limit = _limit(file, options.max_runs)

    # Only now: these import numpy, scipy and scikit-learn.
    from lit_maprops.sweep.proposals import Search
    from lit_maprops.sweep.scheduler import Scheduler

    search = Search(file, folder)
    with _alone(folder) as held:
        journal = Journal(folder, file, held)
        for entry in journal.entries:
            if options.retry_failed and entry.state == "failed":
                entry.state, entry.exit_code, entry.error = "waiting", None, None
        total = max(search.size(limit), len(journal.entries))
        try:
            received = Scheduler(file, folder, search, journal, options.workers, total, hours).run()
        except FolderLost:
            raise
        except WriteError as error:
            raise WriteError(
                f"{error.marked}; runs at work go on: make room, then give the same command again"
            ) from None
    return _report(file, folder, journal, received)


def _limit(file: SweepFile, max_runs: int | None) -> int:
    caps = [cap for cap in (max_runs, file.run_cap) if cap is not None]
    check(
        bool(caps) or file.content["method"] == "grid",
        f"--max_runs is missing: method {file.content['method']} has no end, give it here or run_cap in {file.path}",
    )
    return min(caps, default=MOST_RUNS)


@contextmanager
def _alone(folder: Path) -> Iterator[IO[str]]:
    """Hold the folder's lock; the system lets go of it when the process ends, however that happens.

    Raises:
        ConfigError: another sweep has it, or the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = lock(folder / LOCK)
    except OSError as error:
        raise ConfigError(
            f"--runs_dir: {folder} cannot be written ({error.strerror}): choose a writable folder"
        ) from None
    if held is None:
        raise ConfigError(
            f"--runs_dir: another sweep command is at work in {folder}: wait for it, or choose another --runs_dir"
        )
    with held:
        yield held


def _report(file: SweepFile, folder: Path, journal: Journal, received: int | None) -> int:
    count = {state: sum(e.state == state for e in journal.entries) for state in ("finished", "stopped", "failed")}
    parts = [f"{count['finished']} finished", f"{count['failed']} failed"]
    if count["stopped"]:
        parts.insert(1, f"{count['stopped']} stopped early")
    print(f"sweep {file.name}: {', '.join(parts)} -> {folder}", file=sys.stderr)
    if file.metric is not None:
        _print_best(file, folder, journal, file.metric)
    if received is not None:
        print("continue with the same command", file=sys.stderr)
        return 128 + received
    return 1 if count["failed"] else 0


def _print_best(file: SweepFile, folder: Path, journal: Journal, metric: str) -> None:
    """One line; where runs have several tasks, whose figures cannot be compared, one for each."""
    tasks: dict[str, list[tuple[float, Entry]]] = {}
    for entry in journal.entries:
        value = best_value(folder / entry.id, metric, file.maximizes) if entry.state == "finished" else None
        if value is not None:
            tasks.setdefault(_flags(entry, of_task=True), []).append((value, entry))
    if not tasks and any(entry.state == "finished" for entry in journal.entries):
        way = "in a task without success choose mean_return, or set model.solved_on and model.solved_threshold"
        print(f"no finished run has a number for the metric {metric}: {way}", file=sys.stderr)
    for task, found in tasks.items():
        value, best = (max if file.maximizes else min)(found, key=lambda pair: pair[0])
        place = f" with {task}" if len(tasks) > 1 else ""
        flags = _flags(best) if len(tasks) == 1 else _flags(best, of_task=False)
        print(f"best{place}: {best.id}, {metric} {value:.4g}{flags and f' with {flags}'}", file=sys.stderr)


def _flags(entry: Entry, of_task: bool | None = None) -> str:
    """Parameters of a run as flags; those of its task, the others, or all."""
    chosen = {k: v for k, v in entry.parameters.items() if of_task in (None, k.startswith(TASK))}
    return " ".join(f"--{name}={'null' if value is None else value}" for name, value in chosen.items())
