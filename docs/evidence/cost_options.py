"""Measures docs/evidence/cost_options.md: what each way to cheaper behavior updates costs in solved runs.

Every option runs conf/boulderpush_reliability.yaml on the same fresh seeds. Interrupted, it continues with the runs
that are missing.
"""

import csv
import json
import os
import platform
import subprocess
import sys
from datetime import date
from pathlib import Path

import numpy as np
import torch

from lit_maprops.metrics.reliability import wilson_interval

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
RUNS = ROOT / "runs" / "cost_options"
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


def folder_of(name: str, run_seed: int) -> Path:
    """Where a run is kept."""
    slug = "".join(c if c.isalnum() else "_" for c in name)
    return RUNS / f"{slug}_{run_seed}"


def run_missing(names: list[str]) -> None:
    """Run what has not finished yet, one after the other on one core."""
    one_core = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    for run_seed in RUN_SEEDS:
        for name in names:
            folder = folder_of(name, run_seed)
            if (folder / "summary.json").exists():
                continue
            command = [sys.executable, "-m", "lit_maprops", "fit", "--config", "conf/boulderpush_reliability.yaml"]
            command += [*OPTIONS[name], *MEASURED, "--seed_everything", str(run_seed), "--wandb", "disabled"]
            command += ["--runs_dir", str(RUNS), "--run_name", folder.name]
            print(name, run_seed, flush=True)
            subprocess.run(command, cwd=ROOT, env=os.environ | one_core, check=True, stdout=subprocess.DEVNULL)


def of_seeds(folder: Path) -> tuple[list[float], dict[str, float]]:
    """Greedy success rate of every seed at the end, and means over the run of what the table shows."""
    summary = json.loads((folder / "summary.json").read_text())
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))

    def mean(column: str) -> float:
        values = [float(row[column]) for row in rows if row.get(column)]
        return float(np.mean(values)) if values else float("nan")

    columns = ("sampling_error/joint_tv", "sampling_error/joint_tv_on_policy", "behavior/kl")
    means = {column: mean(column) for column in columns}
    means |= {part: sum(float(row[f"time/{part}"]) for row in rows) for part in ("collect", "behavior", "target")}
    return summary["success_rate"], means | {"seconds": summary["wall_seconds"]}


def main() -> None:
    """Run what is missing (of the options named on the command line, or all) and write the page and the table."""
    names = sys.argv[1:] or list(OPTIONS)
    run_missing(names)
    lines, table, base = [], [], None
    for name in OPTIONS:
        folders = [folder_of(name, seed) for seed in RUN_SEEDS if (folder_of(name, seed) / "summary.json").exists()]
        if not folders:
            continue
        parts = [of_seeds(folder) for folder in folders]
        success = np.concatenate([part[0] for part in parts])
        means = {key: float(np.mean([part[1][key] for part in parts])) for key in parts[0][1]}
        solved = int((success >= 0.8).sum())
        low, high = wilson_interval(solved, len(success))
        base = base or means["seconds"]
        table.append({"option": name, "seeds": len(success), "solved": solved, "low": low, "high": high} | means)
        lines.append(
            f"| {name} | {len(success)} | {solved / len(success):.0%} [{low:.0%}, {high:.0%}] "
            f"| {means['sampling_error/joint_tv']:.3f} / {means['sampling_error/joint_tv_on_policy']:.3f} "
            f"| {means['behavior/kl']:.2f} | {means['behavior']:.0f} | {means['seconds']:.0f} "
            f"| {means['seconds'] / base:.2f} |"
        )
    text = (HERE / "cost_options.template.md").read_text()
    machine = f"{platform.machine()}, one core of {os.cpu_count()}, torch {torch.__version__}"
    seeds = ", ".join(map(str, RUN_SEEDS))
    text = text.format(date=date.today().isoformat(), machine=machine, seeds=seeds, table="\n".join(lines))
    (HERE / "cost_options.md").write_text(text)
    with (HERE / "cost_options.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()} for row in table)


if __name__ == "__main__":
    main()
