"""The figures of sampling error: while training, against the batch size n, and over delta x epsilon."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lit_maprops.metrics.reliability import share_text
from lit_maprops.report.analysis import Group, Setting
from lit_maprops.report.families import HeatMap, batch_size_families, heat_maps
from lit_maprops.report.figures import FEW, drawn_points, key_of, label_env_steps, line_look
from lit_maprops.report.load import Floats
from lit_maprops.report.settings import Key, show
from lit_maprops.report.statistics import power_law
from lit_maprops.report.svg import INK, Drawing, color, draw

PREFIX, BASELINE = "sampling_error/", "_on_policy"
NORMAL_95 = 1.96  # standard errors to each side
FIRST_ESTIMATES = 5  # one is noisy, many are made under policies that have drifted apart
MOST_CELLS = 7  # in a row of a heat map, with a number in each
MEASURES = {
    "joint_tv": "joint, total variation",
    "agent_tv": "per agent, total variation",
    "pairwise_tv": "pairs of agents, total variation",
    "joint_kl": "joint, KL (nats)",
    "agent_kl": "per agent, KL (nats)",
    "joint_energy": "joint, energy distance (std)",
    "agent_energy": "per agent, energy distance (std)",
}
FIRST_VISITS = f"{PREFIX}first_visits"
JOINT = ("joint_tv", "joint_kl", "joint_energy")  # what maps show of a sampler


def error_curves(setting: Setting) -> list[Drawing]:
    """Each measure over env steps: the sampler's own D, and fresh on-policy actions in the same states (thin)."""
    drawings = []
    for measure, label in MEASURES.items():
        groups = [g for g in setting.groups if len(g.error_curve(PREFIX + measure)[0])]
        if groups and len(setting.groups) <= FEW:
            drawings.append(_error_curves(setting, groups, measure, label))
    return drawings


def _error_curves(setting: Setting, groups: Sequence[Group], measure: str, label: str) -> Drawing:
    def paint(axes: Any) -> None:
        for group in groups:
            _plot_with_band(axes, group, PREFIX + measure, len(groups))
            steps, values, _ = _drawn(group.error_curve(PREFIX + measure + BASELINE), len(groups))
            axes.plot(steps, values, color=color(group.style), lw=0.8, ls=":")
        axes.set_ylim(bottom=0)
        axes.set_ylabel(label)
        label_env_steps(axes)

    means = (
        f"{g.name} {g.error(PREFIX + measure):.3g}, on-policy in the same states "
        f"{g.error(PREFIX + measure + BASELINE):.3g}"
        for g in groups
    )
    alt = f"Sampling error while training, {label}, {setting.name}. Means: " + "; ".join(means)
    caption = (
        "Of the sampler's own D; dotted, same color: fresh on-policy actions in the very states of D. Means over "
        "seeds; bands: 95% intervals of the means, from the standard errors over seeds."
    )
    return Drawing(f"Sampling error, {label}", draw(paint, 2.7, alt), alt, caption, key_of(groups))


def first_visits(setting: Setting) -> list[Drawing]:
    """The share of steps that no sampler can correct, over env steps; none where no run measured it."""
    groups = [group for group in setting.groups if len(group.error_curve(FIRST_VISITS)[0])]
    if not groups or len(setting.groups) > FEW:
        return []

    def paint(axes: Any) -> None:
        for group in groups:
            _plot_with_band(axes, group, FIRST_VISITS, len(groups))
        axes.set_ylim(0, 1.02)
        axes.set_ylabel("share of steps")
        label_env_steps(axes)

    means = "; ".join(f"{group.name} {share_text(group.error(FIRST_VISITS))}" for group in groups)
    alt = f"First visits while training, {setting.name}. Means: {means}"
    caption = (
        "Steps in whose state D had not been before, of all steps of a batch: adaptive sampling corrects none of them. "
        f"Means over seeds with 95% intervals. Over training: {means}."
    )
    return [Drawing("First visits to a state", draw(paint, 2.7, alt), alt, caption, key_of(groups))]


def _plot_with_band(axes: Any, group: Group, column: str, curves: int) -> None:
    steps, values, error = _drawn(group.error_curve(column), curves)
    axes.plot(steps, values, **line_look(group, len(steps)))
    ends = values - NORMAL_95 * error, values + NORMAL_95 * error
    axes.fill_between(steps, *ends, color=color(group.style), alpha=0.2, lw=0)


def _drawn(curve: tuple[Floats, Floats, Floats], curves: int) -> tuple[Floats, ...]:
    shown = drawn_points(len(curve[0]), 2 * curves)
    return tuple(values[shown] for values in curve)


def error_slopes(settings: Sequence[Setting]) -> list[Drawing]:
    """Sampling error against n, log-log with fitted slopes, wherever runs differ in n only."""
    drawings = []
    for family in batch_size_families(settings):
        for measure, label in MEASURES.items():
            lines = _against_n(family, PREFIX + measure)
            if lines:
                drawings.append(_slopes(lines, label, family[0][1].name.partition(" (")[0]))
    return drawings


def _against_n(family: Sequence[tuple[float, Setting]], column: str) -> list[tuple[Group, Any, Any]]:
    """Sampler, its n and its sampling error at the start, where there are at least three n."""
    points: dict[Key, list[tuple[Group, float, float]]] = {}
    for n, setting in family:
        for group in setting.groups:
            value = group.first_error(column, FIRST_ESTIMATES)
            if np.isfinite(value):
                points.setdefault(group.key, []).append((group, n, value))
    lines = [
        (rows[0][0], np.array([n for _, n, _ in rows]), np.array([v for _, _, v in rows])) for rows in points.values()
    ]
    return [line for line in lines if len(np.unique(line[1])) > 2][:FEW]


def _slopes(lines: Sequence[tuple[Group, Any, Any]], label: str, place: str) -> Drawing:
    fits = [(group, power_law(n, values)) for group, n, values in lines]
    texts = [f"{group.name}: slope {fit.slope:.2f} \N{PLUS-MINUS SIGN} {fit.error:.2f}" for group, fit in fits if fit]
    texts += [f"{group.name}: no slope, an error of 0 has no logarithm" for group, fit in fits if not fit]

    def paint(axes: Any) -> None:
        for (group, n, values), (_, fit) in zip(lines, fits, strict=True):
            axes.plot(n, np.where(values > 0, values, np.nan), **line_look(group, 1) | {"ls": "none"})
            if fit:
                ends = np.array([n.min(), n.max()])
                axes.plot(ends, fit.factor * ends**fit.slope, **line_look(group, 1) | {"marker": "", "lw": 1.2})
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else "")
        axes.set_xlabel("n: env steps between target updates")
        axes.set_ylabel(label)

    alt = f"Sampling error against batch size n, {label}, {place}, log-log. " + "; ".join(texts)
    caption = (
        f"Mean of a run's first {FIRST_ESTIMATES} estimates, while all samplers still face nearly the same target "
        "policies. Lines: power laws by least squares, slope \N{PLUS-MINUS SIGN} standard error of the fit. "
        + "; ".join(texts)
        + "."
    )
    key = key_of([group for group, _, _ in lines])
    return Drawing(f"Sampling error against n, {label}", draw(paint, 2.9, alt), alt, caption, key)


def delta_epsilon_maps(setting: Setting) -> list[Drawing]:
    """Solved share and mean sampling error over delta (rows) and epsilon (columns)."""
    columns = [PREFIX + measure for measure in JOINT]
    drawings = []
    for heat in heat_maps(setting, columns):
        drawings.append(_solved_map(heat, setting.name) if setting.tells_solved else _return_map(heat, setting.name))
        for measure, column in zip(JOINT, columns, strict=True):
            values = heat.errors[column]
            if np.isfinite(values).any():
                texts = [[f"{v:.3f}" if np.isfinite(v) else "" for v in row] for row in values]
                caption = "Mean over training and seeds; brighter is more sampling error."
                what = f"sampling error ({MEASURES[measure]})"
                drawings.append(_heat(heat, values, texts, (0, float(np.nanmax(values))), what, caption, setting.name))
    return drawings


def _solved_map(heat: HeatMap, place: str) -> Drawing:
    texts = [
        [f"{s * n:.0f}/{n:.0f}" if n > 0 else "" for s, n in zip(*rows, strict=True)]
        for rows in zip(heat.share, heat.seeds, strict=True)
    ]
    caption = "Solved of all seeds in each cell; brighter is more."
    return _heat(heat, heat.share, texts, (0, 1), "solved seeds", caption, place)


def _return_map(heat: HeatMap, place: str) -> Drawing:
    texts = [[f"{v:.3g}" if np.isfinite(v) else "" for v in row] for row in heat.share]
    known = heat.share[np.isfinite(heat.share)]
    ends = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    return _heat(heat, heat.share, texts, ends, "mean return", "Mean over seeds; brighter is more.", place)


def _heat(
    heat: HeatMap, values: Any, texts: list[list[str]], ends: tuple[float, float], what: str, caption: str, place: str
) -> Drawing:
    rows, columns = values.shape

    def paint(axes: Any) -> None:
        axes.grid(False)
        low, high = ends if ends[1] > ends[0] else (ends[0], ends[0] + 1)
        mesh = axes.pcolormesh(np.ma.masked_invalid(values), cmap="cividis", vmin=low, vmax=high)
        if columns > MOST_CELLS:  # too narrow for numbers
            axes.figure.colorbar(mesh)
        else:
            _write_cells(axes, mesh, values, texts)
        every = 1 + columns // (MOST_CELLS + 1)
        axes.set_xticks(np.arange(0, columns, every) + 0.5, [show(v) for v in heat.epsilon[::every]])
        axes.set_yticks(np.arange(rows) + 0.5, [show(v) for v in heat.delta])
        axes.set_xlabel("epsilon (clip_epsilon)")
        axes.set_ylabel("delta (kl_cutoff), nats")
        axes.tick_params(length=0)

    cells = (
        f"delta {show(d)}, epsilon {show(e)}: {texts[i][j] or 'no run'}"
        for i, d in enumerate(heat.delta)
        for j, e in enumerate(heat.epsilon)
    )
    alt = f"{what} of {heat.name} over delta and epsilon, {place}. " + "; ".join(cells)
    title = f"{heat.name}: {what}"
    return Drawing(title, draw(paint, max(1.8, 0.8 + 0.4 * rows), alt), alt, caption)


def _write_cells(axes: Any, mesh: Any, values: Any, texts: list[list[str]]) -> None:
    for (row, column), value in np.ndenumerate(values):
        place = {"ha": "center", "va": "center", "fontsize": 9 if values.shape[1] <= 5 else 7.8}
        if texts[row][column]:
            red, green, blue, _ = mesh.to_rgba(value)
            ink = "black" if 0.3 * red + 0.59 * green + 0.11 * blue > 0.5 else "white"
            axes.text(column + 0.5, row + 0.5, texts[row][column], color=ink, **place)
        else:
            axes.text(column + 0.5, row + 0.5, "none", color=INK, **place)
