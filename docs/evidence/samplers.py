"""Measures docs/evidence/samplers.md: do adaptive samplers solve more runs of BoulderPush than on-policy sampling?

Every sampler is tuned with the same number of configurations on its own seeds (run seed 2000), the best by mean success
is compared on fresh seeds. Interrupted, it continues with the runs that are missing. ``--samplers``,
``--learners`` and so on do a part of it; the page says what it holds.
"""

import argparse
from collections.abc import Sequence

from study import Outcome, Run, complete, difference, outcome, share, write

CONFIG = "conf/boulderpush_reliability.yaml"
TUNING_SEED, TUNING_SEEDS = 2000, 32
COMPARISONS = ((21, 22), (31, 32))  # run seeds, 64 seeds each; the second was decided on after the first was seen
M_RUN_SEED = 23
OPTION, LEARNER = "--model.behavior.init_args.", "--model.learner.init_args."
MEASURED = ["--model.sampling_error", "tabular", "--model.sampling_error_interval", "10"]


def adaptive(kind: str, learning_rate: float, kl_cutoff: float) -> list[str]:
    """PROPS or MAPROPS; equal states are merged, which gives the same sums in less time."""
    options = {"learning_rate": learning_rate, "kl_cutoff": kl_cutoff, "merge_states": "true"}
    return ["--model.behavior", kind, *(part for k, v in options.items() for part in (f"{OPTION}{k}", str(v)))]


# Four configurations for each sampler; on-policy sampling has none of its own, so the learner's step size is tuned for
# it, and the others take what is best for on-policy sampling.
TUNING: dict[str, dict[str, list[str]]] = {
    "OnPolicy": {
        f"learner's rate {rate:g}": ["--model.behavior", "OnPolicy", f"{LEARNER}learning_rate", str(rate)]
        for rate in (5e-4, 1e-3, 2e-3, 4e-3)
    },
    **{
        kind: {
            f"rate {rate:g}, delta {delta:g}": adaptive(kind, rate, delta)
            for rate in (1e-3, 3e-3)
            for delta in (0.03, 0.3)
        }
        for kind in ("PROPS", "MAPROPS")
    },
    "TabularMAPROPS": {
        f"delta {delta:g}": ["--model.behavior", "TabularMAPROPS", f"{OPTION}kl_cutoff", str(delta)]
        for delta in (0.01, 0.03, 0.1, 0.3)
    },
}


def tuning_runs(sampler: str, learner: Sequence[str] = ()) -> dict[str, Run]:
    """One run per configuration."""
    flags = [*MEASURED, "--model.num_seeds", str(TUNING_SEEDS), *learner]
    return {
        name: Run("samplers_tuning", f"{sampler} {name}", CONFIG, [*own, *flags], TUNING_SEED)
        for name, own in TUNING[sampler].items()
    }


def best(runs: dict[str, Run]) -> str:
    """The configuration with the highest mean success."""
    return max(runs, key=lambda name: float(outcome([runs[name]]).success.mean()))


def tuned(samplers: Sequence[str], workers: int) -> tuple[dict[str, list[str]], list[str], list[dict[str, object]]]:
    """Flags of every sampler's best configuration, the tuning table and its rows."""
    chosen: dict[str, list[str]] = {}
    lines, rows, learner = [], [], []
    for sampler in samplers:
        runs = tuning_runs(sampler, learner)
        complete(runs.values(), workers)
        winner = best(runs)
        own = TUNING[sampler][winner]
        if sampler == "OnPolicy":
            learner = own[2:]
        chosen[sampler] = [*own, *([] if sampler == "OnPolicy" else learner)]
        for name, run in runs.items():
            result = outcome([run])
            mark = " (taken)" if name == winner else ""
            lines.append(
                f"| {sampler} | {name}{mark} | {result.success.mean():.3f} | {share(result)} | {error(result)} |"
            )
            rows.append(record("tuning", sampler, name, result))
            print(lines[-1], flush=True)
    return chosen, lines, rows


def error(result: Outcome) -> str:
    """Joint TV, own / on-policy."""
    return f"{result.means['joint_tv']:.3f} / {result.means['joint_tv_on_policy']:.3f}"


def record(part: str, sampler: str, setting: str, result: Outcome) -> dict[str, object]:
    """A row of the raw figures."""
    return {
        "part": part,
        "sampler": sampler,
        "setting": setting,
        "seeds": len(result.success),
        "solved": result.solved,
        "mean_success": float(result.success.mean()),
        **result.means,
        "seconds": result.seconds,
    }


def compared(chosen: dict[str, list[str]], learner: str, workers: int) -> tuple[str, list[dict[str, object]]]:
    """Fresh seeds for every sampler's best configuration, comparison by comparison and pooled."""
    lines, rows = [], []
    for run_seeds in [*COMPARISONS, tuple(seed for part in COMPARISONS for seed in part)]:
        runs = {
            sampler: [
                Run("samplers", f"{learner} {sampler}", CONFIG, ["--model.learner", learner, *flags, *MEASURED], seed)
                for seed in run_seeds
            ]
            for sampler, flags in chosen.items()
        }
        complete([own[k] for k in range(len(run_seeds)) for own in runs.values()], workers)
        results = {sampler: outcome(own) for sampler, own in runs.items()}
        seeds = ", ".join(map(str, run_seeds))
        for sampler, result in results.items():
            change = "" if sampler == "OnPolicy" else difference(result, results["OnPolicy"])
            lines.append(
                f"| {learner} | {seeds} | {sampler} | {share(result)} of {len(result.success)} | {change} "
                f"| {result.success.mean():.2f} | {error(result)} | {result.means['behavior_kl']:.2f} "
                f"| {result.seconds:.0f} |"
            )
            rows.append(record(f"compared, {learner}, run seeds {seeds}", sampler, "", result))
    return "\n".join(lines), rows


def steps_between_updates(
    chosen: dict[str, list[str]], ms: Sequence[int], envs_per_seed: Sequence[int], workers: int
) -> tuple[str, list[dict[str, object]]]:
    """m, and environments side by side in a seed."""
    settings = {f"m = {m}": ("1", str(m)) for m in ms}
    settings |= {f"{e} environments, m = {e}": (str(e), str(e)) for e in envs_per_seed}
    runs = {}
    for sampler, own in chosen.items():
        for setting, (envs, m) in settings.items():
            if sampler == "OnPolicy" and envs == "1" and m != "1":
                continue  # without behavior updates m means nothing
            flags = [*own, *MEASURED, "--data.num_envs", envs, "--data.behavior_batch_size", m]
            runs[sampler, setting] = Run("samplers_m", f"{sampler} {setting}", CONFIG, flags, M_RUN_SEED)
    complete(runs.values(), workers)
    lines, rows = [], []
    for (sampler, setting), run in runs.items():
        result = outcome([run])
        lines.append(f"| {sampler} | {setting} | {share(result)} | {error(result)} | {result.seconds:.0f} |")
        rows.append(record("steps between updates", sampler, setting, result))
    return "\n".join(lines) or "| not measured yet | | | | |", rows


def main() -> None:
    """Run what is missing and write samplers.md and samplers.csv."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--workers", type=int, default=2, help="runs at a time, each on one core")
    parser.add_argument("--samplers", nargs="+", default=list(TUNING), choices=list(TUNING))
    parser.add_argument("--learners", nargs="+", default=["MAPPO", "IPPO"])
    parser.add_argument("--m", nargs="*", type=int, default=[1, 2, 4, 8, 16])
    parser.add_argument("--envs", nargs="*", type=int, default=[2, 4, 8], help="environments per seed, m as large")
    options = parser.parse_args()
    samplers = [name for name in TUNING if name in {"OnPolicy", *options.samplers}]
    chosen, tuning, rows = tuned(samplers, options.workers)
    lines = []
    for learner in options.learners:
        table, found = compared(chosen, learner, options.workers)
        lines.append(table)
        rows += found
    steps, found = steps_between_updates(chosen, options.m, options.envs, options.workers)
    write(
        "samplers",
        [*rows, *found],
        samplers=", ".join(samplers),
        tuning="\n".join(tuning),
        tuning_seeds=str(TUNING_SEEDS),
        tuning_seed=str(TUNING_SEED),
        compared="\n".join(lines),
        steps=steps,
        m_run_seed=str(M_RUN_SEED),
    )


if __name__ == "__main__":
    main()
