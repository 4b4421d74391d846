"""Files of the package marl-eval: environment, task, algorithm, seed, evaluation.

Gorsane et al. 2022, "Towards a Standardised Performance Evaluation Protocol for Cooperative MARL", arXiv 2209.10485.

BenchMARL, Mava and others write them. A file is data: numbers under names, which are only ever shown.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lit_maprops.report.load import MOST_BYTES, MOST_STEPS, Floats
from lit_maprops.system.errors import ConfigError, check, printable

EVALUATION = re.compile(r"step_?\d+", re.IGNORECASE)
VERSION = re.compile(r"[-_]v\d+$")
# Names that packages give the two figures; the first that a file has counts.
RETURNS = ("return", "episode_return", "mean_episode_return", "mean_return", "returned_episode_returns")
SUCCESSES = ("success_rate", "win_rate", "solve_rate", "success", "mean_win_rate")
MOST_NUMBERS = 10_000_000  # of a file
Name = tuple[str, str]  # environment and task


@dataclass(frozen=True)
class Outside:
    """The seeds of an algorithm in a task, from a file.

    Attributes:
        file: where it comes from.
        task: environment and task, as the file names them.
        algorithm: likewise.
        seeds: number of training runs, R.
        env_steps: of the evaluations that all seeds have, ``[points]``.
        success: mean over an evaluation's episodes (shares), ``[points, R]``; None where the file does not have it.
        returns: likewise (reward).
    """

    file: Path
    task: Name
    algorithm: str
    seeds: int
    env_steps: Floats
    success: Floats | None
    returns: Floats | None


def same_task(name: Name) -> Name:
    """What is compared of a name: letter case and a version at its end make no other task."""
    environment, task = (VERSION.sub("", part.strip().casefold()) for part in name)
    return environment, task


def read_marl_eval(path: Path) -> list[Outside]:
    """Read a file.

    Raises:
        ConfigError: it cannot be read, or is none of marl-eval's.
    """
    content = _content(path)
    found = []
    for environment, tasks in _level(path, "the file", content).items():
        for task, algorithms in _level(path, environment, tasks).items():
            for algorithm, seeds in _level(path, f"{environment}, {task}", algorithms).items():
                where = f"{environment}, {task}, {algorithm}"
                names = printable(environment), printable(task)
                found.append(_algorithm(path, where, names, printable(algorithm), _level(path, where, seeds)))
    return found


def _content(path: Path) -> Any:
    try:
        check(path.stat().st_size <= MOST_BYTES, f"report: {path} has more than {MOST_BYTES:,} bytes")
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
    except ConfigError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error).splitlines()[0]
        raise ConfigError(f"report: {path} is no file of marl-eval: {printable(str(reason))}") from None


def _refuse(constant: str) -> float:
    raise ValueError(f"it has {constant}, which is no number of JSON")


def _level(path: Path, where: str, value: Any) -> Mapping[str, Any]:
    """The entries of a level, of which there is at least one."""
    if not isinstance(value, dict) or not value:
        raise _wrong(path, f"{where} holds no names; it has environment, task, algorithm, seed, step")
    return value


def _wrong(path: Path, reason: str) -> ConfigError:
    return ConfigError(f"report: {path} is no file of marl-eval: {printable(reason[:200])}")


def _algorithm(path: Path, where: str, task: Name, algorithm: str, seeds: Mapping[str, Any]) -> Outside:
    runs = [_evaluations(path, f"{where}, {seed}", run) for seed, run in seeds.items()]
    steps = runs[0][0]
    for one, _ in runs[1:]:
        steps = np.intersect1d(steps, one)
    if not len(steps):
        raise _wrong(path, f"the seeds of {where} have no step_count in common")
    arranged: dict[str, Floats | None] = {}
    for kind, names in {"success": SUCCESSES, "returns": RETURNS}.items():
        name = next((name for name in names if all(name in run for _, run in runs)), None)
        columns = [] if name is None else [run[name][np.searchsorted(one, steps)] for one, run in runs]
        arranged[kind] = np.stack(columns, axis=1) if columns else None
    if arranged["success"] is None and arranged["returns"] is None:
        raise _wrong(path, f"the seeds of {where} share none of {', '.join(RETURNS + SUCCESSES)}")
    success = arranged["success"]
    if success is not None:
        if success.max() > 1:  # Mava counts won episodes in percent
            success = success / 100
        if success.min() < 0 or success.max() > 1:
            raise _wrong(path, f"{where} has a success rate outside 0 to 1 or 0 to 100")
    return Outside(path, task, algorithm, len(runs), steps, success, arranged["returns"])


def _evaluations(path: Path, where: str, run: Any) -> tuple[Floats, dict[str, Floats]]:
    """Step counts in order, and every metric that all evaluations have, ``[points]``."""
    rows: dict[float, dict[str, float]] = {}
    for name, metrics in _level(path, where, run).items():
        if not EVALUATION.fullmatch(name):
            continue  # absolute_metrics, which packages fill differently
        numbers = _level(path, f"{where}, {name}", metrics)
        steps = numbers.get("step_count")
        if isinstance(steps, bool) or not isinstance(steps, (int, float)) or not 0 <= steps <= MOST_STEPS:
            raise _wrong(path, f"{where}, {name} has no step_count from 0 to {MOST_STEPS:,}")
        known = set(RETURNS + SUCCESSES)
        rows[float(steps)] = {
            key.casefold(): _mean(path, f"{where}, {name}, {key}", value)
            for key, value in numbers.items()
            if key.casefold() in known
        }
    if not rows:
        raise _wrong(path, f"{where} has no evaluation named step_1, step_2 and so on")
    counts = sorted(rows)
    names = set.intersection(*(set(row) for row in rows.values()))
    return np.array(counts), {name: np.array([rows[count][name] for count in counts]) for name in names}


def _mean(path: Path, where: str, value: Any) -> float:
    values = value if isinstance(value, list) else [value]
    fine = (
        bool(values)
        and len(values) <= MOST_NUMBERS
        and all(isinstance(v, (int, float)) and not isinstance(v, bool) and abs(v) <= MOST_STEPS for v in values)
    )
    if not fine:
        raise _wrong(path, f"{where} is neither a number nor a list of numbers")
    return float(np.mean(values))
