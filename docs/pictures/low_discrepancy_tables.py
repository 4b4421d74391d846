"""The tables of docs/low_discrepancy.md: ``python -m docs.pictures.low_discrepancy_tables`` prints them."""

from collections.abc import Sequence
from fractions import Fraction

from docs.pictures import low_discrepancy_numbers as numbers
from docs.pictures.low_discrepancy_example import mean_return
from docs.pictures.numbers import error_curves_at

EPISODES = (1, 4, 16, 64, 256)
WITHOUT_LIMIT, LIMIT_2 = Fraction(1, 3), Fraction(5, 16)
MATRIX_GAMES = {
    "0.5": "fixed uniform",
    "0.8": "fixed skewed 0.8",
    "0.95": "fixed skewed 0.95",
    "random": "fixed random",
}
SOURCES = (numbers.INDEPENDENT, numbers.PER_AGENT, numbers.JOINTLY)
OTHERS = ("MA-PROPS, strong updates", "greedy")
RETURNS = {
    "low-discrepancy": "`LowDiscrepancy`",
    "low-discrepancy, first visits in sequence": "`first_visits` `sequence`",
}


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = "|" + "---|" * len(head)
    return "\n".join([_line(head), rule, *map(_line, lines)])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _mean(part: str, setting: str, sampler: str, n: int) -> float:
    found = [r for r in numbers.rows(part) if (r.setting, r.sampler, r.n) == (setting, sampler, n)]
    return found[0].mean


def _share(value: float) -> str:
    return f"{value:.3f}".removeprefix("0") if value else "0"


def door() -> str:
    """The example's expected mean return and bias by the number of episodes."""
    lines = []
    for count in EPISODES:
        found = mean_return(count)
        biases = found - WITHOUT_LIMIT, mean_return(count, limit=2) - LIMIT_2
        lines.append([str(count), str(found), *(f"{float(bias):+.4f}" if bias else "0" for bias in biases)])
    return _table(["K", "mean return", "bias without a limit", "bias with a limit of 2"], lines)


def fixed() -> str:
    """Joint TV at fixed policies, MA-PROPS's from the evidence."""
    counts = (8, 16, 32, 64)
    lines = []
    for setting, experiment in MATRIX_GAMES.items():
        cells = [" ".join(_share(_mean("fixed", setting, name, n)) for n in counts) for name in SOURCES]
        theirs = error_curves_at(experiment)
        lines.append([setting, *cells, *(" ".join(_share(theirs[name][n]) for n in counts) for name in OTHERS)])
    return _table(["policies", *SOURCES, *OTHERS], lines)


def rates() -> str:
    """Slopes, and the error at n = 1,024."""
    lines = []
    for n_agents, n_actions in numbers.SIZES:
        setting = f"{n_agents} agents, {n_actions} actions"
        cells = [f"{_mean('rates', setting, name, 1024):.2g}, {numbers.slope(setting, name):.2f}" for name in SOURCES]
        lines.append([setting, str(n_actions**n_agents), *cells])
    return _table(["agents and actions", "joint actions", *SOURCES], lines)


def pairs() -> str:
    """Of two agents of ten."""
    lines = [
        [
            setting,
            str(n),
            *(_share(_mean("pairs", setting, name, n)) for name in SOURCES[:2]),
        ]
        for setting in ("uniform", "random")
        for n in numbers.PAIRED_STEPS
    ]
    return _table(["policies", "n", *SOURCES[:2]], lines)


def boulderpush() -> str:
    """Differences in the mean return, and errors of the gradient, as multiples of on-policy sampling's variance."""
    found = {(row.setting, row.sampler): row for row in numbers.rows("boulderpush")}
    scale = found["variance", "on-policy"].mean
    lines = []
    for sampler, name in {"on-policy": "`OnPolicy`", **RETURNS}.items():
        other = found.get(("return difference", sampler))
        difference = "" if other is None else f"{other.mean:+.5f} [{other.low:+.5f}, {other.high:+.5f}]"
        cells = []
        for figure in ("bias_squared", "variance", "mse"):
            row = found[figure, sampler]
            cells.append(f"{row.mean / scale:.3f} [{row.low / scale:.3f}, {row.high / scale:.3f}]")
        lines.append([name, difference, *cells])
    return _table(["sampler", "mean return less on-policy's", "squared bias", "variance", "mean squared error"], lines)


TABLES = {table.__name__: table for table in (door, fixed, rates, pairs, boulderpush)}

if __name__ == "__main__":
    for name, made in TABLES.items():
        print(f"{name}\n\n{made()}\n")
