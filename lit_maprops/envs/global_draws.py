"""Tasks of somebody else's that draw from global random generators, which all seeds share and no checkpoint holds."""

import copy

import torch

from lit_maprops import keys
from lit_maprops.envs.base import Task
from lit_maprops.envs.global_generators import all_generator_states, generators_kept
from lit_maprops.envs.task_env import TaskEnv
from lit_maprops.system.entry_points import tried
from lit_maprops.system.errors import check

_STEPS, _ENVS = 3, 2


def check_global_draws(task: Task) -> None:
    """Have a copy play a few steps and see whether a global generator moves. What breaks meanwhile, the run tells.

    What cannot be copied is not tried: the task of a run must not have been played before.

    Raises:
        ConfigError: one does.
    """
    with generators_kept():
        twin, uncopied = tried(lambda: copy.deepcopy(task))
        before = all_generator_states()
        if not uncopied:
            tried(lambda: _play(twin))
        after = all_generator_states()
    names = {0: "torch", 1: "NumPy", len(after) - 1: "Python"}
    moved = [name for place, name in names.items() if before[place] != after[place]]
    # NumPy hands out its words in blocks and only counts between them.
    moved = moved or (["NumPy"] if before != after else [])
    check(
        not moved,
        f"<data.env> {type(task).__name__} draws from the global random numbers of {' and '.join(moved)}, which seeds "
        "share and no checkpoint holds: make of noise whatever is random, start_noise and step_noise say how much",
    )


def _play(task: Task) -> None:
    env = TaskEnv(task, 0, [0], _ENVS, "trial environment")
    step = env.reset()
    for _ in range(_STEPS):
        if task.continuous_actions:
            action = torch.zeros(1, _ENVS, task.n_agents, task.action_dim)
        else:
            has = step.get((keys.AGENTS, "action_mask"), task.action_mask().expand(1, _ENVS, -1, -1))
            action = has.int().argmax(-1)
        step = env.step(step.set(keys.ACTION, action)).get("next")
