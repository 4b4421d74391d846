"""Small tasks that have several features at once: what agents see is a picture, some agents leave."""

from masked_game import Doors
from shifts import Shifts
from torch import Tensor

from lit_maprops.envs.base import State
from lit_maprops.envs.games.two_peaks import TwoPeaks


class PictureDoors(Doors):
    """The room as a picture of 2 x 2."""

    observation_shape = 1, 2, 2


class PictureShifts(Shifts):
    """What an agent sees as a picture of 2 x 2."""

    observation_shape = 1, 2, 2


class PicturePeaks(TwoPeaks):
    """What there is to see, which is always the same, as a picture of 2 x 2."""

    observation_dim, observation_shape = 4, (1, 2, 2)

    def observe(self, state: State) -> tuple[Tensor, Tensor]:
        observation, seen = super().observe(state)
        return observation.expand(*observation.shape[:-1], 4), seen


class MaskedPeaks(TwoPeaks):
    """Says which components are legal, which only discrete actions can be."""

    def legal_actions(self, state: State) -> Tensor:
        return self.action_mask()
