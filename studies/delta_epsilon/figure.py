"""The grid in colors: BoulderPush above, figure1 below."""

from collections.abc import Callable

import numpy as np

from studies import picture_of
from studies.delta_epsilon.grid import BASE, BOULDER, DELTAS, EPSILONS, GAME, NO_CLIP, Cell
from studies.delta_epsilon.kept import Kept
from studies.delta_epsilon.results import Fixed, Training, training_of

COLUMNS = 4


def draw(training: Kept, fixed: Fixed) -> None:
    """Success, sampling error, bias and variance of BoulderPush; success, error and KL of figure1."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    def trained(task: str, of: Callable[[Training], float]) -> Callable[[Cell], float]:
        def value(cell: Cell) -> float:
            found = training_of(training, task, cell)
            return np.nan if found is None else of(found)

        return value

    def drawn(of: Callable[[Cell, list[str]], float]) -> Callable[[Cell], float]:
        return lambda cell: of(cell, fixed.ages(cell)) if fixed.ages(cell) else np.nan

    def share(result: Training) -> float:
        return float(result.solved.mean())

    def of_error(when: str) -> Callable[[Training], float]:
        return lambda result: result.error[f"{when} own"].value / result.error[f"{when} on-policy"].value

    base = {task: trained(task, share)(BASE) for task in (BOULDER, GAME)}
    panels = [
        (f"{BOULDER}: solved (on-policy {base[BOULDER]:.2f})", trained(BOULDER, share), (0, 1)),
        ("final joint TV / on-policy's", trained(BOULDER, of_error("end")), (0.8, 1.2)),
        (
            "return bias: plain - weighted",
            drawn(lambda cell, ages: fixed.mean(cell, ages, "return_bias", "importance_bias").value),
            (-0.1, 0.1),
        ),
        ("gradient variance / on-policy's", drawn(lambda c, ages: fixed.ratio(c, ages, "variance").value), (0.5, 1.5)),
        (f"{GAME}: solved (on-policy {base[GAME]:.2f})", trained(GAME, share), (0, 1)),
        ("joint TV / on-policy's, first tenth", trained(GAME, of_error("start")), (0, 2)),
        ("final joint TV minus on-policy's", trained(GAME, lambda r: r.error["end change"].value), (-0.1, 0.1)),
        ("KL while acting (nats)", trained(GAME, lambda result: result.diagnostics["behavior/kl"]), (None, None)),
    ]
    figure = Figure(figsize=(11, 5.6), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    places = figure.subplots(len(panels) // COLUMNS, COLUMNS)
    for axes, (title, value_of, (low, high)) in zip(places.flat, panels, strict=True):
        cells = [[Cell(delta, min(epsilon, NO_CLIP)) for epsilon in EPSILONS] for delta in DELTAS]
        grid = np.array([[value_of(cell) for cell in row] for row in cells])
        image = axes.imshow(grid, cmap="cividis", origin="lower", aspect="auto", vmin=low, vmax=high)
        for (i, j), value in np.ndenumerate(grid):
            red, green, blue, _ = image.to_rgba(value)
            ink = "black" if 0.3 * red + 0.59 * green + 0.11 * blue > 0.5 else "white"
            axes.text(j, i, "" if np.isnan(value) else f"{value:.2g}", ha="center", va="center", color=ink)
        axes.set_xticks(range(len(EPSILONS)), [f"{e:g}" for e in EPSILONS])
        axes.set_yticks(range(len(DELTAS)), [f"{d:g}" for d in DELTAS])
        axes.set_title(title, fontsize=9)
    for axes in places[-1]:
        axes.set_xlabel("epsilon (ratio clip)")
    for axes in places[:, 0]:
        axes.set_ylabel("delta (KL cutoff, nats)")
    figure.savefig(picture_of("delta_epsilon"))
