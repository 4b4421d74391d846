"""``python -m lit_maprops autopsy RUN --seed N``."""

import sys
from argparse import Namespace
from pathlib import Path

from lit_maprops.cli.parser import Parser, classes_of
from lit_maprops.system.console import stopped_at_once
from lit_maprops.system.errors import check, check_count
from lit_maprops.system.files import home_path
from lit_maprops.system.loading import loading
from lit_maprops.system.outputs import check_output

DESCRIPTION = """Why a seed failed: replays it, finds the target update after which it could no longer recover, says
which joint actions that update's batch held too often or too rarely, and redoes the update with an ideal batch."""
EPILOG = """A seed's chance in a state is the share of branches, continued from there with other random numbers, that
end solved. The run is only read. The command needs the extra `report`."""


def _parse(args: list[str]) -> Namespace | None:
    parser = Parser("autopsy", DESCRIPTION, EPILOG)
    parser.add_argument("run", type=home_path, metavar="RUN", help="folder of a finished run")
    parser.add_argument("--seed", type=int, metavar="N", help="number of a seed that failed")
    parser.add_argument(
        "--branches",
        type=int,
        default=64,
        metavar="K",
        help="from the states before and after the decisive update and from the ideal one; looks on the way to it have "
        "half as many (default: 64)",
    )
    parser.add_argument(
        "--points", type=int, default=7, metavar="P", help="looks per round of the search; 1: bisection (default: 7)"
    )
    parser.add_argument(
        "--times",
        type=int,
        default=64,
        metavar="M",
        help="where no exact update is known, an ideal batch has M times the run's n env steps (default: 64)",
    )
    parser.add_argument(
        "-o", "--output", type=home_path, metavar="FILE", help="default: autopsy_seed_N.html in the run's folder"
    )
    parser.add_classes()
    return parser.parsed(args)


def run(args: list[str]) -> int:
    """Look into one seed; prints a few lines, writes a page and a JSON file; returns the exit code.

    Raises:
        ConfigError: bad input, found before anything is written.
    """
    options = _parse(args)
    if options is None:
        return 0
    check(options.branches >= 2, f"--branches is {options.branches}: give at least 2")
    for name, most in (("branches", 100_000), ("points", 1000), ("times", 10_000)):
        check_count(name, getattr(options, name), most)

    # Only now: these import torch.
    with stopped_at_once(), loading():
        from lit_maprops.autopsy.case import check_seed, failed_seeds, load
        from lit_maprops.autopsy.findings import findings
        from lit_maprops.autopsy.page import Page
        from lit_maprops.autopsy.replay import Replay
        from lit_maprops.report.page import check_packages

    check_packages("autopsy")
    case = load(options.run, classes_of(options))
    check(options.seed is not None, f"--seed is missing: {failed_seeds(case)}")
    check_seed(case, options.seed)
    output: Path = options.output or case.folder / f"autopsy_seed_{options.seed}.html"
    check_output("<output>", output, output.with_suffix(".json"))

    def say(line: str) -> None:
        print(f"autopsy: {line}", file=sys.stderr)

    replay = Replay(case, [options.seed])
    say(f"replayed seed {options.seed}")
    (found,) = findings(case, replay, options.branches, options.points, options.times, say)
    page = Page(case, replay.exact, found, options.times)
    page.write(output)
    print("\n".join(page.lines))
    say(f"written to {output} and {output.with_suffix('.json').name}")
    return 0
