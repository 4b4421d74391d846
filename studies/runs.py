"""Runs of one configuration with different flags, continued where they were interrupted."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from lit_maprops.cli.main import main as main_command
from lit_maprops.system.tables import read_table
from studies import ROOT

SOLVED = 0.8  # greedy success rate
PARTS = ("collect", "behavior", "target")
MEANS = ("joint_tv", "joint_tv_on_policy", "behavior_kl")
SQUARE = "mean_squared_success"  # over seeds: with the mean it gives the spread, and it can be pooled


class Run(NamedTuple):
    """One process with many seeds."""

    study: str
    name: str
    config: str
    flags: Sequence[str]
    run_seed: int

    @property
    def folder(self) -> Path:
        """Where it is kept."""
        slug = "".join(c if c.isalnum() or c in ".-" else "_" for c in self.name)
        return ROOT / "runs" / self.study / f"{slug}_{self.run_seed}"

    @property
    def finished(self) -> bool:
        """Whether it need not be run again."""
        return (self.folder / "summary.json").exists()


def complete(runs: Iterable[Run], workers: int = 1) -> None:
    """Run what has not finished, ``workers`` at a time, each on one core; 0: one by one in this process."""
    missing = [run for run in runs if not run.finished]
    if not workers:
        for run in missing:
            _complete_here(run)
        return
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(_complete_one, missing))


def _command(run: Run) -> list[str]:
    """The program's arguments that start a run or continue it."""
    command = ["fit"]
    checkpoint = run.folder / "checkpoints" / "last.ckpt"
    if checkpoint.exists():
        command += ["--ckpt_path", str(checkpoint)]
    else:
        shutil.rmtree(run.folder, ignore_errors=True)  # what a start that was interrupted early left
        command += ["--config", run.config, *run.flags, "--seed_everything", str(run.run_seed), "--wandb", "disabled"]
        command += ["--runs_dir", str(run.folder.parent), "--run_name", run.folder.name]
    print(run.study, run.name, run.run_seed, flush=True)
    return command


def _complete_one(run: Run) -> None:
    command = [sys.executable, "-m", "lit_maprops", *_command(run)]
    one_core = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    subprocess.run(command, cwd=ROOT, env=os.environ | one_core, check=True, stdout=subprocess.DEVNULL)


def _complete_here(run: Run) -> None:
    os.chdir(ROOT)
    torch.set_num_threads(1)
    if code := main_command(_command(run)):
        raise SystemExit(code)


class Outcome(NamedTuple):
    """What several runs of one setting gave."""

    seeds: int
    solved: int  # seeds whose greedy success rate at the end is at least ``SOLVED``
    mean_success: float
    means: dict[str, float]  # over the runs, of what the summaries say and of the seconds spent on each part
    seconds: float  # per run


def outcome(runs: Sequence[Run], columns: Iterable[str] = (), fields: Iterable[str] = MEANS) -> Outcome:
    """Pool the seeds of finished runs; ``columns`` of metrics.csv are averaged over training, too."""
    return outcome_of_folders([run.folder for run in runs], columns, fields)


def outcome_of_folders(folders: Sequence[Path], columns: Iterable[str] = (), fields: Iterable[str] = MEANS) -> Outcome:
    """See ``outcome``; a column that a run does not have is NaN.

    ``fields`` are figures of summary.json, or of the sampling error in metrics.csv, averaged over training.
    """
    summaries = [json.loads((folder / "summary.json").read_text()) for folder in folders]
    tables = [read_table(folder / "metrics.csv") for folder in folders]
    pairs = list(zip(summaries, tables, strict=True))
    means = {f: float(np.mean([_figure(s, table, f) for s, table in pairs])) for f in fields}
    means |= {f"time/{part}": float(np.mean([table[f"time/{part}"].sum() for table in tables])) for part in PARTS}
    means |= {c: float(np.mean([np.mean(table.get(c, [np.nan])) for table in tables])) for c in columns}
    success = np.concatenate([success_rates(s) for s in summaries])
    means[SQUARE] = float((success**2).mean())
    seconds = float(np.mean([s["wall_seconds"] for s in summaries]))
    return Outcome(len(success), int((success >= SOLVED).sum()), float(success.mean()), means, seconds)


def success_rates(summary: dict[str, Any]) -> NDArray[np.floating]:
    """Of every seed, as summary.json has them; 0 for one that has none, since its policies broke."""
    return np.nan_to_num(np.array(summary["success_rate"], dtype=float))


def _figure(summary: dict[str, float], table: dict[str, np.ndarray], name: str) -> float:
    if summary.get(name) is not None:
        return summary[name]
    column = table.get(f"sampling_error/{name}")
    return float("nan") if column is None else float(np.nanmean(column))


def pooled(outcomes: Sequence[Outcome]) -> Outcome:
    """One outcome of several of the same setting, weighted by their seeds."""
    weights = [o.seeds for o in outcomes]

    def mean(values: Sequence[float]) -> float:
        return float(np.average(values, weights=weights))

    means = {name: mean([o.means[name] for o in outcomes]) for name in outcomes[0].means}
    success = mean([o.mean_success for o in outcomes])
    return Outcome(sum(weights), sum(o.solved for o in outcomes), success, means, mean([o.seconds for o in outcomes]))
