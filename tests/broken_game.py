"""A matrix game that breaks on the second rank."""

import os

from torch import Tensor

from lit_maprops.envs.base import State, Transition
from lit_maprops.envs.games.matrix_game import MatrixGame


class BrokenGame(MatrixGame):
    """Raises at the 20th step of rank 1."""

    steps = 0

    def transition(self, state: State, action: Tensor, noise: Tensor) -> Transition:
        self.steps += 1
        if self.steps == 20 and os.environ.get("LOCAL_RANK") == "1":
            raise RuntimeError("the dice fell off the table")
        return super().transition(state, action, noise)
