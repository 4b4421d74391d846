"""What the page shows of the tasks: table, rank correlations with what they can tell, picture."""

import math
from collections.abc import Sequence

from scipy.stats import spearmanr

from lit_maprops.metrics.reliability import NORMAL_QUANTILE, difference_interval
from studies import picture_of
from studies.cells import signed
from studies.first_visits.tasks import GAMES, KINDS, ONE_STATE, Point

POWER_QUANTILE = 0.8416212335729143  # of 0.8
FIELLER = 1.06  # variance of the z-transformed rank correlation times (tasks - 3) (Fieller, Hartley & Pearson 1957)
COLORS = {"LowDiscrepancy": "#0072b2", "TabularMAPROPS": "#d55e00", "MAPROPS": "#009e73", "PROPS": "#999999"}
MARKS = {"LowDiscrepancy": "o", "TabularMAPROPS": "s", "MAPROPS": "^", "PROPS": "v"}
BANDS = {"below 0.3": (0.0, 0.3), "0.3 to 0.7": (0.3, 0.7), "above 0.95": (0.95, 1.01)}


def interval(point: Point) -> tuple[float, float]:
    """95% interval of the difference of solved shares, points."""
    low, high = difference_interval(*point.solved, *point.base)
    return 100 * low, 100 * high


def table(points: Sequence[Point]) -> str:
    """A line per task and sampler."""
    lines = []
    for point in points:
        value, half = point.first_visits
        share = f"{value:.2f}" + (f" +- {half:.2f}" if half > 0.005 else "")
        low, high = interval(point)
        ends = f" [{100 * min(point.reductions):+.1f}, {100 * max(point.reductions):+.1f}]"
        reduction = f"{100 * point.reduction:+.1f}" + (ends if len(point.reductions) > 1 else "")
        ceiling = "" if point.ceiling is None else f"{point.ceiling:+.0f}"
        solved = f"{point.solved[0] / point.solved[1]:.0%} of {point.solved[1]}"
        solved += f" / {point.base[0] / point.base[1]:.0%} of {point.base[1]}"
        change = signed(point.points, low, high)
        lines.append(f"| {share} | {point.task} | {point.kind} | {reduction} | {solved} | {change} | {ceiling} |")
    return "\n".join(lines)


def correlation(x: Sequence[float], y: Sequence[float]) -> tuple[float, float, float]:
    """Spearman's rho and its 95% interval, by Fisher's z with Fieller's variance; at least four pairs."""
    rho = float(spearmanr(x, y).statistic)
    reach = NORMAL_QUANTILE * math.sqrt(FIELLER / (len(x) - 3))
    z = math.atanh(max(-1 + 1e-9, min(1 - 1e-9, rho)))
    return rho, math.tanh(z - reach), math.tanh(z + reach)


def least_seen(tasks: int) -> float:
    """The smallest true rho that so many tasks tell from 0 with a power of 80%."""
    return math.tanh((NORMAL_QUANTILE + POWER_QUANTILE) * math.sqrt(FIELLER / (tasks - 3)))


def ranked(points: Sequence[Point], kind: str) -> dict[str, tuple[int, float, float, float]]:
    """Tasks, and rho with its interval, of first visits with the fall of the error and with solved runs.

    The error where it is measured state by state. Left out: fewer than five tasks.
    """
    own = [point for point in points if point.kind == kind]
    found = {}
    for name, figure, these in (("error", _percent, [p for p in own if p.by_state]), ("solved", _points, own)):
        if len(these) >= 5:
            x, y = [point.first_visits[0] for point in these], [figure(point) for point in these]
            found[name] = len(these), *correlation(x, y)
    return found


def with_states(points: Sequence[Point]) -> list[Point]:
    """Those of tasks with more than one state."""
    return [point for point in points if point.task not in (*GAMES, *ONE_STATE)]


def correlations(points: Sequence[Point]) -> str:
    """Of first visits with both figures, sampler by sampler, over all tasks and over those with states."""
    lines = []
    for name, these in (("all", points), ("with states", with_states(points))):
        for kind in KINDS:
            found = ranked(these, kind)
            cells = [f"{_rho(found[name])} | {found[name][0]} | {least_seen(found[name][0]):.2f}" for name in found]
            lines.append(f"| {name} | {kind} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _rho(found: tuple[int, float, float, float]) -> str:
    return f"{found[1]:+.2f} [{found[2]:+.2f}, {found[3]:+.2f}]"


def sentences(points: Sequence[Point]) -> dict[str, str]:
    """Numbers of the page's text, by field."""
    fields: dict[str, str] = {}
    for kind in KINDS:
        fields |= {f"{kind}_{name}": _rho(found) for name, found in ranked(points, kind).items()}
        fields |= {f"{kind}_{name}_states": _rho(found) for name, found in ranked(with_states(points), kind).items()}
        for place, (low, high) in enumerate(BANDS.values()):
            own = [p for p in points if p.kind == kind and low <= p.first_visits[0] < high]
            falls = sorted(_percent(p) for p in own if p.by_state)
            fields[f"{kind}_more_{place}"] = f"{sum(interval(p)[0] > 0 for p in own)} of {len(own)}"
            fields[f"{kind}_falls_{place}"] = f"{falls[0]:.0f}% to {falls[-1]:.0f}%" if falls else ""
    return fields


def bands(points: Sequence[Point]) -> str:
    """How often more runs are solved, and by how much the error falls, by first visits."""
    lines = []
    for name, (low, high) in BANDS.items():
        for kind in KINDS:
            own = [p for p in points if p.kind == kind and low <= p.first_visits[0] < high]
            if own:
                more, fewer = (sum(sign * interval(p)[end] > 0 for p in own) for sign, end in ((1, 0), (-1, 1)))
                falls, change = ([figure(p) for p in own] for figure in (_percent, _points))
                lines.append(
                    f"| {name} | {kind} | {len(own)} | {more} | {fewer} | {min(change):+.0f} to {max(change):+.0f} "
                    f"| {min(falls):+.0f} to {max(falls):+.0f} |"
                )
    return "\n".join(lines)


def _percent(point: Point) -> float:
    return 100 * point.reduction


def _points(point: Point) -> float:
    return point.points


def draw(points: Sequence[Point]) -> None:
    """Fall of the joint error and difference of solved runs over first visits."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.6), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    plots = figure.subplots(1, 2)
    for place, kind in enumerate(KINDS):
        own = [point for point in points if point.kind == kind]
        x = [point.first_visits[0] + 0.006 * (place - 1.5) for point in own]
        look = {"color": COLORS[kind], "marker": MARKS[kind], "ms": 5, "ls": "none", "lw": 1.1}
        falls = [(_percent(p), 100 * min(p.reductions), 100 * max(p.reductions)) for p in own]
        gains = [(p.points, *interval(p)) for p in own]
        for axes, figures in zip(plots, (falls, gains), strict=True):
            value, low, high = (list(column) for column in zip(*figures, strict=True))
            axes.plot(x, value, label=kind, **look)
            axes.vlines(x, low, high, color=COLORS[kind], lw=1.1)
    for axes in plots:
        axes.axhline(0, color="#888888", lw=0.8)
        axes.set(xlabel="first visits, share of on-policy sampling's steps", xlim=(-0.02, 1.03))
        axes.grid(alpha=0.3)
    plots[0].set(ylabel="joint sampling error below on-policy's, %", ylim=(-80, 70))
    below = sum(_percent(point) < -80 for point in points)
    if below:
        plots[0].text(0.4, 0.03, f"{below} below the frame", transform=plots[0].transAxes, fontsize=8)
    plots[1].set(ylabel="solved runs minus on-policy, points")
    plots[1].legend(fontsize=8)
    figure.savefig(picture_of("first_visits"))
