"""The picture of docs/evidence/tasks.md: learning curves in small multiples, a row per task, a column per learner."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import EngFormatter, MaxNLocator

from lit_maprops.metrics.reliability import wilson_interval
from studies import picture_of
from studies.tasks.plan import BASE, LEARNERS, ORDERED, TASKS, Cell, cells
from studies.tasks.results import Results, Row

# Okabe and Ito's colors; the two kinds of low-discrepancy draws never meet in a task, nor do those of MA-PROPS.
COLORS = {
    BASE: "#4d4d4d",
    "LowDiscrepancy": "#0072b2",
    ORDERED: "#0072b2",
    "TabularMAPROPS": "#d55e00",
    "MAPROPS": "#d55e00",
}
STYLES = {BASE: "--", ORDERED: "-.", "TabularMAPROPS": ":"}


def draw(results: Results) -> None:
    """Solved seeds over env steps where any seed ever is, else the mean greedy return; with 95% intervals."""
    names = [name for name in TASKS if any(cell in results.curves for cell in cells([name]))]
    if not names:
        return
    layout = ConstrainedLayoutEngine(h_pad=0.08)
    figure = Figure(figsize=(11, 0.6 + 2.5 * len(names)), dpi=110, layout=layout)
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(names), len(LEARNERS), squeeze=False, sharey="row", sharex="row")
    labelled: dict[str, object] = {}
    for name, row in zip(names, grid, strict=True):
        told = any(float(point["solved"] or 0) for cell in cells([name]) for point in results.curves.get(cell, []))
        for learner, axes in zip(LEARNERS, row, strict=True):
            for sampler in TASKS[name].samplers:
                if (cell := Cell(name, learner, sampler)) in results.curves:
                    labelled.setdefault(sampler, _curve(axes, results.curves[cell], cell.sampler, told))
            axes.set_title(f"{name}, {learner}", fontsize=10)
            axes.tick_params(labelsize=8)
            axes.xaxis.set_major_locator(MaxNLocator(5, prune="upper"))  # a label at the edge meets the next panel's
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
            axes.grid(alpha=0.3)
            if not axes.lines:
                planned = learner in TASKS[name].learners
                axes.text(0.5, 0.5, "not measured" if planned else "not offered", ha="center", transform=axes.transAxes)
        row[0].set_ylabel("solved seeds" if told else "greedy return", fontsize=9)
        if told:
            row[0].set_ylim(-0.04, 1.04)
    for axes in grid[-1]:
        axes.set_xlabel("env steps per seed", fontsize=9)
    handles = [labelled[sampler] for sampler in COLORS if sampler in labelled]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), fontsize=9)
    figure.savefig(picture_of("tasks"))


def points(row: Row, solved: bool = True) -> tuple[float, float, float]:
    """What is drawn of an evaluation, and the ends of its interval: the share of ``solved`` seeds if there is one."""
    if solved and row["solved"]:
        share, seeds = float(row["solved"]), int(row["seeds"])
        return share, *wilson_interval(round(share * seeds), seeds)
    value, low, high = (float(row[f"greedy_return{end}"] or math.nan) for end in ("", "_low", "_high"))
    return value, low, high


def _curve(axes: Axes, rows: Sequence[Row], sampler: str, solved: bool) -> object:
    """The line of a cell, for the legend."""
    color = COLORS[sampler]
    steps = [float(row["env_steps"]) for row in rows]
    value, low, high = zip(*(points(row, solved) for row in rows), strict=True)
    axes.fill_between(steps, low, high, color=color, alpha=0.18, lw=0)
    return axes.plot(steps, value, color=color, ls=STYLES.get(sampler, "-"), lw=1.6, label=sampler)[0]
