"""The greedy sampler against a scalar re-implementation and the discrepancy bound of greedy rounding."""

import math

import pytest
import torch
from behavior_helpers import (
    StatesTask,
    built,
    data_of,
    generator,
    joint_actions,
    joint_probabilities,
    random_policy,
    written,
)
from torch import Tensor

from lit_maprops import keys

UNIFORM_2X2 = [[0.5, 0.5], [0.5, 0.5]]
# Agents have equally many actions, so a 2x3 game is a 3x3 game in which one action of agent 0 is impossible.
UNIFORM_2X3 = [[0.5, 0.5, 0.0], [1 / 3, 1 / 3, 1 / 3]]
SKEWED = [[0.9, 0.07, 0.03], [0.61, 0.38, 0.01]]


class ScalarGreedy:
    """argmax_a pi(a | s) (N(s) + 1) - N(s, a), one environment of one seed at a time, lowest number first."""

    def __init__(self) -> None:
        self.counts: dict[int, dict[tuple[int, ...], int]] = {}

    def __call__(self, state: int, pi: dict[tuple[int, ...], float]) -> tuple[int, ...]:
        counts = self.counts.setdefault(state, dict.fromkeys(pi, 0))
        visits = sum(counts.values())
        # Rounding: so that actions of equal probability tie here as they do in float32.
        wanted = {a: round(p * (visits + 1) - counts[a], 5) for a, p in pi.items()}
        best = max(pi, key=lambda a: wanted[a])
        counts[best] += 1
        return best


def prefix(probabilities: list[list[float]], steps: int) -> tuple[Tensor, dict[tuple[int, ...], float]]:
    """Joint action numbers that Greedy takes in the only state, and pi of every joint action."""
    n_agents, n_actions = len(probabilities), len(probabilities[0])
    task = StatesTask(1, n_agents, n_actions)
    theta = torch.tensor(probabilities).log().reshape(1, 1, n_agents, n_actions)
    greedy = built("Greedy", task, 1)
    data = data_of(task, theta, torch.zeros(1, 1, dtype=torch.int64))
    taken = [greedy.choose(data, data.get(keys.PARAMETERS)).action[0, 0] for _ in range(steps)]
    return torch.stack(taken), joint_probabilities(theta, 0, 0)


@pytest.mark.parametrize("probabilities", [UNIFORM_2X2, UNIFORM_2X3, SKEWED])
def test_every_prefix_is_within_the_bound_of_greedy_rounding(probabilities):
    """N(a) - n pi(a) <= 1 - 1/K and n pi(a) - N(a) <= 1/2 + ... + 1/K, with K joint actions.

    Above: the chosen action's deficit pi(a)(n+1) - N(a) is the largest of K that sum to 1, so at least 1/K. Below: let
    m_k be the largest mean deficit of any k actions after a step. If the chosen action is among them, their sum has not
    grown; else its deficit before the step was at least theirs, so that k m_k <= k/(k+1) ((k+1) m_(k+1) + 1). Hence
    m_k <= m_(k+1) + 1/(k+1), and m_K = 0.
    """
    taken, pi = prefix(probabilities, 200)
    pi = {action: p for action, p in pi.items() if p > 0}
    above, below = 1 - 1 / len(pi), sum(1 / k for k in range(2, len(pi) + 1))
    for action, p in pi.items():
        counts = (taken == torch.tensor(action)).all(-1).cumsum(0)
        deviation = counts - torch.arange(1, 201) * p
        assert deviation.max() <= above + 1e-3
        assert deviation.min() >= -below - 1e-3
    possible = {tuple(action) for action in taken.tolist()}
    assert possible <= set(pi)


@pytest.mark.parametrize(("probabilities", "period"), [(UNIFORM_2X2, 4), (UNIFORM_2X3, 6)])
def test_uniform_policies_are_matched_exactly_every_period(probabilities, period):
    taken, pi = prefix(probabilities, 10 * period)
    for action, p in pi.items():
        counts = (taken == torch.tensor(action)).all(-1).cumsum(0)[period - 1 :: period]
        assert counts.tolist() == [math.floor(p * period + 0.5) * k for k in range(1, 11)]


def test_ties_go_to_the_lowest_number():
    taken, _ = prefix(UNIFORM_2X2, 4)
    assert taken.tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]


@pytest.mark.parametrize("envs", [1, 3, 20])
def test_step_by_step_like_the_scalar_sampler_with_several_states_and_environments(envs):
    task = StatesTask(n_states=3, n_agents=2, n_actions=3)
    theta = random_policy(task, 2)
    greedy, scalars = built("Greedy", task, 2), [ScalarGreedy(), ScalarGreedy()]
    pi = {(seed, state): joint_probabilities(theta, seed, state) for seed in range(2) for state in range(3)}
    states = torch.randint(3, (60, 2, envs), generator=generator())
    for state in states:
        data = data_of(task, theta, state)
        choice = greedy.choose(data, data.get(keys.PARAMETERS))
        for seed in range(2):
            for env in range(envs):
                s = state[seed, env].item()
                assert tuple(choice.action[seed, env].tolist()) == scalars[seed](s, pi[seed, s])


def test_counts_follow_a_policy_that_differs_by_step():
    """N(s, a) counts what was done; pi is that of the step at hand."""
    task = StatesTask()
    greedy, scalar = built("Greedy", task, 1), ScalarGreedy()
    for step in range(50):
        theta = random_policy(task, 1, seed=step)
        data = data_of(task, theta, torch.zeros(1, 1, dtype=torch.int64))
        action = greedy.choose(data, data.get(keys.PARAMETERS)).action[0, 0]
        assert tuple(action.tolist()) == scalar(0, joint_probabilities(theta, 0, 0))


def test_reset_counts_exactly_what_is_retained():
    task = StatesTask(n_states=2)
    theta = random_policy(task, 1)
    greedy = built("Greedy", task, 1)
    stray = data_of(task, theta, torch.tensor([[0, 1, 1]]))
    greedy.choose(stray, stray.get(keys.PARAMETERS))
    state = torch.randint(2, (1, 9), generator=generator())
    action = torch.randint(2, (1, 9, 2), generator=generator(1))
    greedy.reset(data_of(task, theta, state, action))
    scalar = ScalarGreedy()
    for s, a in zip(state[0].tolist(), action[0].tolist(), strict=True):
        scalar.counts.setdefault(s, dict.fromkeys(joint_actions(task), 0))[tuple(a)] += 1
    for step in range(30):
        s = step % 2
        data = data_of(task, theta, torch.tensor([[s]]))
        chosen = greedy.choose(data, data.get(keys.PARAMETERS)).action[0, 0]
        assert tuple(chosen.tolist()) == scalar(s, joint_probabilities(theta, 0, s))
    greedy.reset(None)
    fresh = ScalarGreedy()
    data = data_of(task, theta, torch.tensor([[0]]))
    chosen = greedy.choose(data, data.get(keys.PARAMETERS)).action[0, 0]
    assert tuple(chosen.tolist()) == fresh(0, joint_probabilities(theta, 0, 0))


def test_a_vector_step_counts_d_once():
    """Not once for each of its environments."""
    task, envs, steps = StatesTask(n_states=50), 32, 4096
    theta, greedy = random_policy(task, 1), built("Greedy", task, 1)
    states = torch.randint(50, (1, steps), generator=generator())
    greedy.reset(data_of(task, theta, states, torch.zeros(1, steps, 2, dtype=torch.int64)))
    data = data_of(task, theta, states[:, :envs])
    assert written(lambda: greedy.choose(data, data.get(keys.PARAMETERS))) < envs * steps
