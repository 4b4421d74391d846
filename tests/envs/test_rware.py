"""RWARE step by step against the package rware, its starts, names, rewards and refusals."""

from collections import Counter

import gymnasium
import networkx as nx
import numpy as np
import pytest
import rware
import torch
from rware_package import as_state, by_index, package, purposeful, put, read
from scipy.stats import chisquare

from lit_maprops.envs import RWARE, TaskEnv
from lit_maprops.envs.rware.movement import movers
from lit_maprops.system.errors import ConfigError

SETTINGS = {
    "tiny, two": {"name": "rware-tiny-2ag"},
    "tiny, four": {"name": "rware-tiny-4ag"},
    "two stages": {"name": "rware-1x3-3h-4ag-6req-twostage"},
    "crowd, for all": {"name": "rware-2s-1x3-2h-8ag-4req-global"},
    "small, easy": {"name": "rware-small-3ag-easy"},
}
STEPS = 1500
RANDOMNESS = [0.0, 0.05, 0.2, 1.0]  # share of random actions, one per episode
LENGTH = 125  # steps per episode


def record(task, steps):
    """Every step of episodes of the package: state, action, noise, observation, reward, next state and observation."""
    env, rng, rows, seen = package(task), np.random.default_rng(0), [], Counter()
    for number in range(steps):
        if number % LENGTH == 0:
            observation = env.reset()[0]
        before, env._np_random.chances = read(env), []
        action = purposeful(env, rng, RANDOMNESS[number // LENGTH % len(RANDOMNESS)])
        following, reward, *_ = env.step(action)
        after, chances = read(env), [*env._np_random.chances, 0.5, 0.5]
        noise = [chances[0], chances[len(env._np_random.chances) == 2]]
        rows.append((before, action, noise, observation, reward, after, following))
        count(seen, task, before, action, after, reward)
        observation = following
    return rows, seen


def count(seen, task, before, action, after, reward):
    """What happened, so that the test can tell that everything did."""
    moved = [a != b for a, b in zip(before[0], after[0], strict=True)]
    seen["delivered"] += before[5] != after[5]
    seen["picked up"] += any(b < 0 <= a for b, a in zip(before[2], after[2], strict=True))
    seen["put down"] += any(a < 0 <= b for b, a in zip(before[2], after[2], strict=True))
    seen["kept on a highway"] += any(
        act == 4 and held >= 0 and later >= 0 for act, held, later in zip(action, before[2], after[2], strict=True)
    )
    seen["stopped"] += any(act == 1 and not went for act, went in zip(action, moved, strict=True))
    entered = {cell for cell, went in zip(after[0], moved, strict=True) if went}
    seen["followed"] += bool(entered & {cell for cell, went in zip(before[0], moved, strict=True) if went})
    seen["half a reward"] += 0.5 in reward


@pytest.mark.every(3)
@pytest.mark.parametrize("name", SETTINGS)
def test_every_step_is_that_of_the_package(name, monkeypatch):
    task, ties = RWARE(**SETTINGS[name]), []
    env_order = {}
    longest = by_index(nx.algorithms.dag_longest_path, ties)
    monkeypatch.setattr(nx.algorithms, "dag_longest_path", lambda graph: longest(graph, env_order))
    original = rware.warehouse.Warehouse.step

    def step(env, actions):
        env_order.clear()
        env_order.update({(agent.x, agent.y): agent.id for agent in env.agents})
        return original(env, actions)

    monkeypatch.setattr(rware.warehouse.Warehouse, "step", step)
    rows, seen = record(task, STEPS)
    before, action, noise, observation, reward, after, following = zip(*rows, strict=True)
    state, expected = as_state(before), as_state(after)
    result = task.transition(state, torch.tensor(action), torch.tensor(noise))
    for key, value in expected.items():
        assert torch.equal(result.state[key], value), key
    np.testing.assert_array_equal(result.reward.numpy(), np.array(reward))
    assert not result.terminated.any() and not result.success.any()
    for where, seen_there in ((state, observation), (result.state, following)):
        np.testing.assert_array_equal(task.observe(where)[0].numpy(), np.array(seen_there))
    assert min(seen[what] for what in ("delivered", "picked up", "put down", "stopped", "followed")) >= 5, seen
    assert seen["kept on a highway"] >= 5 and (seen["half a reward"] >= 5) == (task.reward_type == "two_stage"), seen
    assert task.n_agents > 2 or not any(ties), "with two robots the package itself goes by the index"


def test_episodes_of_the_environment_are_those_of_the_package():
    task = RWARE(name="rware-tiny-2ag", max_steps=40)
    env = TaskEnv(task, 5, [3], 2)
    current, rng = env.reset(), np.random.default_rng(1)
    packages = [package(task) for _ in range(2)]
    for number in range(120):
        if number % 40 == 0:
            for row, one in enumerate(packages):
                put(one, [value[0, row].tolist() for key, value in env.state.items() if key != "step"])
        action = [purposeful(one, rng, 0.3) for one in packages]
        stepped, current = env.step_and_maybe_reset(current.set(("agents", "action"), torch.tensor([action])))
        for row, one in enumerate(packages):
            observation, reward, over, _, _ = one.step(action[row])
            if sum(reward) > 0:  # the next request is drawn from other numbers
                one.request_queue = [
                    shelf
                    for shelf, wanted in zip(one.shelfs, env.state["requested"][0, row].tolist(), strict=True)
                    if wanted
                ]
                observation = [one._make_obs(agent) for agent in one.agents]
            if not over:
                np.testing.assert_array_equal(stepped["next", "agents", "observation"][0, row].numpy(), observation)
            assert stepped["next", "agents", "reward"][0, row, :, 0].tolist() == reward
            assert stepped["next", "truncated"][0, row].item() == over == stepped["next", "done"][0, row].item()


def test_rings_move_swaps_do_not_and_the_longer_queue_goes_first():
    def goes(here, there):
        lower = torch.ones(len(here), len(here)).tril(-1).bool()
        return movers(torch.tensor(here), torch.tensor(there), lower).tolist()

    assert goes([0, 1, 11, 10], [1, 11, 10, 0]) == [True] * 4  # a ring
    assert goes([0, 1, 2], [1, 0, 1]) == [False] * 3  # two swap, and one behind them
    assert goes([0, 1, 11, 10, 9], [1, 11, 10, 0, 10]) == [True] * 4 + [False]  # one who hangs on a ring
    assert goes([0, 2, 3], [1, 1, 2]) == [False, True, True]  # the longer queue
    assert goes([2, 0], [1, 1]) == [True, False]  # equally long
    assert goes([0, 1], [1, 1]) == [False, False]  # behind one who stays


def test_starts_are_distinct_cells_and_requests_and_uniform():
    task = RWARE(shelf_rows=1, shelf_columns=3, column_height=1, n_agents=2, request_queue_size=1)
    state = task.initial_state(torch.rand(40_000, task.start_noise, generator=torch.Generator().manual_seed(0)))
    pairs = Counter(map(tuple, state["agent"].tolist()))
    assert len(pairs) == task.cells * (task.cells - 1) and all(a != b for a, b in pairs)
    assert chisquare(list(pairs.values())).pvalue > 1e-3
    for values in (state["direction"].flatten().bincount(), state["requested"].sum(0)):
        assert chisquare(values.numpy()).pvalue > 1e-3
    assert (state["requested"].sum(-1) == 1).all()


def test_layouts_and_names_are_those_of_the_package():
    registered = {name: spec.kwargs for name, spec in gymnasium.registry.items() if name.startswith("rware-")}
    assert len(registered) == 4 * 3 * 19
    for name, kwargs in registered.items():
        if (name.startswith("rware-tiny") and kwargs["request_queue_size"] >= 32) or not kwargs["request_queue_size"]:
            with pytest.raises(ConfigError, match="request_queue_size"):  # the package has no shelf to request next
                RWARE(name)
            continue
        task = RWARE(name)
        same = ("column_height", "shelf_rows", "shelf_columns", "n_agents", "sensor_range", "max_steps")
        assert {key: getattr(task, key) for key in same} == {key: kwargs[key] for key in same}, name
        assert task.request_queue_size == kwargs["request_queue_size"] and task.reward_type == "individual", name
    for settings in SETTINGS.values():
        task = RWARE(**settings)
        env = package(task)
        np.testing.assert_array_equal(
            env.highways.flatten(), task._highway.on(torch.device("cpu")).numpy().astype(np.uint8)
        )
        assert [y * task.width + x for x, y in env.goals] == task.goals
    named = RWARE("rware:rware-3s-2x5-4h-3ag-7req-twostage-v2")
    assert (named.sensor_range, named.request_queue_size, named.reward_type) == (3, 7, "two_stage")


@pytest.mark.parametrize(
    "settings, parts",
    [
        ({"name": "rware-huge-2ag"}, ["name", "rware-tiny-2ag"]),
        ({"name": "rware-tiny-2ag", "n_agents": 3}, ["n_agents", "give another name"]),
        ({"name": "rware-tiny-1ag-hard"}, ["request_queue_size", "at least 1"]),
        ({"shelf_columns": 2}, ["shelf_columns", "odd"]),
        ({"shelf_columns": 1}, ["request_queue_size", "0 shelves", "shelf_columns"]),
        ({"request_queue_size": 32, "column_height": 1}, ["request_queue_size", "shelves"]),
    ],
)
def test_bad_settings_are_one_line(settings, parts):
    with pytest.raises(ConfigError) as error:
        RWARE(**settings)
    assert all(part in str(error.value) for part in parts) and "\n" not in str(error.value)


def test_pictures_show_every_robot():
    task = RWARE(column_height=2)
    state = task.initial_state(torch.rand(3, task.start_noise, generator=torch.Generator().manual_seed(2)))
    pictures = task.render(state)
    assert pictures.shape == (3, task.height * 24, task.width * 24, 3) and pictures.dtype == torch.uint8
    turned = task.render(state | {"direction": (state["direction"] + 1) % 4})
    assert (pictures != turned).any(-1).flatten(1).any(-1).all()
