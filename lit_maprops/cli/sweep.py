"""``python -m lit_maprops sweep FILE``: runs a W&B sweep file; the same call continues it, or joins in."""

import fcntl
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING

from lit_maprops.cli.parser import Parser
from lit_maprops.sweep.decision_file import FIELD, Decision, decision_of, with_decision
from lit_maprops.sweep.journal import LOCK, Entry, Journal
from lit_maprops.sweep.launched import LaunchedSweep, Launcher
from lit_maprops.sweep.leases import Leases
from lit_maprops.sweep.processes import command_line
from lit_maprops.sweep.results import best_value
from lit_maprops.sweep.sweep_file import MOST_RUNS, SweepFile, read_sweep_file
from lit_maprops.system.errors import ConfigError, FolderLost, WriteError, check, check_choice, check_count
from lit_maprops.system.files import hold_folders, home_path, no_link
from lit_maprops.system.shipped import locate, nothing_there

if TYPE_CHECKING:
    from lit_maprops.sweep.decided import Trial
    from lit_maprops.sweep.proposals import Search

LAUNCHERS = ("local", "slurm", "ray")
MOST_HOURS = 1_000_000
TASK = "data.env"  # what runs have in common whose results can be compared
DESCRIPTION = """Run a W&B sweep file, without an account, on this machine or a cluster. Every run is a process of its
own with a folder RUNS_DIR/<sweep name>/<run id>. Give the same command again to continue a sweep that was stopped or
killed: finished runs are kept, interrupted ones go on from their checkpoint. Given while another is at work, in another
terminal or on another machine that sees RUNS_DIR, the two share the runs."""


def _parse(args: list[str]) -> Namespace | None:
    parser = Parser("sweep", DESCRIPTION)
    parser.add_argument("file", metavar="FILE", help="W&B sweep file, or the name of one that lit-maprops conf lists")
    text = "runs at a time (default: 1; of a launcher: as many as it lets)"
    parser.add_argument("--workers", type=int, help=f"{text}; here they share the cores")
    text = "who does the runs: local, this command; slurm, a job array; ray, tasks (default: local)"
    parser.add_argument("--launcher", default="local", metavar="LAUNCHER", help=text)
    text = "in one word: sbatch's, '--time=4:00:00 --mem=8G', or a Ray task's, 'num_cpus=2 num_gpus=1'"
    parser.add_argument("--launcher_options", metavar="OPTIONS", help=text)
    parser.add_argument("--take", type=int, help="end after so many runs: for a task of a scheduler's array")
    parser.add_argument("--max_runs", type=int, help="most runs in all; needed for random and bayes without a run_cap")
    parser.add_argument(
        "--runs_dir", type=home_path, default=Path("runs"), help="where runs are written (default: runs)"
    )
    parser.add_argument("--run_hours", type=float, help="hours that a run may take; then it saves and counts as failed")
    parser.add_argument("--retry_failed", action="store_true", help="run failed runs again")
    text = "add seeds in blocks until each sampler is decided against OnPolicy; a field of the file says more"
    parser.add_argument("--until_decided", action="store_true", help=text)
    parser.add_former("--until-decided", "until_decided", action="store_true")
    parser.add_former("--max-runs", "max_runs", type=int)
    parser.add_former("--runs-dir", "runs_dir", type=home_path)
    parser.add_former("--retry-failed", "retry_failed", action="store_true")
    return parser.parsed(args)


def run(args: list[str]) -> int:
    """Run or continue a sweep.

    Returns:
        0: all runs finished (or were stopped early). 1: some failed, or a launcher left some open.
        129 / 130 / 138 / 143: stopped by SIGHUP / SIGINT / SIGUSR1 / SIGTERM.

    Raises:
        ConfigError: bad input, found before anything is written.
    """
    options = _parse(args)
    if options is None:
        return 0
    _check(options)
    path = locate("sweeps", options.file)
    if path is None:
        raise ConfigError(f"FILE: {nothing_there('sweeps', options.file)}")
    file = read_sweep_file(path)
    file = with_decision(file) if options.until_decided else file
    command_line(file, {})
    folder = options.runs_dir.resolve() / file.name
    decision, limit = decision_of(file), _limit(file, options.max_runs)
    _check_here(options, decision)

    # Only now: these import numpy, scipy and scikit-learn.
    from lit_maprops.sweep.decided import Trial
    from lit_maprops.sweep.proposals import Search

    search = Search(file, folder) if decision is None else Trial(decision, folder)
    launcher = _launcher(options, file)
    with _joined(folder) as held:
        journal = Journal(folder, file, held)
        if options.retry_failed:
            with Leases(folder) as leases:
                journal.retry_failed(leases)
        total = max(search.size(limit), len(journal.entries))
        if launcher is not None:
            task = partial(_task, options, path)
            sweep = LaunchedSweep(file, folder, journal, launcher, task, total, options.workers)
            return _report(file, folder, journal, sweep.run(), total)
        received, failed = _work(options, file, folder, search, journal, total)
    code = _report(file, folder, journal, received, failed=failed if options.take else None)
    return code if decision is None else max(code, _print_decisions(decision, folder, journal))


def _check_here(options: Namespace, decision: Decision | None) -> None:
    """Refuse to queue what follows from the results of runs before it."""
    waits = f"{FIELD} adds blocks of seeds that wait for each other"
    check(
        decision is None or options.launcher == "local",
        f"--launcher {options.launcher} queues all runs at once, and {waits}: leave --launcher out; several sweep "
        "commands in one folder may share it",
    )
    check(decision is None or options.take is None, f"--take cannot go with {FIELD}: {waits}; leave it out")


def _work(
    options: Namespace, file: SweepFile, folder: Path, search: "Search | Trial", journal: Journal, total: int
) -> tuple[int | None, int]:
    """Do runs here; returns the signal that ended it early, and how many failed."""
    from lit_maprops.sweep.scheduler import Scheduler

    workers = 1 if options.workers is None else options.workers
    try:
        with Leases(folder) as leases:
            scheduler = Scheduler(
                file, folder, search, journal, workers, total, leases, options.run_hours, options.take
            )
            return scheduler.run(), scheduler.failed
    except FolderLost:
        raise
    except WriteError as error:
        journal.check_held()  # the folder may have been removed in the middle of a write
        raise WriteError(f"{error.marked}; runs at work go on: make room, then give the same command again") from None


def _launcher(options: Namespace, file: SweepFile) -> Launcher | None:
    """What queues the runs; None if they are done here.

    Raises:
        ConfigError: it is not there, or refuses what it is asked for.
    """
    given = options.launcher_options or ""
    launcher: Launcher | None = None
    if options.launcher == "slurm":
        from lit_maprops.sweep.slurm import Slurm

        launcher = Slurm(file.name, given)
    elif options.launcher == "ray":
        from lit_maprops.sweep.ray_tasks import Ray

        launcher = Ray(given)
    if launcher is not None:
        launcher.check()
    return launcher


def _task(options: Namespace, path: Path, take: int) -> list[str]:
    """The command of a launcher's task."""
    words = [sys.executable, "-m", "lit_maprops", "sweep", str(path.resolve())]
    words += [f"--runs_dir={options.runs_dir.resolve()}", f"--take={take}"]
    given = {"max_runs": options.max_runs, "run_hours": options.run_hours}
    return [*words, *(f"--{name}={value}" for name, value in given.items() if value is not None)]


def _check(options: Namespace) -> None:
    if options.workers is not None:
        check_count("workers", options.workers, most=1024)
    if options.take is not None:
        check_count("take", options.take, most=MOST_RUNS)
    if options.max_runs is not None:
        check_count("max_runs", options.max_runs, most=MOST_RUNS)
    hours = options.run_hours
    check(
        hours is None or 0 < hours <= MOST_HOURS, f"--run_hours is {hours}: give a value between 0 and {MOST_HOURS:,}"
    )
    check_choice("launcher", options.launcher, LAUNCHERS)
    check(
        options.launcher_options is None or options.launcher != "local",
        "--launcher_options is for --launcher slurm or ray, and it is local: leave it out",
    )
    check(
        options.take is None or options.launcher == "local",
        f"--take is for the tasks of a launcher, and --launcher {options.launcher} gives it to them: leave it out",
    )


def _limit(file: SweepFile, max_runs: int | None) -> int:
    check(
        max_runs is None or FIELD not in file.content,
        f"--max_runs and {FIELD} cannot go together: max_seeds in {file.path} is the budget; leave --max_runs out",
    )
    caps = [cap for cap in (max_runs, file.run_cap) if cap is not None]
    check(
        bool(caps) or file.content["method"] == "grid",
        f"--max_runs is missing: method {file.content['method']} has no end, give it here or run_cap in {file.path}",
    )
    return min(caps, default=MOST_RUNS)


@contextmanager
def _joined(folder: Path) -> Iterator[IO[str]]:
    """Make or find the sweep's folder; the file that is returned tells whether it is still the same one.

    Raises:
        ConfigError: it cannot be written, or its file system knows no locks.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = open(folder / LOCK, "a", opener=no_link)  # noqa: SIM115 (closed below)
    except OSError as error:
        raise ConfigError(
            f"--runs_dir: {folder} cannot be written ({error.strerror}): choose a writable folder"
        ) from None
    with held:
        try:
            _check_locks(folder, held)
            release = hold_folders(folder)
            try:
                yield held
            finally:
                release()
        except ConfigError:
            if not (folder / "sweep.json").exists():  # nobody has put anything there
                with suppress(OSError):
                    (folder / LOCK).unlink()
                    folder.rmdir()
            raise


def _check_locks(folder: Path, file: IO[str]) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # the one of its log says that a run is at work
    except OSError as error:
        raise ConfigError(
            f"--runs_dir: {folder} is on a file system that gives no locks ({error.strerror}), without which two "
            "sweep commands could start the same run: choose a folder elsewhere"
        ) from None


def _report(
    file: SweepFile,
    folder: Path,
    journal: Journal,
    received: int | None,
    total: int | None = None,
    failed: int | None = None,
) -> int:
    """Say what became of the runs; returns the exit code.

    Args:
        total: runs that a launcher was to bring to an end.
        failed: runs that failed, if not those of the whole sweep count.
    """
    count = {state: sum(e.state == state for e in journal.entries) for state in ("finished", "stopped", "failed")}
    parts = [f"{count['finished']} finished", f"{count['failed']} failed"]
    if count["stopped"]:
        parts.insert(1, f"{count['stopped']} stopped early")
    print(f"sweep {file.name}: {', '.join(parts)} -> {folder}", file=sys.stderr)
    if file.metric is not None and FIELD not in file.content:
        _print_best(file, folder, journal, file.metric)
    if received is not None:
        print("continue with the same command", file=sys.stderr)
        return 128 + received
    unfinished = total is not None and journal.ended < total
    return 1 if unfinished or (count["failed"] if failed is None else failed) else 0


def _print_decisions(decision: Decision, folder: Path, journal: Journal) -> int:
    """One line for each sampler; returns 1 if any cannot go on, else 0."""
    from lit_maprops.sweep.decided import Trial, sentence

    standings = Trial(decision, folder).standings(journal.entries)
    for standing in standings:
        print(sentence(decision, standing), file=sys.stderr)
    return int(any(standing.fault is not None for standing in standings))


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
