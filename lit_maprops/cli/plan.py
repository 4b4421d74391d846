"""``python -m lit_maprops plan``: how many seeds a comparison takes, and what a budget can see."""

from lit_maprops.cli.parser import Parser
from lit_maprops.system.files import home_path

DESCRIPTION = """Plan a comparison of samplers: how many seeds of each it takes to see an effect, and the smallest
effect that a budget can see. With a pilot's runs: from their success, spread and seconds."""
EPILOG = """Two-sided tests. Solved shares on the arcsine scale (Cohen's h), mean returns by the t-test, as statsmodels
has them. Seeds per arm: of every sampler. Nothing is written."""


def run(args: list[str]) -> int:
    """Print the plan; returns the exit code.

    Raises:
        ConfigError: a value that cannot be, nothing asked for, runs of different tasks, or a metric that no run has.
    """
    parser = Parser("plan", DESCRIPTION, EPILOG)
    parser.add_argument("--effect", type=float, help="difference to see: points of solved seeds, or units of return")
    parser.add_argument(
        "--baseline", type=float, help="share of seeds the baseline solves, 0 to 1 (default: the pilot's)"
    )
    parser.add_argument(
        "--power", type=float, default=0.8, help="probability to see an effect of that size (default: 0.8)"
    )
    parser.add_argument(
        "--comparisons", type=int, help="samplers compared with the baseline (default: those of the pilot, else 1)"
    )
    parser.add_argument("--alpha", type=float, default=0.05, help="error rate of all comparisons (default: 0.05)")
    parser.add_argument(
        "--pilot", nargs="+", type=home_path, default=[], metavar="RUNS", help="run folders, or folders that hold them"
    )
    parser.add_argument("--metric", default="solved_share", help="solved_share (default) or mean_return")
    parser.add_argument("--spread", type=float, help="standard deviation of a seed's return, without a pilot")
    parser.add_argument("--seeds", type=int, help="budget: seeds of each sampler")
    parser.add_argument(
        "--minutes", type=float, help="budget: wall time of all samplers, one run at a time; needs a pilot"
    )
    options = parser.parsed(args)
    if options is None:
        return 0
    from lit_maprops.planning.plan import plan  # only now: it imports numpy

    print(plan(**vars(options)))
    return 0
