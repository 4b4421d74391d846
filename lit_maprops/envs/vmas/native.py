"""VMAS's simple_spread as ``step.hpp`` takes it; other scenarios stay in torch."""

import ctypes
from importlib.metadata import version

import torch

from lit_maprops.envs.vmas.task import VMAS

STATE = ("float32", "observation")  # the parts of the state, in the order of step.hpp
VERSION = "1.5.2"  # of the package whose rules these are
_OPTIONS = {"n_agents", "obs_agents"}


class Rules(ctypes.Structure):
    """``Rules`` of step.hpp."""

    _fields_ = [
        *((name, ctypes.c_int32) for name in ("agents", "sees_agents", "numbers", "reward_at")),
        *((name, ctypes.c_float) for name in ("dt", "kept_speed", "collision_force", "contact_margin")),
        *((name, ctypes.c_float) for name in ("radius", "mass")),
        *((name, ctypes.c_void_p) for name in ("control", "first", "body_at", "goal_at")),
    ]


def why_not(task: VMAS) -> str | None:
    """Why a task has no compiled rules; None: it has."""
    if task.scenario != "simple_spread":
        return f"VMAS's scenario {task.scenario} has no compiled rules"
    if task.continuous_actions:
        return "VMAS's simple_spread has no compiled rules for continuous actions"
    if further := sorted(set(task.options) - _OPTIONS):
        return f"VMAS's simple_spread has no compiled rules with {', '.join(further)}"
    if version("vmas") != VERSION:
        return f"the compiled rules are those of vmas {VERSION}, and {version('vmas')} is installed"
    return None


def rules(task: VMAS) -> Rules:
    """Of a task that ``why_not`` has nothing against."""
    worlds = task.simulator
    world, agent = worlds.env.world, worlds.env.agents[0]
    count = range(task.n_agents)
    parts = "_state._pos", "_state._vel", "_state._force", "_action._u"
    body = [worlds.begins(f"._world._agents.{number}.{part}") for number in count for part in parts]
    goal = [worlds.begins(f"._world._landmarks.{number}._state._pos") for number in count]
    kept = (
        worlds.control(0).contiguous(),
        task.initial_state(torch.zeros(1, task.start_noise))["float32"],
        torch.tensor(body, dtype=torch.int32),
        torch.tensor(goal, dtype=torch.int32),
    )
    own = Rules(
        *(task.n_agents, worlds.env.scenario.obs_agents, kept[1].shape[-1], worlds.begins(".rew")),
        *(world.dt, 1 - world._drag, world._collision_force, world._contact_margin),
        *(agent.shape.radius, agent.mass),
        *(tensor.data_ptr() for tensor in kept),
    )
    own.kept = kept  # alive as long as its addresses
    return own
