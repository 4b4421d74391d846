"""Measures docs/evidence/many_agents_states.md: eight agents in a task with states, joint against factorized samplers.

The regime is chosen by on-policy sampling alone, every sampler's setting by its pairwise sampling error, both on seeds
of their own. What many_agents_states.csv holds is not measured again.
"""

import argparse

import numpy as np

from studies.cells import adjusted_p, difference, holm, p_value, share
from studies.ledger import Ledger
from studies.many_agents_states.game import FACTOR, UPDATES, Behavior, Regime, run_of
from studies.page import write_page
from studies.runs import PARTS, Outcome, Run

REGIME_SEED, REGIME_SEEDS, CEILING_SEEDS = 1000, 64, 32
TUNING_SEED, TUNING_SEEDS, TUNING_UPDATES = 1002, 16, 40
# A first round took settings by the error of ten target iterations, of a grid with other cutoffs; what they solved is
# kept in the table and not measured again.
FIRST_ROUND, FIRST_TUNING_SEED = "first round", "1001"
RUN_SEEDS = (761, 762)  # the second is run when all of the first is there
SEEDS, SLOW_SEEDS = 256, 128  # the latter of the samplers whose updates take longest
BASE, CEILING = "OnPolicy", f"OnPolicy, {FACTOR} n"
LEAST, MOST = 0.3, 0.7  # of on-policy's solved share, for a regime
CANDIDATES = [
    Regime(8, (1, 0.8), 0.03),
    Regime(8, (1, 0.85), 0.03),
    Regime(8, (1, 0.8), 0.05),
    Regime(4, (1, 0.8, 0.64), 0.03),
    Regime(4, (1, 0.9, 0.81), 0.03),
    Regime(4, (1, 0.8, 0.64), 0.05),
]
FIELDS = ("pairwise_tv", "pairwise_tv_on_policy", "joint_tv", "joint_tv_on_policy")
PLAIN = {"clip_epsilon": 1.0, "epochs": 8, "hidden": []}  # as conf/coordination_10x5.yaml
RATES, CUTOFFS = (0.1, 0.5), (0.3, "auto")


def _grid(kind: str, rates: tuple[float, ...] = RATES, **more: object) -> dict[str, Behavior]:
    return {
        f"rate {rate:g}, delta {delta}": (kind, {**PLAIN, **more, "learning_rate": rate, "kl_cutoff": delta})
        for rate in rates
        for delta in CUTOFFS
    }


# Four settings each; a gradient over a table of joint actions is spread thin, so MAPROPS gets larger steps.
GRIDS: dict[str, dict[str, Behavior]] = {
    "PROPS": _grid("PROPS", merge_states=True),
    "MAPROPS": _grid("MAPROPS", (2.5, 12.5), merge_states=True),
    "TabularMAPROPS": {f"delta {delta}": ("TabularMAPROPS", {"kl_cutoff": delta}) for delta in (0.1, 0.3, 1.0, "auto")},
    "Autoregressive": _grid("Autoregressive"),
    "CoordinationGraph": _grid("CoordinationGraph"),
}
TUNED_ON = CANDIDATES[0].size
UNTUNED: dict[str, Behavior] = {BASE: (BASE, {}), "LowDiscrepancy": ("LowDiscrepancy", {})}
SAMPLERS = (*UNTUNED, *GRIDS)
MONOLITHIC, FACTORIZED = ("MAPROPS", "TabularMAPROPS"), ("Autoregressive", "CoordinationGraph")


class Study:
    """Its ledger, filled part by part.

    Args:
        measuring: run what is missing.
    """

    def __init__(self, measuring: bool) -> None:
        self.kept = Ledger("many_agents_states", FIELDS)
        self.measuring = measuring

    def fill(self, key: tuple[str, str, str, str], run: Run) -> None:
        """Run it, unless it is known."""
        if self.measuring:
            self.kept.fill({key: run}, workers=0)

    # the regime

    def candidates(self) -> dict[Regime, tuple[Outcome, Outcome | None]]:
        """On-policy sampling with n, and with 8 n where the former is neither too easy nor too hard."""
        found = {}
        for regime in CANDIDATES:
            outcomes: list[Outcome] = []
            for sampler, factor, seeds in ((BASE, 1, REGIME_SEEDS), (CEILING, FACTOR, CEILING_SEEDS)):
                if not outcomes or LEAST <= outcomes[0].solved / outcomes[0].seeds <= MOST:
                    run = run_of("regime", regime, BASE, UNTUNED[BASE], REGIME_SEED, seeds, UPDATES, factor)
                    self.fill(("regime", str(regime), sampler, str(REGIME_SEED)), run)
                    if (result := self.kept.of("regime", str(regime), sampler)) is not None:
                        outcomes.append(result)
            if outcomes:
                found[regime] = (outcomes[0], outcomes[1] if outcomes[1:] else None)
        return found

    def chosen(self) -> dict[str, Regime]:
        """Of every size the candidate with the highest ceiling above on-policy sampling."""
        room = {
            regime: ceiling.solved / ceiling.seeds - base.solved / base.seeds
            for regime, (base, ceiling) in self.candidates().items()
            if ceiling is not None
        }
        sizes = dict.fromkeys(regime.size for regime in CANDIDATES)
        best = {size: max((r for r in room if r.size == size), key=room.__getitem__, default=None) for size in sizes}
        return {size: regime for size, regime in best.items() if regime is not None}

    # every sampler's setting

    def tuning(self, regimes: dict[str, Regime]) -> dict[str, dict[str, float]]:
        """Pairwise error over on-policy's at the same policies, of every setting that was run; inf if it diverged."""
        regime = regimes[TUNED_ON]
        ratios: dict[str, dict[str, float]] = {}
        for sampler, grid in GRIDS.items():
            for name, behavior in grid.items():
                key = ("tuning", str(regime), f"{sampler}, {name}", str(TUNING_SEED))
                run = run_of("tuning", regime, key[2], behavior, TUNING_SEED, TUNING_SEEDS, TUNING_UPDATES)
                self.fill(key, run)
                if (result := self.kept.outcomes.get(key)) is not None:
                    ratio = result.means["pairwise_tv"] / result.means["pairwise_tv_on_policy"]
                    ratios.setdefault(sampler, {})[name] = float(np.nan_to_num(ratio, nan=np.inf))
        return ratios

    def samplers(self, regimes: dict[str, Regime]) -> dict[str, Behavior]:
        """Every sampler with the setting of least error, which the other team takes over."""
        ratios = self.tuning(regimes)
        tuned = {sampler: GRIDS[sampler][min(own, key=own.__getitem__)] for sampler, own in ratios.items()}
        return UNTUNED | tuned

    # the comparison

    def compare(self, regimes: dict[str, Regime]) -> dict[tuple[str, str], Outcome]:
        """By size and sampler; run seed by run seed, so that an interrupted study has as many of both sizes."""
        for run_seed in RUN_SEEDS:
            for regime in regimes.values():
                for sampler, behavior in self.samplers(regimes).items():
                    seeds = SLOW_SEEDS if sampler in FACTORIZED else SEEDS
                    run = run_of("compared", regime, sampler, behavior, run_seed, seeds, UPDATES)
                    self.fill(("compared", str(regime), sampler, str(run_seed)), run)
        return {
            (size, sampler): result
            for size, regime in regimes.items()
            for sampler in SAMPLERS
            if (result := self.kept.of("compared", str(regime), sampler, self.complete_run_seeds(regime))) is not None
        }

    def complete_run_seeds(self, regime: Regime) -> list[str]:
        """On which every sampler has run: the page compares nothing else."""
        known = self.kept.outcomes
        return [s for s in map(str, RUN_SEEDS) if all(("compared", str(regime), own, s) in known for own in SAMPLERS)]


def regime_table(study: Study, chosen: list[Regime]) -> str:
    """What on-policy sampling solves of every candidate, and with 8 n."""
    lines = [f"| regime | {BASE} | {CEILING} |", "|---|---|---|"]
    for regime, (base, ceiling) in study.candidates().items():
        above = "not run" if ceiling is None else f"{share(ceiling)} of {ceiling.seeds}"
        mark = " (taken)" if regime in chosen else ""
        lines.append(f"| {regime}{mark} | {share(base)} of {base.seeds} | {above} |")
    return "\n".join(lines)


def tuning_table(study: Study, regimes: dict[str, Regime]) -> str:
    """Every setting's pairwise error as a share of on-policy's, and which was taken."""
    lines = ["| sampler | setting | pairwise TV, own / on-policy |", "|---|---|---|"]
    for sampler, own in study.tuning(regimes).items():
        for name, ratio in own.items():
            taken = " (taken)" if name == min(own, key=own.__getitem__) else ""
            lines.append(f"| {sampler} | {name}{taken} | {ratio:.3f} |")
    return "\n".join(lines)


def compared_table(found: dict[tuple[str, str], Outcome]) -> str:
    """Solved shares against on-policy sampling, sampling error, seconds."""
    tested = [key for key in found if key[1] != BASE]
    raw = [p_value(found[key], found[key[0], BASE]) for key in tested]
    adjusted = dict(zip(tested, holm(raw), strict=True))
    lines = [
        "| team | sampler | solved | difference to on-policy, points | p, of all comparisons here (Holm) | "
        "pairwise TV, own / on-policy | joint TV, own / on-policy | seconds: collecting, behavior, target |",
        "|---" * 8 + "|",
    ]
    for (size, sampler), result in found.items():
        change = "" if sampler == BASE else difference(result, found[size, BASE])
        errors = [
            f"{result.means[figure]:.3f} / {result.means[f'{figure}_on_policy']:.3f}"
            for figure in ("pairwise_tv", "joint_tv")
        ]
        seconds = ", ".join(f"{result.means[f'time/{part}']:.0f}" for part in PARTS)
        cells = [size, sampler, f"{share(result)} of {result.seeds}", change, adjusted_p(adjusted.get((size, sampler)))]
        lines.append(f"| {' | '.join([*cells, *errors, seconds])} |")
    return "\n".join(lines)


def first_round(study: Study, regimes: dict[str, Regime]) -> str:
    """What settings solve that had the least error in the first ten target iterations."""
    lines = [
        "| sampler, setting | solved | difference to on-policy, points | pairwise TV, own / on-policy, 10 iterations | "
        "all of them |",
        "|---" * 5 + "|",
    ]
    regime, known = str(regimes[TUNED_ON]), study.kept.outcomes
    for (part, setting, name, run_seed), result in known.items():
        if (part, setting) == (FIRST_ROUND, regime):
            base = known["compared", regime, BASE, run_seed]
            early = known["first tuning", regime, name, FIRST_TUNING_SEED]
            pairs = [f"{o.means['pairwise_tv']:.3f} / {o.means['pairwise_tv_on_policy']:.3f}" for o in (early, result)]
            cells = [name, f"{share(result)} of {result.seeds}", difference(result, base), *pairs]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def joint_table(found: dict[tuple[str, str], Outcome]) -> str:
    """Samplers that list joint actions minus those that factorize them."""
    lines = [f"| team | sampler | {' | '.join(f'minus {name}, points' for name in FACTORIZED)} |", "|---|---|---|---|"]
    for size in dict.fromkeys(size for size, _ in found):
        for own in MONOLITHIC:
            if {(size, name) for name in (own, *FACTORIZED)} <= set(found):
                cells = [difference(found[size, own], found[size, name]) for name in FACTORIZED]
                lines.append(f"| {size} | {own} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure what is missing and write many_agents_states.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page", action="store_true", help="measure nothing, write the page")
    study = Study(not parser.parse_args().page)
    regimes = study.chosen()
    found = study.compare(regimes)
    complete = {size: study.complete_run_seeds(regime) for size, regime in regimes.items()}
    run_seeds = "; ".join(f"{size}: {' and '.join(seeds) or 'not complete'}" for size, seeds in complete.items())
    write_page(
        "many_agents_states",
        candidates=regime_table(study, list(regimes.values())),
        tuning=tuning_table(study, regimes),
        compared=compared_table(found),
        joint=joint_table(found),
        first=first_round(study, regimes),
        regime_seed=REGIME_SEED,
        tuning_seed=TUNING_SEED,
        tuning_seeds=TUNING_SEEDS,
        tuning_updates=TUNING_UPDATES,
        run_seeds=run_seeds,
        updates=UPDATES,
    )


if __name__ == "__main__":
    main()
