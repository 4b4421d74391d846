"""BoulderPush step by step, against all recordings of the original and against the scalar oracle in random episodes."""

from collections import Counter, deque
from functools import cache
from pathlib import Path
from typing import NamedTuple

import boulder_push_oracle
import numpy as np
import pytest
import torch
from boulder_push_oracle import BoulderPushOracle, OracleState, shifted
from scipy.stats import chisquare

from lit_maprops.envs import BoulderPush, TaskEnv

RECORDINGS = Path(boulder_push_oracle.__file__).parent / "boulder_push_reference.npz"
NAMES = ["north", "south", "west", "east"]
BACKWARD = [1, 0, 3, 2]


def recorded_configurations():
    with np.load(RECORDINGS) as file:
        return sorted({key.split("/")[0] for key in file.files})


def load(name):
    with np.load(RECORDINGS) as file:
        return {key.split("/")[1]: file[key] for key in file.files if key.startswith(f"{name}/")}


def recorded_task(name):
    size, n_agents, penalty, sensor_range = (part.lstrip("gnpr") for part in name.split("_"))
    size = int(size)
    return BoulderPush(
        height=size, width=size, n_agents=int(n_agents), penalty=float(penalty), sensor_range=int(sensor_range)
    )


def recorded_state(rows, prefix=""):
    tensors = {"direction": rows["direction"], "boulder": rows[f"{prefix}boulder"], "agents": rows[f"{prefix}agents"]}
    return {key: torch.from_numpy(value.astype(np.int64)) for key, value in tensors.items()}


def noise_for(order):
    """Uniform-like noise whose ascending order is ``order``; a push (-1) gets the reverse of the agents' order."""
    n_agents = order.shape[-1]
    order = np.where(order < 0, np.arange(n_agents)[::-1], order)
    return torch.from_numpy((order.argsort(-1) / n_agents + 0.01).astype(np.float32))


def encoded(height, width, state):
    """The documented state vector of an oracle state: one-hot direction, then x and y of boulder and agents."""
    hot = [state.direction == d for d in range(4)]
    for x, y in [state.boulder, *state.agents]:
        hot += [x == column for column in range(width)] + [y == row for row in range(height)]
    return np.array(hot, dtype=np.float32)


def test_recordings_are_complete():
    assert len(recorded_configurations()) == 5
    assert sum(len(load(name)["t"]) for name in recorded_configurations()) == 4258 + 3186 + 3592 + 2756 + 3201


@pytest.mark.parametrize("name", recorded_configurations())
def test_every_recorded_step_is_reproduced(name):
    rows, task = load(name), recorded_task(name)
    state, expected = recorded_state(rows), recorded_state(rows, "next_")
    noise = noise_for(rows["order"])
    action = torch.from_numpy(rows["action"].astype(np.int64))
    moved = (rows["order"] >= 0).all(-1)
    np.testing.assert_array_equal(noise.argsort(-1).numpy()[moved], rows["order"][moved])

    result = task.transition(state, action, noise)
    for key, value in expected.items():
        assert torch.equal(result.state[key], value), key
    assert result.reward.dtype == torch.float32
    np.testing.assert_allclose(result.reward.numpy(), rows["reward"], rtol=0, atol=1e-6)
    np.testing.assert_array_equal(result.terminated.numpy(), rows["done"])
    np.testing.assert_array_equal(result.success.numpy(), rows["done"])


@pytest.mark.parametrize("name", recorded_configurations())
def test_every_recorded_observation_and_state_is_reproduced(name):
    rows, task = load(name), recorded_task(name)
    for prefix in ("", "next_"):
        state = recorded_state(rows, prefix)
        observation, vector = task.observe(state)
        assert observation.dtype == vector.dtype == torch.float32
        np.testing.assert_array_equal(observation.numpy(), rows[f"{prefix}observation"])
        cells = zip(rows["direction"], rows[f"{prefix}boulder"], rows[f"{prefix}agents"], strict=True)
        expected = [
            encoded(task.height, task.width, OracleState(d, tuple(b), list(map(tuple, a)), 0)) for d, b, a in cells
        ]
        np.testing.assert_array_equal(vector.numpy(), np.stack(expected))


@pytest.mark.parametrize("name", recorded_configurations())
def test_a_recorded_push_draws_no_order(name):
    rows, task = load(name), recorded_task(name)
    pushes = (rows["order"] < 0).all(-1)
    assert pushes.sum() >= 5
    state = {key: value[pushes] for key, value in recorded_state(rows).items()}
    action = torch.from_numpy(rows["action"].astype(np.int64))[pushes]
    ascending = torch.arange(task.n_agents) / task.n_agents
    one, other = (
        task.transition(state, action, noise.expand(action.shape)) for noise in (ascending, ascending.flip(0))
    )
    assert torch.equal(one.state["agents"], other.state["agents"])
    assert torch.equal(one.reward, other.reward)


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
EPISODES = 600
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
        vector = np.stack([encoded(self.setting.height, self.setting.width, state) for state in states])
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


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda s: f"{s.height}x{s.width}_n{s.n_agents}_{s.direction}")
def test_random_episodes_follow_the_oracle(setting):
    replay = Replay(setting, seed_ids=[4, 9, 1, 30])
    while replay.seen["goals"] + replay.seen["truncations"] < EPISODES:
        replay.step()
    seen = replay.seen
    assert seen["goals"] >= 60 and seen["truncations"] >= 20 and seen["pushes"] >= seen["goals"], seen
    assert seen["into boulder"] >= 40 and seen["off grid"] >= 100, seen
    assert seen["into agent"] >= 100 or setting.n_agents == 1, seen


def test_random_episodes_are_thousands():
    assert len(SETTINGS) * EPISODES == 6600


@pytest.mark.parametrize("max_steps, last", [(3, "terminated"), (2, "truncated")])
def test_a_goal_on_the_last_step_is_no_truncation(max_steps, last):
    start = [[1, 0], [0, 0], [0, 1]]
    task = BoulderPush(height=3, width=5, push_direction="east", start=start, max_steps=max_steps, incentive=0.25)
    env = TaskEnv(task, 0, [0], 1)
    current, rewards = env.reset(), []
    for _ in range(max_steps):
        assert not current["done"].any()
        current = env.step(current.set(("agents", "action"), torch.full((1, 1, 2), 3)))["next"]
        rewards.append(current["agents", "reward"].flatten().tolist())
    flags = {key: bool(current[key]) for key in ("terminated", "truncated", "success", "done")}
    goal = last == "terminated"
    assert flags == {"terminated": goal, "truncated": not goal, "success": goal, "done": True}
    assert rewards == [[0.25, 0.25], [0.25, 0.25], [1.25, 1.25]][:max_steps]


def orders_of(n_agents, steps):
    """The orders in which agents move: one number per order, ``[steps, rows]``."""
    task, noises = BoulderPush(size="small", n_agents=n_agents), []
    transition = task.transition
    task.transition = lambda state, action, noise: (noises.append(noise), transition(state, action, noise))[1]
    env = TaskEnv(task, 5, [0, 1], 400)
    current = env.reset()
    for _ in range(steps):
        action = torch.zeros(2, 400, n_agents, dtype=torch.int64)
        current = env.step_and_maybe_reset(current.set(("agents", "action"), action))[1]
    digits = torch.stack(noises).argsort(-1).flatten(1, 2)
    return (digits * 10 ** torch.arange(n_agents)).sum(-1).numpy()


def test_the_order_of_moves_is_uniform():
    values, counts = np.unique(orders_of(4, steps=20), return_counts=True)
    assert len(values) == 24
    assert chisquare(counts).pvalue > 1e-3


def test_the_order_of_moves_is_fresh_every_step():
    orders = orders_of(3, steps=20)
    pairs, counts = np.unique(np.stack([orders[:-1].ravel(), orders[1:].ravel()]), axis=1, return_counts=True)
    assert pairs.shape[1] == 36
    assert chisquare(counts).pvalue > 1e-3
    neighbors, counts = np.unique(np.stack([orders[:, :-1].ravel(), orders[:, 1:].ravel()]), axis=1, return_counts=True)
    assert neighbors.shape[1] == 36
    assert chisquare(counts).pvalue > 1e-3
