"""Measures docs/evidence/until_decided.md: wrong verdicts and seeds of synthetic sweeps until decided, and other rules.

Only counts are drawn, nothing is trained; the same numbers come out every time.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lit_maprops.metrics.reliability import NORMAL_QUANTILE
from lit_maprops.trials.boundaries import boundaries
from lit_maprops.trials.decision import BETTER, EQUAL, OPEN, WORSE, Design, looks_of
from lit_maprops.trials.power import misses_zero, share_power, whole_seeds
from lit_maprops.trials.simulation import simulate
from studies.page import write

SWEEPS, ALPHA, POWER = 10_000, 0.05, 0.8
MOST, BLOCK = 440, 55
BASE = 0.5
MIXED = 0.1  # standard deviation of the differences that the mixture expects


class Scene(NamedTuple):
    """What is true."""

    shares: tuple[float, ...]
    base: float
    most: int = MOST
    block: int = BLOCK


SCENES = [
    Scene((0.5,), 0.5),
    Scene((0.55,), 0.5),
    Scene((0.6,), 0.5),
    Scene((0.7,), 0.5),
    Scene((0.7,), 0.5, 104, 13),
    Scene((0.3,), 0.5),
    Scene((0.95,), 0.95),
    Scene((1.0,), 0.95),
    Scene((0.999,), 0.9489),
    Scene((0.5, 0.5, 0.5), 0.5, 560, 70),
    Scene((0.7, 0.5, 0.5), 0.5, 560, 70),
    Scene((0.7, 0.7, 0.7), 0.5, 560, 70),
    Scene((0.98, 0.98, 0.98), 0.98, 560, 70),
    Scene((0.5,), 0.5, 1600, 200),
    Scene((0.5501,), 0.5, 3200, 400),
]


def fixed_seeds(effect: float, comparisons: int) -> int:
    """Seeds per arm of the plan without looks that sees an effect at one half."""
    return whole_seeds(lambda n: share_power(BASE + effect, BASE, n, ALPHA / comparisons), POWER)


def row_of(scene: Scene) -> dict[str, object]:
    """The verdicts on the first sampler, wrong ones on any, and seeds."""
    design = Design(looks_of(scene.most, scene.block), len(scene.shares), alpha=ALPHA)
    found = simulate(design, scene.shares, scene.base, SWEEPS)
    fixed = fixed_seeds(0.1, len(scene.shares))
    seeds = found.seeds.mean(0)
    row: dict[str, object] = {"part": "verdicts", "case": " ".join(f"{share:g}" for share in scene.shares)}
    row |= {"base": scene.base, "max_seeds": scene.most, "block": scene.block, "sweeps": SWEEPS}
    row |= {"wrong": float(found.wrong.mean())}
    row |= {verdict: found.share(verdict) for verdict in (BETTER, WORSE, EQUAL, OPEN)}
    # Of all arms, the baseline included: a plan has as many of each.
    return row | {"first": float(seeds[0]), "arms": float(seeds.mean()), "fixed": fixed}


Rule = Callable[[NDArray, NDArray, NDArray], NDArray]  # solved of two samplers [sweeps, looks], seeds [looks]


def spending(exponent: float) -> Rule:
    """Boundaries that spend alpha * t ** exponent."""

    def rule(a: NDArray, b: NDArray, seeds: NDArray) -> NDArray:
        return misses_zero_at(a, b, seeds, boundaries(seeds.tolist(), ALPHA, exponent))

    return rule


def misses_zero_at(a: NDArray, b: NDArray, seeds: NDArray, quantiles: Sequence[float] | NDArray) -> NDArray:
    """Look by look."""
    columns = [misses_zero(a[:, k], b[:, k], int(n), float(quantiles[k])) for k, n in enumerate(seeds)]
    return np.stack(columns, axis=1)


def peeking(a: NDArray, b: NDArray, seeds: NDArray) -> NDArray:
    """The ordinary 95% interval at every look."""
    return misses_zero_at(a, b, seeds, [NORMAL_QUANTILE] * len(seeds))


def mixture(a: NDArray, b: NDArray, seeds: NDArray) -> NDArray:
    """The mixture sequential probability ratio test (Robbins 1970; Johari et al. 2022), with shares as estimated."""
    p, q = (a + 0.5) / (seeds + 1), (b + 0.5) / (seeds + 1)
    variance = (p * (1 - p) + q * (1 - q)) / seeds
    whole = variance + MIXED**2
    ratio = np.log(variance / whole) / 2 + (a - b) ** 2 / seeds**2 * MIXED**2 / (2 * variance * whole)
    return ratio >= np.log(1 / ALPHA)


RULES: dict[str, tuple[Rule, tuple[int, ...]]] = {
    "fixed plan, one look at 387": (peeking, (387,)),
    "ordinary interval at every look": (peeking, looks_of(MOST, BLOCK)),
    "alpha spent as t (Pocock's kind)": (spending(1.0), looks_of(MOST, BLOCK)),
    "**alpha spent as t^2**": (spending(2.0), looks_of(MOST, BLOCK)),
    "alpha spent as t^3 (O'Brien and Fleming's kind)": (spending(3.0), looks_of(MOST, BLOCK)),
    "mixture sequential (always valid)": (mixture, looks_of(MOST, BLOCK)),
}


def rule_rows() -> list[dict[str, object]]:
    """Every rule at differences of 0, 10 and 20 points."""
    rows = []
    for name, (rule, looks) in RULES.items():
        seeds, generator = np.array(looks), np.random.default_rng(0)
        blocks = np.diff(seeds, prepend=0)
        for share in (0.5, 0.6, 0.7):
            a, b = (generator.binomial(blocks, p, (SWEEPS, len(looks))).cumsum(1) for p in (share, BASE))
            beyond = rule(a, b, seeds)
            first = np.where(beyond.any(1), beyond.argmax(1), len(looks) - 1)
            row: dict[str, object] = {"part": "rules", "case": name, "share": share, "base": BASE, "max_seeds": MOST}
            rows.append(row | {"shown": float(beyond.any(1).mean()), "first": float(seeds[first].mean())})
    return rows


def verdict_table(rows: Sequence[dict]) -> str:
    """Lines of the page."""
    lines = []
    for row in rows:
        saved = 1 - row["arms"] / row["fixed"]
        figures = " | ".join(f"{100 * row[key]:.1f}" for key in ("wrong", BETTER, WORSE, EQUAL, OPEN))
        plan = f"{row['arms']:.0f} of {row['max_seeds']} | {row['fixed']} | {100 * saved:+.0f}"
        lines.append(f"| {row['case'].replace(' ', ', ')} | {row['base']:g} | {figures} | {plan} |")
    return "\n".join(lines)


def rule_table(rows: Sequence[dict]) -> str:
    """Lines of the page."""
    lines = []
    for name in RULES:
        none, ten, twenty = (row for row in rows if row["case"] == name)
        seeds = " | ".join(f"{row['first']:.0f}" for row in (none, ten, twenty))
        lines.append(f"| {name} | {100 * none['shown']:.1f} | {100 * ten['shown']:.1f} | {seeds} |")
    return "\n".join(lines)


def main() -> None:
    """Simulate, and write until_decided.md and .csv."""
    verdicts, rules = [row_of(scene) for scene in SCENES], rule_rows()
    columns = dict.fromkeys(key for row in [*verdicts, *rules] for key in row)
    twenty = next(row for row in verdicts if row["case"] == "0.7")
    write(
        "until_decided",
        [{key: row.get(key, "") for key in columns} for row in [*verdicts, *rules]],
        verdicts=verdict_table(verdicts),
        rules=rule_table(rules),
        sweeps=f"{SWEEPS:,}",
        most_wrong=f"{100 * max(float(str(row['wrong'])) for row in verdicts):.1f}",
        saved=f"{100 * (1 - float(str(twenty['arms'])) / fixed_seeds(0.1, 1)):.0f}",
        seeds_twenty=f"{float(str(twenty['arms'])):.0f}",
        fixed_twenty=fixed_seeds(0.2, 1),
    )


if __name__ == "__main__":
    main()
