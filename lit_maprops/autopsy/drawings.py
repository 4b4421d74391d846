"""The pictures of an autopsy."""

from typing import Any

from lit_maprops.autopsy.branches import Share
from lit_maprops.autopsy.findings import Finding
from lit_maprops.autopsy.joint_actions import JointAction
from lit_maprops.metrics.reliability import share_text
from lit_maprops.report.svg import INK, MUTED, Drawing, color, draw, plain

OWN, IDEAL = 1, 2  # styles
MOST_ACTIONS = 16  # in the picture, the most extreme ones; the table has all


def chance(found: Finding, iterations: int) -> Drawing:
    """Share of solved branches against the target iteration they start after."""
    looks = sorted(found.trail.looks.items())

    def paint(axes: Any) -> None:
        axes.axhline(found.trail.level, color=MUTED, lw=1, ls=(0, (2, 2)))
        axes.axvspan(found.update - 1, found.update, color=color(OWN), alpha=0.2, lw=0)
        axes.plot([k for k, _ in looks], [share.value for _, share in looks], color=color(OWN), lw=1.2)
        for k, share in looks:
            _interval(axes, k, share, OWN, "o")
        axes.plot([found.update], [found.ideal.value], marker="s", ms=6, color=color(IDEAL), clip_on=False)
        axes.set_xlim(0, iterations)
        axes.set_ylim(-0.03, 1.03)
        axes.yaxis.set_major_formatter(lambda value, _: share_text(value))
        axes.set_xlabel("target iterations done")
        axes.set_ylabel("branches that end solved")

    chances = "; ".join(f"{k}: {share_text(share.value)}" for k, share in looks)
    alt = f"Chance of seed {found.seed} by target iteration. {chances}"
    caption = (
        f"{looks[0][1].branches} branches per point, 95% Wilson intervals. Shaded: the decisive update; dotted: the "
        "level; square: with an ideal batch."
    )
    return Drawing("Chance to end solved", draw(paint, 2.9, alt), alt, caption)


def sides(found: Finding) -> Drawing:
    """Before and after the decisive update, and with an ideal batch."""
    rows = (("before", found.before, 0), ("after its own batch", found.after, OWN), ("ideal batch", found.ideal, IDEAL))

    def paint(axes: Any) -> None:
        axes.axvline(found.trail.level, color=MUTED, lw=1, ls=(0, (2, 2)))
        for row, (name, share, style) in enumerate(rows):
            axes.plot(share.interval, [row, row], lw=3, color=color(style), solid_capstyle="butt", clip_on=False)
            axes.plot([share.value], [row], marker="os^"[row], ms=7, color=color(style), clip_on=False)
            axes.text(0, row - 0.25, name, va="bottom", fontsize=8.5)
            axes.text(1, row - 0.25, f"{share.solved} of {share.branches}", va="bottom", ha="right", fontsize=8.5)
        axes.set_xlim(0, 1)
        axes.set_ylim(2.45, -0.85)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_formatter(lambda value, _: share_text(value))

    alt = "Solved branches. " + "; ".join(f"{name}: {share.solved} of {share.branches}" for name, share, _ in rows)
    caption = (
        "Fresh branches from the states on either side of the decisive update; 95% Wilson intervals; dotted: level."
    )
    return Drawing(f"Target update {found.update}", draw(paint, 1.9, alt), alt, caption)


def actions(found: list[JointAction]) -> Drawing:
    """Joint actions of the batch, own counts against expected ones."""
    order = sorted(range(len(found)), key=lambda k: -abs(found[k].z) if found[k].z == found[k].z else 0.0)
    shown = [found[k] for k in sorted(order[:MOST_ACTIONS])]

    def paint(axes: Any) -> None:
        for row, one in enumerate(shown):
            axes.barh(row, one.in_batch, 0.6, color=color(OWN), alpha=0.6, lw=0)
            axes.plot([one.expected], [row], marker="d", ms=5, color=INK, clip_on=False)
            if one.z == one.z and one.z:
                reach = 1.96 * abs((one.in_batch - one.expected) / one.z)
                axes.plot([max(0.0, one.expected - reach), one.expected + reach], [row, row], color=INK, lw=1)
        axes.set_yticks(range(len(shown)), [plain(one.name) for one in shown])
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.set_xlim(left=0)
        axes.set_xlabel("env steps in the batch")

    alt = "Joint actions. " + "; ".join(f"{one.name}: {one.in_batch} for {one.expected:.1f}" for one in shown)
    caption = (
        "Bars: in the batch. Diamonds: expected from pi_theta in the states visited, with 95% of independent draws."
    )
    if len(found) > len(shown):
        caption += f" The {len(shown)} most extreme of {len(found)}."
    return Drawing("Joint actions of its batch", draw(paint, 0.7 + 0.26 * len(shown), alt), alt, caption)


def _interval(axes: Any, x: float, share: Share, style: int, marker: str) -> None:
    axes.plot([x, x], share.interval, color=color(style), lw=2, solid_capstyle="butt", clip_on=False)
    axes.plot([x], [share.value], marker=marker, ms=4, color=color(style), clip_on=False)
