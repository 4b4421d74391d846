"""The closed form of MA-PROPS against enumeration of small joint distributions."""

import math
from collections import Counter

import pytest
import torch
from behavior_helpers import (
    StatesTask,
    built,
    data_of,
    everywhere,
    generator,
    joint_actions,
    joint_probabilities,
    one_line,
    random_policy,
    written,
)
from scipy.optimize import brentq

from lit_maprops import keys
from lit_maprops.behavior import TabularMAPROPS
from lit_maprops.metrics.sampling_error import tabular_error
from lit_maprops.stacked.streams import SeedStreams
from lit_maprops.system.errors import ConfigError

TASK = StatesTask(n_states=2, n_agents=2, n_actions=2)


def policy_with(taken: list[tuple[int, int]], state: int = 0, **arguments: float):
    """One seed whose D holds the joint actions ``taken`` in ``state``."""
    theta = random_policy(TASK, 1)
    behavior = built("TabularMAPROPS", TASK, 1, **arguments)
    if taken:
        states = torch.full((1, len(taken)), state)
        behavior.extend(data_of(TASK, theta, states, torch.tensor([taken])))
    return theta, behavior


def drawn_probabilities(theta, behavior, state: int = 0) -> dict[tuple[int, ...], float]:
    """Every joint action's probability, from what ``choose`` stores with the actions it draws."""
    data = everywhere(TASK, theta, state, 4000)
    choice = behavior.choose(data, data.get(keys.PARAMETERS))
    seen = {
        tuple(a): p for a, p in zip(choice.action[0].tolist(), choice.behavior_log_prob[0].exp().tolist(), strict=True)
    }
    return {action: seen.get(action, 0.0) for action in joint_actions(TASK)}


def kl(p: dict, q: dict) -> float:
    return sum(p[a] * math.log(p[a] / q[a]) for a in p)


@pytest.mark.parametrize("taken", [[], [(0, 0)], [(0, 0), (0, 1), (0, 0), (1, 1)], [(1, 0)] * 5])
@pytest.mark.parametrize("clip_epsilon", [0.3, 1.0])
def test_without_a_cutoff_phi_is_the_deficit_above_the_clip(taken, clip_epsilon):
    theta, behavior = policy_with(taken, clip_epsilon=clip_epsilon, kl_cutoff=1e3)
    pi = joint_probabilities(theta, 0, 0)
    deficit = {a: pi[a] * (len(taken) + 1) - taken.count(a) for a in pi}
    wanted = {a: max(deficit[a], (1 - clip_epsilon) * pi[a]) for a in pi}
    total = sum(wanted.values())
    for action, probability in drawn_probabilities(theta, behavior).items():
        # The bisection ends 2^-24 short of the whole way.
        assert probability == pytest.approx(wanted[action] / total, abs=1e-5)


@pytest.mark.parametrize("cutoff", [0.01, 0.1, 0.5])
def test_the_cutoff_is_reached_and_not_exceeded(cutoff):
    taken = [(0, 0)] * 6 + [(1, 1)] * 2
    theta, behavior = policy_with(taken, clip_epsilon=1.0, kl_cutoff=cutoff)
    pi = joint_probabilities(theta, 0, 0)
    deficit = {a: max(0.0, pi[a] * (len(taken) + 1) - taken.count(a)) for a in pi}
    total = sum(deficit.values())

    def mixed(weight: float) -> dict[tuple[int, ...], float]:
        return {a: (1 - weight) * pi[a] + weight * deficit[a] / total for a in pi}

    weight = brentq(lambda w: kl(pi, mixed(w)) - cutoff, 0, 1 - 1e-9)
    for action, probability in drawn_probabilities(theta, behavior).items():
        assert probability == pytest.approx(mixed(weight)[action], abs=1e-5)
    data = everywhere(TASK, theta, 0, 1)
    assert behavior.choose(data, data.get(keys.PARAMETERS)).kl.item() == pytest.approx(cutoff, rel=1e-3)


@pytest.mark.parametrize("envs", [1, 3, 40])
def test_counts_are_those_of_a_table(envs):
    """For few environments and for many, before anything is counted and after."""
    task = StatesTask(n_states=30, n_agents=2, n_actions=3)
    theta, behavior = random_policy(task, 3), built("TabularMAPROPS", task, 3)
    tables: list[Counter[tuple[int, int]]] = [Counter(), Counter(), Counter()]
    for step in range(20):
        here = torch.randint(30, (3, envs), generator=generator(step))
        counts = behavior._counts(here, torch.zeros(3, envs, 9))
        for seed, table in enumerate(tables):
            expected = [[float(table[state, action]) for action in range(9)] for state in here[seed].tolist()]
            assert counts[seed].tolist() == expected
        action = torch.randint(3, (3, envs, 2), generator=generator(100 + step))
        behavior.extend(data_of(task, theta, here, action))
        taken = 3 * action[..., 0] + action[..., 1]
        for table, *both in zip(tables, here.tolist(), taken.tolist(), strict=True):
            table.update(zip(*both, strict=True))


def test_the_steps_of_d_are_not_compared_with_every_environment():
    task, envs, steps = StatesTask(n_states=50), 64, 4096
    behavior = built("TabularMAPROPS", task, 1)
    states = torch.randint(50, (1, steps), generator=generator())
    behavior.extend(data_of(task, random_policy(task, 1), states, torch.zeros(1, steps, 2, dtype=torch.int64)))
    assert written(lambda: behavior._counts(states[:, :envs], torch.zeros(1, envs, 4))) < envs * steps / 4


def test_a_state_that_d_lacks_is_sampled_on_policy():
    theta, behavior = policy_with([(0, 0)] * 9, state=0)
    for action, probability in drawn_probabilities(theta, behavior, state=1).items():
        assert probability == pytest.approx(joint_probabilities(theta, 0, 1)[action], abs=1e-5)


def test_it_lowers_the_joint_sampling_error_at_a_uniform_policy():
    """Own TV below a third of on-policy's after 32 steps: with every proportion corrected after every step."""
    seeds, task = 300, StatesTask()
    theta = torch.full((seeds, 1, 2, 2), math.log(0.5))
    behavior = built("TabularMAPROPS", task, seeds, clip_epsilon=1.0, kl_cutoff=5.0)
    rows = []
    for _ in range(32):
        step = everywhere(task, theta, 0, 1)
        step.set(keys.ACTION, behavior.choose(step, step.get(keys.PARAMETERS)).action)
        behavior.extend(step)
        rows.append(step)
    error = tabular_error(torch.cat(rows, 1), SeedStreams(0, list(range(seeds)), "test"))
    assert error["joint_tv"].mean() < error["joint_tv_on_policy"].mean() / 3


def test_refused_settings_name_the_flag():
    for arguments in ({"clip_epsilon": 0.0}, {"kl_cutoff": -1.0}):
        with pytest.raises(ConfigError) as error:
            TabularMAPROPS(**arguments)
        assert f"--model.behavior.{next(iter(arguments))}" in one_line(error)
    with pytest.raises(ConfigError) as error:
        built("TabularMAPROPS", StatesTask(numbered=False), 1)
    assert "TabularMAPROPS is tabular" in one_line(error)
