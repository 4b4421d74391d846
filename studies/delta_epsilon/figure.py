"""The grid in colors: BoulderPush above, figure1 below."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from studies import picture_of
from studies.delta_epsilon.grid import BASE, BOULDER, DELTAS, EPSILONS, GAME, NO_CLIP, Cell
from studies.delta_epsilon.kept import Kept
from studies.delta_epsilon.results import Fixed, Training, training_of

COLUMNS = 4


class Panel(NamedTuple):
    """A map of the grid."""

    title: str
    value_of: Callable[[Cell], float]  # NaN: not measured
    low: float | None = None  # ends of the colors, wide enough not to make more of a difference than it is
    high: float | None = None
    digits: str = ".2f"


def panels(training: Kept, fixed: Fixed) -> list[Panel]:
    """Success, sampling error, bias and variance of BoulderPush; success, errors and KL of figure1."""

    def trained(task: str, of: Callable[[Training], float]) -> Callable[[Cell], float]:
        def value(cell: Cell) -> float:
            found = training_of(training, task, cell)
            return np.nan if found is None else of(found)

        return value

    def bias(cell: Cell) -> float:
        ages = fixed.ages(cell)
        return fixed.mean(cell, ages, "return_bias", "importance_bias").value if ages else np.nan

    def variance(cell: Cell) -> float:
        ages = fixed.ages(cell)
        return fixed.typical(cell, ages).ratio.value if ages else np.nan

    def share(result: Training) -> float:
        return float(result.solved.mean())

    def relative(when: str) -> Callable[[Training], float]:
        return lambda result: result.error[f"{when} own"].value / result.error[f"{when} on-policy"].value

    def solved(task: str) -> Panel:
        base = trained(task, share)(BASE)
        title = f"{task}: solved" + ("" if np.isnan(base) else f" (on-policy {base:.2f})")
        return Panel(title, trained(task, share), 0, 1)

    return [
        solved(BOULDER),
        Panel("final joint TV / on-policy's", trained(BOULDER, relative("end")), 0.5, 1.5),
        Panel("return bias: plain - weighted", bias, -0.1, 0.1, "+.3f"),
        Panel("gradient variance / on-policy's", variance, 0, 2.5),
        solved(GAME),
        Panel("joint TV / on-policy's, first tenth", trained(GAME, relative("start")), 0, 2),
        Panel("final joint TV - on-policy's", trained(GAME, lambda r: r.error["end change"].value), -0.1, 0.1, "+.3f"),
        Panel("KL while acting (nats)", trained(GAME, lambda r: r.diagnostics["behavior/kl"]), digits=".2g"),
    ]


def draw(training: Kept, fixed: Fixed) -> None:
    """Write delta_epsilon.png."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = panels(training, fixed)
    figure = Figure(figsize=(11, 5.6), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    places = figure.subplots(len(shown) // COLUMNS, COLUMNS)
    for axes, panel in zip(places.flat, shown, strict=True):
        cells = [[Cell(delta, min(epsilon, NO_CLIP)) for epsilon in EPSILONS] for delta in DELTAS]
        grid = np.array([[panel.value_of(cell) for cell in row] for row in cells])
        image = axes.imshow(grid, cmap="cividis", origin="lower", aspect="auto", vmin=panel.low, vmax=panel.high)
        for (i, j), value in np.ndenumerate(grid):
            red, green, blue, _ = image.to_rgba(value)
            ink = "black" if 0.3 * red + 0.59 * green + 0.11 * blue > 0.5 else "white"
            text = "" if np.isnan(value) else format(value, panel.digits)
            axes.text(j, i, text, ha="center", va="center", color=ink, fontsize=9)
        axes.set_xticks(range(len(EPSILONS)), [f"{e:g}" for e in EPSILONS])
        axes.set_yticks(range(len(DELTAS)), [f"{d:g}" for d in DELTAS])
        axes.set_title(panel.title, fontsize=9)
    for axes in places[-1]:
        axes.set_xlabel("epsilon (ratio clip)")
    for axes in places[:, 0]:
        axes.set_ylabel("delta (KL cutoff, nats)")
    figure.savefig(picture_of("delta_epsilon"))
