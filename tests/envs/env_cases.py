"""Every registered environment with its defaults and other settings, and how the contract tests play it."""

from importlib.util import find_spec

import numpy as np
import pytest
import torch

from lit_maprops.envs import TASKS, TaskEnv

# Where there are no defaults, what to test in their place.
NEEDED = {
    "Gymnasium": {"name": "gymnasium_toys.Counting", "options": {"ends": [2, 4], "masks": "infos"}, "max_steps": 5},
    "TorchRL": {"name": "torchrl_toys.make", "options": {"state": True, "ends": "groups"}, "max_steps": 7},
}
# Settings to test besides the defaults.
SETTINGS = {
    "BoulderPush": [
        {"height": 3, "width": 5, "n_agents": 1, "max_steps": 7, "sensor_range": 1},
        {"height": 6, "width": 4, "n_agents": 3, "push_direction": "west", "fixed_start": True, "max_steps": 6},
        {"push_direction": "east", "start": [[1, 1], [0, 0], [0, 1]], "max_steps": 4, "penalty": 0.2},
        {"size": "large", "n_agents": 7, "sensor_range": 0, "max_steps": 5},
    ],
    "Coordination": [
        {"n_agents": 10, "n_actions": 5},
        {"n_agents": 10, "n_actions": 5, "partial": True},
        {"n_agents": 2, "n_actions": 3, "rewards": [0.1, 2.0, -1.0], "miscoordination": -0.5},
        {"n_agents": 2, "n_actions": 2, "rewards": [2, 1], "miscoordination": 0.5},
    ],
    "Foraging": [
        {"name": "Foraging-2s-6x6-3p-2f-pen-v3", "max_steps": 9},
        {"size": 5, "n_agents": 1, "max_num_food": 1, "force_coop": False, "fixed_start": True, "max_steps": 7},
        {"size": 7, "n_agents": 9, "max_num_food": 4, "sight": 1, "normalize_reward": False, "max_steps": 5},
        {"size": 20, "n_agents": 6, "min_food_level": 2, "max_food_level": 9, "force_coop": False, "max_steps": 6},
    ],
    "Gymnasium": [
        {"name": "lbforaging:Foraging-5x5-2p-1f-coop-v3", "max_steps": 6},
        {"name": "gymnasium_toys.Counting", "options": {"rewards": "all", "state": True}, "fixed_start": True},
    ],
    "JaxMARL": [
        {"scenario": "HeuristicEnemySMAX", "map_name": "3m", "max_steps": 9},
        {"scenario": "HeuristicEnemySMAX", "map_name": "3m", "max_steps": 9, "agents_leave": True},
    ],
    "MatrixGame": [
        {"payoff": "climbing"},
        {"payoff": "no_conflict_7"},
        {"payoff": np.arange(24.0).reshape(2, 2, 2, 3).tolist(), "n_agents": 3},
    ],
    "Overcooked": [{"layout": "counter_circuit", "shaping": 1.0, "max_steps": 7}],
    "PettingZoo": [
        {"max_steps": 7, "fixed_start": True},
        {"name": "mpe2.simple_speaker_listener_v4", "options": {"max_cycles": 5}},  # 3 actions, and 5
        {"name": "mpe2.simple_speaker_listener_v4", "options": {"continuous_actions": True}, "max_steps": 4},
    ],
    "RWARE": [
        {"name": "rware-2s-1x3-2h-4ag-6req-twostage", "max_steps": 7},
        {
            "column_height": 1,
            "n_agents": 5,
            "request_queue_size": 2,
            "reward_type": "global",
            "fixed_start": True,
            "max_steps": 6,
        },
    ],
    "SparseReacher": [{"max_steps": 9, "success_radius": 0.15, "squash": "clip"}],
    "StagedGame": [{"payoff": "penalty_25", "stages": 5, "advance": "best"}],
    "TMaze": [{"length": 1, "n_agents": 3, "max_steps": 4}],
    "TorchRL": [
        {"name": "torchrl_toys.make", "options": {"kind": "bounded", "batch": [1]}, "max_steps": 3},
    ],
    "TwoPeaks": [
        {"squash": "clip", "width": 0.5, "other_reward": 0.0, "radius": 0.1},
        {"n_agents": 3, "components": [2, 1, 3]},
    ],
    "VMAS": [
        {"scenario": "simple_spread", "max_steps": 6},
        {"scenario": "diff_drive", "max_steps": 4},  # 9 actions, and 27
        {"scenario": "diff_drive", "continuous": True, "max_steps": 5},  # 2 components, and 3
    ],
}
PACKAGES = {"PettingZoo": ["mpe2", "pettingzoo"], "SparseReacher": ["gymnasium_robotics", "mujoco"], "VMAS": ["vmas"]}
PACKAGES |= {"Gymnasium": ["gymnasium", "lbforaging"], "TorchRL": ["gymnasium"], "JaxMARL": ["jaxmarl"]}
NEEDS = {
    name: pytest.mark.skipif(any(find_spec(one) is None for one in packages), reason=f"needs {packages}")
    for name, packages in PACKAGES.items()
}
CASES = [
    pytest.param(name, settings, id=f"{name}-{number}", marks=NEEDS.get(name, ()))
    for name in TASKS
    for number, settings in enumerate([NEEDED.get(name, {}), *SETTINGS.get(name, [])])
]
CONTRACT = pytest.mark.parametrize("name, settings", CASES)


def make(name, settings, seed_ids=(0, 7), num_envs=3, run_seed=1, purpose="environment"):
    return TaskEnv(TASKS[name](**settings), run_seed, list(seed_ids), num_envs, purpose)


def random_actions(env, seed_ids, steps, salt=0):
    """Actions ``[steps, R, E, A]`` or ``[steps, R, E, A, D]`` that depend on the seed's id, not on its place."""
    shape = (steps, env.batch_size[1])
    rows = [actions_of(env.task, shape, np.random.default_rng([seed_id, salt])) for seed_id in seed_ids]
    return torch.from_numpy(np.stack(rows, 1))


def actions_of(task, shape, rng):
    """Random actions that the agents have, as policies draw them: ``[*shape, A]`` or ``[*shape, A, D]``."""
    mask = task.action_mask().numpy()
    if task.continuous_actions:
        return np.where(mask, rng.normal(size=(*shape, *mask.shape)), 0.0).astype(np.float32)
    if mask.all():
        return rng.integers(task.n_actions, size=(*shape, task.n_agents))
    return np.stack([rng.choice(np.flatnonzero(has), size=shape) for has in mask], -1)


def play(env, current, actions):
    """Step with automatic resets; every step as ``[T, R, E]``, and the last root."""
    steps = []
    for action in actions:
        stepped, current = env.step_and_maybe_reset(current.clone().set(("agents", "action"), action))
        steps.append(stepped.clone())
    return torch.stack(steps), current


def trajectory(env, seed_ids, steps=30, salt=0):
    return play(env, env.reset(), random_actions(env, seed_ids, steps, salt))[0]


def leaves(tensordict):
    return dict(tensordict.flatten_keys(".").items())


def assert_same(first, second):
    first, second = (t if isinstance(t, dict) else leaves(t) for t in (first, second))
    assert first.keys() == second.keys()
    for key in first:
        same = first[key].dtype == second[key].dtype and torch.equal(first[key], second[key])
        assert same, f"{key} differs"


def marked(root, told):
    """``root`` with the mark by which TorchRL asks for a reset of some rows."""
    return root.exclude(("agents", "reward")).set("_reset", torch.tensor(told, dtype=torch.bool).unsqueeze(-1))
