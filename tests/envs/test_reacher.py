"""SparseReacher: its reward against distances computed otherwise, its sizes, its ends."""

import gymnasium
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT
from env_cases import make, trajectory

from lit_maprops.cli.main import main
from lit_maprops.envs import SparseReacher, TaskEnv
from lit_maprops.run.flags import with_flags
from lit_maprops.system.errors import ConfigError

mujoco = pytest.importorskip("gymnasium_robotics")
UPPER, LOWER = 0.1, 0.11  # meters, from shoulder to elbow and on to the fingertip


def starts(task, rows):
    return task.initial_state(torch.rand(rows, 2, generator=torch.Generator().manual_seed(3)))


def step(task, state, action):
    return task.transition(state, action, torch.zeros(len(action), 0))


def distance_of_angles(data):
    """Fingertip to target (meters) by the geometry of the arm."""
    shoulder, elbow = data.qpos[0], data.qpos[0] + data.qpos[1]
    fingertip = UPPER * np.array([np.cos(shoulder), np.sin(shoulder)]) + LOWER * np.array([np.cos(elbow), np.sin(elbow)])  # fmt: skip  # noqa: E501
    return np.linalg.norm(fingertip - data.qpos[2:])


@pytest.mark.parametrize("radius", [0.02, 0.06])
def test_the_reward_is_1_on_the_first_touch(radius):
    """Beside the arm as one agent's, Reacher-v5, which knows nothing of agents or of our rewards."""
    task, rows = SparseReacher(radius), 24
    state = starts(task, rows)
    arms = [gymnasium.make("Reacher-v5").unwrapped for _ in range(rows)]
    for arm, seed in zip(arms, state["seed"].tolist(), strict=True):
        arm.reset(seed=seed)
    generator = torch.Generator().manual_seed(4)
    touched = torch.zeros(rows, dtype=torch.bool)
    for _ in range(50):
        action = 2 * torch.rand(rows, 2, 1, generator=generator) - 1
        near = torch.zeros(rows, dtype=torch.bool)
        for row, arm in enumerate(arms):
            before = arm.data.qpos.copy()
            _, _, _, _, info = arm.step(action[row, :, 0].numpy())
            near[row] = bool(-info["reward_dist"] <= radius)
            # MuJoCo's places are those before the last substep's motion.
            span = np.abs(arm.data.qpos[:2] - before[:2]).sum() * (UPPER + LOWER)
            assert abs(distance_of_angles(arm.data) + info["reward_dist"]) <= span + 1e-6
        state, reward, terminated, success, truncated = step(task, state, action)
        first = near & ~touched
        assert torch.equal(reward, first.float().unsqueeze(1).expand(rows, 2)) and torch.equal(success, first)
        touched |= near
        assert torch.equal(terminated, touched) and not truncated.any()
    assert touched.any() and not touched.all()


def test_the_agents_see_7_and_10_numbers_of_the_arm():
    task = SparseReacher()
    assert (task.n_agents, task.action_dim, task.observation_dim, task.state_dim) == (2, 1, 10, 10)
    assert task.action_mask().all() and task.continuous_actions
    state = starts(task, 3)
    for _ in range(4):
        state = step(task, state, 2 * torch.rand(3, 2, 1) - 1).state
    observation, vector = task.observe(state)
    for row in range(3):
        arm = gymnasium.make("Reacher-v5").unwrapped
        arm.reset(seed=int(state["seed"][row]))
        for chosen in state["actions"][row, :4]:
            whole = torch.from_numpy(arm.step(chosen[:, 0].numpy())[0]).float()
        assert torch.equal(vector[row], whole)
        cosines, sines, target, speeds, way = whole.split(2)
        own = [[sines[agent], cosines[agent], speeds[agent]] for agent in (0, 1)]
        first = [*own[0], sines[1], cosines[1], *target]
        second = [*own[1], *way, 0, sines[0], cosines[0], *target]
        assert observation[row].tolist() == [[*map(float, first), 0, 0, 0], [*map(float, second)]]


def test_the_time_limit_is_ours():
    env = TaskEnv(SparseReacher(1e-6, max_steps=60), 1, [0, 7], 2)  # the package's own limit is 50
    after = trajectory(env, (0, 7), 60)["next"]
    assert not after["done"][:59].any() and after["truncated"][59].all() and not after["terminated"].any()


def test_the_return_of_an_episode_is_its_success():
    after = trajectory(make("SparseReacher", {"success_radius": 0.1, "max_steps": 12}), (0, 7), 40)["next"]
    reward, success = after["agents", "reward"].squeeze(-1), after["success"]
    assert torch.equal(reward, success.float().expand_as(reward)) and success.any()
    assert torch.equal(success, after["terminated"]) and (after["truncated"] & ~success).any()


BAD = {
    "no radius": ({"success_radius": 0.0}, "--data.env.success_radius"),
    "NaN": ({"success_radius": float("nan")}, "--data.env.success_radius"),
    "no steps": ({"max_steps": 0}, "--data.env.max_steps"),
    "no way of squashing": ({"squash": "sigmoid"}, "--data.env.squash"),
}


@pytest.mark.parametrize(("settings", "flag"), BAD.values(), ids=BAD)
def test_what_cannot_work_is_one_line(settings, flag):
    with pytest.raises(ConfigError) as error:
        SparseReacher(**settings)
    assert flag in with_flags(error.value.marked) and "\n" not in str(error.value)


def test_a_small_run_and_its_continuation(tmp_path):
    small = [
        "--model.num_seeds", "2", "--model.eval_interval", "2", "--model.eval_episodes", "2",
        "--model.checkpoint_interval", "1", "--model.learner.epochs", "1", "--data.num_envs", "2",
        "--data.behavior_batch_size", "8", "--data.target_batch_size", "32", "--data.env.max_steps", "10",
        "--data.env.success_radius", "0.1", "--runs_dir", str(tmp_path),
    ]  # fmt: skip
    fit = ["fit", "--config", str(ROOT / "conf/reacher_sparse.yaml"), *small]
    for name, steps in (("whole", "128"), ("part", "64")):  # 32 steps per environment: in the middle of episodes
        assert main([*fit, "--model.total_env_steps", steps, "--run_name", name]) == 0
    checkpoint = str(tmp_path / "part" / "checkpoints" / "last.ckpt")
    assert main(["fit", "--ckpt_path", checkpoint, "--model.total_env_steps", "128"]) == 0
    whole, part = (pd.read_csv(tmp_path / name / "metrics.csv") for name in ("whole", "part"))
    measured = [column for column in whole if not column.startswith(("time/", "wall_"))]
    pd.testing.assert_frame_equal(whole[measured], part[measured], check_exact=True)
