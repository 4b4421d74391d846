"""Tasks that a user could have written, for tests: the ways in which their constructors and sizes can be wrong."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from lit_maprops.envs.base import State, Task, Transition
from lit_maprops.envs.games.matrix_game import MatrixGame


class Sized(MatrixGame):
    """Has one size that is none.

    Args:
        size: which.
        value: of it.
    """

    def __init__(self, size: str = "max_steps", value: bool | int | float = 1) -> None:
        super().__init__()
        setattr(self, size, value)


class Endless(Task):
    """Never says how long an episode is."""

    n_agents, n_actions, observation_dim, state_dim = 2, 2, 1, 1

    def initial_state(self, noise: Tensor) -> State:
        return {"seen": torch.zeros(*noise.shape[:-1], 1)}

    def transition(self, state: State, action: Tensor, noise: Tensor) -> Transition:
        over = torch.zeros(action.shape[:-1], dtype=torch.bool)
        return Transition(state, action.float(), over, over)

    def observe(self, state: State) -> tuple[Tensor, Tensor]:
        return state["seen"].unsqueeze(-2).expand(*state["seen"].shape[:-1], 2, 1), state["seen"]


class Unlicensed(MatrixGame):
    def __init__(self) -> None:
        raise RuntimeError("no licence")


class Global(MatrixGame):
    """Draws from a global generator.

    Args:
        where: the method.
        whose: the generator.
    """

    def __init__(self, where: str = "observe", whose: str = "torch") -> None:
        super().__init__()
        self.where, self.whose = where, whose

    def _draw(self, where: str) -> None:
        if where == self.where and self.whose == "torch":
            torch.randint(3, (1,))
        elif where == self.where:
            np.random.rand()

    def initial_state(self, noise: Tensor) -> State:
        self._draw("initial_state")
        return super().initial_state(noise)

    def transition(self, state: State, action: Tensor, noise: Tensor) -> Transition:
        self._draw("transition")
        return super().transition(state, action, noise)

    def observe(self, state: State) -> Any:
        self._draw("observe")
        return super().observe(state)
