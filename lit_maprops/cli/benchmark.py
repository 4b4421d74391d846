"""``python -m lit_maprops benchmark``: a fixed list of tasks x samplers x learners, and their leaderboard."""

import sys
import time
from argparse import Namespace
from pathlib import Path

from lit_maprops.benchmark.benchmark_file import MOST_SEEDS, SHIPPED, read_benchmark_file
from lit_maprops.cli.parser import Parser
from lit_maprops.system.errors import ConfigError, check, check_count
from lit_maprops.system.files import home_path
from lit_maprops.system.threads import cores

MOST_MINUTES = 1_000_000
PAGE_SECONDS = 20  # of the minutes, for what is at work to save and the page to be made
DESCRIPTION = """Measure samplers on a fixed list of cooperative tasks that need no account and no download, and write
a leaderboard. A task with a learner and a sampler is a cell; all cells get about the same share of the time. Give the
same command again, or with more minutes, seeds or tasks, to go on: finished runs are kept, interrupted ones continue
from their checkpoint."""
EPILOG = """RUNS_DIR/cooperative holds the runs, leaderboard.html, tables.md and results.json, a file of rows that
can be added to leaderboard/ (CONTRIBUTING.md). The command needs the extra `report`; tasks of packages that are not
installed are left out, which the page says."""


def _parse(args: list[str]) -> Namespace | None:
    parser = Parser("benchmark", DESCRIPTION, EPILOG)
    parser.add_argument("file", nargs="?", type=home_path, metavar="FILE", help="another list than the package's own")
    parser.add_argument("--minutes", type=float, help="for all of it, the page included (default: no limit)")
    parser.add_argument("--seeds", type=int, help="seeds of every cell in the end (default: what the list says, 64)")
    parser.add_argument("--tasks", nargs="+", metavar="NAME", help="only these (default: all of the list)")
    parser.add_argument("--samplers", nargs="+", metavar="NAME", help="only these")
    parser.add_argument("--learners", nargs="+", metavar="NAME", help="only these, where a task has several")
    parser.add_argument("--workers", type=int, help="runs at a time (default: one per core)")
    parser.add_argument(
        "--runs_dir", type=home_path, default=Path("runs"), help="where runs are written (default: runs)"
    )
    parser.add_argument("--rows", type=home_path, metavar="FOLDER", help="files of rows to show beside these runs")
    parser.add_argument("--page", type=home_path, metavar="FOLDER", help="of the page (default: beside the runs)")
    parser.add_argument("--page_only", action="store_true", help="start no runs; make the page of what is there")
    parser.add_argument("--retry_failed", action="store_true", help="run failed runs again")
    return parser.parsed(args)


def run(args: list[str]) -> int:
    """Run or continue the benchmark, and write its page.

    Returns:
        0: done, or time is up. 1: some runs failed. 129 / 130 / 143: stopped by SIGHUP / SIGINT / SIGTERM.

    Raises:
        ConfigError: bad input, found before anything is written.
    """
    started = time.monotonic()
    options = _parse(args)
    if options is None:
        return 0
    _check_numbers(options)

    # Only now: these import numpy.
    from lit_maprops.benchmark.cells import cells_of, choose
    from lit_maprops.benchmark.course import Course
    from lit_maprops.benchmark.rows import read_row_files
    from lit_maprops.report.page import check_packages

    file = read_benchmark_file(options.file or SHIPPED)
    tasks = choose("tasks", list(file.tasks), options.tasks)
    samplers = choose("samplers", list(file.samplers), options.samplers)
    known = list(dict.fromkeys(learner for task in file.tasks.values() for learner in task.learners))
    learners = None if options.learners is None else choose("learners", known, options.learners)
    cells, left_out = cells_of(file, tasks, samplers, learners)
    others = [] if options.rows is None else read_row_files(options.rows, file)
    check_packages()
    if not cells and not others:
        raise ConfigError(f"--tasks and --samplers leave nothing to run: {left_out[0].task}: {left_out[0].reason}")
    folder = options.runs_dir.resolve() / file.name
    page = folder if options.page is None else options.page
    check(options.page is None or page.is_dir(), f"--page is {page}, no folder: create it first")
    for one in left_out:
        if one.sampler is None:
            print(f"{one.task} is left out: {one.reason}", file=sys.stderr)
    course, received = Course(file, cells, left_out, others, folder), None
    if not options.page_only:
        workers = cores() if options.workers is None else options.workers
        received = course.run(
            options.seeds or file.seeds, workers, _deadline(started, options.minutes), options.retry_failed
        )
    print(course.write(page, " ".join(["python -m lit_maprops benchmark", *args])), file=sys.stderr)
    if received is not None:
        print("continue with the same command", file=sys.stderr)
        return 128 + received
    return 1 if course.failed else 0


def _check_numbers(options: Namespace) -> None:
    minutes = options.minutes
    check(
        minutes is None or 0 < minutes <= MOST_MINUTES,
        f"--minutes is {minutes}: give a value between 0 and {MOST_MINUTES:,}",
    )
    for name, most in {"workers": 1024, "seeds": MOST_SEEDS}.items():
        if getattr(options, name) is not None:
            check_count(name, getattr(options, name), most=most)


def _deadline(started: float, minutes: float | None) -> float | None:
    """``time.monotonic`` at which runs must have ended, so that the page is there in time."""
    return None if minutes is None else started + 60 * minutes - min(PAGE_SECONDS, 20 * minutes)
