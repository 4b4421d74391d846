"""Solved runs of tasks with states: every regime with its ceiling, and what samplers win of it."""

import numpy as np
from scipy.stats import fisher_exact

from studies.cells import difference, share
from studies.ledger import Ledger
from studies.runs import Outcome, Run

OPTION, LEARNER, ENV = "--model.behavior.init_args.", "--model.learner.init_args.", "--data.env.init_args."
FIELDS = ("joint_tv", "joint_tv_on_policy")
RUN_SEEDS, SEEDS = ("701", "702"), "128"
BASE, CEILING = "OnPolicy", "OnPolicy, 8 n"
# The learner's rate and samplers' settings that docs/evidence/samplers.md chose on tuning seeds; nothing is tuned here.
RATE = [f"{LEARNER}learning_rate", "0.004"]
LAST_LAYER = [
    *("--model.behavior", "MAPROPS", f"{OPTION}trained_layers", "last", f"{OPTION}learning_rate", "0.01"),
    *(f"{OPTION}kl_cutoff", "0.3", f"{OPTION}merge_states", "true"),
]
TABULAR = ["--model.behavior", "TabularMAPROPS", f"{OPTION}kl_cutoff", "0.3"]
LOW = [f"{OPTION}draws", "low_discrepancy"]
SAMPLERS: dict[str, list[str]] = {
    BASE: ["--model.behavior", "OnPolicy"],
    "LowDiscrepancy": ["--model.behavior", "LowDiscrepancy"],
    "LowDiscrepancy, first visits in sequence": [
        *("--model.behavior", "LowDiscrepancy", f"{OPTION}first_visits", "sequence"),
    ],
    "LowDiscrepancy, joint coordinate": ["--model.behavior", "LowDiscrepancy", f"{OPTION}coordinates", "joint"],
    "TabularMAPROPS": TABULAR,
    "TabularMAPROPS, low-discrepancy draws": [*TABULAR, *LOW],
    "MAPROPS": LAST_LAYER,
    "MAPROPS, low-discrepancy draws": [*LAST_LAYER, *LOW],
}
RELIABILITY, FORAGING = "conf/boulderpush_reliability.yaml", "conf/foraging.yaml"
REGIMES: dict[str, tuple[str, list[str], int, int]] = {  # configuration, flags, n, env steps
    "BoulderPush, IPPO": (RELIABILITY, [*RATE, "--model.learner", "IPPO"], 256, 15360),
    "BoulderPush, MAPPO": (RELIABILITY, RATE, 256, 15360),
    "BoulderPush, MAPPO, penalty 0.005": (RELIABILITY, [*RATE, f"{ENV}penalty", "0.005"], 256, 15360),
    "BoulderPush 8x8, MAPPO": (
        RELIABILITY,
        [*RATE, f"{ENV}size", "small", f"{ENV}start", "[[3,3],[2,4],[5,4]]"],
        *(256, 15360),
    ),
}
MEASURED = ["--model.sampling_error", "tabular", "--model.sampling_error_interval", "10"]


def runs(regime: str, sampler: str) -> dict[tuple[str, str, str, str], Run]:
    """What a row of the table needs. The ceiling has 8 n in every batch, 8 times the env steps, as many updates."""
    config, flags, n, total = REGIMES[regime]
    own, factor = (SAMPLERS[BASE], 8) if sampler == CEILING else (SAMPLERS[sampler], 1)
    sizes = ["--data.target_batch_size", str(factor * n), "--model.total_env_steps", str(factor * total)]
    made = {}
    for seed in RUN_SEEDS[: 1 if sampler == CEILING else None]:
        given = [*own, *flags, *sizes, *MEASURED, "--model.num_seeds", SEEDS]
        run = Run("low_discrepancy", f"{regime} {sampler}", config, given, int(seed))
        made["regime", regime, sampler, seed] = run
    return made


def fill(ledger: Ledger, regimes: list[str], samplers: list[str], workers: int) -> None:
    """Run what is missing."""
    for regime in regimes:
        for sampler in samplers:
            ledger.fill(runs(regime, sampler), workers)


def holm(p_values: list[float]) -> list[float]:
    """Adjusted for their number (Holm 1979)."""
    order = sorted(range(len(p_values)), key=lambda k: p_values[k])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for place, k in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[k]))
        adjusted[k] = largest
    return adjusted


def compared(ledger: Ledger) -> str:
    """Every regime's table."""
    found = {
        (regime, sampler): result
        for regime in REGIMES
        for sampler in [*SAMPLERS, CEILING]
        if (result := ledger.of("regime", regime, sampler)) is not None and ledger.of("regime", regime, BASE)
    }
    tested = [key for key in found if key[1] not in (BASE, CEILING)]
    adjusted = dict(zip(tested, holm([p_value(found[key], found[key[0], BASE]) for key in tested]), strict=True))
    lines = [
        "| regime | sampler | solved | difference to on-policy, points | p, of all comparisons here (Holm) | "
        "joint TV, own / on-policy | seconds of a run |",
        "|---|---|---|---|---|---|---|",
    ]
    for (regime, sampler), result in found.items():
        base = found[regime, BASE]
        change = "" if sampler == BASE else difference(result, base)
        p = f"{adjusted[regime, sampler]:.3f}" if (regime, sampler) in adjusted else ""
        errors = " / ".join(f"{result.means[name]:.3f}" for name in FIELDS)
        seconds = sum(result.means[f"time/{part}"] for part in ("collect", "behavior", "target"))
        name = f"*{sampler}: the ceiling*" if sampler == CEILING else sampler
        lines.append(
            f"| {regime} | {name} | {share(result)} of {result.seeds} | {change} | {p} | {errors} | {seconds:.0f} |"
        )
    return "\n".join(lines)


def p_value(result: Outcome, base: Outcome) -> float:
    """Of equal shares, two-sided (Fisher's exact test)."""
    table = [[o.solved, o.seeds - o.solved] for o in (result, base)]
    return float(fisher_exact(np.array(table)).pvalue)
