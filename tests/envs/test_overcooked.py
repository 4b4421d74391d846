"""Overcooked step by step against recordings of overcooked-ai (``record_overcooked.py``), whole episodes, pictures."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lit_maprops.envs import Overcooked, TaskEnv
from lit_maprops.envs.overcooked.layouts import LAYOUTS

RECORDED = np.load(Path(__file__).parents[1] / "reference/overcooked_reference.npz")
HORIZON = 45  # of the recording
NORTH, SOUTH, EAST, WEST, STAY, INTERACT = range(6)


def recorded(layout, key):
    return torch.from_numpy(RECORDED[f"{layout}/{key}"].astype(np.int64))


def as_state(task, rows):
    """Ours of recorded rows; the soups served so far are not recorded."""
    pots = len(task.pots)
    agent, facing, held, lying, onions, cooked, clock = rows.split([2, 2, 2, task.cells, pots, pots, 1], -1)
    small = {"held": held, "lying": lying, "onions": onions, "cooked": cooked}
    state = {"agent": agent, "facing": facing} | {key: value.to(torch.int8) for key, value in small.items()}
    clock = clock.squeeze(-1).to(torch.int32)
    return state | {"clock": clock, "soups": torch.zeros_like(clock)}


@pytest.mark.parametrize("shaping", [0.0, 1.0])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_step_is_that_of_the_package(layout, shaping):
    task = Overcooked(layout, shaping, max_steps=HORIZON)
    state, action = as_state(task, recorded(layout, "state")[1:]), recorded(layout, "action")[1:]
    expected = as_state(task, recorded(layout, "next_state")[1:])
    result = task.transition(state, action, torch.zeros(len(action), 0))
    for key in state.keys() - {"soups"}:
        assert torch.equal(result.state[key], expected[key]), key
    sparse, shaped = recorded(layout, "sparse")[1:], recorded(layout, "shaped")[1:]
    assert torch.equal(result.reward, sparse.sum(-1, keepdim=True) + shaping * shaped.float())
    assert torch.equal(result.state["soups"], sparse.sum(-1).to(torch.int32) // 20)
    observation = task.observe(result.state)[0].unflatten(-1, task.observation_shape)
    assert torch.equal(observation, recorded(layout, "seen")[1:].to(torch.int8))
    assert (sparse > 0).sum() >= 5 and all((shaped == worth).sum() >= 5 for worth in (3, 5))
    blocked = (expected["agent"] == state["agent"]).all(-1) & (action < STAY).all(-1)
    assert blocked.sum() >= 20 and (observation[:, 0, -1] == 1).any() and (observation[:, 0, -1] == 0).any()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_episodes_begin_as_in_the_package(layout):
    task = Overcooked(layout, max_steps=HORIZON)
    state = task.initial_state(torch.zeros(1, 0))
    expected = as_state(task, recorded(layout, "state")[:1])
    assert all(torch.equal(state[key], value) and state[key].dtype == value.dtype for key, value in expected.items())
    observation = task.observe(state)[0].unflatten(-1, task.observation_shape)
    assert torch.equal(observation, recorded(layout, "seen")[:1].to(torch.int8))


def test_global_states_are_equal_if_and_only_if_states_are():
    task = Overcooked("coordination_ring", max_steps=HORIZON)
    rows = recorded("coordination_ring", "state")[1:]
    states = torch.cat([rows[:, :-1], (HORIZON - rows[:, -1:] < 40).long()], 1)  # the time is told apart no further
    vectors = task.observe(as_state(task, rows))[1].long()
    assert vectors.shape[-1] == task.state_dim
    kinds = [len(table.unique(dim=0)) for table in (states, vectors, torch.cat([states, vectors], 1))]
    assert kinds[0] == kinds[1] == kinds[2] > 500


# The first agent fetches onions, starts the pot, gets a dish, waits until the soup is ready, takes it and serves it.
ONION, BACK = [WEST, INTERACT, EAST, NORTH, INTERACT], [WEST]
DISH, SERVE = [WEST, SOUTH, SOUTH, INTERACT, NORTH, EAST, NORTH], [INTERACT, SOUTH, EAST, SOUTH, INTERACT]


@pytest.mark.parametrize(("onions", "wait", "soups"), [(3, 12, 1), (3, 11, 0), (2, 12, 0)])
def test_one_soup_of_three_onions_that_is_ready_is_a_success(onions, wait, soups):
    moves = [NORTH, *(ONION + BACK) * (onions - 1), *ONION, INTERACT, *DISH, *[STAY] * wait, *SERVE]
    env = TaskEnv(Overcooked(max_steps=50), 0, [0], 1)
    current, rewards, ends = env.reset(), [], []
    for way in (moves + [STAY] * 50)[:50]:
        current = env.step(current.set(("agents", "action"), torch.tensor([[[way, STAY]]])))["next"]
        rewards.append(current["agents", "reward"].flatten().tolist())
        ends.append((current["success"].item(), current["truncated"].item()))
    assert [one for one in rewards if any(one)] == [[20.0, 20.0]] * soups
    assert ends == [(False, False)] * 49 + [(soups == 1, True)]


def test_more_soups_can_be_asked_for():
    task = Overcooked(success_soups=2, max_steps=9)
    state = task.initial_state(torch.zeros(3, 0)) | {"clock": torch.tensor([8, 8, 7]), "soups": torch.tensor([1, 2, 2])}
    assert task.transition(state, torch.full((3, 2), STAY), torch.zeros(3, 0)).success.tolist() == [False, True, False]


def test_pictures_show_agents_hands_and_pots():
    task = Overcooked()
    state = as_state(task, recorded("cramped_room", "state")[1:9])
    pictures = task.render(state)
    assert pictures.shape == (8, 4 * 32, 5 * 32, 3) and pictures.dtype == torch.uint8
    for change in ({"facing": (state["facing"] + 1) % 4}, {"onions": (state["onions"] + 1) % 4}):
        assert (task.render(state | change) != pictures).flatten(1).any(-1).all()
