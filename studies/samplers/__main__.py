"""Measures docs/evidence/samplers.md: do adaptive samplers solve more runs of BoulderPush than on-policy sampling?

Every sampler is tuned on its own seeds (run seed 2000), the best by mean success is compared on fresh seeds. Finished
runs are in samplers.csv and are not run again; ``--parts`` and ``--samplers`` run a part of what is missing. The page
holds what the table holds.
"""

import argparse
from collections.abc import Sequence

from studies.cells import difference, share
from studies.ledger import Ledger
from studies.page import write_page
from studies.runs import Outcome, Run, pooled

CONFIG = "conf/boulderpush_reliability.yaml"
TUNING_SEED, TUNING_SEEDS = "2000", "32"
OPTION, LEARNER, ENV = "--model.behavior.init_args.", "--model.learner.init_args.", "--data.env.init_args."
MEASURED = ["--model.sampling_error", "tabular", "--model.sampling_error_interval", "10"]
Key = tuple[str, str, str, str]  # part, setting, sampler, run seed


def adaptive(kind: str, trained_layers: str, learning_rate: float, kl_cutoff: float) -> list[str]:
    """PROPS or MAPROPS; equal states are merged, which gives the same sums in less time."""
    options = {
        "trained_layers": trained_layers,
        "learning_rate": learning_rate,
        "kl_cutoff": kl_cutoff,
        "merge_states": "true",
    }
    return ["--model.behavior", kind, *(part for k, v in options.items() for part in (f"{OPTION}{k}", str(v)))]


# On-policy sampling has no settings of its own, so the learner's step size is tuned for it, and the others take what is
# best for on-policy sampling.
TUNING: dict[str, dict[str, list[str]]] = {
    "OnPolicy": {
        f"learner's rate {rate:g}": ["--model.behavior", "OnPolicy", f"{LEARNER}learning_rate", str(rate)]
        for rate in (5e-4, 1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2)
    },
    "TabularMAPROPS": {
        f"delta {delta:g}": ["--model.behavior", "TabularMAPROPS", f"{OPTION}kl_cutoff", str(delta)]
        for delta in (0.01, 0.03, 0.1, 0.3)
    },
    "MAPROPS": {
        "all layers trained, rate 0.003": adaptive("MAPROPS", "all", 3e-3, 0.3),
        "all layers trained, rate 0.01": adaptive("MAPROPS", "all", 1e-2, 0.3),
        "last layer trained, rate 0.01": adaptive("MAPROPS", "last", 1e-2, 0.3),
        "last layer trained, rate 0.03": adaptive("MAPROPS", "last", 3e-2, 0.3),
    },
    # All layers of PROPS, whose networks see 166 numbers, take 13 minutes per 64 seeds.
    "PROPS": {
        f"last layer trained, rate {rate:g}, delta {delta:g}": adaptive("PROPS", "last", rate, delta)
        for rate in (1e-2, 3e-2)
        for delta in (0.03, 0.3)
    },
    # Compared in docs/evidence/low_discrepancy.md. Linear in the state and in the earlier agent's action, since it has
    # no last layer to be trained alone: two hidden layers take ten times as long.
    "Autoregressive": {
        f"linear, rate {rate:g}": [
            *("--model.behavior", "Autoregressive", f"{OPTION}hidden", "[]"),
            *(f"{OPTION}learning_rate", str(rate), f"{OPTION}kl_cutoff", "0.3"),
        ]
        for rate in (1e-2, 3e-2, 1e-1, 3e-1)
    },
}
# What is compared, with which flags and on which run seed, 128 seeds each.
COMPARED: dict[str, tuple[list[str], str]] = {
    "MAPPO": ([], "41"),
    "IPPO": (["--model.learner", "IPPO"], "42"),
    "MAPPO, penalty 0.002": ([f"{ENV}penalty", "0.002"], "43"),
    "MAPPO, penalty 0.005": ([f"{ENV}penalty", "0.005"], "44"),
    "MAPPO, one random start per seed": ([f"{ENV}start", "null", f"{ENV}fixed_start", "true"], "45"),
    # As far from the goal as in the 5x5 grid; from further away on-policy sampling solves 2 of 32 tuning seeds.
    "MAPPO, 8x8": ([f"{ENV}size", "small", f"{ENV}start", "[[3,3],[2,4],[5,4]]"], "46"),
    # A new start for every episode takes longer: four times the env steps, and still few runs solve it.
    "MAPPO, random starts": ([f"{ENV}start", "null", "--model.total_env_steps", "61440"], "47"),
}
COMPARED_SEEDS = "128"
COMPARED_SAMPLERS = ("OnPolicy", "TabularMAPROPS", "MAPROPS", "PROPS")
EARLIER = ("21, 22", "31, 32")  # of MAPPO: on-policy and TabularMAPROPS only, 2 x 64 seeds each
# What is looked at together: one row per set of settings whose runs of all samplers have finished.
POOLED = {
    "MAPPO, penalties 0.002, 0.003, 0.005": ["MAPPO", "MAPPO, penalty 0.002", "MAPPO, penalty 0.005"],
    "these and IPPO": ["MAPPO", "MAPPO, penalty 0.002", "MAPPO, penalty 0.005", "IPPO"],
}
M_RUN_SEED = "23"


def steps_settings(ms: Sequence[int], envs_per_seed: Sequence[int]) -> dict[str, list[str]]:
    """m, environments side by side in a seed, and these with stratified draws."""
    settings = {f"m = {m}": ["--data.num_envs", "1", "--data.behavior_batch_size", str(m)] for m in ms}
    for envs in envs_per_seed:
        flags = ["--data.num_envs", str(envs), "--data.behavior_batch_size", str(envs)]
        settings[f"{envs} environments, m = {envs}"] = flags
        settings[f"{envs} environments, m = {envs}, stratified"] = [*flags, f"{OPTION}draws", "stratified"]
    return settings


def run_of(part: str, setting: str, sampler: str, run_seed: str, flags: Sequence[str]) -> Run:
    """The run that a row of the table needs."""
    return Run(f"samplers_{part}", f"{setting} {sampler}", CONFIG, [*flags, *MEASURED], int(run_seed))


def tuning_runs(samplers: Sequence[str], learner: Sequence[str]) -> dict[Key, Run]:
    """One run per configuration."""
    few = ["--model.num_seeds", TUNING_SEEDS]
    return {
        ("tuning", setting, sampler, TUNING_SEED): run_of(
            "tuning", setting, sampler, TUNING_SEED, [*own, *learner, *few]
        )
        for sampler in samplers
        for setting, own in TUNING[sampler].items()
    }


def best(ledger: Ledger, sampler: str) -> str:
    """The configuration with the highest mean success."""

    def success(setting: str) -> float:
        result = ledger.of("tuning", setting, sampler)
        return -1.0 if result is None else result.mean_success

    return max(TUNING[sampler], key=success)


def tuned(ledger: Ledger, samplers: Sequence[str], workers: int) -> dict[str, list[str]]:
    """Flags of every sampler's best configuration."""
    ledger.fill(tuning_runs(["OnPolicy"], []), workers)
    learner = TUNING["OnPolicy"][best(ledger, "OnPolicy")][2:]
    others = [sampler for sampler in samplers if sampler != "OnPolicy"]
    ledger.fill(tuning_runs(others, learner), workers)
    chosen = {sampler: [*TUNING[sampler][best(ledger, sampler)], *learner] for sampler in others}
    return {"OnPolicy": ["--model.behavior", "OnPolicy", *learner]} | chosen


def comparison_runs(chosen: dict[str, list[str]], settings: Sequence[str]) -> dict[Key, Run]:
    """Fresh seeds for every sampler's best configuration."""
    many = ["--model.num_seeds", COMPARED_SEEDS]
    return {
        ("compared", setting, sampler, seed): run_of("compared", setting, sampler, seed, [*own, *flags, *many])
        for setting, (own, seed) in COMPARED.items()
        if setting in settings
        for sampler, flags in chosen.items()
        if sampler in COMPARED_SAMPLERS
    }


def steps_runs(chosen: dict[str, list[str]], settings: dict[str, list[str]]) -> dict[Key, Run]:
    """m, parallel environments, stratified draws."""
    return {
        ("steps", setting, sampler, M_RUN_SEED): run_of("steps", setting, sampler, M_RUN_SEED, [*own, *flags])
        for setting, flags in settings.items()
        for sampler, own in chosen.items()
        if sampler in COMPARED_SAMPLERS
        if not (sampler == "OnPolicy" and setting.startswith("m = ") and setting != "m = 1")  # m means nothing there
    }


def error(result: Outcome) -> str:
    """Joint TV, own / on-policy."""
    return f"{result.means['joint_tv']:.3f} / {result.means['joint_tv_on_policy']:.3f}"


def tuning_table(ledger: Ledger) -> str:
    """A line per configuration that has been run."""
    lines = []
    for sampler, settings in TUNING.items():
        winner = best(ledger, sampler)
        for setting in settings:
            result = ledger.of("tuning", setting, sampler)
            if result is not None:
                mark = " (taken)" if setting == winner else ""
                lines.append(
                    f"| {sampler} | {setting}{mark} | {result.mean_success:.3f} | {share(result)} | {error(result)} |"
                )
    return "\n".join(lines)


def compared_table(ledger: Ledger) -> str:
    """A line per setting and sampler; MAPPO's also with its earlier comparisons."""
    blocks: list[tuple[str, tuple[str, ...]]] = [("MAPPO", (seeds,)) for seeds in EARLIER]
    blocks += [(setting, (seed,)) for setting, (_, seed) in COMPARED.items()]
    blocks.insert(3, ("MAPPO", (*EARLIER, COMPARED["MAPPO"][1])))
    lines = []
    for setting, seeds in blocks:
        base = ledger.of("compared", setting, "OnPolicy", seeds)
        for sampler in TUNING:
            result = ledger.of("compared", setting, sampler, seeds)
            if result is None or base is None or (len(seeds) > 1 and sampler not in ("OnPolicy", "TabularMAPROPS")):
                continue
            change = "" if sampler == "OnPolicy" else difference(result, base)
            lines.append(
                f"| {setting} | {', '.join(seeds)} | {sampler} | {share(result)} of {result.seeds} | {change} "
                f"| {result.mean_success:.2f} | {error(result)} | {result.means['behavior_kl']:.2f} "
                f"| {result.seconds:.0f} |"
            )
    return "\n".join(lines)


def pooled_table(ledger: Ledger) -> str:
    """A line per set of settings and sampler, each setting with the run seed that all samplers have."""
    lines = []
    for name, settings in POOLED.items():
        whole = {}
        for sampler in TUNING:
            own = [ledger.of("compared", s, sampler, (COMPARED[s][1],)) for s in settings]
            finished = [result for result in own if result is not None]
            if len(finished) == len(own):
                whole[sampler] = pooled(finished)
        lines += [
            f"| {name} | {sampler} | {share(result)} of {result.seeds} "
            f"| {'' if sampler == 'OnPolicy' else difference(result, whole['OnPolicy'])} |"
            for sampler, result in whole.items()
        ]
    return "\n".join(lines)


def steps_table(ledger: Ledger, settings: dict[str, list[str]]) -> str:
    """A line per setting and sampler."""
    found = [(s, name, ledger.of("steps", name, s)) for s in TUNING for name in settings]
    return "\n".join(
        f"| {sampler} | {name} | {share(result)} | {error(result)} | {result.means['time/behavior']:.0f} "
        f"| {result.seconds:.0f} |"
        for sampler, name, result in found
        if result is not None
    )


def main() -> None:
    """Run what is missing and write samplers.md and samplers.csv."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--workers", type=int, default=1, help="runs at a time, each on one core")
    parser.add_argument("--samplers", nargs="+", default=list(TUNING), choices=list(TUNING))
    parser.add_argument("--parts", nargs="*", default=["compared", "steps"], choices=["compared", "steps"])
    parser.add_argument("--settings", nargs="+", default=list(COMPARED), choices=list(COMPARED))
    parser.add_argument("--m", nargs="*", type=int, default=[1, 2, 4, 8, 16])
    parser.add_argument("--envs", nargs="*", type=int, default=[2, 4, 8], help="environments per seed, m as large")
    parser.add_argument("--page", action="store_true", help="run nothing, write the page")
    options = parser.parse_args()
    ledger = Ledger("samplers")
    if not options.page:
        chosen = tuned(ledger, options.samplers, options.workers)
        if "compared" in options.parts:
            ledger.fill(comparison_runs(chosen, options.settings), options.workers)
        if "steps" in options.parts:
            ledger.fill(steps_runs(chosen, steps_settings(options.m, options.envs)), options.workers)
    write_page(
        "samplers",
        tuning=tuning_table(ledger),
        tuning_seeds=TUNING_SEEDS,
        tuning_seed=TUNING_SEED,
        compared=compared_table(ledger),
        pooled=pooled_table(ledger),
        steps=steps_table(ledger, steps_settings([1, 2, 4, 8, 16], [2, 4, 8])),
        m_run_seed=M_RUN_SEED,
    )


if __name__ == "__main__":
    main()
