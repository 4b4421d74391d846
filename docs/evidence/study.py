"""What the studies share: runs of one configuration with different flags, continued where they were interrupted."""

import csv
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from lit_maprops.files import read_table
from lit_maprops.metrics.reliability import difference_interval, wilson_interval

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
SOLVED = 0.8  # greedy success rate
PARTS = ("collect", "behavior", "target")


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
    """Run what has not finished, ``workers`` at a time, each on one core."""
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(_complete_one, [run for run in runs if not run.finished]))


def _complete_one(run: Run) -> None:
    command = [sys.executable, "-m", "lit_maprops", "fit"]
    checkpoint = run.folder / "checkpoints" / "last.ckpt"
    if checkpoint.exists():
        command += ["--ckpt_path", str(checkpoint)]
    else:
        shutil.rmtree(run.folder, ignore_errors=True)  # what a start that was interrupted early left
        command += ["--config", run.config, *run.flags, "--seed_everything", str(run.run_seed), "--wandb", "disabled"]
        command += ["--runs_dir", str(run.folder.parent), "--run_name", run.folder.name]
    print(run.study, run.name, run.run_seed, flush=True)
    one_core = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    subprocess.run(command, cwd=ROOT, env=os.environ | one_core, check=True, stdout=subprocess.DEVNULL)


class Outcome(NamedTuple):
    """What several runs of one setting gave."""

    success: NDArray[np.floating]  # greedy success rate of every seed at the end
    means: dict[str, float]  # over the runs, of what the summaries say and of the seconds spent on each part
    seconds: float  # per run

    @property
    def solved(self) -> int:
        """Seeds that reach ``SOLVED``; a NaN does not."""
        return int((self.success >= SOLVED).sum())


def outcome(runs: Sequence[Run]) -> Outcome:
    """Pool the seeds of finished runs."""
    summaries = [json.loads((run.folder / "summary.json").read_text()) for run in runs]
    tables = [read_table(run.folder / "metrics.csv") for run in runs]
    means = {f: float(np.mean([s[f] for s in summaries])) for f in ("joint_tv", "joint_tv_on_policy", "behavior_kl")}
    means |= {f"time/{part}": float(np.mean([t[f"time/{part}"].sum() for t in tables])) for part in PARTS}
    success = np.array([float(rate) for s in summaries for rate in s["success_rate"]])
    return Outcome(success, means, float(np.mean([s["wall_seconds"] for s in summaries])))


def share(result: Outcome) -> str:
    """Solved share with its Wilson interval."""
    low, high = wilson_interval(result.solved, len(result.success))
    return f"{result.solved / len(result.success):.0%} [{low:.0%}, {high:.0%}]"


def difference(result: Outcome, base: Outcome) -> str:
    """Percentage points against ``base`` with the Newcombe interval."""
    runs, base_runs = len(result.success), len(base.success)
    low, high = difference_interval(result.solved, runs, base.solved, base_runs)
    change = result.solved / runs - base.solved / base_runs
    return f"{100 * change:+.0f} [{100 * low:+.0f}, {100 * high:+.0f}]"


def machine() -> str:
    """Where it ran."""
    return f"{platform.machine()}, one core of {os.cpu_count()} per run, torch {torch.__version__}"


def write(name: str, rows: list[dict[str, object]], **parts: str) -> None:
    """``name``.csv with the raw figures and ``name``.md from its template."""
    text = (HERE / f"{name}.template.md").read_text()
    (HERE / f"{name}.md").write_text(text.format(date=date.today().isoformat(), machine=machine(), **parts))
    with (HERE / f"{name}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: round(v, 5) if isinstance(v, float) else v for k, v in row.items()} for row in rows)
