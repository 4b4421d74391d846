"""The numbers in the pictures: drawn with this package at fixed policies, or read from the evidence."""

import csv
import re
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from lit_maprops import keys
from lit_maprops.behavior import BehaviorPolicy
from lit_maprops.envs import MatrixGame

ROOT = Path(__file__).parents[2]
RUN_SEED, SEEDS = 0, 64


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
    curves: dict[str, dict[int, float]] = defaultdict(dict)
    with open(ROOT / "studies/matrix_games/matrix_games.csv", newline="") as table:
        for row in csv.DictReader(table):
            if row["experiment"] == "fixed uniform":
                curves[row["sampler"]][int(row["n"])] = float(row["joint_tv"])
    return curves


def differences() -> list[Difference]:
    """Of the settings in docs/evidence/samplers.md in which samplers are compared with equal run seeds."""
    page = (ROOT / "docs/evidence/samplers.md").read_text()
    row = r"^\| ([^|]+) \| (?:4\d) \| (\w+) \| [^|]+ \| ([+-]\d+) \[([+-]\d+), ([+-]\d+)\] \|"
    return [
        Difference(setting, sampler, int(points), int(low), int(high))
        for setting, sampler, points, low, high in re.findall(row, page, flags=re.MULTILINE)
    ]
