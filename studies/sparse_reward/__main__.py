"""Measures docs/evidence/sparse_reward.md: samplers where reward comes only at the end of a rarely reached branch.

The game is in game.py. Every sampler trains from uniform policies; D's shares of high-value and low-value pairs of
state and action are compared with the exact ones of the policies it was collected for, iteration by iteration. The
policy gradient of each sampler is compared with the exact one at policies of on-policy runs. No sampler is tuned.
"""

import argparse
import csv
import logging
import warnings

from studies import picture_of, table_of
from studies.cells import points
from studies.page import write
from studies.sparse_reward import measure
from studies.sparse_reward.measure import BASE, CONSOLATIONS, GRADIENT, PHASES, SAMPLERS, SEEDS, Row


class Table:
    """The raw table."""

    def __init__(self, rows: list[Row]) -> None:
        names = ("part", "consolation", "sampler", "figure", "phase")
        self.rows = {tuple(row[name] for name in names): row for row in rows}

    def row(self, part: str, consolation: float, sampler: str, figure: str, phase: str | int = "") -> Row:
        """One of its lines."""
        return self.rows[part, f"{consolation:g}", sampler, figure, str(phase)]

    def number(self, *key: str | float) -> float:
        """The figure alone; arguments as ``row``."""
        return float(self.row(*key)["value"])  # type: ignore[arg-type]

    def text(self, *key: str | float, scale: float = 1.0, form: str = "+.1f") -> str:
        """The figure with its interval."""
        row = self.row(*key)  # type: ignore[arg-type]
        value, low, high = (f"{scale * float(row[name]):{form}}" for name in ("value", "low", "high"))
        return f"{value} [{low}, {high}]"


def solved_table(table: Table) -> str:
    """Solved runs, speed and errors of each sampler in each game."""
    lines, first = [], next(iter(PHASES))
    for consolation in CONSOLATIONS:
        for sampler in SAMPLERS:
            own = ("runs", consolation, sampler)
            solved, base = (round(SEEDS * table.number(*own[:2], s, "solved")) for s in (sampler, BASE))
            change = points(solved, SEEDS, base, SEEDS)
            error = " / ".join(f"{table.number(*own, name):.3f}" for name in ("joint_tv", "joint_tv_on_policy"))
            cells = [
                table.text(*own, "solved", scale=100, form=".0f"),
                "" if sampler == BASE else change,
                f"{table.number(*own, 'env steps, half solved'):,.0f}",
                table.text(*own, "extra finds", first, scale=100),
                error,
                f"{table.number(*own, 'first_visits'):.0%}",
            ]
            lines.append(f"| {consolation:g} | {sampler} | {' | '.join(cells)} |")
    return "\n".join(lines)


def visits_table(table: Table) -> str:
    """D's shares of high-value and low-value pairs minus those of the policies, phase by phase."""
    lines = []
    for consolation in CONSOLATIONS:
        for sampler in SAMPLERS:
            for pairs in ("high", "low"):
                cells = [table.text("runs", consolation, sampler, pairs, phase, scale=100) for phase in PHASES]
                lines.append(f"| {consolation:g} | {sampler} | {pairs} | {' | '.join(cells)} |")
    return "\n".join(lines)


def gradient_table(table: Table) -> str:
    """The gradient's bias, variance and error, and the return that D shows, at policies of the on-policy runs."""
    lines = []
    for age in measure.AGES:
        base = table.number("gradient", CONSOLATIONS[-1], BASE, "mse", age)
        for sampler in SAMPLERS:
            own = ("gradient", CONSOLATIONS[-1], sampler)
            cells = " | ".join(table.text(*own, figure, age, form=".2g") for figure in GRADIENT)
            ratio = table.number(*own, "mse", age) / base
            lines.append(f"| {age} ({table.number(*own, 'top', age):.2f}) | {sampler} | {cells} | {ratio:.2f} |")
    return "\n".join(lines)


def draw(table: Table) -> None:
    """Probability of the reward over training, and D's excess of both kinds of pairs by that probability."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6.4), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    colors = ("#4d4d4d", "#d55e00", "#d55e00", "#0072b2", "#0072b2", "#009e73")
    looks = dict(zip(SAMPLERS, zip(colors, ("-", "--", "-", "--", "-", "-."), strict=True), strict=True))
    for line, consolation in zip(figure.subplots(2, 3), CONSOLATIONS, strict=True):
        for sampler, (color, style) in looks.items():
            look, own = {"color": color, "ls": style, "lw": 1.4}, ("runs", consolation, sampler)
            steps = [k * measure.STEPS for k in measure.POINTS]
            line[0].plot(steps, [table.number(*own, "top", step) for step in steps], label=sampler, **look)
            for axes, pairs in zip(line[1:], ("high", "low"), strict=True):
                rows = [table.row(*own, pairs, phase) for phase in PHASES]
                value, low, high = ([100 * float(row[name]) for row in rows] for name in ("value", "low", "high"))
                axes.plot(range(len(PHASES)), value, **look)
                axes.vlines(range(len(PHASES)), low, high, color=color, lw=1.4)
        line[0].set(xlabel="env steps per seed", ylim=(0, 1))
        line[0].set_ylabel(f"consolation {consolation:g}\nprobability of the reward at the end")
        for axes, pairs in zip(line[1:], ("high", "low"), strict=True):
            axes.axhline(0, color="#888888", lw=0.8)
            axes.set_xticks(range(len(PHASES)), list(PHASES), fontsize=8)
            axes.set(xlabel="probability of the reward at the end", ylabel="D minus policies, points")
            axes.set_title(f"share of {pairs}-value pairs", fontsize=10)
    figure.axes[0].legend(fontsize=8)
    figure.savefig(picture_of("sparse_reward"))


def main() -> None:
    """Measure everything and write sparse_reward.md, .csv and .png."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--page", action="store_true", help="measure nothing, write the page of sparse_reward.csv")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    if options.page:
        with table_of("sparse_reward").open(newline="") as file:
            rows = list(csv.DictReader(file))
    else:
        rows = measure.measure()
    table = Table(rows)
    draw(table)
    write(
        "sparse_reward",
        [dict(row) for row in rows],
        solved=solved_table(table),
        visits=visits_table(table),
        gradient=gradient_table(table),
        rungs=measure.RUNGS,
        episodes=measure.EPISODES,
        steps=measure.STEPS,
        iterations=measure.ITERATIONS,
        rate=f"{measure.RATE:g}",
        seeds=SEEDS,
        gradient_seeds=measure.GRADIENT_SEEDS,
        batches=measure.BATCHES,
        run_seed=measure.RUN_SEED,
    )


if __name__ == "__main__":
    main()
