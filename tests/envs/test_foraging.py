"""Foraging step by step against the package lbforaging, in thousands of random episodes (slow tests: 10,000)."""

from collections import Counter

import numpy as np
import pytest
import torch
from foraging_package import LOAD, STEPS, Food, Setting, as_state, purposeful, put, read

from lit_maprops.envs import TaskEnv

SETTINGS = {
    "coop": Setting(5, 2, 1, True, max_steps=9),
    "coop, penalty": Setting(5, 2, 1, True, penalty=0.1, max_steps=9),
    "coop, two food": Setting(8, 2, 2, True),
    "coop, sight 2": Setting(8, 2, 2, True, sight=2, penalty=0.1),
    "coop, sight 1": Setting(8, 2, 2, True, sight=1),
    "ten by ten": Setting(10, 3, 3, max_steps=12),
    "single agent": Setting(6, 1, 2, penalty=0.3, max_food_level=2, max_steps=12),
    "three agents": Setting(6, 3, 2, penalty=0.1, max_steps=8),
    "three agents, sight 1": Setting(7, 3, 3, sight=1, max_steps=8),
    "own levels": Setting(7, 3, 2, sight=3, penalty=0.25, min_player_level=2, max_player_level=5, min_food_level=2),
    "light food": Setting(6, 3, 2, sight=4, max_food_level=1, max_steps=8),
    "rewards as they are": Setting(6, 2, 2, min_food_level=2, max_food_level=4, normalize_reward=False),
    "four agents, coop": Setting(8, 4, 3, True, sight=5, max_food_level=3, max_steps=8),
    "blind": Setting(5, 3, 1, sight=0, penalty=0.1, max_steps=6),
    "crowd": Setting(5, 9, 1, sight=2, penalty=0.1, max_steps=5),
    "large": Setting(19, 5, 4, sight=18, max_steps=7),
}
EPISODES = 240
MANY = pytest.param(720, marks=pytest.mark.slow)
RANDOMNESS = [0.0, 0.1, 0.3, 0.6, 1.0]  # share of random actions, one per episode


def record(setting, episodes):
    """Every step of random episodes of the package, and how many steps each one had."""
    env, rng = setting.package(), np.random.default_rng(0)
    steps, seen = [], Counter()
    observation = env.reset(seed=1)[0]
    for episode in range(episodes):
        food, over = Food.of(env), False
        while not over:
            before = read(env, food)
            action = purposeful(env, rng, RANDOMNESS[episode % len(RANDOMNESS)])
            following, reward, over, _, _ = env.step(action)
            after, left = read(env, food), env.field.sum() > 0
            steps.append((before, action, observation, reward, over, after, following, env.current_step, left))
            count(seen, before, action, after, reward)
            observation = following
        observation = env.reset()[0]
    return steps, seen


def count(seen, before, action, after, reward):
    """What happened, so that the test can tell that everything did."""
    cells, reached = before[0], after[0]
    targets = [(r + STEPS[a][0], c + STEPS[a][1]) for (r, c), a in zip(cells, action, strict=True)]
    pairs = [(i, j) for i in range(len(cells)) for j in range(i)]
    seen["collected"] += before[2] != after[2]
    seen["too heavy"] += any(a == LOAD and r <= 0 for a, r in zip(action, reward, strict=True))
    seen["fined"] += min(reward) < 0
    seen["onto food"] += any(target in before[2] for target in targets)
    seen["same target"] += any(targets[i] == targets[j] != cells[i] for i, j in pairs)
    seen["swap"] += any(cells[i] == reached[j] != cells[j] == reached[i] for i, j in pairs)
    seen["shared cell"] += len(set(reached)) < len(reached)
    seen["all collected"] += all(r < 0 for r, _ in after[2])


@pytest.mark.every(3)
@pytest.mark.parametrize("episodes", [EPISODES, MANY])
@pytest.mark.parametrize("name", SETTINGS)
def test_every_step_is_that_of_the_package(name, episodes):
    setting = SETTINGS[name]
    steps, seen = record(setting, episodes)
    before, action, observation, reward, over, after, following, number, left = zip(*steps, strict=True)
    task = setting.task()
    state, expected = as_state(before), as_state(after)
    result = task.transition(state, torch.tensor(action), torch.zeros(len(steps), 0))
    for key, value in expected.items():
        assert torch.equal(result.state[key], value), key
    np.testing.assert_allclose(result.reward.numpy(), np.array(reward, dtype=np.float64), rtol=1e-6, atol=0)
    np.testing.assert_array_equal(result.terminated.numpy(), ~np.array(left))
    np.testing.assert_array_equal(result.success.numpy(), ~np.array(left))
    # The package's end of an episode is ours or the time limit.
    limit = np.array(number) >= setting.max_steps
    np.testing.assert_array_equal(result.terminated.numpy() | limit, over)
    for where, seen_there in ((state, observation), (result.state, following)):
        np.testing.assert_array_equal(task.observe(where)[0].numpy(), np.array(seen_there))
    assert_everything_happened(setting, seen, episodes)


def assert_everything_happened(setting, seen, episodes):
    several, fines = setting.n_agents > 1, setting.penalty > 0 and setting.max_food_level != 1
    assert seen["collected"] >= 30 and seen["onto food"] >= 10, seen
    assert seen["all collected"] >= 1 or (setting.size == 19 and episodes == EPISODES), seen  # rare in a large field
    assert (seen["fined"] >= 10) == fines and (seen["same target"] >= 15) == several, seen
    assert (seen["swap"] >= 1) == several and (seen["shared cell"] >= 1) == (setting.n_agents > 2), seen


def test_episodes_are_ten_thousand():
    assert len(SETTINGS) * MANY.values[0] >= 10_000


class Replay:
    """Plays ``TaskEnv`` and one package per row side by side; the packages read the environment only at starts."""

    def __init__(self, setting, seed_ids, num_envs):
        self.setting, self.rng, self.seen = setting, np.random.default_rng(0), Counter()
        self.env = TaskEnv(setting.task(), 11, seed_ids, num_envs)
        self.packages = [setting.package() for _ in range(len(seed_ids) * num_envs)]
        self.current = self.env.reset()
        for row in range(len(self.packages)):
            self.start(row)

    def start(self, row):
        state = (
            self.env.state[key].flatten(0, 1)[row].tolist() for key in ("agents", "agent_level", "food", "food_level")
        )
        put(self.packages[row], *state)

    def rows(self, tensordict, *key):
        return tensordict[key].flatten(0, 1).numpy()

    def step(self):
        shape = (*self.env.batch_size, self.setting.n_agents)
        action = [purposeful(env, self.rng, RANDOMNESS[row % 5]) for row, env in enumerate(self.packages)]
        given = self.current.set(("agents", "action"), torch.tensor(action).reshape(shape))
        stepped, self.current = self.env.step_and_maybe_reset(given)
        following = stepped["next"]
        for row, (env, done) in enumerate(zip(self.packages, action, strict=True)):
            observation, reward, over, _, _ = env.step(done)
            np.testing.assert_array_equal(self.rows(following, "agents", "observation")[row], np.stack(observation))
            np.testing.assert_allclose(self.rows(following, "agents", "reward")[row, :, 0], reward, rtol=1e-6)
            collected = env.field.sum() == 0
            flags = {
                key: bool(self.rows(following, key)[row]) for key in ("done", "terminated", "truncated", "success")
            }
            ends = {"done": over, "terminated": collected, "truncated": over and not collected, "success": collected}
            assert flags == ends
            self.seen.update(key for key, value in flags.items() if value)
            if over:
                self.start(row)
                np.testing.assert_array_equal(
                    self.rows(self.current, "agents", "observation")[row], np.stack(env.test_make_gym_obs())
                )


@pytest.mark.parametrize("name", ["coop, penalty", "three agents", "three agents, sight 1"])
def test_episodes_of_the_environment_are_those_of_the_package(name):
    replay = Replay(SETTINGS[name], seed_ids=[4, 9], num_envs=5)
    while replay.seen["done"] < 100:
        replay.step()
    assert replay.seen["terminated"] >= 5 and replay.seen["truncated"] >= 10, replay.seen
