"""How much each sampler lowers the joint sampling error of a fixed uniform 2x2 policy, collecting with m = 1.

The expected figures were measured with another, throw-away implementation on 200 to 1000 seeds (algorithm.md, "Facts
measured"); ours must agree within the standard error of both.
"""

import math

import numpy as np
import pytest
import torch
from behavior_helpers import built
from tensordict import TensorDict

from lit_maprops import keys
from lit_maprops.envs.games.matrix_game import MatrixGame

SIZES = (8, 16, 32, 64)
SEEDS = 400
PROTOTYPE_SEEDS = 200  # the fewest the figures may rest on
MILD = {"clip_epsilon": 0.3, "kl_cutoff": 0.05, "learning_rate": 0.5, "epochs": 8, "hidden": []}
STRONG = {"clip_epsilon": 1.0, "kl_cutoff": 1.0, "learning_rate": 1.0, "epochs": 8, "hidden": []}
EXPECTED = {
    "MAPROPS": (0.125, 0.074, 0.041, 0.021),
    "PROPS": (0.166, 0.112, 0.077, 0.052),
    "OnPolicy": (0.231, 0.169, 0.121, 0.086),
}


def collect(name: str, arguments: dict) -> np.ndarray:
    """Joint action numbers ``[SEEDS, max(SIZES)]``; a prefix of length n is a run with target batch size n."""
    behavior = built(name, MatrixGame(), SEEDS, **arguments)
    ones = torch.ones(SEEDS, 1, 1)
    step = TensorDict({keys.STATE: ones, keys.STATE_INDEX: ones.long() * 0}, batch_size=[SEEDS, 1])
    step.set(keys.OBSERVATION, torch.ones(SEEDS, 1, 2, 1))
    step.set(keys.PARAMETERS, torch.full((SEEDS, 1, 2, 2), math.log(0.5)))
    taken = []
    for _ in range(max(SIZES)):
        row = step.clone()
        row.set(keys.ACTION, behavior.choose(row, row.get(keys.PARAMETERS)).action)
        taken.append(row)
        behavior.extend(row)
        behavior.update()
    action = torch.cat(taken, dim=1).get(keys.ACTION).numpy()
    return 2 * action[..., 0] + action[..., 1]


def joint_tv(joint_action: np.ndarray, n: int) -> np.ndarray:
    """Total variation of the first n joint actions against the uniform distribution, per seed."""
    shares = np.stack([(joint_action[:, :n] == k).mean(1) for k in range(4)])
    return 0.5 * np.abs(shares - 0.25).sum(0)


def tv_table(name: str, arguments: dict) -> np.ndarray:
    joint_action = collect(name, arguments)
    return np.stack([joint_tv(joint_action, n) for n in SIZES])  # [sizes, seeds]


@pytest.fixture(scope="module")
def mild() -> dict[str, np.ndarray]:
    arguments = {"MAPROPS": MILD, "PROPS": MILD, "OnPolicy": {}, "Greedy": {}}
    return {name: tv_table(name, arguments[name]) for name in arguments}


@pytest.mark.parametrize("name", EXPECTED)
def test_mean_joint_tv_is_that_of_the_prototype(mild, name):
    spread = mild[name].std(axis=1, ddof=1)
    # Four standard errors of the difference of two means, and the rounding of the printed figures.
    tolerance = 4 * spread * math.sqrt(1 / SEEDS + 1 / PROTOTYPE_SEEDS) + 0.0005
    assert (np.abs(mild[name].mean(1) - EXPECTED[name]) < tolerance).all(), mild[name].mean(1)


def test_greedy_has_no_error_at_multiples_of_the_joint_actions(mild):
    assert (mild["Greedy"] == 0).all()


def test_samplers_are_ordered(mild):
    mean = {name: table.mean(1) for name, table in mild.items()}
    assert (mean["MAPROPS"] < mean["PROPS"]).all()
    assert (mean["PROPS"] < mean["OnPolicy"]).all()


def slope(table: np.ndarray) -> float:
    """Of mean TV^2 against n, log-log, least squares."""
    return float(np.polyfit(np.log(SIZES), np.log((table**2).mean(1)), 1)[0])


def test_squared_error_falls_about_as_one_over_n_squared(mild):
    assert slope(tv_table("MAPROPS", STRONG)) <= -1.7
    assert abs(slope(mild["OnPolicy"]) + 1) <= 0.1
