"""What the page shows of the trade-off: its table, what of it was measured, its picture."""

from typing import Any

import numpy as np

from studies import picture_of
from studies.cells import points, share_of
from studies.history.tradeoff import BOULDER, HISTORIES, SETTINGS, Cell, Table

COLORS = {"OnPolicy": "#4d4d4d", "TabularMAPROPS": "#d55e00", "MAPROPS": "#009e73"}
MARKS = dict(zip(HISTORIES, "osD^", strict=True))


def table(kept: Table) -> str:
    """A line per task, sampler and history that was measured."""
    lines = []
    for task, setting in SETTINGS.items():
        for sampler in setting.samplers:
            base = kept.of(task, sampler, "b = 1")
            for history in HISTORIES:
                cell = kept.of(task, sampler, history)
                if cell is not None:
                    lines.append(
                        f"| {task} | {sampler} | {history} | {_line(cell, None if history == 'b = 1' else base)} |"
                    )
    return "\n".join(lines)


def _line(cell: Cell, base: Cell | None) -> str:
    change = ""
    if base is not None:
        change = points(cell.solved, cell.seeds, base.solved, base.seeds)
    cells = [
        f"{share_of(cell.solved, cell.seeds)} of {cell.seeds}",
        change,
        f"{_text(cell, 'joint_tv', '.3f')} / {cell.mean('joint_tv_on_policy'):.3f}",
        _text(cell, "last_joint_tv", ".3f"),
        _text(cell, "return_bias", "+.3f"),
        "" if np.isnan(cell.mean("staleness")) else _text(cell, "staleness", ".3f"),
        _text(cell, "effective_share", ".2f"),
    ]
    return " | ".join(cells)


def _text(cell: Cell, name: str, form: str) -> str:
    return f"{cell.mean(name):{form}} +- {cell.half(name):{form.removeprefix('+')}}"


def what_there_is(kept: Table) -> str:
    """Seeds of every task, and what is missing of them."""
    said = []
    for task, setting in SETTINGS.items():
        seeds = {
            (sampler, history): 0 if (cell := kept.of(task, sampler, history)) is None else cell.seeds
            for history in HISTORIES
            for sampler in setting.samplers
        }
        planned = sum(setting.blocks)
        if not any(seeds.values()):
            said.append(f"{task} {planned} planned, none complete yet")
            continue
        fewer = [f"{sampler} with {history} {count}" for (sampler, history), count in seeds.items() if count < planned]
        said.append(f"{task} {planned} seeds" + (f" planned, measured so far: {', '.join(fewer)}" if fewer else ""))
    return "; ".join(said)


def draw(kept: Table, of_64: dict[tuple[str, str], tuple[float, float]]) -> None:
    """Off-policy bias over the joint error of what the learner learns on, a column per task.

    Args:
        kept: what was measured for it.
        of_64: by sampler and history, joint TV and staleness (nats) of BoulderPush's runs in history.csv, drawn hollow.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    figure = Figure(figsize=(11, 6.2), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(2, len(SETTINGS), sharex="col")
    for task, column in zip(SETTINGS, grid.T, strict=True):
        for sampler in SETTINGS[task].samplers:
            cells = {history: kept.of(task, sampler, history) for history in HISTORIES}
            there = {history: cell for history, cell in cells.items() if cell is not None}
            for axes, name in zip(column, ("return_bias", "staleness"), strict=True):
                _path(axes, there, name, COLORS[sampler])
        column[0].set_title(task, fontsize=10)
        if not column[0].lines:
            column[0].text(0.5, 0.5, "not measured yet", ha="center", transform=column[0].transAxes)
            column[0].set_yticks([])
        column[1].set_xlabel("joint TV of D, mean over training", fontsize=9)
    for (sampler, history), (error, stale) in of_64.items():
        look = {"color": COLORS[sampler], "marker": MARKS[history], "ms": 6, "mfc": "none"}
        grid[1, list(SETTINGS).index(BOULDER)].plot(error, stale, **look)
    grid[0, 0].set_ylabel("return of D's episodes minus\nthat of the present policies (reward)", fontsize=9)
    grid[1, 0].set_ylabel("KL, policies that collected D's old\nsteps to the present ones (nats)", fontsize=9)
    lines = [Line2D([], [], color=color, label=sampler) for sampler, color in COLORS.items()]
    lines += [Line2D([], [], color="black", ls="none", marker=mark, label=name) for name, mark in MARKS.items()]
    figure.legend(handles=lines, loc="outside upper center", ncols=len(lines), fontsize=9)
    figure.savefig(picture_of("history"))


def _path(axes: Any, there: dict[str, Cell], name: str, color: str) -> None:
    """From b = 1 to a growing history, with 95% intervals of both figures; without old steps no policy is stale."""
    if not there:
        return
    axes.axhline(0, color="#888888", lw=0.8)
    x = [cell.mean("joint_tv") for cell in there.values()]
    y = [float(np.nan_to_num(cell.mean(name))) for cell in there.values()]
    axes.plot(x, y, color=color, lw=0.9, alpha=0.5)
    for (history, cell), at, value in zip(there.items(), x, y, strict=True):
        half = float(np.nan_to_num(cell.half(name)))
        axes.errorbar(at, value, half, cell.half("joint_tv"), color=color, marker=MARKS[history], ms=6, lw=1.1)
    axes.grid(alpha=0.3)
    axes.tick_params(labelsize=8)


def boulder(kept: Table) -> str:
    """Of growing histories on BoulderPush, as far as they are measured."""
    planned, said = sum(SETTINGS[BOULDER].blocks), []
    for sampler in SETTINGS[BOULDER].samplers:
        cell = kept.of(BOULDER, sampler, "growing")
        if cell is None:
            said.append(f"{sampler} not measured yet")
            continue
        error, bias = _text(cell, "joint_tv", ".2f"), _text(cell, "return_bias", "+.2f")
        counts = f"{cell.solved} of {cell.seeds} solved" + (f" of {planned} planned" if cell.seeds < planned else "")
        said.append(f"{sampler} {counts}, joint TV {error}, return bias {bias}")
    return "; ".join(said)
