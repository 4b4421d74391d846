"""BoulderPush through ``TaskEnv``, step by step against the scalar oracle, in thousands of random episodes."""

from collections import Counter, deque
from functools import cache
from typing import NamedTuple

import numpy as np
import pytest
import torch
from boulder_push_oracle import BoulderPushOracle, OracleState, shifted

from lit_maprops.envs import BoulderPush, TaskEnv

NAMES = ["north", "south", "west", "east"]
BACKWARD = [1, 0, 3, 2]


class Setting(NamedTuple):
    height: int
    width: int
    n_agents: int
    direction: str | None
    penalty: float
    incentive: float
    sensor_range: int
    max_steps: int

    def task(self, **overrides):
        names = {"push_direction": self.direction, **self._asdict(), **overrides}
        del names["direction"]
        return BoulderPush(**names)

    def oracle(self):
        return BoulderPushOracle(
            self.height,
            self.width,
            self.n_agents,
            self.penalty,
            self.incentive,
            self.sensor_range,
            self.max_steps,
        )


SETTINGS = [
    Setting(5, 5, 2, None, 0.01, 0.1, 4, 50),
    Setting(8, 8, 2, None, 0.05, 0.1, 2, 40),
    Setting(4, 7, 2, None, 0.1, 0.1, 1, 25),
    Setting(7, 4, 2, None, 0.2, 0.3, 3, 25),
    Setting(3, 9, 1, None, 0.1, 0.1, 0, 12),
    Setting(6, 3, 1, "north", 0.0, 0.1, 2, 10),
    Setting(5, 6, 3, None, 0.2, 0.0, 2, 40),
    Setting(6, 4, 3, "south", 0.05, 0.1, 1, 35),
    Setting(3, 5, 3, "west", 0.01, 0.25, 4, 30),
    Setting(4, 8, 4, "east", 0.1, 0.1, 1, 40),
    Setting(7, 5, 4, None, 0.05, 0.1, 2, 60),
]
EPISODES = 120
MANY = pytest.param(360, marks=pytest.mark.slow)
RANDOMNESS = [0.02, 0.1, 0.2, 0.4, 0.7, 1.0]  # share of random actions, one per parallel environment


@cache
def distances(height, width, walls, goal):
    """Steps to ``goal`` around ``walls`` from every cell that can reach it."""
    steps, queue = {goal: 0}, deque([goal])
    while queue:
        cell = queue.popleft()
        for x, y in (shifted(cell, direction) for direction in range(4)):
            if 0 <= x < width and 0 <= y < height and (x, y) not in walls and (x, y) not in steps:
                steps[x, y] = steps[cell] + 1
                queue.append((x, y))
    return steps


def scripted_actions(oracle, state, rng):
    """Walk to the cells behind the boulder, wait there by leaning on it, push when all are in place."""
    boulder = oracle.boulder_cells(state)
    actions = [state.direction] * oracle.n_agents
    by_position = sorted(range(oracle.n_agents), key=lambda agent: state.agents[agent][state.direction // 2])
    for agent, cell in zip(by_position, boulder, strict=True):
        slot = shifted(cell, BACKWARD[state.direction])
        if state.agents[agent] != slot:
            steps = distances(oracle.height, oracle.width, frozenset(boulder), slot)
            target = [shifted(state.agents[agent], action) for action in range(4)]
            cost = [steps.get(t, 99) + 50 * (t in state.agents) + rng.random() for t in target]
            actions[agent] = int(np.argmin(cost))
    return actions


def to_oracle(state):
    """Oracle states of a batch, one per row in row-major order."""
    parts = [state[key].flatten(0, 1).tolist() for key in ("direction", "boulder", "agents", "step")]
    return [OracleState(d, tuple(b), list(map(tuple, a)), t) for d, b, a, t in zip(*parts, strict=True)]


def assert_legal_start(setting, oracle, state):
    assert state.t == 0
    assert setting.direction in (None, NAMES[state.direction])
    assert state.boulder in oracle.legal_starts(state.direction)
    cells = oracle.boulder_cells(state) + state.agents
    assert len(set(cells)) == 2 * oracle.n_agents
    assert all(0 <= x < oracle.width and 0 <= y < oracle.height for x, y in cells)


class Replay:
    """Plays ``TaskEnv`` and one oracle per row side by side; the oracles read the environment only at resets."""

    def __init__(self, setting, seed_ids):
        self.setting, self.oracle, self.task = setting, setting.oracle(), setting.task()
        self.batch = (len(seed_ids), len(RANDOMNESS))
        self.env = TaskEnv(self.task, 11, seed_ids, len(RANDOMNESS))
        self.rng, self.seen, self.noise = np.random.default_rng(0), Counter(), []
        self._spy()
        self.current = self.env.reset()
        self.states = to_oracle(self.env.state)
        for state in self.states:
            assert_legal_start(setting, self.oracle, state)

    def _spy(self):
        transition = self.task.transition

        def spy(state, action, noise):
            self.noise.append(noise.clone())
            return transition(state, action, noise)

        self.task.transition = spy

    def rows(self, tensordict, key):
        value = tensordict.get(key)
        assert value.shape[:2] == self.batch
        return value.flatten(0, 1).numpy()

    def choose(self):
        actions = []
        for row, state in enumerate(self.states):
            if self.rng.random() < RANDOMNESS[row % len(RANDOMNESS)]:
                actions.append(self.rng.integers(4, size=self.oracle.n_agents).tolist())
            else:
                actions.append(scripted_actions(self.oracle, state, self.rng))
        return actions

    def step(self):
        actions = self.choose()
        self.current.set(("agents", "action"), torch.tensor(actions).unflatten(0, self.batch))
        stepped, self.current = self.env.step_and_maybe_reset(self.current)
        assert len(self.noise) == 1, "one step is one call of transition"
        noise = self.noise.pop().flatten(0, 1).tolist()
        orders = [sorted(range(self.oracle.n_agents), key=row.__getitem__) for row in noise]
        results = [self.oracle.step(*row) for row in zip(self.states, actions, orders, strict=True)]
        self.count(actions, results)
        following, rewards, terminated, truncated = map(list, zip(*results, strict=True))
        self.check_step(stepped.get("next"), following, rewards, np.array(terminated), np.array(truncated))
        self.check_reset(following, np.array(terminated) | np.array(truncated))

    def check_step(self, actual, following, rewards, terminated, truncated):
        np.testing.assert_allclose(self.rows(actual, ("agents", "reward"))[..., 0], rewards, rtol=0, atol=1e-6)
        flags = {"terminated": terminated, "truncated": truncated, "success": terminated}
        for key, expected in {**flags, "done": terminated | truncated}.items():
            np.testing.assert_array_equal(self.rows(actual, key)[..., 0], expected, err_msg=key)
        self.check_observation(actual, following)

    def check_observation(self, actual, states):
        observation = np.stack([self.oracle.observe(state) for state in states])
        np.testing.assert_array_equal(self.rows(actual, ("agents", "observation")), observation)
        vector = np.stack([self.oracle.state_vector(state) for state in states])
        np.testing.assert_array_equal(self.rows(actual, "state"), vector)

    def check_reset(self, following, over):
        self.states = to_oracle(self.env.state)
        for state, expected, ended in zip(self.states, following, over, strict=True):
            if ended:
                assert_legal_start(self.setting, self.oracle, state)
            else:
                assert state == expected
        if over.any():
            self.check_observation(self.current, self.states)
            assert not self.rows(self.current, "done").any()

    def count(self, actions, results):
        for state, action, (following, _, terminated, truncated) in zip(self.states, actions, results, strict=True):
            boulder, targets = self.oracle.boulder_cells(state), list(map(shifted, state.agents, action))
            pushed = following.boulder != state.boulder
            self.seen["goals"] += terminated
            self.seen["truncations"] += truncated
            self.seen["pushes"] += pushed
            self.seen["into boulder"] += not pushed and any(target in boulder for target in targets)
            self.seen["into agent"] += not pushed and any(target in state.agents for target in targets)
            self.seen["off grid"] += any(
                not (0 <= x < self.oracle.width and 0 <= y < self.oracle.height) for x, y in targets
            )


@pytest.mark.every(2)
@pytest.mark.parametrize("episodes", [EPISODES, MANY])
@pytest.mark.parametrize("setting", SETTINGS, ids=lambda s: f"{s.height}x{s.width}_n{s.n_agents}_{s.direction}")
def test_random_episodes_follow_the_oracle(setting, episodes):
    replay = Replay(setting, seed_ids=[4, 9, 1, 30])
    while replay.seen["goals"] + replay.seen["truncations"] < episodes:
        replay.step()
    seen = replay.seen
    assert seen["goals"] >= 10 and seen["truncations"] >= 3 and seen["pushes"] >= seen["goals"], seen
    assert seen["into boulder"] >= 5 and seen["off grid"] >= 30, seen
    assert seen["into agent"] >= 30 or setting.n_agents == 1, seen


def test_random_episodes_are_more_than_a_thousand():
    assert len(SETTINGS) * EPISODES >= 1320
