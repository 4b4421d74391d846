"""MatrixGame, Coordination and StagedGame as ``step.hpp`` takes them."""

import ctypes

import torch

from lit_maprops.envs.games.matrix_game import Coordination, MatrixGame
from lit_maprops.envs.games.staged_game import StagedGame
from lit_maprops.native.arrays import address

STATE = ()  # nothing of it changes
STAGED_STATE = ("stage", "flawless")  # in the order of step.hpp


class Rules(ctypes.Structure):
    """``Rules`` of step.hpp."""

    _fields_ = [
        *((name, ctypes.c_int32) for name in ("agents", "actions", "partial")),
        *((name, ctypes.c_float) for name in ("miscoordination", "best")),
        *((name, ctypes.c_void_p) for name in ("payoff", "is_best")),
    ]


def rules_of_matrix_game(task: MatrixGame) -> Rules:
    """Of a task, which must outlive them."""
    payoff, best = address(task.payoff, torch.float32), address(task.is_best, torch.bool)
    return Rules(task.n_agents, task.n_actions, False, 0.0, 0.0, payoff, best)


def rules_of_coordination(task: Coordination) -> Rules:
    """Of a task, which must outlive them."""
    rewards, best = address(task.rewards.value, torch.float32), float(task.best.value)
    return Rules(task.n_agents, task.n_actions, task.partial, task.miscoordination, best, rewards, None)


class StagedRules(ctypes.Structure):
    """``StagedRules`` of step.hpp."""

    _fields_ = [
        *((name, ctypes.c_int32) for name in ("agents", "actions", "stages", "ends_early")),
        *((name, ctypes.c_void_p) for name in ("payoff", "is_best")),
    ]


def rules_of_staged_game(task: StagedGame) -> StagedRules:
    """Of a task, which must outlive them."""
    payoff, best = address(task.payoff, torch.float32), address(task.is_best, torch.bool)
    return StagedRules(task.n_agents, task.n_actions, task.stages, task.advance == "best", payoff, best)
