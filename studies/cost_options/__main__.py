"""Measures docs/evidence/cost_options.md: what each way to cheaper behavior updates costs in solved runs.

Every option runs conf/boulderpush_reliability.yaml on the same fresh seeds. Interrupted, it continues with the runs
that are missing.
"""

import sys

from studies.cells import share
from studies.page import write
from studies.runs import Run, complete, outcome

CONFIG = "conf/boulderpush_reliability.yaml"
RUN_SEEDS = (11,)  # 64 seeds each; tuning used run seed 1000
OPTION = "--model.behavior.init_args."
# Learning rates and epochs that differ from the configuration's were chosen on run seed 1000, by the sampling error of
# 32 seeds x 1,024 steps.
OPTIONS: dict[str, list[str]] = {
    "OnPolicy": ["--model.behavior", "OnPolicy"],
    "MAPROPS, the paper's way": [],
    "merge_states": [f"{OPTION}merge_states", "true"],
    "trained_layers: last, learning_rate 0.03": [f"{OPTION}trained_layers", "last", f"{OPTION}learning_rate", "0.03"],
    "max_sample_passes: 256": [f"{OPTION}max_sample_passes", "256"],
    "max_states: 64": [f"{OPTION}max_states", "64"],
    "warm_start, 1 epoch": [f"{OPTION}warm_start", "true", f"{OPTION}epochs", "1"],
    "TabularMAPROPS": ["--model.behavior", "TabularMAPROPS"],
}
MEASURED = ["--model.sampling_error", "tabular", "--model.sampling_error_interval", "5"]


def main() -> None:
    """Run what is missing (of the options named on the command line, or all) and write the page and the table."""
    runs = {
        name: [Run("cost_options", name, CONFIG, [*flags, *MEASURED], seed) for seed in RUN_SEEDS]
        for name, flags in OPTIONS.items()
    }
    complete(run for name in sys.argv[1:] or OPTIONS for run in runs[name])
    results = {name: outcome(own) for name, own in runs.items() if all(run.finished for run in own)}
    lines, rows = [], []
    for name, result in results.items():
        means = result.means
        rows.append({"option": name, "seeds": result.seeds, "solved": result.solved} | means)
        rows[-1]["seconds"] = result.seconds
        lines.append(
            f"| {name} | {result.seeds} | {share(result)} "
            f"| {means['joint_tv']:.3f} / {means['joint_tv_on_policy']:.3f} | {means['behavior_kl']:.2f} "
            f"| {means['time/behavior']:.0f} | {result.seconds:.0f} "
            f"| {result.seconds / results['OnPolicy'].seconds:.2f} |"
        )
    write("cost_options", rows, seeds=", ".join(map(str, RUN_SEEDS)), table="\n".join(lines))


if __name__ == "__main__":
    main()
