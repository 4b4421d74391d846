"""``python -m lit_maprops report RUNS... -o report.html``, and runs as a file of marl-eval, ``--json FILE``."""

import sys
from pathlib import Path

from lit_maprops.cli.parser import Parser
from lit_maprops.report.marl_eval_out import as_marl_eval
from lit_maprops.report.page import make_report
from lit_maprops.system.errors import check, printable
from lit_maprops.system.files import home_path, write_json
from lit_maprops.system.loading import seldom_collected
from lit_maprops.system.outputs import check_output

EPILOG = """A run folder is what fit writes; each of its seeds is one training run in the statistics. Runs that differ
in more than the sampler (task, learner, sizes) are compared separately. Files in the format of marl-eval, as BenchMARL
and Mava write them, stand beside the runs of the same task. The command needs the extra `report`."""

MOST_LEFT_OUT = 20  # folders that are named on stderr; the page has all


def run(args: list[str]) -> int:
    """Read the runs, write the page, print one line, and one on stderr for each folder left out; returns the exit code.

    Raises:
        ConfigError: nothing to read, or nowhere to write.
    """
    parser = Parser("report", "Compare runs on one HTML page.", EPILOG)
    parser.add_argument(
        "runs",
        nargs="+",
        type=home_path,
        metavar="RUNS",
        help="run folders, folders that contain them, or files of marl-eval",
    )
    parser.add_argument(
        "-o", "--output", type=home_path, default=Path("report.html"), metavar="FILE", help="default: report.html"
    )
    parser.add_argument(
        "--json", type=home_path, metavar="FILE", help="write the finished runs as a file of marl-eval, too"
    )
    parser.add_argument(
        "--alias",
        action="append",
        default=[],
        metavar="THEIRS=OURS",
        help="a task of a file, ENVIRONMENT/TASK, is the same as ours; may be given again",
    )
    options = parser.parsed(args)
    if options is None:
        return 0
    check_output("<output>", options.output)  # before the reading, which may take long
    if options.json is not None:
        check_output("<json>", options.json)
        check(options.json.resolve() != options.output.resolve(), "--json and --output name the same file: give two")
        given = [path.resolve() for path in options.runs]
        check(options.json.resolve() not in given, f"--json is {options.json}, which is read here: give another name")
    with seldom_collected():
        report = make_report(options.runs, aliases=_aliases(options.alias))
    if options.json is not None:
        check(bool(report.runs), "--json: no runs of ours are here, only files: give run folders, such as runs")
        content, notes = as_marl_eval(report.runs)
        check(bool(content), "--json: none of the runs has finished: there is nothing to write")
        write_json(options.json, content)
        for note in notes:
            print(printable(f"{options.json}: {note}"), file=sys.stderr)
    report.save(options.output)
    for folder in report.left_out[:MOST_LEFT_OUT]:
        print(printable(f"{folder.path}: left out: {folder.reason}"), file=sys.stderr)
    print(f"{report.summary} -> {options.output}{'' if options.json is None else f' and {options.json}'}")
    return 0


def _aliases(given: list[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in given]
    for theirs, _, ours in pairs:
        check(bool(theirs and ours), f"--alias {theirs}: give THEIRS=OURS, such as vmas/balance=VMAS/balance")
    return {theirs: ours for theirs, _, ours in pairs}
