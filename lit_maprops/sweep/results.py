"""What a run reports: the numbers of its summary.json and the history of one column of its metrics.csv."""

import json
import math
import os
from pathlib import Path
from typing import Any

import yaml

from lit_maprops.system.safe_yaml import load_yaml
from lit_maprops.system.tables import read_table

# Numbers of our program's summary worth optimizing; docs/metrics.md explains them.
SUMMARY_NUMBERS = (
    "solved_share",
    "mean_success_rate",
    "mean_return",
    "joint_tv",
    "joint_kl",
    "joint_energy",
    "behavior_kl",
    "wall_seconds",
    "env_steps_per_second",
)
MOST_ROW_BYTES = 65_536  # of metrics.csv


def is_complete(run: Path) -> bool:
    """Whether the run in this folder came to its end: a summary is written only there."""
    return (run / "summary.json").exists()


def read_summary(run: Path) -> dict[str, float]:
    """The numbers a run would show as its W&B summary; empty before its end."""
    if not is_complete(run):
        return {}
    summary: dict[str, Any] = json.loads((run / "summary.json").read_text())
    return {key: float(value) for key, value in summary.items() if isinstance(value, (int, float))}


def share_done(run: Path) -> float:
    """How far a run is, as a share of its env steps; 0 where its files do not tell."""
    try:
        total = load_yaml((run / "config.yaml").read_text())["model"]["total_env_steps"]
        with (run / "metrics.csv").open("rb") as file:
            place = file.readline().decode().strip().split(",").index("env_steps")
            file.seek(max(file.tell(), file.seek(0, os.SEEK_END) - MOST_ROW_BYTES))
            rows = file.read().decode().split("\n")
        return min(float(rows[-2].split(",")[place]) / float(total), 1.0)  # whatever is behind the last end of a line
    except (OSError, ValueError, LookupError, TypeError, ArithmeticError, yaml.YAMLError):
        return 0.0  # it has just begun, or is of another program


def read_history(run: Path, metric: str) -> list[float]:
    """The finite values of a column of metrics.csv so far, in the order they were logged."""
    path = run / "metrics.csv"
    if not path.exists() or path.stat().st_size == 0:
        return []
    return [float(value) for value in read_table(path).get(metric, ()) if math.isfinite(value)]


def best_value(run: Path, metric: str, maximize: bool) -> float | None:
    """The number the search sees of a run: the best of its history and its summary, as W&B's search takes it."""
    values = read_history(run, metric)
    final = read_summary(run).get(metric)
    values += [] if final is None else [final]
    return (max if maximize else min)(values) if values else None
