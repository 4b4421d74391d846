"""PettingZoo environments whose agents see pictures."""

from types import SimpleNamespace

import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, Tuple
from pettingzoo import ParallelEnv
from pettingzoo_space_toys import Spaces

SIDE = 7


def pixels(*shape):
    return Box(0, 255, shape, np.uint8)


SPEED = Box(-9, 9, (2,))


class Bars(ParallelEnv):
    """Both agents see one bar that lies or stands, anywhere and of any brightness; both have to say which.

    An episode is one step. No pixel by itself tells anything.
    """

    metadata = {"name": "bars"}  # noqa: RUF012

    def __init__(self):
        self.possible_agents = ["a", "b"]
        self.space = pixels(SIDE, SIDE, 1)

    def observation_space(self, agent):
        return self.space

    def action_space(self, agent):
        return Discrete(2)

    def reset(self, seed=None, options=None):
        rng = np.random.default_rng(seed)
        self.stands = int(rng.integers(2))
        picture = np.zeros((SIDE, SIDE, 1), dtype=np.uint8)
        row, column = rng.integers(SIDE), rng.integers(SIDE - 2)
        picture[row, column : column + 3] = rng.integers(100, 256)
        self.picture = picture.swapaxes(0, 1).copy() if self.stands else picture
        self.agents = self.possible_agents[:]
        return dict.fromkeys(self.agents, self.picture), {}

    def step(self, actions):
        right = all(action == self.stands for action in actions.values())
        self.agents = []
        infos = {agent: {"success": right} for agent in actions}
        flags = dict.fromkeys(actions, True), dict.fromkeys(actions, False)
        return dict.fromkeys(actions, self.picture), dict.fromkeys(actions, float(right)), *flags, infos


class WithState(Spaces):
    """Its global state is a picture, too."""

    sees = (pixels(6, 5, 3),) * 2

    def state(self):
        return self.shown[-1]["a"] if self.shown else np.zeros((6, 5, 3), dtype=np.uint8)


def seeing(*spaces):
    return SimpleNamespace(parallel_env=type("Other", (Spaces,), {"sees": spaces}))


bars, with_state = (SimpleNamespace(parallel_env=each) for each in (Bars, WithState))
last = seeing(pixels(6, 5, 3), pixels(6, 5, 3))
first = seeing(pixels(3, 6, 5), pixels(3, 6, 5))
gray = seeing(pixels(6, 5), pixels(6, 5))
cube = seeing(pixels(3, 3, 3), pixels(3, 3, 3))
floats = seeing(*(Box(0, 30, (6, 5, 3)),) * 2)
levels = seeing(*(Box(0, 9, (6, 5, 3), np.uint8),) * 2)
mixed = seeing(Dict(camera=pixels(6, 5, 3), speed=SPEED, team=Discrete(3)), Tuple((SPEED, pixels(6, 5, 3))))
two_each = seeing(*(Dict(left=pixels(6, 5, 3), right=pixels(6, 5, 3)),) * 2)
one_blind = seeing(pixels(6, 5, 3), SPEED)
