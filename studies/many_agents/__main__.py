"""Measures docs/evidence/many_agents.md: what samplers without a table of joint actions do for 10 agents and more.

Every sampler is tuned on its own seeds (run seed 3000) over a grid of equal size, the best is compared on fresh seeds.
Sampling error at fixed policies, times and memory are measured in fixed.py and scaling.py. Finished parts are kept in
runs/many_agents and not measured again.
"""

import argparse
import json
import os
import shutil
from collections.abc import Iterable, Sequence
from datetime import date
from typing import Any, NamedTuple

import numpy as np
import torch

from lit_maprops.cli.main import main as main_command
from lit_maprops.metrics.reliability import wilson_interval
from lit_maprops.system.tables import read_table
from studies import ROOT
from studies.cells import points, share_of
from studies.many_agents import scaling
from studies.many_agents.fixed import GRID
from studies.many_agents.samplers import COMPARED, Rows, Setting, setting_name
from studies.page import write
from studies.runs import SOLVED, Run, success_rates

CONFIG = "conf/coordination_10x5.yaml"
OPTION, LEARNER, ENV = "--model.behavior.init_args.", "--model.learner.init_args.", "--data.env.init_args."
TUNING_SEED, TUNING_SEEDS = 3000, 32
LEARNER_RATES = (0.0125, 0.025, 0.05, 0.1, 0.2, 0.4)  # as many as the grid has settings
CLOSE = [f"{ENV}rewards", "[1.0,0.95,0.9,0.85,0.8]"]
CLOSE_SEED, CLOSE_SEEDS = 71, 128
CONFIGURED_SEED, CONFIGURED_SEEDS = 999, 64
MEASURED = ["--model.sampling_error", "tabular", "--model.sampling_error_interval", "3"]
FITTED = ["--model.sampling_error", "likelihood", "--model.sampling_error_interval", "2"]
FITTED_SEED, FITTED_SEEDS = 74, 32
UPDATES = 31  # behavior updates per target update: n / m - 1
EARLY = 20  # target iterations in which nothing is decided yet
COLUMNS = (
    "part", "setting", "sampler", "seeds", "agents", "n", "solved", "mean_success", "pairwise_tv",
    "pairwise_tv_on_policy", "joint_kl", "joint_kl_on_policy", "ratio", "low", "high", "update_ms", "parameter_bytes",
    "d_bytes", "peak_bytes",
)  # fmt: skip


def sampler_flags(sampler: str, setting: Setting | None = None) -> list[str]:
    """The sampler with a (learning rate, KL cutoff) of the grid."""
    if setting is None:
        return ["--model.behavior", sampler]
    options = {"learning_rate": setting[0], "kl_cutoff": setting[1]}
    return ["--model.behavior", sampler, *(part for k, v in options.items() for part in (f"{OPTION}{k}", str(v)))]


def complete(runs: Iterable[Run]) -> None:
    """Run what has not finished, in this process: a start costs more than some of these runs."""
    for run in runs:
        if not run.finished:
            print(run.study, run.name, flush=True)
            shutil.rmtree(run.folder, ignore_errors=True)  # what a start that was interrupted left
            place = ["--wandb", "disabled", "--runs_dir", str(run.folder.parent), "--run_name", run.folder.name]
            seed = ["--seed_everything", str(run.run_seed)]
            os.chdir(ROOT)
            if main_command(["fit", "--config", run.config, *run.flags, *seed, *place]):
                raise SystemExit(f"{run.name} did not finish")


def measured_on(runs: Iterable[Run]) -> str:
    """The day on which the last of finished runs ended; the page may be written long after."""
    return date.fromtimestamp(max((run.folder / "summary.json").stat().st_mtime for run in runs)).isoformat()


class Result(NamedTuple):
    """What one run of many seeds gave."""

    success: np.ndarray  # greedy success rate of every seed
    table: dict[str, np.ndarray]  # metrics.csv

    @property
    def solved(self) -> int:
        """Seeds that reach ``SOLVED``; a NaN does not."""
        return int((self.success >= SOLVED).sum())

    @property
    def share(self) -> float:
        """Of the seeds."""
        return self.solved / len(self.success)

    def error(self, figure: str, rows: slice) -> float:
        """Mean of a column of the sampling error over the target iterations ``rows`` in which it was measured."""
        return float(np.nanmean(self.table[f"sampling_error/{figure}"][rows]))


def result_of(run: Run) -> Result:
    """Read a finished run."""
    summary = json.loads((run.folder / "summary.json").read_text())
    success = success_rates(summary)
    return Result(success, read_table(run.folder / "metrics.csv"))


# tuning


def tuning_run(sampler: str, name: str, flags: Sequence[str]) -> Run:
    """One setting on the tuning seeds."""
    few = ["--model.num_seeds", str(TUNING_SEEDS), "--model.sampling_error", "null"]
    return Run("many_agents", f"tuning {sampler} {name}", CONFIG, [*flags, *CLOSE, *few], TUNING_SEED)


def best(runs: dict[Any, Run]) -> Any:
    """The setting with the highest mean success; of equal ones the first."""
    success = {setting: result_of(run).success.mean() for setting, run in runs.items()}
    return max(success, key=lambda setting: success[setting])


def tuned(run_missing: bool, rows: Rows) -> tuple[str, list[str], dict[str, Setting]]:
    """Table of the tuning, the learner's flags, and every sampler's setting.

    On-policy sampling has no settings, so the learner's step size is tuned for it; the others take it over.
    """
    lines = []

    def enter(sampler: str, runs: dict[Any, Run]) -> Any:
        complete(runs.values() if run_missing else [])
        chosen = best(runs)
        for setting, run in runs.items():
            result = result_of(run)
            name = f"learner's rate {setting:g}" if sampler == "OnPolicy" else setting_name(setting)
            mark = " (taken)" if setting == chosen else ""
            lines.append(f"| {sampler} | {name}{mark} | {result.solved} of {TUNING_SEEDS} |")
            rows.append({"part": "tuning", "setting": name, "sampler": sampler, "seeds": TUNING_SEEDS})
            rows[-1] |= {"solved": result.solved, "mean_success": result.success.mean()}
        return chosen

    rates = {
        r: tuning_run("OnPolicy", f"{r:g}", [*sampler_flags("OnPolicy"), f"{LEARNER}learning_rate", str(r)])
        for r in LEARNER_RATES
    }
    learner = [f"{LEARNER}learning_rate", str(enter("OnPolicy", rates))]
    chosen = {
        sampler: enter(
            sampler, {s: tuning_run(sampler, setting_name(s), [*sampler_flags(sampler, s), *learner]) for s in GRID}
        )
        for sampler in COMPARED
    }
    return "\n".join(lines), learner, chosen


# comparison


def comparison_runs(learner: list[str], chosen: dict[str, Setting]) -> dict[str, dict[str, Run]]:
    """The configuration as it is, and close rewards with every sampler at its best setting; fresh seeds."""
    runs: dict[str, dict[str, Run]] = {"as configured": {}, "close rewards": {}}
    few, many = (["--model.num_seeds", str(seeds)] for seeds in (CONFIGURED_SEEDS, CLOSE_SEEDS))
    for sampler in ("OnPolicy", *COMPARED):
        flags = [*sampler_flags(sampler), *few]
        runs["as configured"][sampler] = Run("many_agents", f"as configured {sampler}", CONFIG, flags, CONFIGURED_SEED)
        flags = [*sampler_flags(sampler, chosen.get(sampler)), *CLOSE, *learner, *MEASURED, *many]
        runs["close rewards"][sampler] = Run("many_agents", f"close rewards {sampler}", CONFIG, flags, CLOSE_SEED)
    return runs


def compared(runs: dict[str, dict[str, Run]], rows: Rows) -> str:
    """Solved share and sampling error over training."""
    lines = []
    for task, of_samplers in runs.items():
        base = result_of(of_samplers["OnPolicy"])
        for sampler, run in of_samplers.items():
            result = result_of(run)
            seeds = len(result.success)
            change = points(result.solved, seeds, base.solved, seeds)
            cells = [
                f"{share_of(result.solved, seeds)} of {seeds}",
                "" if sampler == "OnPolicy" else change,
                *(
                    f"{result.error('pairwise_tv', part):.3f} / {result.error('pairwise_tv_on_policy', part):.3f}"
                    for part in (slice(EARLY), slice(EARLY, None))
                ),
                f"{np.mean(result.table['behavior/kl'][:EARLY]):.2f}",
            ]
            lines.append(f"| {task} | {sampler} | {' | '.join(cells)} |")
            low, high = wilson_interval(result.solved, seeds)
            rows.append({"part": "compared", "setting": task, "sampler": sampler, "seeds": seeds, "low": low})
            rows[-1] |= {"high": high, "solved": result.solved, "mean_success": result.success.mean()}
            rows[-1] |= {f: result.error(f, slice(EARLY)) for f in ("pairwise_tv", "pairwise_tv_on_policy")}
    return "\n".join(lines)


def within_fits(runs: dict[str, Run], rows: Rows) -> str:
    """Behavior updates against the target update of the same iteration of the same run."""
    lines = []
    for sampler in COMPARED:
        result = result_of(runs[sampler])
        all_updates = result.table["time/behavior"] / result.table["time/target"]
        cells = []
        for what, ratios in (("one update", all_updates / UPDATES), ("all updates", all_updates)):
            low, middle, high = np.percentile(ratios, [10, 50, 90])
            cells.append(f"{middle:.2f} [{low:.2f}, {high:.2f}]")
            rows.append({"part": f"{what} / target update, within a fit", "sampler": sampler, "n": 32})
            rows[-1] |= {"seeds": len(result.success), "ratio": middle, "low": low, "high": high}
        lines.append(f"| {sampler} | {' | '.join(cells)} |")
    return "\n".join(lines)


def fitted(learner: list[str], chosen: dict[str, Setting], run_missing: bool, rows: Rows) -> str:
    """Joint KL by maximum likelihood in the first iterations, as ``--model.sampling_error likelihood`` reports it."""
    size = {"num_seeds": FITTED_SEEDS, "total_env_steps": 32 * EARLY}
    flags = [*CLOSE, *learner, *FITTED, *(part for k, v in size.items() for part in (f"--model.{k}", str(v)))]
    lines = []
    for sampler in ("OnPolicy", *COMPARED):
        own = sampler_flags(sampler, chosen.get(sampler))
        run = Run("many_agents", f"likelihood {sampler}", CONFIG, [*own, *flags], FITTED_SEED)
        complete([run] if run_missing else [])
        result = result_of(run)
        names = ("joint_kl", "joint_kl_on_policy", "agent_kl", "agent_kl_on_policy")
        figures = [result.error(name, slice(EARLY)) for name in names]
        lines.append("| {} | {:.3f} / {:.3f} | {:.4f} / {:.4f} |".format(sampler, *figures))
        rows.append({"part": "fitted in training", "sampler": sampler, "seeds": FITTED_SEEDS, "n": 32})
        rows[-1] |= {"joint_kl": figures[0], "joint_kl_on_policy": figures[1]}
    return "\n".join(lines)


def main() -> None:
    """Measure what is missing and write many_agents.md, .csv and .png."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--page", action="store_true", help="measure nothing, write the page")
    options = parser.parse_args()
    torch.set_num_threads(1)
    run_missing = not options.page
    rows: Rows = []
    tuning, learner, chosen = tuned(run_missing, rows)
    runs = comparison_runs(learner, chosen)
    complete([run for of_samplers in runs.values() for run in of_samplers.values()] if run_missing else [])
    parts = {"compared": compared(runs, rows), "within": within_fits(runs["close rewards"], rows)}
    parts["fitted"] = fitted(learner, chosen, run_missing, rows)
    parts |= scaling.sections(run_missing, rows)
    write(
        "many_agents",
        [{name: row.get(name, "") for name in COLUMNS} for row in rows],
        tuning=tuning,
        tuning_seed=str(TUNING_SEED),
        tuning_seeds=str(TUNING_SEEDS),
        configured_seed=str(CONFIGURED_SEED),
        configured_date=measured_on(runs["as configured"].values()),
        close_seed=str(CLOSE_SEED),
        fitted_seed=str(FITTED_SEED),
        fitted_seeds=str(FITTED_SEEDS),
        early=str(EARLY),
        **parts,
    )


if __name__ == "__main__":
    main()
