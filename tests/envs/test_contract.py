"""What every environment of the registry promises, whatever its rules: specs, batches, resets, ends of episodes."""

import numpy as np
import pytest
import torch
from env_cases import (
    CONTRACT,
    SETTINGS,
    actions_of,
    assert_same,
    leaves,
    make,
    marked,
    play,
    random_actions,
    trajectory,
)
from torchrl.envs.utils import check_env_specs

from lit_maprops.envs import TASKS, MatrixGame, TaskEnv


def test_extra_settings_are_of_registered_tasks():
    assert SETTINGS.keys() <= TASKS.keys()


@pytest.mark.every(3)
@CONTRACT
def test_torchrl_accepts_the_specs(name, settings):
    check_env_specs(make(name, settings))


@pytest.mark.every(3)
@CONTRACT
def test_agents_are_a_group_with_names_and_actions_may_come_bounded(name, settings):
    """Bounded actions are executed as they are, whatever ``squash`` says of unbounded ones."""
    task = TASKS[name](**settings)
    env = TaskEnv(task, 1, [0, 7], 3, bounded=True)
    ((group, names),) = env.group_map.items()
    assert group == "agents" and len(set(names)) == task.n_agents
    assert names == [task.interface(agent).name for agent in range(task.n_agents)]
    spec = env.full_action_spec["agents", "action"]
    if not task.continuous_actions:
        return
    check_env_specs(TaskEnv(task, 1, [0, 7], 3, bounded=True))
    assert (spec.space.low == -1).all() and (spec.space.high == 1).all()
    current, other = env.reset(), make(name, settings)
    bounded = 0.9 * spec.rand()
    drawn = bounded.atanh() if task.squash == "tanh" else bounded
    after = env.step(current.set(("agents", "action"), bounded))["next"]
    theirs = other.step(other.reset().set(("agents", "action"), drawn))["next"]
    for key in ("state", ("agents", "reward")):
        torch.testing.assert_close(after[key], theirs[key], rtol=1e-3, atol=1e-4)


@pytest.mark.every(2)
@CONTRACT
def test_shapes_and_dtypes_are_those_of_the_keys_table(name, settings):
    env = make(name, settings, seed_ids=(0, 7, 4, 9), num_envs=3)
    task, batch = env.task, (4, 3)
    flag = ((*batch, 1), torch.bool)
    root = {
        "agents.observation": ((*batch, task.n_agents, task.observation_dim), task.observation_dtype),
        "state": ((*batch, task.state_dim), task.observation_dtype),
        **dict.fromkeys(("done", "terminated", "truncated", "success"), flag),
    }
    if task.agents_leave:
        root["agents.end"] = ((*batch, task.n_agents), torch.uint8)
    if task.masks_actions:
        root["agents.action_mask"] = ((*batch, task.n_agents, task.n_actions), torch.bool)
    if task.numbers_states():
        root["state_index"] = ((*batch, 1), torch.int64)
    action = ((*batch, task.n_agents), torch.int64)
    if task.continuous_actions:
        action = ((*batch, task.n_agents, task.action_dim), torch.float32)
    reward = ((*batch, task.n_agents, 1), torch.float32)
    current = env.reset()
    assert {key: (tuple(v.shape), v.dtype) for key, v in leaves(current).items()} == root
    action_spec = env.full_action_spec["agents", "action"]
    assert (tuple(action_spec.shape), action_spec.dtype) == action
    assert task.n_actions == (0 if task.continuous_actions else action_spec.space.n)
    mask, width = task.action_mask(), task.action_dim if task.continuous_actions else task.n_actions
    assert mask.shape == (task.n_agents, width) and mask.dtype == torch.bool and mask.any(0).all()
    for given in random_actions(env, range(4), 3):
        stepped, current = env.step_and_maybe_reset(current.set(("agents", "action"), given))
        expected = {**root, "agents.action": action, "next.agents.reward": reward}
        expected |= {f"next.{key}": value for key, value in root.items()}
        assert {key: (tuple(v.shape), v.dtype) for key, v in leaves(stepped).items()} == expected


@pytest.mark.every(4)
@CONTRACT
def test_flags_agree(name, settings):
    env = make(name, settings)
    steps = trajectory(env, (0, 7), steps=2 * env.task.max_steps + 5)
    after = steps["next"]
    assert torch.equal(after["done"], after["terminated"] | after["truncated"])
    assert not (after["terminated"] & after["truncated"]).any()
    assert not (after["success"] & ~after["done"]).any()
    assert after["done"].any(0).all(), "the time limit ends every episode"
    # A root is the first of an episode or what the step before left.
    assert not steps["done"].any() and not steps["success"].any()
    running = ~after["done"][:-1].squeeze(-1)
    for key in ("state", ("agents", "observation")):
        assert torch.equal(steps[key][1:][running], after[key][:-1][running])


class SaysBoth(MatrixGame):
    """Of packages that write ``done`` into both flags."""

    def transition(self, state, action, noise):
        outcome = super().transition(state, action, noise)
        return outcome._replace(truncated=torch.ones_like(outcome.terminated))


def test_what_terminates_is_not_truncated_whatever_a_task_says():
    env = TaskEnv(SaysBoth(), 0, [0, 1], 3)
    after = trajectory(env, (0, 1), steps=4)["next"]
    assert after["terminated"].all() and not after["truncated"].any()


@pytest.mark.every(4)
@CONTRACT
def test_no_episode_is_longer_than_the_time_limit(name, settings):
    env = make(name, settings)
    done = trajectory(env, (0, 7), steps=2 * env.task.max_steps + 5)["next", "done"].squeeze(-1)
    length = torch.zeros(env.batch_size, dtype=torch.int64)
    for over in done:
        length += 1
        assert (length <= env.task.max_steps).all()
        length[over] = 0


def visited(task, batch):
    """A batch of states some random steps after a start, with random actions and noise."""
    generator, rng = torch.Generator().manual_seed(3), np.random.default_rng(3)
    state = task.initial_state(torch.rand(*batch, task.start_noise, generator=generator))
    for _ in range(4):
        action = torch.from_numpy(actions_of(task, batch, rng))
        action = action.tanh() if task.continuous_actions else action
        noise = torch.rand(*batch, task.step_noise, generator=generator)
        before, state = state, task.transition(state, action, noise).state
    return before, action, noise


def all_outputs(task, state, action, noise, start_noise):
    following, reward, terminated, success, truncated = task.transition(state, action, noise)
    observation, vector = task.observe(state)
    out = {} if truncated is None else {"truncated": truncated}
    out |= {"reward": reward, "terminated": terminated, "success": success, "observation": observation, "state": vector}
    out |= {f"next {key}": value for key, value in following.items()}
    out |= {f"start {key}": value for key, value in task.initial_state(start_noise).items()}
    if task.numbers_states():
        out["index"] = task.state_index(state)
    if task.renders:
        out["picture"] = task.render(state)
    return out


@pytest.mark.every(3)
@CONTRACT
@pytest.mark.parametrize("shape", [(), *(pytest.param(s, marks=pytest.mark.slow) for s in [(1,), (1, 1)])], ids=str)
def test_a_batch_step_is_the_stack_of_single_steps(name, settings, shape):
    task, batch = TASKS[name](**settings), (4, 5)
    state, action, noise = visited(task, batch)
    start_noise = torch.rand(*batch, task.start_noise, generator=torch.Generator().manual_seed(4))
    together = all_outputs(task, state, action, noise, start_noise)
    for row in np.ndindex(batch):
        single = {key: value[row].reshape(shape + value.shape[2:]) for key, value in state.items()}
        rest = [value[row].reshape(shape + value.shape[2:]) for value in (action, noise, start_noise)]
        alone = {key: value[(0,) * len(shape)] for key, value in all_outputs(task, single, *rest).items()}
        assert_same(alone, {key: value[row] for key, value in together.items()})


@pytest.mark.every(3)
@CONTRACT
def test_tasks_leave_their_arguments_alone(name, settings):
    task = TASKS[name](**settings)
    state, action, noise = visited(task, (3,))
    start_noise = torch.rand(3, task.start_noise)
    given = {**state, "action": action, "noise": noise, "start_noise": start_noise}
    copies = {key: value.clone() for key, value in given.items()}
    all_outputs(task, state, action, noise, start_noise)
    assert_same(given, copies)
    assert state.keys() == copies.keys() - {"action", "noise", "start_noise"}


@pytest.mark.every(5)
@CONTRACT
@pytest.mark.parametrize("told", [[[1, 0, 0], [0, 0, 0]], [[0, 1, 1], [1, 0, 1]]], ids=["one row", "some rows"])
def test_a_reset_touches_only_the_rows_it_is_told(name, settings, told):
    env, twin, rows = make(name, settings), make(name, settings), torch.tensor(told, dtype=torch.bool)
    actions = random_actions(env, (0, 7), 4)
    for each in (env, twin):
        current = play(each, each.reset(), actions[:3])[1]
        before = each.step(current.set(("agents", "action"), actions[3]))["next"].exclude(("agents", "reward"))
    state_before = env.state
    after, fresh = env.reset(marked(before, told)).exclude("_reset"), twin.reset()
    assert_same(after[rows], fresh[rows])
    assert_same(after[~rows], before[~rows])
    assert_same({k: v[rows] for k, v in env.state.items()}, {k: v[rows] for k, v in twin.state.items()})
    assert_same({k: v[~rows] for k, v in env.state.items()}, {k: v[~rows] for k, v in state_before.items()})
    assert (env.state["step"][rows] == 0).all() and (env.state["step"][~rows] > 0).all()


@pytest.mark.every(4)
@CONTRACT
def test_stepping_after_the_end_is_harmless(name, settings):
    env = make(name, settings)
    current = env.reset()
    for action in random_actions(env, (0, 7), env.task.max_steps + 20):
        current = env.step(current.set(("agents", "action"), action))["next"]
        assert current["agents", "reward"].isfinite().all()
        assert env.observation_spec.is_in(current.select(*env.observation_spec.keys(True, True)))
        if env.task.renders:
            env.task.render(env.state)
    assert current["done"].all()


def test_pushing_after_the_end_keeps_the_boulder_on_the_goal():
    settings = {"height": 3, "width": 4, "push_direction": "east", "start": [[2, 0], [1, 0], [1, 1]]}
    env = make("BoulderPush", settings)
    current, east = env.reset(), torch.full((2, 3, 2), 3)
    for step in range(4):
        current = env.step(current.set(("agents", "action"), east))["next"]
        assert (env.state["boulder"] == torch.tensor([3, 0])).all()
        assert step == 0 or (current["agents", "reward"] <= 0).all(), "no reward twice"
