"""Foraging as ``step.hpp`` takes it."""

import ctypes

from lit_maprops.envs.foraging.task import Foraging

STATE = ("agents", "agent_level", "food", "food_level")  # the parts of the state, in the order of step.hpp
_INTS = [
    *("size", "agents", "foods", "force_coop", "sight", "min_player_level", "max_player_level", "min_food_level"),
    *("max_food_level", "top_food_level", "normalize_reward"),
]


class Rules(ctypes.Structure):
    """``Rules`` of step.hpp."""

    _fields_ = [*((name, ctypes.c_int32) for name in _INTS), ("penalty", ctypes.c_float)]


def rules(task: Foraging) -> Rules:
    """Of a task."""
    return Rules(
        *(task.size, task.n_agents, task.max_num_food, task.force_coop, task.sight, task.min_player_level),
        *(task.max_player_level, task.min_food_level, task.max_food_level or 0, task.top_food_level),
        *(task.normalize_reward, task.penalty),
    )
