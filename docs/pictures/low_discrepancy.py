"""Pictures of docs/low_discrepancy.md; ``python -m docs.pictures`` draws them with the others."""

import math
from collections.abc import Callable
from itertools import accumulate

import torch
from torch import Tensor

from docs.pictures import low_discrepancy_numbers as numbers
from docs.pictures.canvas import COLORS, INK, LINE, MUTED, Canvas
from lit_maprops.envs import Coordination
from lit_maprops.stacked.streams import SeedStreams

COLOR = {"on-policy": COLORS["OnPolicy"], "MA-PROPS": COLORS["MAPROPS"], "low-discrepancy": "#c2185b"}
JOINT = {"AA": "#3949ab", "AB": "#00796b", "BA": "#e65100", "BB": "#757575"}
POINTS = 16
LEAST = 0.005  # what the picture over time has room for
Place = Callable[[float, float], tuple[float, float]]


def first_points() -> dict[str, Tensor]:
    """``POINTS`` numbers of two agents in one state, ``[POINTS, 2]``, of seed 0."""
    task, own = Coordination(2, 2), [0]

    def streams(purpose: str) -> SeedStreams:
        return SeedStreams(0, own, purpose)

    draws = numbers.LowDiscrepancyDraws(task.family.uniforms, task, 1, streams("scrambling"))
    return {
        "on-policy": streams("actions").several(POINTS, 1, 2)[0, :, 0],
        "low-discrepancy": numbers.visits(draws, streams("actions"), POINTS)[0],
    }


def low_discrepancy_points() -> Canvas:
    """The unit square, cut by two policies, with 16 draws of both kinds."""
    canvas = Canvas(
        324, f"{POINTS} draws of two agents as points of a square, independent and of a low-discrepancy sequence"
    )
    canvas.text(10, 24, f"{POINTS} joint actions in one state; one point is one of them", bold=True)
    canvas.text(10, 42, "across: agent 1, A below 0.7; up: agent 2, A below 0.6; seed 0", 12, color=MUTED)
    side, bottom = 200, 286
    for panel, (name, points) in enumerate(first_points().items()):
        left = 24 + 236 * panel
        canvas.text(left, 64, name, 13, color=COLOR[name], bold=True)
        cut = left + side * numbers.SHARES[0], bottom - side * numbers.SHARES[1]
        canvas.box(left, bottom - side, side, side, COLOR[name], 0.08)
        canvas.line([(cut[0], bottom - side), (cut[0], bottom)], INK)
        canvas.line([(left, cut[1]), (left + side, cut[1])], INK)
        for x, y in points.tolist():
            canvas.dot(left + side * x, bottom - side * y, COLOR[name], 3)
        for joint, count, share in zip(JOINT, counts(points), numbers.joint_shares(), strict=True):
            x, anchor = (left, "start") if joint[0] == "A" else (left + side, "end")
            y = bottom + 16 if joint[1] == "A" else bottom - side - 5
            canvas.text(x, y, f"{joint} {count} of {POINTS * share:.1f}", 12, anchor, MUTED)
    canvas.text(10, 318, "beside each field: how often it was drawn, of how often it should be", 12, color=MUTED)
    return canvas


def counts(points: Tensor) -> list[int]:
    """Of AA, AB, BA and BB among numbers ``[N, 2]``."""
    actions = (points >= torch.tensor(numbers.SHARES)).long()
    return torch.bincount(2 * actions[:, 0] + actions[:, 1], minlength=4).tolist()


def low_discrepancy_counts() -> Canvas:
    """How far the counts of joint actions are from what they should be, over time, by sampler."""
    canvas = Canvas(634, "Counts of joint actions over time, and the mean joint sampling error, by sampler")
    canvas.text(10, 24, "count of each joint action less its expected count, seed 0", bold=True)
    for k, (name, color) in enumerate(JOINT.items()):
        canvas.box(10 + 130 * k, 34, 12, 12, color)
        canvas.text(27 + 130 * k, 45, f"{name}, {numbers.joint_shares()[k]:.2f}", 12, color=MUTED)
    share = numbers.joint_shares()
    for panel, (name, behavior) in enumerate(numbers.samplers().items()):
        middle = 104 + 100 * panel
        canvas.text(330, middle + 4, name, 13, color=COLOR[name], bold=True)
        for tick in (-5, 0, 5):
            canvas.line([(40, middle - 8 * tick), (320, middle - 8 * tick)], MUTED if tick == 0 else LINE)
            canvas.text(34, middle - 8 * tick + 4, f"{tick:+d}" if tick else "0", 12, "end", MUTED)
        taken = numbers.actions(behavior, numbers.TIME, 1)[0].tolist()
        for place, color in enumerate(JOINT.values()):
            held = list(accumulate((action == place for action in taken), initial=0))
            curve = [(40 + 280 * t / numbers.TIME, middle - 8 * (n - t * share[place])) for t, n in enumerate(held)]
            canvas.line(curve, color, 1.5)
    canvas.text(10, 382, f"mean joint sampling error of {numbers.TIME_SEEDS} seeds (total variation)", bold=True)

    def place_of(t: float, error: float) -> tuple[float, float]:
        return 40 + 280 * math.log2(t) / math.log2(numbers.TIME), 402 + 80 * math.log10(1 / error)

    for tick in (1, 0.1, 0.01):
        canvas.line([place_of(1, tick), place_of(numbers.TIME, tick)], LINE)
        canvas.text(34, place_of(1, tick)[1] + 4, f"{tick:g}", 12, "end", MUTED)
    for t in (1, 2, 4, 8, 16, 32, 64):
        canvas.text(place_of(t, 1)[0], 612, str(t), 12, "middle", MUTED)
    canvas.text(180, 629, "env steps in the state; above from 0 to 64, evenly", 12, "middle", MUTED)
    measured = numbers.rows("time")
    for name, color in COLOR.items():
        curve = [place_of(row.n, max(row.mean, LEAST)) for row in measured if row.sampler == name]
        canvas.line(curve, color, 2)
        canvas.text(330, curve[-1][1] + 4, name, 13, color=color, bold=True)
    return canvas


def low_discrepancy_rates() -> Canvas:
    """Joint TV over n by numbers of agents and actions, log-log."""
    canvas = Canvas(560, "Mean joint sampling error against the number of samples, by numbers of agents and actions")
    canvas.text(10, 24, "mean joint sampling error of n samples (total variation)", bold=True)
    canvas.text(10, 42, "policies drawn at random, 64 seeds; both axes logarithmic", 12, color=MUTED)
    lines = numbers.INDEPENDENT, numbers.PER_AGENT, numbers.JOINTLY
    colors = dict(zip(lines, (COLOR["on-policy"], COLOR["low-discrepancy"], COLORS["TabularMAPROPS"]), strict=True))
    for k, (name, color) in enumerate(colors.items()):
        canvas.box((10, 98, 260)[k], 52, 12, 12, color)
        canvas.text((27, 115, 277)[k], 63, name, 12, color=MUTED)
    first, last = numbers.EXPONENTS[0], numbers.EXPONENTS[-1]
    for panel, (n_agents, n_actions) in enumerate(numbers.SIZES):
        left, top = 52 + 224 * (panel % 2), 96 + 232 * (panel // 2)
        setting = f"{n_agents} agents, {n_actions} actions"
        canvas.text(left, top - 8, f"{setting}: {n_actions**n_agents} joint", 13)

        def place(n: float, error: float, left: float = left, top: float = top) -> tuple[float, float]:
            return left + 176 * (math.log2(n) - first) / (last - first), top + 42 * math.log10(1 / error)

        for tick in (1, 0.1, 0.01, 0.001, 0.0001):
            canvas.line([place(2**first, tick), place(2**last, tick)], LINE)
            canvas.text(left - 5, place(1, tick)[1] + 4, f"{tick:g}", 11, "end", MUTED)
        for exponent in (3, 6, 9, 13):
            canvas.text(place(2**exponent, 1)[0], top + 190, str(2**exponent), 11, "middle", MUTED)
        _curves(canvas, setting, colors, place)
    return canvas


def _curves(canvas: Canvas, setting: str, colors: dict[str, str], place: Place) -> None:
    for name, color in colors.items():
        own = [row for row in numbers.rows("rates") if (row.setting, row.sampler) == (setting, name)]
        canvas.line([place(row.n, row.mean) for row in own], color, 2)


PICTURES = {draw.__name__: draw for draw in (low_discrepancy_points, low_discrepancy_counts, low_discrepancy_rates)}
