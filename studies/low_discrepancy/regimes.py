"""Solved runs of tasks with states: every regime with its ceiling, and what samplers win of it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from studies.cells import adjusted_p, difference, holm, p_value, share
from studies.ledger import Ledger
from studies.runs import Run

OPTION, LEARNER, ENV = "--model.behavior.init_args.", "--model.learner.init_args.", "--data.env.init_args."
RUN_SEEDS, SEEDS = (701, 702), 128
BASE, CEILING = "OnPolicy", "OnPolicy, 8 n"


def options(behavior: str, **init_args: object) -> list[str]:
    """Flags of a behavior policy."""
    return ["--model.behavior", behavior, *(part for k, v in init_args.items() for part in (OPTION + k, str(v)))]


# The learner's rate and samplers' settings that docs/evidence/samplers.md, many_agents.md and continuous_tasks.md chose
# on tuning seeds; nothing is tuned here.
RATE = [f"{LEARNER}learning_rate", "0.004"]
LOW = {"draws": "low_discrepancy"}
MAPROPS_OPTIONS = {"trained_layers": "last", "learning_rate": 0.01, "kl_cutoff": 0.3, "merge_states": "true"}
PROPS_OPTIONS = {"trained_layers": "last", "learning_rate": 0.03, "kl_cutoff": 0.03, "merge_states": "true"}
LAST_LAYER = options("MAPROPS", **MAPROPS_OPTIONS)
ON_POLICY: dict[str, list[str]] = {
    BASE: options("OnPolicy"),
    "LowDiscrepancy": options("LowDiscrepancy"),
}
GRID: dict[str, list[str]] = {
    **ON_POLICY,
    "LowDiscrepancy, first visits in sequence": options("LowDiscrepancy", first_visits="sequence"),
    "LowDiscrepancy, joint coordinate": options("LowDiscrepancy", coordinates="joint"),
    "TabularMAPROPS": options("TabularMAPROPS", kl_cutoff=0.3),
    "TabularMAPROPS, low-discrepancy draws": options("TabularMAPROPS", kl_cutoff=0.3, **LOW),
    "MAPROPS": LAST_LAYER,
    "MAPROPS, low-discrepancy draws": options("MAPROPS", **MAPROPS_OPTIONS, **LOW),
    "PROPS": options("PROPS", **PROPS_OPTIONS),
    "Autoregressive": options("Autoregressive", hidden="[]", learning_rate=0.03, kl_cutoff=0.3),
}
FEW = {name: GRID[name] for name in (BASE, "LowDiscrepancy", "TabularMAPROPS", "MAPROPS", "PROPS")}
TEAM: dict[str, list[str]] = {
    **ON_POLICY,
    "PROPS": options("PROPS", learning_rate=0.5, kl_cutoff=0.3),
    "Autoregressive": options("Autoregressive", learning_rate=0.1, kl_cutoff=3),
    "CoordinationGraph": options("CoordinationGraph", learning_rate=0.1, kl_cutoff=0.3),
}
FILE = {"learning_rate": 0.003, "kl_cutoff": 0.05}  # conf/foraging.yaml's, chosen on run seed 1000
PICKERS: dict[str, list[str]] = {
    **ON_POLICY,
    "LowDiscrepancy, first visits in sequence": GRID["LowDiscrepancy, first visits in sequence"],
    "LowDiscrepancy, ordered by value": options("LowDiscrepancy", order="value"),
    "TabularMAPROPS": GRID["TabularMAPROPS"],
    "MAPROPS": options("MAPROPS", **FILE),
    "PROPS": options("PROPS", **FILE),
    "Autoregressive": options("Autoregressive", **FILE),
}
WEAK = {"epochs": 8, "clip_epsilon": 1.0, "hidden": "[]", "minibatches": 1}
GAUSSIAN: dict[str, list[str]] = {
    **ON_POLICY,
    "PROPS": options("PROPS", **WEAK, learning_rate=0.01, kl_cutoff=0.1),
    "GaussianAdjustment": options("GaussianAdjustment", **WEAK, learning_rate=0.03, kl_cutoff=0.01),
    "GaussianAdjustment, low-discrepancy draws": options(
        "GaussianAdjustment", **WEAK, learning_rate=0.03, kl_cutoff=0.01, **LOW
    ),
}
DEEP = {"epochs": 4, "clip_epsilon": 0.3, "hidden": "[64,64]", "minibatches": 1}
ARM: dict[str, list[str]] = {
    **ON_POLICY,
    "LowDiscrepancy, ordered by value": options("LowDiscrepancy", order="value"),
    "PROPS": options("PROPS", **DEEP, learning_rate=0.0003, kl_cutoff=0.03),
    "GaussianAdjustment": options("GaussianAdjustment", **DEEP, learning_rate=0.0003, kl_cutoff=0.03),
}


class Regime(NamedTuple):
    """A task and a learner, and what is compared on it."""

    config: str
    flags: Sequence[str]
    n: int  # env steps per batch
    env_steps: int  # per seed
    samplers: dict[str, list[str]]
    error: str = "joint_tv"  # the figure of sampling error, a column of its ledger and of metrics.csv
    seeds: int = SEEDS
    run_seeds: Sequence[int] = RUN_SEEDS
    interval: int = 10  # target iterations between estimates of the error
    ceiling_seeds: int | None = None  # None: as many as the samplers' runs


RELIABILITY = "conf/boulderpush_reliability.yaml"
SMALL = [f"{ENV}size", "small", f"{ENV}start", "[[3,3],[2,4],[5,4]]"]
REGIMES: dict[str, Regime] = {
    "BoulderPush, IPPO": Regime(RELIABILITY, [*RATE, "--model.learner", "IPPO"], 256, 15360, GRID),
    "BoulderPush, MAPPO": Regime(RELIABILITY, RATE, 256, 15360, GRID),
    "BoulderPush, MAPPO, penalty 0.002": Regime(RELIABILITY, [*RATE, f"{ENV}penalty", "0.002"], 256, 15360, FEW),
    "BoulderPush, MAPPO, penalty 0.005": Regime(RELIABILITY, [*RATE, f"{ENV}penalty", "0.005"], 256, 15360, FEW),
    "BoulderPush 8x8, MAPPO": Regime(RELIABILITY, [*RATE, *SMALL], 256, 15360, FEW),
    "BoulderPush, MAPPO, one random start per seed": Regime(
        *(RELIABILITY, [*RATE, f"{ENV}start", "null", f"{ENV}fixed_start", "true"], 256, 15360, FEW),
        run_seeds=(*RUN_SEEDS, 703, 704),  # its ceiling is the highest of MAPPO's where states come back
    ),
    "BoulderPush, MAPPO, random starts": Regime(RELIABILITY, [*RATE, f"{ENV}start", "null"], 256, 61440, FEW),
    # Half of the file's env steps: with all of them on-policy sampling solves nearly every seed (run seed 1000).
    "Foraging, MAPPO": Regime("conf/foraging.yaml", [], 512, 51200, PICKERS),
    "coordination 10x5, close rewards": Regime(
        "conf/coordination_10x5.yaml",
        [f"{ENV}rewards", "[1.0,0.95,0.9,0.85,0.8]", f"{LEARNER}learning_rate", "0.0125"],
        *(32, 1920, TEAM, "pairwise_tv", 512),
        interval=3,
    ),
    "TwoPeaks": Regime("conf/continuous_game.yaml", [], 8, 1200, GAUSSIAN, "joint_energy", seeds=1024),
    # MuJoCo steps one environment after another: 64 seeds take a core a quarter of an hour, its ceiling 8 times that.
    "SparseReacher": Regime(
        "conf/reacher_sparse.yaml",
        [f"{LEARNER}learning_rate", "0.003"],
        *(2048, 20480, ARM, "joint_energy", 64, RUN_SEEDS[:1]),
        ceiling_seeds=32,
    ),
    "VMAS navigation": Regime(
        "conf/vmas_navigation.yaml",
        [],
        2048,
        40960,
        {**ARM, "LowDiscrepancy, first visits in sequence": GRID["LowDiscrepancy, first visits in sequence"]},
        *("joint_energy", 64, (*RUN_SEEDS, 703, 704)),
    ),
}


# What the first two run seeds leave open, on 1,024 seeds that were set down before any of them was run: enough to see
# 6 points at a power of 80%.
CONFIRMED = {
    name: (BASE, "LowDiscrepancy", "LowDiscrepancy, joint coordinate", "TabularMAPROPS", "MAPROPS")
    for name in ("BoulderPush, IPPO", "BoulderPush, MAPPO")
}
CONFIRM_SEEDS = tuple(range(721, 729))
PLANNED, FRESH = "regime", "confirm"  # the ledger's parts
# Rows that take a core too long, as one run on a GPU (``--trainer.accelerator auto``): what it trains side by side.
GPU_SEED = 731
PENALTIES = ("BoulderPush, MAPPO, penalty 0.002", "BoulderPush, MAPPO, penalty 0.005")
SECONDARY = (*PENALTIES, "BoulderPush 8x8, MAPPO", "BoulderPush, MAPPO, one random start per seed")
STARTS = "BoulderPush, MAPPO, random starts"
ON_GPU: dict[tuple[str, str, str], int] = {
    (PLANNED, STARTS, "MAPROPS"): 256,
    **{(FRESH, name, "MAPROPS"): 1024 for name in CONFIRMED},
    **{(PLANNED, name, "PROPS"): 256 for name in ("BoulderPush, MAPPO", *SECONDARY)},
    **{(PLANNED, "Foraging, MAPPO", sampler): 256 for sampler in ("PROPS", "Autoregressive", "MAPROPS")},
    **{(PLANNED, STARTS, sampler): 256 for sampler in ("TabularMAPROPS", "LowDiscrepancy", BASE)},
    (PLANNED, "BoulderPush, MAPPO", "MAPROPS, low-discrepancy draws"): 256,
}


def ledgers() -> dict[str, Ledger]:
    """One per figure of sampling error."""
    return {
        "joint_tv": Ledger("low_discrepancy", ("joint_tv", "joint_tv_on_policy")),
        **{
            error: Ledger(error, (error, f"{error}_on_policy"), folder="low_discrepancy")
            for error in ("pairwise_tv", "joint_energy")
        },
    }


def rows(part: str) -> list[tuple[str, str]]:
    """Regimes and samplers of a part's table."""
    if part == FRESH:
        return [(name, sampler) for name, samplers in CONFIRMED.items() for sampler in samplers]
    return [(name, sampler) for name, regime in REGIMES.items() for sampler in [*regime.samplers, CEILING]]


def runs(part: str, name: str, sampler: str) -> dict[tuple[str, str, str, str], Run]:
    """What a row of the table needs. The ceiling has 8 n in every batch, 8 times the env steps, as many updates."""
    regime = REGIMES[name]
    own, factor = (regime.samplers[BASE], 8) if sampler == CEILING else (regime.samplers[sampler], 1)
    sizes = {"--data.target_batch_size": factor * regime.n, "--model.total_env_steps": factor * regime.env_steps}
    on_gpu = ON_GPU.get((part, name, sampler))
    seeds = on_gpu or (regime.ceiling_seeds if sampler == CEILING else None) or regime.seeds
    sizes |= {"--model.num_seeds": seeds, "--model.sampling_error_interval": regime.interval}
    kind = "energy" if regime.error == "joint_energy" else "tabular"
    if kind == "energy" and sampler == CEILING and regime.seeds < SEEDS:
        kind = "null"  # all pairs of 8 n steps: an estimate takes longer than the run
    given = [*own, *regime.flags, "--model.sampling_error", kind, *(str(p) for pair in sizes.items() for p in pair)]
    if on_gpu:
        given += ["--trainer.accelerator", "auto"]
    made = {}
    run_seeds = [GPU_SEED] if on_gpu else CONFIRM_SEEDS if part == FRESH else regime.run_seeds
    for seed in run_seeds[: 1 if sampler == CEILING else None]:
        run = Run("low_discrepancy", f"{name} {sampler}", regime.config, given, seed)
        made[part, name, sampler, str(seed)] = run
    return made


def fill(part: str, regimes: Sequence[str], samplers: Sequence[str] | None, workers: int) -> None:
    """Run what is missing; ``samplers``: these only."""
    wanted = [row for row in rows(part) if row[0] in regimes and (samplers is None or row[1] in samplers)]
    _fill([(part, *row) for row in wanted], workers)


def fill_on_gpu(workers: int) -> None:
    """Run what is missing of ``ON_GPU``, in its order; several processes share a GPU."""
    _fill(list(ON_GPU), workers)


def _fill(wanted: Sequence[tuple[str, str, str]], workers: int) -> None:
    for error, kept in ledgers().items():
        own = [runs(*row) for row in wanted if REGIMES[row[1]].error == error]
        kept.fill({key: run for made in own for key, run in made.items()}, workers)


def compared(part: str) -> str:
    """A part's table."""
    kept = ledgers()
    found = {
        (name, sampler): result
        for name, sampler in rows(part)
        if (result := kept[REGIMES[name].error].of(part, name, sampler)) is not None
    }
    found = {key: result for key, result in found.items() if (key[0], BASE) in found}
    tested = [key for key in found if key[1] not in (BASE, CEILING)]
    adjusted = dict(zip(tested, holm([p_value(found[key], found[key[0], BASE]) for key in tested]), strict=True))
    lines = [
        "| regime | sampler | solved | difference to on-policy, points | p, of all comparisons here (Holm) | "
        "sampling error, own / on-policy | seconds of a run |",
        "|---|---|---|---|---|---|---|",
    ]
    for (name, sampler), result in found.items():
        change = "" if sampler == BASE else difference(result, found[name, BASE])
        p = adjusted_p(adjusted.get((name, sampler)))
        error = REGIMES[name].error
        figures = [result.means[figure] for figure in (error, f"{error}_on_policy")]
        errors = "" if np.isnan(figures).all() else " / ".join(f"{figure:.3g}" for figure in figures)
        seconds = sum(result.means[f"time/{part}"] for part in ("collect", "behavior", "target"))
        row = f"*{sampler}: the ceiling*" if sampler == CEILING else sampler
        lines.append(
            f"| {name} | {row} | {share(result)} of {result.seeds} | {change} | {p} | {errors} | {seconds:.0f} |"
        )
    return "\n".join(lines)
