"""What the studies share: runs of one configuration with different flags, continued where they were interrupted."""

import csv
import io
import json
import os
import platform
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import t

from lit_maprops.cli.main import main as main_command
from lit_maprops.metrics.reliability import difference_interval, wilson_interval
from lit_maprops.system.files import read_table, write_atomically
from studies import ROOT, page_of, table_of, template_of

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
    solved: int  # seeds whose greedy success rate at the end is at least ``SOLVED``; a NaN is not
    mean_success: float
    means: dict[str, float]  # over the runs, of what the summaries say and of the seconds spent on each part
    seconds: float  # per run


def outcome(runs: Sequence[Run], columns: Iterable[str] = (), fields: Iterable[str] = MEANS) -> Outcome:
    """Pool the seeds of finished runs; ``columns`` of metrics.csv are averaged over training, too."""
    return outcome_of_folders([run.folder for run in runs], columns, fields)


def outcome_of_folders(folders: Sequence[Path], columns: Iterable[str] = (), fields: Iterable[str] = MEANS) -> Outcome:
    """See ``outcome``; a column that a run does not have is NaN, ``fields`` of summary.json every run has."""
    summaries = [json.loads((folder / "summary.json").read_text()) for folder in folders]
    tables = [read_table(folder / "metrics.csv") for folder in folders]
    means = {f: float(np.mean([s[f] for s in summaries])) for f in fields}
    means |= {f"time/{part}": float(np.mean([table[f"time/{part}"].sum() for table in tables])) for part in PARTS}
    means |= {c: float(np.mean([np.mean(table.get(c, [np.nan])) for table in tables])) for c in columns}
    success = np.array([float(rate) for s in summaries for rate in s["success_rate"]])
    means[SQUARE] = float((success**2).mean())
    seconds = float(np.mean([s["wall_seconds"] for s in summaries]))
    return Outcome(len(success), int((success >= SOLVED).sum()), float(success.mean()), means, seconds)


def pooled(outcomes: Sequence[Outcome]) -> Outcome:
    """One outcome of several of the same setting, weighted by their seeds."""
    weights = [o.seeds for o in outcomes]

    def mean(values: Sequence[float]) -> float:
        return float(np.average(values, weights=weights))

    means = {name: mean([o.means[name] for o in outcomes]) for name in outcomes[0].means}
    success = mean([o.mean_success for o in outcomes])
    return Outcome(sum(weights), sum(o.solved for o in outcomes), success, means, mean([o.seconds for o in outcomes]))


class Ledger:
    """Finished runs by (part, setting, sampler, run seed) in ``<name>.csv``, which is committed: none is run twice.

    A row whose run seed reads "21, 22" pools two runs.

    Args:
        name: of the file; without one the ledger starts empty.
        fields: of summary.json, kept beside the seconds of each part.
        squares: keep the mean squared success, too, for ``mean_success``.
    """

    def __init__(self, name: str, fields: Sequence[str] = MEANS, squares: bool = False) -> None:
        self.path, self.fields = table_of(name), fields
        self.columns = [*fields, *(f"time/{part}" for part in PARTS), *([SQUARE] if squares else [])]
        self._lock = threading.Lock()
        rows = []
        if self.path.exists():
            with self.path.open(newline="") as file:
                rows = list(csv.DictReader(file))
        self.outcomes = {(r["part"], r["setting"], r["sampler"], r["run seed"]): self._outcome_of(r) for r in rows}

    def fill(self, runs: dict[tuple[str, str, str, str], Run], workers: int) -> None:
        """Run what is missing, ``workers`` at a time (see ``complete``), and enter each when it ends."""

        def one(key: tuple[str, str, str, str]) -> None:
            complete([runs[key]], min(workers, 1))
            with self._lock:
                self.outcomes[key] = outcome([runs[key]], fields=self.fields)
                self._write()

        missing = [key for key in runs if key not in self.outcomes]
        if not workers:
            for key in missing:
                one(key)
            return
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(one, missing))

    def of(self, part: str, setting: str, sampler: str, run_seeds: Iterable[str] | None = None) -> Outcome | None:
        """All runs of a sampler in a setting, pooled; None where there are none."""
        own = {key[3]: result for key, result in self.outcomes.items() if key[:3] == (part, setting, sampler)}
        found = [result for seed, result in own.items() if run_seeds is None or seed in run_seeds]
        return pooled(found) if found else None

    def _write(self) -> None:
        rows = []
        for key, o in self.outcomes.items():
            row = dict(zip(("part", "setting", "sampler", "run seed"), key, strict=True))
            kept = {name: o.means[name] for name in self.columns}
            values = {"mean_success": o.mean_success, **kept, "seconds": o.seconds}
            rounded = {name: str(round(value, 5)) for name, value in values.items()}
            rows.append(row | {"seeds": str(o.seeds), "solved": str(o.solved)} | rounded)
        with io.StringIO() as text:
            writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
            write_atomically(self.path, text.getvalue())

    def _outcome_of(self, row: dict[str, str]) -> Outcome:
        means = {name: float(row[name]) for name in self.columns}
        return Outcome(int(row["seeds"]), int(row["solved"]), float(row["mean_success"]), means, float(row["seconds"]))


def share(result: Outcome) -> str:
    """Solved share with its Wilson interval."""
    low, high = wilson_interval(result.solved, result.seeds)
    return f"{result.solved / result.seeds:.0%} [{low:.0%}, {high:.0%}]"


def difference(result: Outcome, base: Outcome) -> str:
    """Percentage points against ``base`` with the Newcombe interval."""
    low, high = difference_interval(result.solved, result.seeds, base.solved, base.seeds)
    change = result.solved / result.seeds - base.solved / base.seeds
    return f"{100 * change:+.0f} [{100 * low:+.0f}, {100 * high:+.0f}]"


def mean_success(result: Outcome) -> str:
    """Mean success with its interval over seeds, by Student's t (needs ``SQUARE``)."""
    variance = max(0.0, result.means[SQUARE] - result.mean_success**2) / max(1, result.seeds - 1)
    reach = float(t.ppf(0.975, max(1, result.seeds - 1))) * variance**0.5
    low, high = max(0.0, result.mean_success - reach), min(1.0, result.mean_success + reach)
    return f"{result.mean_success:.2f} [{low:.2f}, {high:.2f}]"


def machine() -> str:
    """Where it ran."""
    return f"{platform.machine()}, one core of {os.cpu_count()} per run, torch {torch.__version__}"


def write_page(name: str, **parts: str) -> None:
    """``name``.md from its template."""
    text = template_of(name).read_text()
    page_of(name).write_text(text.format(date=date.today().isoformat(), machine=machine(), **parts))


def write(name: str, rows: list[dict[str, object]], **parts: str) -> None:
    """``name``.csv with the raw figures and ``name``.md from its template."""
    write_page(name, **parts)
    with table_of(name).open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: round(v, 5) if isinstance(v, float) else v for k, v in row.items()} for row in rows)
