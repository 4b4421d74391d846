"""``python -m lit_maprops report RUNS... -o report.html``."""

import argparse
from typing import NoReturn

from lit_maprops.report.page import make_report
from lit_maprops.system.errors import ConfigError

EPILOG = """A run folder is what fit writes; each of its seeds is one training run in the statistics. Runs that differ
in more than the sampler (task, learner, sizes) are compared separately. The command needs the extra `report`."""


class _Parser(argparse.ArgumentParser):
    """Errors become one line and exit code 2, as everywhere in this program."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"report: {message} (see python -m lit_maprops report --help)")


def run(args: list[str]) -> int:
    """Read the runs, write the page, print one line; returns the exit code.

    Raises:
        ConfigError: nothing to read, or nowhere to write.
    """
    parser = _Parser("python -m lit_maprops report", description="Compare runs on one HTML page.", epilog=EPILOG)
    parser.add_argument("runs", nargs="+", metavar="RUNS", help="run folders, or folders that contain them")
    parser.add_argument("-o", "--output", default="report.html", metavar="FILE", help="default: report.html")
    try:
        options = parser.parse_args(args)
    except SystemExit as finished:  # --help
        return int(finished.code or 0)
    report = make_report(options.runs)
    report.save(options.output)
    print(f"{report.summary} -> {options.output}")
    return 0
