"""``python -m lit_maprops report RUNS... -o report.html``."""

from pathlib import Path

from lit_maprops.cli.parser import Parser
from lit_maprops.report.page import make_report
from lit_maprops.system.files import home_path
from lit_maprops.system.loading import seldom_collected
from lit_maprops.system.outputs import check_output

EPILOG = """A run folder is what fit writes; each of its seeds is one training run in the statistics. Runs that differ
in more than the sampler (task, learner, sizes) are compared separately. The command needs the extra `report`."""


def run(args: list[str]) -> int:
    """Read the runs, write the page, print one line; returns the exit code.

    Raises:
        ConfigError: nothing to read, or nowhere to write.
    """
    parser = Parser("report", "Compare runs on one HTML page.", EPILOG)
    parser.add_argument(
        "runs", nargs="+", type=home_path, metavar="RUNS", help="run folders, or folders that contain them"
    )
    parser.add_argument(
        "-o", "--output", type=home_path, default=Path("report.html"), metavar="FILE", help="default: report.html"
    )
    options = parser.parsed(args)
    if options is None:
        return 0
    check_output("<output>", options.output)  # before the reading, which may take long
    with seldom_collected():
        report = make_report(options.runs)
    report.save(options.output)
    print(f"{report.summary} -> {options.output}")
    return 0
