"""Environments. ``TASKS`` is the registry: the tasks that a run can have, and that the contract tests walk."""

from lit_maprops.envs.base import Interface, State, Task, Transition
from lit_maprops.envs.boulder_push.task import BoulderPush
from lit_maprops.envs.foraging.task import Foraging
from lit_maprops.envs.games.matrix_game import Coordination, MatrixGame
from lit_maprops.envs.games.staged_game import StagedGame
from lit_maprops.envs.games.t_maze import TMaze
from lit_maprops.envs.games.two_peaks import TwoPeaks
from lit_maprops.envs.gymnasium.task import Gymnasium
from lit_maprops.envs.jaxmarl.task import JaxMARL
from lit_maprops.envs.overcooked.task import Overcooked
from lit_maprops.envs.pettingzoo.reacher import SparseReacher
from lit_maprops.envs.pettingzoo.task import PettingZoo
from lit_maprops.envs.rware.task import RWARE
from lit_maprops.envs.task_env import TaskEnv
from lit_maprops.envs.torchrl.task import TorchRL
from lit_maprops.envs.vmas.task import VMAS

TASKS: dict[str, type[Task]] = {
    "BoulderPush": BoulderPush,
    "Coordination": Coordination,
    "Foraging": Foraging,
    "Gymnasium": Gymnasium,
    "JaxMARL": JaxMARL,
    "MatrixGame": MatrixGame,
    "Overcooked": Overcooked,
    "PettingZoo": PettingZoo,
    "RWARE": RWARE,
    "SparseReacher": SparseReacher,
    "StagedGame": StagedGame,
    "TMaze": TMaze,
    "TorchRL": TorchRL,
    "TwoPeaks": TwoPeaks,
    "VMAS": VMAS,
}

__all__ = [
    "RWARE",
    "TASKS",
    "VMAS",
    "BoulderPush",
    "Coordination",
    "Foraging",
    "Gymnasium",
    "Interface",
    "JaxMARL",
    "MatrixGame",
    "Overcooked",
    "PettingZoo",
    "SparseReacher",
    "StagedGame",
    "State",
    "TMaze",
    "Task",
    "TaskEnv",
    "TorchRL",
    "Transition",
    "TwoPeaks",
]
