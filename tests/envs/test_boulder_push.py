"""BoulderPush step by step, against all recordings of the original; the end of an episode and the order of moves."""

from pathlib import Path

import boulder_push_oracle
import numpy as np
import pytest
import torch
from boulder_push_oracle import BoulderPushOracle, OracleState
from scipy.stats import chisquare

from lit_maprops.envs import BoulderPush, TaskEnv

RECORDINGS = Path(boulder_push_oracle.__file__).parent / "boulder_push_reference.npz"


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


def expected_vectors(task, rows, prefix):
    oracle = BoulderPushOracle(task.height, task.width, task.n_agents, task.penalty)
    cells = zip(rows["direction"], rows[f"{prefix}boulder"], rows[f"{prefix}agents"], strict=True)
    return np.stack([oracle.state_vector(OracleState(d, tuple(b), list(map(tuple, a)), 0)) for d, b, a in cells])


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
        assert observation.dtype == vector.dtype == torch.uint8
        np.testing.assert_array_equal(observation.numpy(), rows[f"{prefix}observation"])
        np.testing.assert_array_equal(vector.numpy(), expected_vectors(task, rows, prefix))


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


@pytest.mark.parametrize("n_agents, values", [(2, 1), (3, 2), (4, 2)])
def test_agents_with_equal_noise_move_by_number(n_agents, values):
    task, rows = BoulderPush(height=4, width=4, n_agents=n_agents), 2000
    oracle, draw = BoulderPushOracle(4, 4, n_agents, task.penalty), torch.Generator().manual_seed(n_agents)
    state = task.initial_state(torch.rand(rows, task.start_noise, generator=draw))
    action = torch.randint(4, (rows, n_agents), generator=draw)
    noise = torch.randint(values, (rows, n_agents), generator=draw) / values
    result, contested = task.transition(state, action, noise), 0
    steps = zip(state["direction"], state["boulder"], state["agents"], result.state["agents"], strict=True)
    for row, (direction, boulder, agents, moved) in enumerate(steps):
        before = OracleState(int(direction), tuple(boulder.tolist()), list(map(tuple, agents.tolist())), 0)
        order = sorted(range(n_agents), key=noise[row].tolist().__getitem__)  # Python sorts stably
        after = oracle.step(before, action[row].tolist(), order)[0].agents
        assert list(map(tuple, moved.tolist())) == after and len(set(after)) == n_agents
        contested += after != oracle.step(before, action[row].tolist(), order[::-1])[0].agents
    assert contested > 80
