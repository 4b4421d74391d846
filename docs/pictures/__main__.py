"""Draws the pictures of the README, docs/method.md and docs/low_discrepancy.md.

``python -m docs.pictures`` writes the SVG files beside it; ``python -m docs.pictures runs`` first takes the runs of
the README's two commands, in ``runs``, into its picture.
"""

import math
import sys
from pathlib import Path

from docs.pictures import low_discrepancy, numbers
from docs.pictures.canvas import COLORS, INK, LINE, MUTED, Canvas
from lit_maprops.behavior import MAPROPS, PROPS, BehaviorPolicy, OnPolicy
from lit_maprops.metrics.reliability import share_text

HERE = Path(__file__).parent
N = 8
JOINT = ("AA", "AB", "BA", "BB")
SHOWN_D = [(0, 0), (0, 0), (0, 1), (1, 0)]


def weak(kind: type[BehaviorPolicy]) -> BehaviorPolicy:
    """The weak updates of docs/evidence/matrix_games.md."""
    return kind(clip_epsilon=0.3, kl_cutoff=0.05, epochs=8, learning_rate=0.5, hidden=[])


def strong(kind: type[BehaviorPolicy]) -> BehaviorPolicy:
    """The strong ones."""
    return kind(clip_epsilon=1.0, kl_cutoff=1.0, epochs=8, learning_rate=1.0, hidden=[])


def _counts(canvas: Canvas, x: float, y: float, title: str, says: str, counts: list[list[float]], color: str) -> None:
    """A 2x2 table of joint actions with each agent's own counts at its sides."""
    canvas.text(x + 10, y + 18, title, bold=True, color=color)
    canvas.text(x + 10, y + 36, says, 12, color=MUTED)
    left, top, cell = x + 42, y + 64, 48
    for j, name in enumerate("AB"):
        canvas.text(left + (j + 0.5) * cell, top - 8, name, 12, "middle", MUTED)
        canvas.text(left - 12, top + (j + 0.5) * cell + 4, name, 12, "middle", MUTED)
    for i, row in enumerate(counts):
        for j, count in enumerate(row):
            canvas.box(left + j * cell, top + i * cell, cell - 3, cell - 3, color, 0.06 + 0.13 * count)
            canvas.text(left + (j + 0.47) * cell, top + (i + 0.58) * cell, f"{count:g}", 18, "middle")
        canvas.text(left + 2 * cell + 14, top + (i + 0.58) * cell, f"{sum(row):g}", 14, "middle", MUTED)
        canvas.text(
            left + (i + 0.47) * cell, top + 2 * cell + 16, f"{counts[0][i] + counts[1][i]:g}", 14, "middle", MUTED
        )


def sampling_error() -> Canvas:
    """What D holds after 8 steps, by sampler."""
    canvas = Canvas(434, f"{N} samples of four equally probable joint actions, by sampler")
    canvas.text(10, 24, f"{N} samples; both agents choose A or B with probability 1/2", bold=True)
    canvas.text(10, 42, "rows: agent 1, columns: agent 2; at the sides each agent's own counts", 12, color=MUTED)
    on_policy = numbers.counts_of(OnPolicy(), N)[0]
    props = numbers.counts_of(weak(PROPS), N)
    own_right = (props.sum(1) == N // 2).all(1) & (props.sum(2) == N // 2).all(1) & (props != N // 4).any(-1).any(-1)
    first = int(own_right.nonzero()[0])
    ma_props = numbers.counts_of(strong(MAPROPS), N)[0]
    shown = [
        ("what the policies give", "expected counts", None, INK),
        ("on-policy", "seed 0", on_policy, COLORS["OnPolicy"]),
        ("PROPS: each agent by itself", f"seed {first}", props[first], COLORS["PROPS"]),
        ("MA-PROPS: joint actions", "seed 0", ma_props, COLORS["MAPROPS"]),
    ]
    for place, (title, says, counts, color) in enumerate(shown):
        error = "" if counts is None else f", sampling error {numbers.total_variation(counts):.3g}"
        table = [[N / 4] * 2] * 2 if counts is None else counts.tolist()
        _counts(canvas, 240 * (place % 2), 56 + 188 * (place // 2), title, says + error, table, color)
    return canvas


def behavior_update() -> Canvas:
    """pi_theta, D and pi_phi of the four joint actions."""
    canvas = Canvas(336, "One behavior update: what D lacks becomes more probable")
    canvas.text(10, 24, "D holds AA twice, AB and BA once, BB never", bold=True)
    colors = (COLORS["pi_theta"], "#90caf9", COLORS["MAPROPS"])
    for k, (name, color) in enumerate(
        zip(("target policy", "share of D", "behavior policy after the update"), colors, strict=True)
    ):
        canvas.box((10, 126, 224)[k], 36, 12, 12, color)
        canvas.text((27, 143, 241)[k], 47, name, 12, color=MUTED)
    in_d = [SHOWN_D.count((i, j)) / len(SHOWN_D) for i in (0, 1) for j in (0, 1)]
    panels = (("weak update", "epsilon 0.3, delta 0.05", weak), ("strong update", "epsilon 1, delta 1", strong))
    for panel, (title, setting, made) in enumerate(panels):
        probabilities, kl = numbers.after_update(made(MAPROPS), SHOWN_D)
        x, base, scale = 14 + 236 * panel, 288, 190
        canvas.text(x, 76, title, 13, bold=True)
        canvas.text(x, 93, f"{setting}: KL {kl:.2f} nats", 12, color=MUTED)
        for j, name in enumerate(JOINT):
            for k, share in enumerate((0.25, in_d[j], probabilities[j])):
                canvas.box(x + 54 * j + 15 * k, base - scale * share, 13, scale * share, colors[k])
            top = base - scale * probabilities[j] - 5
            canvas.text(x + 54 * j + 37, top, f"{probabilities[j]:.2f}", 12, "middle", COLORS["MAPROPS"], bold=True)
            canvas.text(x + 54 * j + 22, base + 18, name, 13, "middle")
        canvas.line([(x - 4, base), (x + 212, base)])
    canvas.text(10, 328, "computed by one update of MAPROPS, a table as the adjustment", 12, color=MUTED)
    return canvas


def clocks() -> Canvas:
    """m and n for two environments per seed."""
    canvas = Canvas(300, "Two clocks: behavior updates every m env steps, target updates every n")
    canvas.text(10, 24, "num_envs 2, m = 4, n = 16, one seed", bold=True)
    left, step = 108, 40
    canvas.text(10, 78, "environment 1", 12, color=MUTED)
    canvas.text(10, 104, "environment 2", 12, color=MUTED)
    for k in range(9):
        for row in (0, 1):
            color = COLORS["MAPROPS"] if k < 8 else COLORS["pi_theta"]
            canvas.box(left + step * k, 64 + 26 * row, 24, 20, color, 0.25)
            canvas.text(left + step * k + 12, 79 + 26 * row, str(2 * (k % 8) + row + 1), 12, "middle")
    canvas.text(left, 54, "vector step", 12, color=MUTED)
    canvas.line([(left, 58), (left + 24, 58)], MUTED)
    canvas.text(left + 92, 54, "numbers count the env steps in D", 12, color=MUTED)
    for k in (2, 4, 6):
        canvas.arrow(left + step * k - 9, 116, left + step * k - 9, 146, COLORS["MAPROPS"])
    x = left + step * 8 - 9
    canvas.arrow(x, 116, x, 212, COLORS["TabularMAPROPS"])
    canvas.text(left, 166, "behavior update (Algorithm 2)", 13, color=COLORS["MAPROPS"], bold=True)
    canvas.text(left, 184, "every m = 4 env steps, on all of D: 4, 8, 12 of them", 12, color=MUTED)
    canvas.text(left, 230, "target update (IPPO, MAPPO) on all n = 16;", 13, color=COLORS["TabularMAPROPS"], bold=True)
    canvas.text(left, 248, "then D is cleared and the behavior policy is", 12, color=MUTED)
    canvas.text(left, 264, "the target policy again: a new target iteration", 12, color=MUTED)
    return canvas


def seeds() -> Canvas:
    """The seed dimension."""
    canvas = Canvas(282, "Seeds run side by side in stacked tensors and never mix")
    canvas.text(10, 24, "num_seeds = R runs in one process", bold=True)
    columns = (
        (14, "environments", "[R, E, ...]"),
        (132, "networks", "[R, ...]"),
        (250, "losses", "[R]"),
        (368, "solved?", "[R]"),
    )
    marks = ("yes", "no", "yes", "yes")
    for place, (x, name, shape) in enumerate(columns):
        canvas.text(x + 48, 54, name, 13, "middle")
        canvas.text(x + 48, 72, shape, 12, "middle", MUTED)
        for row in range(4):
            y = 84 + 36 * row
            canvas.box(x, y, 96, 28, COLORS["TabularMAPROPS"], 0.12 + 0.1 * row)
            words = marks[row] if place == 3 else ("seed 0", "seed 1", "seed 2", "seed R-1")[row]
            canvas.text(x + 48, y + 19, words, 12, "middle")
            if place:
                canvas.arrow(x - 19, y + 14, x - 3, y + 14)
    canvas.text(10, 250, "One operation serves a whole column; nothing crosses a row.", 13)
    canvas.text(10, 270, "Reported: the share of solved seeds, with its 95% interval.", 13)
    return canvas


def error_curves() -> Canvas:
    """Mean joint TV over n, log-log."""
    canvas = Canvas(356, "Mean sampling error against the number of samples, by sampler")
    canvas.text(10, 24, "mean joint sampling error of n samples (total variation)", bold=True)
    canvas.text(10, 42, "2x2 joint actions, uniform policies, 1,000 seeds, both axes logarithmic", 12, color=MUTED)
    ends = {
        "on-policy": ("on-policy", COLORS["OnPolicy"]),
        "PROPS, weak updates": ("PROPS", COLORS["PROPS"]),
        "MA-PROPS, weak updates": ("MA-PROPS, weak", COLORS["TabularMAPROPS"]),
        "MA-PROPS, strong updates": ("MA-PROPS, strong", COLORS["MAPROPS"]),
    }
    curves = numbers.error_curves()

    def place(n: int, error: float) -> tuple[float, float]:
        return 62 + 86 * math.log2(n / 8), 62 + 100 * math.log10(0.3 / error)

    for tick in (0.1, 0.01, 0.001):
        y = place(8, tick)[1]
        canvas.line([(62, y), (326, y)], LINE)
        canvas.text(54, y + 4, f"{tick:g}", 12, "end", MUTED)
    for n in (8, 16, 32, 64):
        canvas.text(place(n, 1)[0], 330, str(n), 12, "middle", MUTED)
    canvas.text(200, 348, "n, env steps", 12, "middle", MUTED)
    for sampler, (name, color) in ends.items():
        points = [place(n, error) for n, error in sorted(curves[sampler].items())]
        canvas.line(points, color, 2.5)
        for x, y in points:
            canvas.dot(x, y, color)
        canvas.text(points[-1][0] + 10, points[-1][1] + 4, name, 13, color=color, bold=True)
    return canvas


def solved_runs() -> Canvas:
    """Differences in solved runs, all settings."""
    found = numbers.differences()
    settings = list(dict.fromkeys(one.setting for one in found))
    canvas = Canvas(92 + 58 * len(settings) + 48, "Solved runs compared with on-policy sampling on BoulderPush")
    canvas.text(10, 24, "solved runs less on-policy sampling's, points", bold=True)
    for k, name in enumerate(("TabularMAPROPS", "MAPROPS", "PROPS")):
        canvas.dot((16, 160, 252)[k], 42, COLORS[name])
        canvas.text((25, 169, 261)[k], 46, name, 12, color=MUTED)

    def x_of(points: float) -> float:
        return 296 + 4.1 * points

    bottom = 62 + 58 * len(settings)
    for tick in (-20, 0, 20, 40):
        canvas.line([(x_of(tick), 58), (x_of(tick), bottom)], INK if tick == 0 else LINE)
        canvas.text(x_of(tick), bottom + 16, f"{tick:+d}" if tick else "0", 12, "middle", MUTED)
    for row, setting in enumerate(settings):
        y = 76 + 58 * row
        name, _, rest = setting.partition(", ")
        canvas.text(10, y + 10, name, 13)
        canvas.text(10, y + 26, rest or "penalty 0.003", 12, color=MUTED)
        for one in found:
            if one.setting == setting:
                at = y + ("TabularMAPROPS", "MAPROPS", "PROPS").index(one.sampler) * 14
                canvas.line([(x_of(one.low), at), (x_of(one.high), at)], COLORS[one.sampler], 2)
                canvas.dot(x_of(one.points), at, COLORS[one.sampler])
    says = "256 seeds each; penalty 0.003: 1,024, PROPS 256; random starts: PROPS 128"
    canvas.text(10, bottom + 42, says, 12, color=MUTED)
    canvas.text(10, bottom + 58, "bars: 95% intervals of the difference", 12, color=MUTED)
    return canvas


def two_samplers() -> Canvas:
    """Success over training with and without the sampler, on the game of the paper's Figure 1."""
    canvas = Canvas(330, "Success over training on the game figure1, with MA-PROPS and on-policy")
    found = numbers.two_samplers()
    total, count = max(one.env_steps for one in found), found[0].seeds
    canvas.text(10, 24, "success of the agents' policies while they train", bold=True)
    canvas.text(10, 42, f"game figure1, {count} seeds; line: mean, band: its 95% interval", 12, color=MUTED)

    def place(env_steps: float, success: float) -> tuple[float, float]:
        return 44 + 270 * env_steps / total, 286 - 220 * success

    for tick in (0, 0.25, 0.5, 0.75, 1):
        canvas.line([place(0, tick), place(total, tick)], LINE)
        canvas.text(38, place(0, tick)[1] + 4, f"{tick:g}", 12, "end", MUTED)
    for quarter in range(5):
        steps = total * quarter // 4
        canvas.text(place(steps, 0)[0], 304, str(steps), 12, "middle", MUTED)
    canvas.text(179, 322, "env steps per seed", 12, "middle", MUTED)
    names = (("ma_props", "MA-PROPS", "MAPROPS"), ("on_policy", "on-policy", "OnPolicy"))
    for sampler, name, color in names:
        curve = [one for one in found if one.sampler == sampler]
        ends = ([place(one.env_steps, one.low) for one in curve], [place(one.env_steps, one.high) for one in curve])
        canvas.band(*ends, COLORS[color])
        points = [place(one.env_steps, one.mean) for one in curve]
        canvas.line(points, COLORS[color], 2.5)
        for x, y in points:
            canvas.dot(x, y, COLORS[color], 3)
        x, y = points[-1]
        canvas.text(x + 10, y + 4, name, 13, color=COLORS[color], bold=True)
        canvas.text(x + 10, y + 21, f"{share_text(curve[-1].solved)} of seeds solved", 12, color=MUTED)
    return canvas


PICTURES = {
    draw.__name__: draw
    for draw in (sampling_error, behavior_update, clocks, seeds, error_curves, solved_runs, two_samplers)
} | low_discrepancy.PICTURES

if __name__ == "__main__":
    for given in sys.argv[1:]:
        numbers.read_runs(Path(given))
    for name, draw in PICTURES.items():
        (HERE / f"{name}.svg").write_text(draw().svg())
