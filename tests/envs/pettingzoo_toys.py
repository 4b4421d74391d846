"""Small PettingZoo environments with known rules, each under a name that ``--data.env.name`` takes."""

from types import SimpleNamespace

import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete
from pettingzoo import ParallelEnv


class Toy(ParallelEnv):
    """Agents see (their index, the step) and their last action; reward 1 each; all are truncated after 4 steps."""

    metadata = {"name": "toy"}  # noqa: RUF012
    sees, does = (Box(-np.inf, np.inf, (3,)),) * 2, (Discrete(2), Discrete(3, start=5))

    def __init__(self):
        self.possible_agents = ["a", "b"]

    def observation_space(self, agent):
        return self.sees[self.possible_agents.index(agent)]

    def action_space(self, agent):
        return self.does[self.possible_agents.index(agent)]

    def reset(self, seed=None, options=None):
        self.agents, self.count = self.possible_agents[:], 0
        return self.seen({}), {}

    def seen(self, actions):
        return {
            agent: np.array([index, self.count, np.sum(actions.get(agent, -1))])
            for index, agent in enumerate(self.agents)
        }

    def step(self, actions):
        assert list(actions) == self.agents and all(self.action_space(a).contains(x) for a, x in actions.items())
        self.count += 1
        seen, rewards = self.seen(actions), dict.fromkeys(self.agents, 1.0)
        terminated = {agent: self.over(agent) for agent in self.agents}
        truncated = {agent: self.count == 4 for agent in self.agents}
        self.agents = [agent for agent in self.agents if not (terminated[agent] or truncated[agent])]
        return seen, rewards, terminated, truncated, {}

    def over(self, agent):
        return False


class Leaving(Toy):
    """The first agent leaves after 2 steps, the second after 3."""

    def over(self, agent):
        return self.count == {"a": 2, "b": 3}[agent]


class Boxes(Toy):
    """Boxes of different shapes and ranges."""

    does = Box(-3.0, 1.0, (1,)), Box(np.array([[0, -1], [0, -2]], dtype=np.float32), np.array([[1, 1], [10, 2]], dtype=np.float32))  # fmt: skip  # noqa: E501


class GlobalNumbers(Toy):
    def seen(self, actions):
        return {agent: np.random.rand(3) for agent in self.agents}


class SeededGlobally(GlobalNumbers):
    """Equal episodes as long as nobody plays another one in between."""

    def reset(self, seed=None, options=None):
        np.random.seed(seed)
        return super().reset(seed)


class Remembers(Toy):
    """An object that has played before starts otherwise."""

    games = 0

    def reset(self, seed=None, options=None):
        self.games += 1
        return super().reset(seed)

    def seen(self, actions):
        return {agent: seen + self.games for agent, seen in super().seen(actions).items()}


class Late(Toy):
    def reset(self, seed=None, options=None):
        seen = super().reset(seed)
        self.agents = ["a"]
        return seen


class Fused(Toy):
    """The ``fuse``-th step of all objects together raises (0: none)."""

    fuse = 0

    def step(self, actions):
        self.burn()
        return super().step(actions)

    def burn(self):
        Fused.fuse -= 1
        if Fused.fuse == 0:
            raise OSError("cable")


class FusedStart(Fused):
    """As ``Fused``, for starts of episodes."""

    def reset(self, seed=None, options=None):
        self.burn()
        return super().reset(seed)

    def step(self, actions):
        return Toy.step(self, actions)


class Unseeded(Toy):
    def reset(self):
        return super().reset()


def toy(**spaces):
    return SimpleNamespace(parallel_env=type("Other", (Toy,), spaces))


fused, fused_start = (SimpleNamespace(parallel_env=each) for each in (Fused, FusedStart))
plain, leaving, boxes = (SimpleNamespace(parallel_env=each) for each in (Toy, Leaving, Boxes))
global_numbers, seeded_globally = (SimpleNamespace(parallel_env=each) for each in (GlobalNumbers, SeededGlobally))
remembers, late, unseeded = (SimpleNamespace(parallel_env=each) for each in (Remembers, Late, Unseeded))
several_numbers = toy(does=(MultiDiscrete([2, 2]),) * 2)
mixed = toy(does=(Discrete(2), Box(-1, 1, (1,))))
unbounded = toy(does=(Box(-np.inf, np.inf, (1,)),) * 2)
dictionaries = toy(sees=(Dict({"action_mask": Box(0, 1, (2,))}),) * 2)
by_turns, nothing = SimpleNamespace(env=Toy), SimpleNamespace()
anonymous = SimpleNamespace(parallel_env=lambda: SimpleNamespace())
