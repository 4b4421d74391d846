"""Measures docs/evidence/samplers.md: do adaptive samplers solve more runs of BoulderPush than on-policy sampling?

Every sampler is tuned with the same number of configurations on its own seeds (run seed 2000), the best by mean success
is compared on fresh seeds. ``python docs/evidence/samplers.py tune`` shows the tuning runs, without an argument the
study continues to the end.
"""

from collections.abc import Sequence

from study import Outcome, Run, complete, outcome, share

CONFIG = "conf/boulderpush_reliability.yaml"
TUNING_SEED, TUNING_SEEDS = 2000, 32
RUN_SEEDS = (21, 22)  # 64 seeds each
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


def tuned() -> tuple[dict[str, list[str]], list[str], list[dict[str, object]]]:
    """Flags of every sampler's best configuration, the tuning table and its rows."""
    chosen: dict[str, list[str]] = {}
    lines, rows, learner = [], [], []
    for sampler in TUNING:
        runs = tuning_runs(sampler, learner)
        complete(runs.values())
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
    own, base = (result.means[f"sampling_error/joint_tv{suffix}"] for suffix in ("", "_on_policy"))
    return f"{own:.3f} / {base:.3f}"


def record(part: str, sampler: str, setting: str, result: Outcome) -> dict[str, object]:
    """A row of the raw figures."""
    return {
        "part": part,
        "sampler": sampler,
        "setting": setting,
        "seeds": len(result.success),
        "solved": result.solved,
        "mean_success": float(result.success.mean()),
        "joint_tv": result.means["sampling_error/joint_tv"],
        "joint_tv_on_policy": result.means["sampling_error/joint_tv_on_policy"],
        "behavior_kl": result.means["behavior/kl"],
        "seconds": result.seconds,
    }
