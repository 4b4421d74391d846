"""Measures docs/evidence/soak.md: one long run, watched from outside for anything that grows.

``--minutes 2 --every 1`` tries the script; only a run of the full length writes the page.
"""

import argparse
import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray

from lit_maprops.system.tables import read_table
from studies import ROOT, picture_of, table_of
from studies.page import write
from studies.soak.growth import slope

MINUTES = 30.0
SEED = 0
FOLDER = ROOT / "runs" / "soak" / "run"
SAMPLES = FOLDER.with_name("samples.csv")  # as they come: a run cut short leaves them
# Everything that a run does, as often as it can: checkpoints after every iteration, short batches and episodes.
FLAGS = {
    "--config": "conf/boulderpush.yaml", "--model.num_seeds": "4", "--model.total_env_steps": str(10**12),
    "--model.eval_interval": "5", "--model.eval_episodes": "4", "--model.sampling_error_interval": "5",
    "--model.checkpoint_interval": "1", "--model.learner.epochs": "2", "--model.learner.minibatches": "2",
    "--data.num_envs": "4", "--data.behavior_batch_size": "16", "--data.target_batch_size": "64",
    "--data.env.max_steps": "20", "--seed_everything": str(SEED), "--wandb": "offline",
}  # fmt: skip
LOGS = {
    "metrics_csv": "metrics.csv", "eval_csv": "eval.csv", "wandb_run": "wandb/*run-*/*.wandb",
    "wandb_debug": "wandb/*run-*/logs/*", "checkpoint": "checkpoints/*.ckpt",
}  # fmt: skip
CALLED = {
    "rss": "the program's memory", "anonymous": "the program's own memory", "wandb_rss": "the memory of W&B's process",
    "open_files": "open files", "threads": "threads", "wandb_open_files": "open files of W&B's process",
    "folder_files": "files in the folder", "wandb_debug": "W&B's debug logs", "checkpoint": "the checkpoint",
}  # fmt: skip
Sample = dict[str, float]
Columns = dict[str, NDArray[np.floating]]


def kilobytes(pid: int) -> dict[str, int]:
    """What /proc says about a process' memory: Rss, Pss and Anonymous among others."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    return {line.split(":")[0]: int(line.split()[1]) for line in lines}


def sample(pid: int, started: float) -> Sample:
    """One look at the program, at W&B's own process and at the run's folder; memory in MB, files in kB."""
    proc = Path(f"/proc/{pid}")
    memory, stat = kilobytes(pid), (proc / "stat").read_text().rpartition(")")[2].split()
    children = [int(child) for task in (proc / "task").iterdir() for child in (task / "children").read_text().split()]
    with (FOLDER / "metrics.csv").open("rb") as file:
        header = file.readline().decode().split(",")
        file.seek(max(file.tell(), file.seek(0, os.SEEK_END) - 8192))
        last = dict(zip(header, file.read().decode().splitlines()[-1].split(","), strict=False))
    files = [path for path in FOLDER.rglob("*") if path.is_file() and not path.is_symlink()]
    return {
        "seconds": time.monotonic() - started,
        "iteration": float(last["iteration"]),
        "cpu_seconds": (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK"),
        "rss": memory["Rss"] / 1024,
        "pss": memory["Pss"] / 1024,
        "anonymous": memory["Anonymous"] / 1024,
        "open_files": len(list((proc / "fd").iterdir())),
        "threads": float(stat[17]),
        "wandb_rss": sum(kilobytes(child)["Rss"] for child in children) / 1024,
        "wandb_open_files": sum(len(list(Path(f"/proc/{child}/fd").iterdir())) for child in children),
        **{name: sum(path.stat().st_size for path in FOLDER.glob(glob)) / 1024 for name, glob in LOGS.items()},
        "folder": sum(path.stat().st_size for path in files) / 1024,
        "folder_files": len(files),
    }


def watch(minutes: float, every: float) -> list[Sample]:
    """Run the program for so long, from its first row on, and stop it with SIGTERM; what was seen meanwhile."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    command = [sys.executable, "-m", "lit_maprops", "fit", *(word for flag in FLAGS.items() for word in flag)]
    command += ["--runs_dir", str(FOLDER.parent), "--run_name", FOLDER.name]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=ROOT, env=environment)
    started = time.monotonic()
    samples: list[Sample] = []
    while not samples or samples[-1]["seconds"] < 60 * minutes:
        if process.poll() is not None:
            raise SystemExit(f"the run ended by itself with {process.returncode}")
        try:
            samples.append(sample(process.pid, started))
            with SAMPLES.open("a" if len(samples) > 1 else "w", newline="") as file:
                writer = csv.DictWriter(file, list(samples[0]))
                writer.writeheader() if len(samples) == 1 else None
                writer.writerow(samples[-1])
        except (FileNotFoundError, KeyError):  # no row yet, or a file that was just replaced
            started = started if samples else time.monotonic()
        time.sleep(every)
    process.send_signal(signal.SIGTERM)
    if (code := process.wait()) != 128 + signal.SIGTERM:
        raise SystemExit(f"SIGTERM ended the run with {code}")
    return samples


def columns_of(samples: list[Sample]) -> Columns:
    """Column by column."""
    return {name: np.array([row[name] for row in samples]) for name in samples[0]}


def later(columns: Columns) -> Columns:
    """The second half of the time: what a program takes once, it has taken by then."""
    half = columns["seconds"] > columns["seconds"][-1] / 2
    return {name: values[half] for name, values in columns.items()}


def findings(columns: Columns) -> tuple[dict[str, str], list[str]]:
    """What the page says, and what is not flat."""
    half = later(columns)
    hours, grown = half["seconds"] / 3600, []
    memory = {name: slope(hours, half[name]) for name in ("rss", "anonymous", "wandb_rss")}
    grown += [name for name, line in memory.items() if not line.within_noise]
    quarter = len(hours) // 2
    counts = {}
    for name in ("open_files", "threads", "wandb_open_files", "folder_files"):
        before, after = half[name][:quarter].max(), half[name][quarter:].max()
        counts[name] = f"{half[name].min():.0f} to {half[name].max():.0f}"
        grown += [name] if after > before else []
    iterations = half["iteration"][-1] - half["iteration"][0]
    per_iteration = {n: 1024 * (half[n][-1] - half[n][0]) / iterations for n in (*LOGS, "folder")}
    grown += [name for name in ("wandb_debug", "checkpoint") if per_iteration[name] > 1]
    parts = [{name: values[part] for name, values in columns.items()} for part in _thirds(len(columns["rss"]))]
    cost = [float(1e3 * np.ptp(part["cpu_seconds"]) / np.ptp(part["iteration"])) for part in (parts[0], parts[-1])]
    text = {name: f"{half[name].mean():.0f} | {line} | {24 * line.high:+.0f}" for name, line in memory.items()}
    text |= counts | {f"{name}_bytes": f"{size:.0f}" for name, size in per_iteration.items()}
    text |= {f"{name}_kb": f"{half[name][-1]:,.0f}" for name in (*LOGS, "folder")}
    text |= {"iterations": f"{columns['iteration'][-1]:,.0f}", "samples": str(len(columns["rss"]))}
    text |= {"minutes": f"{columns['seconds'][-1] / 60:.0f}"}
    text |= {"first_cost": f"{cost[0]:.1f}", "last_cost": f"{cost[1]:.1f}"}
    return text, grown


def _thirds(count: int) -> list[slice]:
    return [slice(count * k // 3, count * (k + 1) // 3) for k in range(3)]


def picture(columns: Columns, target: Path) -> None:
    """Memory, handles and files over the run."""
    minutes = columns["seconds"] / 60
    panels = {
        "MB": {"rss": "program", "wandb_rss": "W&B's process"},
        "number of": {"open_files": "open files", "threads": "threads"},
        "kB": {"metrics_csv": "metrics.csv", "eval_csv": "eval.csv", "wandb_run": "W&B's run", "wandb_debug": "logs"},
    }  # fmt: skip
    figure, axes = plt.subplots(1, 3, figsize=(10, 3), layout="constrained")
    for axis, (unit, lines) in zip(axes, panels.items(), strict=True):
        for name, label in lines.items():
            axis.plot(minutes, columns[name], label=label)
        axis.set(xlabel="minutes", ylabel=unit, ylim=(0, None))
        axis.legend(fontsize="small")
    figure.savefig(target, dpi=110)


def main() -> int:
    """Watch, then judge; 1 if something grows."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=MINUTES)
    parser.add_argument("--every", type=float, default=5.0, help="seconds between samples")
    parser.add_argument("--page", action="store_true", help="judge the last run, or else soak.csv, without a run")
    options = parser.parse_args()
    if options.page:
        columns = read_table(SAMPLES if SAMPLES.exists() else table_of("soak"))
    else:
        columns = columns_of(watch(options.minutes, options.every))
    text, grown = findings(columns)
    for name, value in text.items():
        print(f"{name}: {value}")
    print("growing:", ", ".join(grown) or "nothing")
    if columns["seconds"][-1] >= 60 * MINUTES:
        command = "fit " + " ".join(f"{flag} {value}" for flag, value in FLAGS.items())
        flat = [called for name, called in CALLED.items() if name not in grown]
        verdict = f"flat: {', '.join(flat)}; growing: {', '.join(CALLED[name] for name in grown) or 'nothing'}"
        rows: list[dict[str, object]] = [
            dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)
        ]
        write("soak", rows, verdict=verdict, command=command, run_seed=str(SEED), **text)
        picture(columns, picture_of("soak"))
    return int(bool(grown))


if __name__ == "__main__":
    sys.exit(main())
