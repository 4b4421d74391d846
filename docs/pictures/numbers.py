"""The numbers in the pictures: drawn with this package at fixed policies, or read from the evidence."""

import csv
import re
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from lit_maprops import keys
from lit_maprops.behavior import BehaviorPolicy
from lit_maprops.envs import MatrixGame
from lit_maprops.metrics.reliability import mean_interval

ROOT = Path(__file__).parents[2]
RUN_SEED, SEEDS = 0, 64
TWO_SAMPLERS = Path(__file__).parent / "two_samplers.csv"


class Success(NamedTuple):
    """Success of a sampler's seeds at an evaluation.

    Attributes:
        sampler: ``on_policy`` or ``ma_props``, a run's name in the README.
        env_steps: per seed.
        seeds: how many.
        mean: of the sampled policies' success rates.
        low: lower end of its 95% interval, of seeds resampled.
        high: upper end.
        solved: share of seeds whose greedy policies reach 0.8.
    """

    sampler: str
    env_steps: int
    seeds: int
    mean: float
    low: float
    high: float
    solved: float


class Difference(NamedTuple):
    """Solved runs of a sampler less those of on-policy sampling, in points, with the ends of the 95% interval."""

    setting: str
    sampler: str
    points: int
    low: int
    high: int


def built(behavior: BehaviorPolicy) -> tuple[BehaviorPolicy, TensorDictBase, Tensor]:
    """A behavior policy for 2x2 joint actions, one vector step of it, and uniform policies of both agents."""
    behavior.build(MatrixGame(), RUN_SEED, list(range(SEEDS)))
    behavior.reset(None)
    uniform = torch.full((SEEDS, 1, 2, 2), 0.5).log()
    state = torch.ones(SEEDS, 1, 1)
    step = {keys.OBSERVATION: torch.ones(SEEDS, 1, 2, 1), keys.STATE: state, keys.PARAMETERS: uniform}
    return behavior, TensorDict(step, [SEEDS, 1]), uniform


def counts_of(behavior: BehaviorPolicy, n: int) -> Tensor:
    """How often D holds each joint action after n steps with m = 1: ``[SEEDS, 2, 2]``, first agent first."""
    behavior, step, uniform = built(behavior)
    counts = torch.zeros(SEEDS, 4, dtype=torch.int64)
    for number in range(n):
        if number:
            behavior.update()
        action = behavior.choose(step, uniform).action
        behavior.extend(step.clone().set(keys.ACTION, action))
        counts.scatter_add_(1, 2 * action[:, 0, :1] + action[:, 0, 1:], torch.ones(SEEDS, 1, dtype=torch.int64))
    return counts.unflatten(1, (2, 2))


def after_update(behavior: BehaviorPolicy, taken: list[tuple[int, int]]) -> tuple[list[float], float]:
    """pi_phi of the four joint actions after one update on a D of ``taken``, and KL(pi_theta || pi_phi) (nats)."""
    behavior, step, _ = built(behavior)
    for pair in taken:
        behavior.extend(step.clone().set(keys.ACTION, torch.tensor(pair).expand(SEEDS, 1, 2)))
    stats = behavior.update()
    log_probs = behavior.adjusted(torch.full((SEEDS, 1, 4), 0.25).log(), step.get(keys.STATE))
    return log_probs[0, 0].exp().tolist(), float(stats["kl"][0])


def total_variation(counts: Tensor) -> float:
    """Between D ``[2, 2]`` and the uniform policy."""
    return float(0.5 * (counts / counts.sum() - 0.25).abs().sum())


def error_curves() -> dict[str, dict[int, float]]:
    """Mean joint TV at the uniform policy by sampler and n, of 1,000 seeds: docs/evidence/matrix_games.md."""
    return error_curves_at("fixed uniform")


def error_curves_at(experiment: str) -> dict[str, dict[int, float]]:
    """The same at the policies of an experiment there."""
    curves: dict[str, dict[int, float]] = defaultdict(dict)
    with open(ROOT / "studies/matrix_games/matrix_games.csv", newline="") as table:
        for row in csv.DictReader(table):
            if row["experiment"] == experiment:
                curves[row["sampler"]][int(row["n"])] = float(row["joint_tv"])
    return curves


def read_runs(runs: Path) -> None:
    """Write the table behind ``two_samplers.svg``, of the two runs of the README in a folder."""
    found = []
    for sampler in ("on_policy", "ma_props"):
        with (runs / sampler / "eval.csv").open(newline="") as table:
            rows = list(csv.DictReader(table))
        for steps in sorted({int(row["env_steps"]) for row in rows}):
            now = [row for row in rows if int(row["env_steps"]) == steps]
            sampled = np.array([[float(row["stochastic_success_rate"]) for row in now]])
            (low,), (high,) = mean_interval(sampled)
            solved = np.mean([float(row["greedy_success_rate"]) >= 0.8 for row in now])
            found.append(Success(sampler, steps, len(now), sampled.mean(), low, high, solved))
    with TWO_SAMPLERS.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Success._fields)
        writer.writerows((*one[:3], *(f"{value:.4f}" for value in one[3:])) for one in found)


def two_samplers() -> list[Success]:
    """Success over training on figure1, by sampler."""
    with TWO_SAMPLERS.open(newline="") as table:
        rows = list(csv.DictReader(table))
    figures = ("mean", "low", "high", "solved")
    return [
        Success(row["sampler"], int(row["env_steps"]), int(row["seeds"]), *(float(row[name]) for name in figures))
        for row in rows
    ]


def differences() -> list[Difference]:
    """Of BoulderPush in docs/evidence/low_discrepancy.md; where a comparison was confirmed on more seeds, of those."""
    page = (ROOT / "docs/evidence/low_discrepancy.md").read_text()
    row = r"^\| BoulderPush,? ([^|]+) \| (\w*PROPS) \| [^|]+ \| ([+-]\d+) \[([+-]\d+), ([+-]\d+)\] \|"
    found = {
        (setting, sampler): Difference(setting, sampler, int(points), int(low), int(high))
        for setting, sampler, points, low, high in re.findall(row, page, flags=re.MULTILINE)
    }
    return list(found.values())
