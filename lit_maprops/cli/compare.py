"""``python -m lit_maprops compare RUN RUN``."""

from lit_maprops.cli.parser import Parser
from lit_maprops.system.files import home_path

DESCRIPTION = """Print two finished runs side by side: the settings that differ, solved seeds, success and returns of
greedy and sampled actions at the last evaluation, sampling error (mean over training), speed, and the difference of the
solved shares, or of mean returns where nothing says which seeds are solved."""
EPILOG = """In brackets: 95% intervals over seeds (Wilson's for a share, bootstrap for a mean, a score interval for the
difference). Runs of different environments are shown, but no difference is told. Only files are read."""


def run(args: list[str]) -> int:
    """Read two runs and print the comparison; returns the exit code.

    Raises:
        ConfigError: a folder is missing, is no run's or is given twice, or a run is unfinished.
    """
    parser = Parser("compare", DESCRIPTION, EPILOG)
    parser.add_argument("first", type=home_path, metavar="RUN", help="folder of a finished run")
    parser.add_argument("second", type=home_path, metavar="RUN", help="of another one, which is taken off the first")
    options = parser.parsed(args)
    if options is None:
        return 0
    from lit_maprops.report.comparison import compare  # only now: it imports numpy

    print(compare(options.first, options.second))
    return 0
