"""Seeds for an effect, the effect that a budget can see, and how long it takes."""

import math
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lit_maprops.metrics.reliability import corrected_quantile, share_text
from lit_maprops.planning.outcome import Plan, UntilDecided
from lit_maprops.planning.pilot import METRICS, SHARE, Pilot, read_pilot
from lit_maprops.system.errors import ConfigError, check, check_choice, check_count
from lit_maprops.system.extras import install
from lit_maprops.trials import power as of
from lit_maprops.trials.boundaries import boundaries, crossings

ALPHA = 0.05
LOOKS = 8  # of a sweep until decided
MOST_MINUTES = 100_000_000
EXAMPLE = "such as 10 (points)"


def plan(
    effect: float | None = None,
    baseline: float | None = None,
    power: float = 0.8,
    comparisons: int | None = None,
    alpha: float = ALPHA,
    pilot: str | Path | Sequence[str | Path] = (),
    metric: str = SHARE,
    spread: float | None = None,
    seeds: int | None = None,
    minutes: float | None = None,
) -> Plan:
    """How many seeds a comparison takes, and what a budget can see.

    Args:
        effect: difference to see: in points of solved seeds, or in units of return.
        baseline: share of seeds that the baseline solves, from 0 to 1; None: the pilot's.
        power: probability to see the effect, if it is there.
        comparisons: samplers that are compared with the baseline; None: those of the pilot, else 1.
        alpha: error rate of all comparisons together, two-sided; each has alpha / comparisons (Bonferroni).
        pilot: run folders, or folders that hold them: success, spread and seconds are theirs.
        metric: ``solved_share`` or ``mean_return``.
        spread: standard deviation of a seed's return, without a pilot.
        seeds: a budget: of each sampler.
        minutes: a budget: of wall time for all samplers; the pilot says what that is in seeds.

    Raises:
        ConfigError: a value that cannot be, nothing asked for, runs of different tasks, or a metric that no run has.
    """
    _check_numbers(effect, power, comparisons, alpha, seeds, minutes)
    check_choice("metric", metric, METRICS)
    if metric != SHARE and find_spec("scipy") is None:
        raise ConfigError(f"<metric> {metric} needs scipy: {install('report')}")
    folders = [pilot] if isinstance(pilot, (str, Path)) else pilot
    found = read_pilot(folders, metric) if folders else None
    count = _comparisons(comparisons, found)
    base = _baseline(baseline, found, metric)
    made = Plan(metric, base, _spread(spread, found, metric), count, alpha, power, effect, pilot=found)
    if effect is not None:
        made = _with_seeds(made, effect)
    if minutes is not None or seeds is not None:
        made = _with_budget(made, seeds, minutes)
    return made


def _check_numbers(
    effect: float | None,
    power: float,
    comparisons: int | None,
    alpha: float,
    seeds: int | None,
    minutes: float | None,
) -> None:
    asked = [value for value in (effect, seeds, minutes) if value is not None]
    check(bool(asked), "plan: nothing is asked for: give <effect>, <seeds> or <minutes>")
    check(seeds is None or minutes is None, "<seeds> and <minutes> are two budgets: give one")
    check(effect is None or math.isfinite(effect), f"<effect> is {effect}: give a number, {EXAMPLE}")
    check(effect != 0, f"<effect> is 0, which no number of seeds can see: give the difference to see, {EXAMPLE}")
    check(0 < alpha < 1, f"<alpha> is {alpha}: give an error rate between 0 and 1, such as {ALPHA}")
    check(alpha < power < 1, f"<power> is {power}: give a probability above alpha ({alpha:g}) and below 1, such as 0.8")
    if comparisons is not None:
        check(comparisons != 0, "<comparisons> is 0, with one arm nothing is compared: give how many others there are")
        check_count("comparisons", comparisons, most=10_000)
    if seeds is not None:
        check(2 <= seeds <= of.MOST_SEEDS, f"<seeds> is {seeds}: give 2 to {of.MOST_SEEDS:,} seeds of each sampler")
    if minutes is not None:
        check(0 < minutes <= MOST_MINUTES, f"<minutes> is {minutes}: give a value between 0 and {MOST_MINUTES:,}")


def _comparisons(given: int | None, pilot: Pilot | None) -> int:
    if given is not None or pilot is None:
        return given or 1
    others = len(pilot.seconds) - 1
    check(
        others > 0,
        "<pilot> has one arm: give runs of the samplers to compare, or <comparisons>, how many others there will be",
    )
    return others


def _baseline(given: float | None, pilot: Pilot | None, metric: str) -> float:
    if metric == SHARE:
        check(given is not None or pilot is not None, "<baseline> is missing: give the share it solves, or a <pilot>")
        check(given is None or 0 <= given <= 1, f"<baseline> is {given}: give a share from 0 to 1, such as 0.5")
    else:
        check(given is None, f"<baseline> is a share of solved seeds, which {metric} does not need: leave it out")
    if given is not None:
        return given
    return pilot.value if pilot is not None else math.nan


def _spread(given: float | None, pilot: Pilot | None, metric: str) -> float:
    if metric == SHARE:
        check(given is None, f"<spread> is that of returns, which {metric} does not need: leave it out")
        return 0.0
    check(given is None or 0 < given < math.inf, f"<spread> is {given}: give a standard deviation above 0")
    check(given is not None or pilot is not None, f"<spread> is missing: {metric} needs it, or a <pilot>")
    if given is not None:
        return given
    return pilot.deviation if pilot is not None else math.nan


def power_of(made: Plan, effect: float, seeds: float, baseline: float | None = None) -> float:
    """Power of one comparison by the formula.

    Args:
        made: says what is compared.
        effect: in points, or in units of return.
        seeds: of each sampler.
        baseline: another one than the plan's.
    """
    alpha = made.alpha / made.comparisons
    if made.metric != SHARE:
        return of.mean_power(effect, made.spread, seeds, alpha)
    base = made.baseline if baseline is None else baseline
    return of.share_power(min(max(base + effect / 100, 0.0), 1.0), base, seeds, alpha)


def _with_seeds(made: Plan, effect: float) -> Plan:
    share = made.baseline + effect / 100
    possible = made.metric != SHARE or -1e-9 <= share <= 1 + 1e-9
    place = f"{effect:g} points from a baseline of {share_text(made.baseline)}"
    check(possible, f"<effect> is {place}, which ends beyond 0% or 100%: give less")
    least = 1.0 if made.metric == SHARE else 2.0

    def needed(base: float | None = None) -> tuple[int, float]:
        def at(seeds: float) -> float:
            return power_of(made, effect, seeds, base)

        whole = of.whole_seeds(at, made.power, least)
        check(whole > 0, f"<effect> is {effect:g}: more than {of.MOST_SEEDS:,} seeds are needed to see it: give more")
        return whole, of.seeds_for(at, made.power, least)

    seeds, unrounded = needed()
    exact_power, exact_seeds = _exact(made, share, seeds)
    ends = made.pilot.interval if made.pilot is not None else None
    inside = [base for base in ends or () if 0 <= base + effect / 100 <= 1]
    over = [needed(base)[0] for base in inside] if made.metric == SHARE else []
    return replace(
        made,
        seeds=seeds,
        formula_seeds=unrounded,
        effect_power=power_of(made, effect, seeds),
        exact_power=exact_power,
        exact_seeds=exact_seeds,
        range=(min([*over, seeds]), max([*over, seeds])) if over else None,
        until_decided=_until_decided(made, exact_seeds or seeds) if made.metric == SHARE else None,
        minutes=_minutes(made, seeds),
    )


def _exact(made: Plan, share: float, seeds: int) -> tuple[float | None, int | None]:
    """How often the report's interval shows the effect with so many seeds, and how many it takes."""
    if made.metric != SHARE or seeds > of.MOST_EXACT or made.alpha != ALPHA:
        return None, None
    shares, quantile = (min(max(share, 0.0), 1.0), made.baseline), corrected_quantile(made.comparisons)
    return of.exact_power(*shares, seeds, quantile), of.exact_seeds(*shares, made.power, quantile)


def _until_decided(made: Plan, fixed: int) -> UntilDecided:
    """What looks add to the seeds of a fixed plan, by the normal approximation: the drift that is needed, squared."""
    looks = list(range(1, LOOKS + 1))
    alpha = made.alpha / made.comparisons
    ends = boundaries(looks, alpha)

    def drift(of_looks: Sequence[int], of_ends: Any) -> float:
        least, most = 0.0, 20.0
        for _ in range(50):
            middle = (least + most) / 2
            seen = crossings(of_looks, of_ends, middle).sum() >= made.power
            least, most = (least, middle) if seen else (middle, most)
        return most

    needed = drift(looks, ends)
    block = max(2, math.ceil(fixed * (needed / drift([1], boundaries([1], alpha))) ** 2 / LOOKS))
    found = crossings(looks, ends, needed)
    return UntilDecided(block, block * LOOKS, float((found * looks).sum() + LOOKS * (1 - found.sum())) * block)


def _minutes(made: Plan, seeds: int) -> float | None:
    seconds = _seconds(made)
    return None if seconds is None else seeds * seconds / 60


def _seconds(made: Plan) -> float | None:
    """Of one seed of each sampler, one run after the other; those that no run is of take as long as the others do."""
    if made.pilot is None or not all(map(math.isfinite, made.pilot.seconds)):
        return None
    base, *others = made.pilot.seconds
    known = others[: made.comparisons] or [base]
    return base + made.comparisons * sum(known) / len(known)


def _with_budget(made: Plan, seeds: int | None, minutes: float | None) -> Plan:
    if seeds is None:
        seconds = _seconds(made)
        check(seconds is not None, "<minutes> needs a <pilot> that says how long a seed takes: give its run folders")
        seeds = int(60 * (minutes or 0.0) / (seconds or math.inf))
        check(seeds >= 2, f"<minutes> is {minutes:g}: fewer than 2 seeds of each sampler fit: give more")
    budget = seeds

    def smallest(sign: int, most: float) -> float | None:
        def seen(effect: float) -> float:
            return power_of(made, sign * effect, budget)

        found = of.visible_effect(seen, made.power, most) if most > 0 else None
        return None if found is None else sign * found

    if made.metric == SHARE:
        visible = smallest(1, 100 * (1 - made.baseline)), smallest(-1, 100 * made.baseline)
    else:
        up = smallest(1, 1e3 * made.spread)
        visible = up, None if up is None else -up
    of_effect = None if made.effect is None else power_of(made, made.effect, budget)
    return replace(made, budget=budget, budget_minutes=_minutes(made, budget), visible=visible, budget_power=of_effect)
