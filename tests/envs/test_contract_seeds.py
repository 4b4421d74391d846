"""What every environment of the registry promises about randomness: seeds do not mix, runs repeat and resume."""

import io

import numpy as np
import pytest
import torch
from env_cases import CONTRACT, assert_same, make, marked, play, random_actions, trajectory

from lit_maprops.envs import TASKS

LONGEST = 10  # episodes that a trajectory has two ends of
MANY_ENDS = {"height": 3, "width": 4, "n_agents": 1, "max_steps": 9}  # a random walk often ends these episodes


def of_seed(steps, ids, seed_id):
    return steps[:, ids.index(seed_id)]


@pytest.mark.every(4)
@CONTRACT
def test_seeds_do_not_mix(name, settings):
    if TASKS[name](**settings).max_steps > LONGEST:
        settings = {**settings, "max_steps": LONGEST}
    steps = 2 * TASKS[name](**settings).max_steps + 3
    alone = of_seed(trajectory(make(name, settings, [5]), [5], steps), [5], 5)
    for ids in ([9, 1, 2, 5], [5, 9]):
        together = trajectory(make(name, settings, ids), ids, steps)
        assert_same(alone, of_seed(together, ids, 5))


@pytest.mark.every(4)
@CONTRACT
def test_permuting_seeds_permutes_everything(name, settings):
    ids, order = [4, 11, 0, 2], [2, 3, 1, 0]
    permuted = [ids[k] for k in order]
    assert_same(
        trajectory(make(name, settings, ids), ids)[:, order], trajectory(make(name, settings, permuted), permuted)
    )


@pytest.mark.every(2)
@pytest.mark.parametrize("fixed_start", [False, True])
def test_seeds_do_not_mix_however_the_others_end(fixed_start):
    settings, ids = {**MANY_ENDS, "fixed_start": fixed_start}, [3, 5, 8]
    alone = trajectory(make("BoulderPush", settings, [5]), [5], 200)
    ends = []
    for salt in range(4):
        env = make("BoulderPush", settings, ids)
        actions = random_actions(env, ids, 200, salt)
        actions[:, 1:2] = random_actions(env, [5], 200)
        together = play(env, env.reset(), actions)[0]
        assert_same(alone, together[:, 1:2])
        ends.append(together["next", "done"].any(2).squeeze(-1))
    ends = torch.stack(ends)  # [salts, T, R]
    assert ends[:, :, 1].any() and (ends[:, :, 0] & ~ends[:, :, 1]).any() and (ends[:, :, 1] & ~ends[:, :, 0]).any()
    assert not torch.equal(ends[0, :, 0], ends[1, :, 0])


@pytest.mark.every(4)
@CONTRACT
def test_runs_from_one_seed_are_equal_whatever_the_global_generator(name, settings):
    torch.manual_seed(0)
    np.random.seed(0)
    first = trajectory(make(name, settings), (0, 7))
    torch.manual_seed(1)
    np.random.seed(1)
    before = torch.get_rng_state()
    env = make(name, settings)
    assert_same(first, trajectory(env, (0, 7)))
    assert torch.equal(torch.get_rng_state(), before)
    env.set_seed(1)
    assert_same(first, trajectory(env, (0, 7)))


def noise_of(env, steps=6):
    """All noise the task reads, starts and steps, ``[R, E, numbers]``."""
    read, task = [], env.task
    start, transition = task.initial_state, task.transition

    def spy_start(noise):
        read.append(noise.clone())
        return start(noise)

    def spy_transition(state, action, noise):
        read.append(noise.clone())
        return transition(state, action, noise)

    task.initial_state, task.transition = spy_start, spy_transition
    for _ in range(steps):
        current = env.reset()
        env.step(env.rand_action(current))
    return torch.cat(read, -1)


@pytest.mark.every(3)
@CONTRACT
def test_seeds_run_seeds_purposes_rows_and_steps_share_no_noise(name, settings):
    ids, settings = (0, 1, 7, 8), {key: value for key, value in settings.items() if key != "fixed_start"}
    kinds = [{}, {"run_seed": 2}, {"purpose": "evaluation environment"}]
    noise = torch.stack([noise_of(make(name, settings, ids, **kind)) for kind in kinds]).double()
    flat = noise.flatten()
    # 24-bit numbers collide now and then; a shared stream would collide everywhere.
    assert flat.numel() - flat.unique().numel() <= 2 + flat.numel() ** 2 // 2**24


def test_different_seeds_play_differently():
    steps = trajectory(make("BoulderPush", {}, range(6)), [0] * 6)
    other = trajectory(make("BoulderPush", {}, range(6), run_seed=2), [0] * 6)
    evaluation = trajectory(make("BoulderPush", {}, range(6), purpose="evaluation"), [0] * 6)
    plays = [steps[:, k]["state"] for k in range(6)] + [other[:, 0]["state"], evaluation[:, 0]["state"]]
    for k, play_k in enumerate(plays):
        assert not any(torch.equal(play_k, later) for later in plays[k + 1 :])


def through_file(saved):
    file = io.BytesIO()
    torch.save(saved, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def used(name, settings):
    env = make(name, settings)
    trajectory(env, (0, 7), steps=11, salt=9)
    return env


@pytest.mark.every(5)
@CONTRACT
@pytest.mark.parametrize(
    "maker, steps",
    [
        (used, 9),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in [*((make, n) for n in (0, 1, 6, 17)), (used, 0)]),
    ],
)
def test_a_restored_environment_continues_bit_for_bit(name, settings, maker, steps):
    env = make(name, settings)
    actions = random_actions(env, (0, 7), steps + 25)
    current = env.reset()
    if steps:
        _, current = play(env, current, actions[:steps])
    saved = env.checkpoint_state()
    stored, carried = through_file(saved), current.clone()
    expected = play(env, current, actions[steps:])[0]
    assert_nested_equal(saved, stored)  # what was saved does not change when the environment moves on
    restored = maker(name, settings)
    restored.restore(stored)
    assert_same(expected, play(restored, carried, actions[steps:])[0])


def assert_nested_equal(first, second):
    assert first.keys() == second.keys()
    for key, value in first.items():
        if isinstance(value, dict):
            assert_nested_equal(value, second[key])
        elif isinstance(value, torch.Tensor):
            assert torch.equal(value, second[key]), key
        else:
            assert value == second[key], key


def test_restoring_before_every_step_changes_nothing():
    settings, steps = {"max_steps": 5}, 24  # 40 rows of 2 + 5 numbers a step: a block of 1024 lasts 3 steps
    env, stepped = make("BoulderPush", settings, num_envs=40), []
    actions, expected = random_actions(env, (0, 7), steps), trajectory(env, (0, 7), steps)
    env = make("BoulderPush", settings, num_envs=40)
    current = env.reset()
    for action in actions:
        saved, env = through_file(env.checkpoint_state()), make("BoulderPush", settings, num_envs=40)
        env.restore(saved)
        step, current = play(env, current, action.unsqueeze(0))
        stepped.append(step)
    assert_same(expected, torch.cat(stepped))


@pytest.mark.every(3)
@CONTRACT
@pytest.mark.parametrize("told", [pytest.param(None, marks=pytest.mark.slow, id="all"), [[1, 0, 0], [0, 1, 1]]])
def test_a_reset_after_restoring_between_step_and_reset_is_the_same(name, settings, told):
    env, restored = make(name, settings), make(name, settings)
    current = env.step(env.reset().set(("agents", "action"), random_actions(env, (0, 7), 1)[0]))["next"]
    restored.restore(through_file(env.checkpoint_state()))
    actions = random_actions(env, (0, 7), 20, salt=1)
    roots = [each.reset(None if told is None else marked(current, told)) for each in (env, restored)]
    assert_same(*[play(each, root, actions)[0] for each, root in zip((env, restored), roots, strict=True)])
