"""Environments. ``TASKS`` is the registry: what ``--data.env`` accepts and what the contract tests walk."""

from lit_maprops.envs.base import Interface, State, Task, Transition
from lit_maprops.envs.boulder_push import BoulderPush
from lit_maprops.envs.foraging import Foraging
from lit_maprops.envs.matrix_game import Coordination, MatrixGame
from lit_maprops.envs.pettingzoo_task import PettingZoo
from lit_maprops.envs.reacher import SparseReacher
from lit_maprops.envs.task_env import TaskEnv
from lit_maprops.envs.two_peaks import TwoPeaks
from lit_maprops.envs.vmas_task import VMAS

TASKS: dict[str, type[Task]] = {
    "BoulderPush": BoulderPush,
    "Coordination": Coordination,
    "Foraging": Foraging,
    "MatrixGame": MatrixGame,
    "PettingZoo": PettingZoo,
    "SparseReacher": SparseReacher,
    "TwoPeaks": TwoPeaks,
    "VMAS": VMAS,
}

__all__ = [
    "TASKS",
    "VMAS",
    "BoulderPush",
    "Coordination",
    "Foraging",
    "Interface",
    "MatrixGame",
    "PettingZoo",
    "SparseReacher",
    "State",
    "Task",
    "TaskEnv",
    "Transition",
    "TwoPeaks",
]
