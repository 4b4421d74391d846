"""A plan: its figures, and in words, as ``python -m lit_maprops plan`` prints it."""

from dataclasses import dataclass
from typing import NamedTuple

from lit_maprops.metrics.reliability import share_text
from lit_maprops.planning.pilot import SHARE, Pilot

HOUR = 60.0  # minutes


class UntilDecided(NamedTuple):
    """A sweep until decided with eight looks that has the power asked for.

    Attributes:
        block: seeds of each sampler between looks.
        max_seeds: of each sampler.
        expected: of a sampler that has the effect, on average.
    """

    block: int
    max_seeds: int
    expected: float


@dataclass(frozen=True)
class Plan:
    """What is asked for, and what it takes. Shares are from 0 to 1, effects in points (or in units of return).

    Attributes:
        metric: ``solved_share`` or ``mean_return``.
        baseline: share of solved seeds of the baseline, or its mean return.
        spread: standard deviation of a seed's return; 0 for shares.
        comparisons: samplers that are compared with the baseline.
        alpha: error rate of all comparisons together, two-sided.
        power: asked for.
        effect: asked for; None: not.
        seeds: of each sampler that see it.
        formula_seeds: not rounded.
        effect_power: of the formula at ``seeds``.
        exact_power: how often the report's interval misses 0 there, counted; None: not of shares, or too many seeds.
        exact_seeds: that it takes for the report's interval, counted; None likewise.
        range: seeds at the ends of the pilot's interval of the baseline.
        until_decided: a sweep that ends earlier; None: not of shares.
        minutes: of wall time for ``seeds``; None: no pilot says.
        budget: seeds of each sampler that were given, or that the minutes are enough for.
        budget_minutes: what they take.
        visible: the smallest effects upward and downward that the budget sees; None: none.
        budget_power: to see ``effect`` with the budget.
        pilot: what was measured.
    """

    metric: str
    baseline: float
    spread: float
    comparisons: int
    alpha: float
    power: float
    effect: float | None = None
    seeds: int | None = None
    formula_seeds: float | None = None
    effect_power: float | None = None
    exact_power: float | None = None
    exact_seeds: int | None = None
    range: tuple[int, int] | None = None
    until_decided: UntilDecided | None = None
    minutes: float | None = None
    budget: int | None = None
    budget_minutes: float | None = None
    visible: tuple[float | None, float | None] | None = None
    budget_power: float | None = None
    pilot: Pilot | None = None

    def __str__(self) -> str:
        return "\n".join(_lines(self))


def _lines(made: Plan) -> list[str]:
    """What is known first, then what was asked for."""
    found = _measured(made)
    if made.seeds is not None:
        found += _seeds(made)
    if made.budget is not None:
        found += _budget(made)
    return [*found, _formula(made)]


def _measured(made: Plan) -> list[str]:
    pilot = made.pilot
    if pilot is None:
        return []
    if pilot.interval is not None:
        low, high = pilot.interval
        what = f"solved {share_text(pilot.value)} of {pilot.seeds} seeds "
        what += f"[95% {share_text(low)} to {share_text(high)}]"
    else:
        what = f"mean return {pilot.value:.3g}, standard deviation {pilot.deviation:.3g} over {pilot.seeds} seeds"
    seconds = ", ".join(f"{value:.2g}" for value in pilot.seconds)
    return [f"pilot: {pilot.sampler} {what}; seconds a seed by sampler: {seconds}"]


def _seeds(made: Plan) -> list[str]:
    arms = made.comparisons + 1
    found = [
        f"{made.seeds:,} seeds per arm see {_effect(made, made.effect)} with {made.effect_power:.1%} power: "
        f"{arms * (made.seeds or 0):,} seeds in {arms} arms{_time(made.minutes)}"
    ]
    if made.metric == SHARE and made.effect is not None and abs(made.effect) < 1:
        size = f"{made.effect:g} is {abs(made.effect):g} of a point, one seed in {100 / abs(made.effect):,.4g}"
        share = f"for a difference of {made.effect:g} between shares give {100 * made.effect:g}"
        found.append(f"the effect is in points: {size}; {share}")
    if made.range is not None and made.range[0] != made.range[1]:
        found.append(f"over the pilot's interval of the baseline: {made.range[0]:,} to {made.range[1]:,} seeds per arm")
    if made.exact_power is not None:
        more = f", with {made.exact_seeds:,} seeds in {made.power:.1%}" if made.exact_seeds is not None else ""
        found.append(
            f"counted exactly, the report's interval of the difference misses 0 in {made.exact_power:.1%}{more}"
        )
    if made.until_decided is not None:
        block, most, expected = made.until_decided
        found.append(
            f"until decided: block {block:,}, max_seeds {most:,} have that power, and take {expected:,.0f} seeds of an "
            "arm on average if it is there"
        )
    return found


def _budget(made: Plan) -> list[str]:
    up, down = made.visible or (None, None)
    seen = " or ".join(_effect(made, effect) for effect in (up, down) if effect is not None) or "no effect at all"
    found = [f"{made.budget:,} seeds per arm{_time(made.budget_minutes)} see {seen} with {made.power:.1%} power"]
    if made.budget_power is not None:
        found.append(
            f"{made.budget:,} seeds per arm see {_effect(made, made.effect)} with {made.budget_power:.1%} power"
        )
    return found


def _effect(made: Plan, effect: float | None) -> str:
    if effect is None:
        return ""
    if made.metric != SHARE:
        return f"{effect:+.3g} of return"
    return f"{effect:+.3g} points ({made.baseline:.3g} to {min(max(made.baseline + effect / 100, 0), 1):.3g})"


def _time(minutes: float | None) -> str:
    if minutes is None:
        return ""
    text = f"{minutes / HOUR:.1f} hours" if minutes >= 2 * HOUR else f"{minutes:.3g} minutes"
    return f", {text} one run at a time on the pilot's machine"


def _formula(made: Plan) -> str:
    test = "two shares on the arcsine scale (Cohen's h)" if made.metric == SHARE else "two-sample t-test"
    each = f", {made.alpha:.3g} / {made.comparisons} for each comparison (Bonferroni)" if made.comparisons > 1 else ""
    return f"formula: {test}, two-sided, alpha {made.alpha:.3g}{each}"
