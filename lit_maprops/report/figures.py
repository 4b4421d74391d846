"""The figures of success and cost: curves, dot plots with intervals, seconds per component."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lit_maprops.metrics.reliability import mean_interval, rate_text, share_text
from lit_maprops.report.analysis import Group, Result, Setting
from lit_maprops.report.forms import interval_text, signed_digits, signed_points, three_digits
from lit_maprops.report.settings import SAMPLER
from lit_maprops.report.statistics import Interval
from lit_maprops.report.svg import GRID, INK, LINES, MARKERS, MUTED, STYLES, Drawing, color, draw, plain, shorten

MOST_POINTS = 20_000  # of a figure's curves; of longer ones each so-maniest is drawn
FEW = STYLES  # samplers that one figure can tell apart
MOST_ROWS = 40  # of a dot plot or bar chart; the table of numbers has the others
COMPONENTS = {"time/collect": "collect", "time/behavior": "behavior", "time/target": "target"}
SHADES = [(INK, 0.75, ""), (INK, 0.35, "////"), (INK, 0.12, ""), (MUTED, 0.0, "....")]


def drawn_points(points: int, curves: int) -> NDArray[np.integer]:
    """Which points of each curve are drawn, so that a figure has no more than ``MOST_POINTS``; the last one always is.

    Args:
        points: of a curve.
        curves: in the figure.
    """
    every = max(1, -(-points * curves // MOST_POINTS))
    return np.unique([*range(0, points, every), points - 1]) if points else np.arange(0)


def success_curves(setting: Setting) -> Drawing:
    """Mean greedy success over env steps with 95% bands; more than ``FEW`` samplers become thin lines.

    Returns where the task tells no success.
    """
    by_return = setting.by_return
    groups = [group for group in setting.groups if len(group.scores)]
    few = len(setting.groups) <= FEW

    def paint(axes: Any) -> None:
        for group in groups:
            steps, success = group.curve()
            shown = drawn_points(len(steps), len(groups))
            steps, success = steps[shown], success[shown]
            look = line_look(group, len(steps))
            if few or group.on_policy:
                alpha = 0.2 if len(groups) < 4 else 0.1
                axes.fill_between(steps, *mean_interval(success), color=color(group.style), alpha=alpha, lw=0)
            else:
                look |= {"lw": 0.8, "marker": "", "ls": "-", "alpha": 0.7}
            axes.plot(steps, success.mean(1), **look)
        for group in setting.groups:
            for run in group.unfinished:
                values = run.others["greedy_return"] if by_return else np.nan_to_num(run.success)
                axes.plot(run.env_steps, values.mean(1), color=color(group.style), lw=1, ls=":")
        if not by_return:
            axes.set_ylim(-0.03, 1.03)
            axes.yaxis.set_major_formatter(lambda value, _: share_text(value))
        axes.set_ylabel("return, greedy policies" if by_return else "success rate, greedy policies")
        label_env_steps(axes)

    caption = "Mean over the seeds of finished runs; shaded: 95% bootstrap interval of the mean."
    if not few:
        caption = f"{len(groups)} samplers: one thin line each, colored by sampler class; the numbers are below."
    if any(group.unfinished for group in setting.groups):
        caption += " Dotted: unfinished runs, up to where they got; they count nowhere else."
    form = three_digits if by_return else share_text
    ends = (f"{g.name} ends at {form(g.curve()[1][-1].mean())}" for g in groups[:FEW])
    alt = f"{'Return' if by_return else 'Success rate'} over env steps, {setting.name}. " + "; ".join(ends)
    return Drawing(
        "Return while training" if by_return else "Success while training",
        draw(paint, 2.9, alt),
        alt,
        caption,
        key_of(setting.groups) if few else _key_of_classes(setting.groups),
    )


def line_look(group: Group, points: int) -> dict[str, Any]:
    """Color, line and marker of a sampler."""
    number = group.style
    every = max(1, points // 7)
    # Markers of different samplers stand at different points, or the last one drawn hides the others.
    return {
        "color": color(number),
        "ls": LINES[number],
        "marker": MARKERS[number],
        "markevery": (number % every, every),
        "ms": 4,
        "lw": 1.7,
    }


def key_of(groups: Sequence[Group]) -> tuple[tuple[str, int], ...]:
    """Names and styles for the key below a figure."""
    return tuple((group.name, group.style) for group in groups)


def _key_of_classes(groups: Sequence[Group]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted({(str(group.option(SAMPLER)), group.style) for group in groups}, key=lambda pair: pair[1]))


def label_env_steps(axes: Any) -> None:
    """Label the x-axis of everything that happens while training."""
    axes.set_xlabel("env steps per seed")
    axes.xaxis.set_major_locator(_few_ticks())
    thousands = axes.get_xlim()[1] >= 10_000
    axes.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:g}k" if thousands and value else f"{value:g}")


def _few_ticks() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(5)


def dots(
    title: str,
    caption: str,
    rows: Sequence[tuple[Group, Interval]],
    form: Callable[[float], str],
    axis: tuple[float, float, float | None],
    place: str,
) -> Drawing:
    """One row per sampler: a point with its interval, the numbers above it.

    Args:
        title: what the figure shows.
        caption: how to read it.
        rows: sampler and interval.
        form: a number as text.
        axis: lowest and highest x, and where nothing is shown (None: nowhere).
        place: the setting's name, for readers who hear the page.
    """
    left_out = len(rows) - MOST_ROWS
    rows = rows[:MOST_ROWS]
    low, high, neutral = axis

    def paint(axes: Any) -> None:
        if neutral is not None:
            axes.axvline(neutral, color=MUTED, lw=1, ls=(0, (2, 2)))
        for row, (group, interval) in enumerate(rows):
            look: dict[str, Any] = {"color": color(group.style), "clip_on": False}
            if not np.isnan(interval.low):
                axes.plot([interval.low, interval.high], [row, row], lw=3, solid_capstyle="butt", **look)
            axes.plot([interval.value], [row], marker=MARKERS[group.style], ms=7, **look)
            _label(axes, low, row - 0.27, group)
            number = interval_text(interval, form)
            axes.text(high, row - 0.27, number, va="bottom", ha="right", fontsize=8.5, in_layout=False)
        axes.set_ylim(len(rows) - 0.55, -0.85)
        axes.set_xlim(low, high)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_formatter(lambda value, _: form(value))

    alt = f"{title}, {place}. " + "; ".join(f"{group.name} {interval_text(i, form)}" for group, i in rows[:FEW])
    if left_out > 0:
        caption += f" The first {MOST_ROWS} of {MOST_ROWS + left_out} samplers; the numbers below have all."
    return Drawing(title, draw(paint, 0.5 + 0.43 * len(rows), alt), alt, caption)


def _label(axes: Any, x: float, y: float, group: Group) -> None:
    name = shorten(group.name)  # stays inside the axes, so that the layout need not measure it
    axes.text(x, y, plain(name), va="bottom", fontsize=8.5 if len(name) <= 36 else 7.8, in_layout=False)


def reliability(results: Sequence[Result], place: str) -> list[Drawing]:
    """Dot plots of solved shares, their differences to on-policy, IQMs and probabilities of improvement."""
    drawings = solved(results, place)
    iqm = [(r.group, r.iqm) for r in results]
    improvement = [(r.group, r.improvement) for r in results if r.improvement is not None]
    caption = (
        "Mean of the middle half of the seeds' final success rates; 95% stratified bootstrap interval. It has no "
        "width where all seeds end alike, or so many that the others stay in the quarters at the ends, which do not "
        "count: resampling them shows nothing."
    )
    drawings.append(dots("IQM of final success", caption, iqm, rate_text, (0, 1, None), place))
    if improvement:
        caption = (
            "Probability that a seed of this sampler ends with more success than an on-policy seed, ties counting "
            f"half. 95% stratified bootstrap interval{corrected(len(improvement))}; Newcombe's where all seeds of a "
            "sampler end alike."
        )
        title = "P(improvement) over on-policy"
        drawings.append(dots(title, caption, improvement, rate_text, (0, 1, 0.5), place))
    return drawings


def solved(results: Sequence[Result], place: str) -> list[Drawing]:
    """Dot plots of solved shares and their differences to on-policy."""
    share = [(r.group, r.share) for r in results]
    difference = [(r.group, r.difference) for r in results if r.difference is not None]
    drawings = [dots("Share of solved seeds", "95% Wilson score interval.", share, share_text, (0, 1, None), place)]
    if difference:
        numbers = [abs(end) for _, i in difference for end in (i.value, i.low, i.high) if np.isfinite(end)]
        edge = 1.1 * max([0.1, *numbers])
        caption = (
            "Percentage points of solved seeds, 95% score interval (Miettinen and Nurminen's, with a continuity "
            f"correction{corrected(len(difference))}). Holds 0: no difference shown."
        )
        title = "Solved share minus on-policy"
        drawings.append(dots(title, caption, difference, signed_points, (-edge, edge, 0), place))
    return drawings


def corrected(comparisons: int) -> str:
    """What a caption adds where several intervals hold together with 95%."""
    return f", corrected for {comparisons} comparisons" if comparisons > 1 else ""


def numbers(results: Sequence[Result]) -> list[list[str]]:
    """The dot plots as rows of text: sampler, seeds, share, difference, IQM, probability of improvement."""
    share = all(r.group.judged.tells_solved for r in results)
    value, signed = (share_text, signed_points) if share else (three_digits, signed_digits)
    average = three_digits if any(r.group.by_return for r in results) else rate_text
    return [
        [
            r.group.name,
            str(r.seeds),
            interval_text(r.share, value),
            interval_text(r.difference, signed) if r.difference else "",
            interval_text(r.iqm, average),
            interval_text(r.improvement, rate_text) if r.improvement else "",
        ]
        for r in results
    ]


def cost(setting: Setting) -> Drawing | None:
    """Seconds per component of a run, mean over a sampler's finished runs."""
    groups = [g for g in setting.groups if any(set(COMPONENTS) <= set(run.metrics) for run in g.runs)][:MOST_ROWS]
    if not groups:
        return None
    seconds = np.array([_seconds(group) for group in groups])  # [groups, components + 1]
    names = [*COMPONENTS.values(), "rest"]

    def paint(axes: Any) -> None:
        left = np.zeros(len(groups))
        for values, name, (face, alpha, hatch) in zip(seconds.T, names, SHADES, strict=True):
            fill = {"facecolor": face, "alpha": alpha} if alpha else {"facecolor": "none"}
            axes.barh(range(len(groups)), values, 0.36, left, hatch=hatch, edgecolor=MUTED, lw=0.6, label=name, **fill)
            left += values
        for row, (group, total) in enumerate(zip(groups, left, strict=True)):
            _label(axes, 0, row - 0.24, group)
            axes.text(left.max(), row - 0.24, f"{total:,.0f} s", va="bottom", ha="right", fontsize=8.5)
        axes.set_ylim(len(groups) - 0.6, -0.8)
        axes.set_yticks([])
        axes.set_xlabel("seconds per run")
        axes.spines["left"].set_visible(False)
        legend = {"loc": "outside upper center", "ncols": 4, "frameon": False, "handlelength": 1.2, "fontsize": 8}
        axes.figure.legend(columnspacing=1.0, labelcolor=INK, **legend)
        axes.grid(axis="y", color=GRID)

    texts = (
        f"{g.name} {row.sum():,.0f} s, of which behavior {row[1]:,.0f}" for g, row in zip(groups, seconds, strict=True)
    )
    alt = f"Seconds per run and component, {setting.name}. " + "; ".join(list(texts)[:FEW])
    caption = (
        "Wall time summed over a run, mean over finished runs. Rest: evaluation, sampling-error estimates, logging."
    )
    sizes = sorted({len(run.seeds) for group in groups for run in group.runs})
    if len(sizes) > 1:
        caption += f" Runs have different numbers of seeds ({', '.join(map(str, sizes))}): compare with care."
    if len({str((run.summary or {}).get("machine")) for group in groups for run in group.runs}) > 1:
        caption += " Runs were made on different machines: compare with care."
    return Drawing("Cost", draw(paint, 0.85 + 0.43 * len(groups), alt), alt, caption)


def _seconds(group: Group) -> list[float]:
    rows = []
    for run in group.runs:
        if set(COMPONENTS) <= set(run.metrics):
            parts = [float(np.nansum(run.metrics[name])) for name in COMPONENTS]
            wall = run.metrics.get("wall_seconds")
            rows.append([*parts, max(0.0, float(wall[-1]) - sum(parts)) if wall is not None else 0.0])
    return list(np.mean(rows, axis=0))
