"""PettingZoo environments whose agents die at different times, or come and go, by import path: ``comers.visitors``."""

from types import SimpleNamespace

import numpy as np
from gymnasium.spaces import Box, Discrete
from pettingzoo import ParallelEnv


class Visitors(ParallelEnv):
    """Up to four guests of a house: who comes, when, and for how long is drawn anew for every episode.

    A guest sees the hour, how many are there, the sum of the last actions and its own share in it. All who acted are
    paid their sum. A guest leaves when its time is over: truncated if it has seen three hours, else terminated.
    """

    metadata = {"name": "visitors"}  # noqa: RUF012
    possible_agents = ["a", "b", "c", "d"]  # noqa: RUF012
    does = (Discrete(2), Discrete(3, start=5), Discrete(3), Discrete(2))

    def observation_space(self, agent):
        return Box(-np.inf, np.inf, (4,))

    def action_space(self, agent):
        return self.does[self.possible_agents.index(agent)]

    def reset(self, seed=None, options=None):
        self.count, rng = 0, np.random.default_rng(seed)
        comes = dict(zip(self.possible_agents, rng.integers(-1, 3, 4), strict=True))  # -1: never
        comes[self.possible_agents[rng.integers(4)]] = 0
        stays = dict(zip(self.possible_agents, rng.integers(1, 5, 4), strict=True))
        self.plan = {agent: (hour, hour + stays[agent]) for agent, hour in comes.items() if hour >= 0}
        self.agents = [agent for agent in reversed(self.possible_agents) if self.plan.get(agent, (9, 9))[0] == 0]
        return self.seen({}, self.agents), {agent: {} for agent in self.agents}

    def seen(self, actions, agents):
        total = sum(float(np.sum(action)) for action in actions.values())
        return {
            agent: np.array([self.count, len(self.agents), total, np.sum(actions.get(agent, 0))]) for agent in agents
        }

    def step(self, actions):
        assert sorted(actions) == sorted(self.agents), (actions, self.agents)
        assert all(self.action_space(agent).contains(action) for agent, action in actions.items())
        self.count += 1
        rewards = {agent: sum(float(np.sum(action)) for action in actions.values()) for agent in actions}
        over = {agent: self.plan[agent][1] <= self.count for agent in actions}
        tired = {agent: self.count - self.plan[agent][0] == 3 for agent in actions}
        terminated = {agent: over[agent] and not tired[agent] for agent in actions}
        truncated = {agent: tired[agent] for agent in actions}
        left = [agent for agent in self.agents if not (terminated[agent] or truncated[agent])]
        new = [agent for agent, (hour, _) in self.plan.items() if hour == self.count]
        self.agents = left + new if left or new else []
        return self.seen(actions, [*actions, *new]), rewards, terminated, truncated, {agent: {} for agent in actions}


class VisitorsInBoxes(Visitors):
    """With actions in boxes."""

    does = (Box(-1.0, 1.0, (1,)), Box(0.0, 2.0, (2,)), Box(-1.0, 1.0, (1,)), Box(-1.0, 1.0, (1,)))


class MaskedVisitors(Visitors):
    """Every guest's first action is illegal in odd hours; others raise."""

    def reset(self, seed=None, options=None):
        seen, _ = super().reset(seed)
        return seen, self.masks()

    def masks(self):
        return {
            agent: {"action_mask": np.array([not self.count % 2] + [1] * (self.action_space(agent).n - 1), np.int8)}
            for agent in self.agents
        }

    def step(self, actions):
        for agent, action in actions.items():
            if self.count % 2 and action == self.action_space(agent).start:
                raise ValueError("an illegal action")
        *rest, _ = super().step(actions)
        return *rest, self.masks()


class Deaths(Visitors):
    """Three who are there from the start; each dies once the actions so far, times its number, exceed 40."""

    possible_agents = ["a", "b", "c"]  # noqa: RUF012

    def reset(self, seed=None, options=None):
        self.count, self.total, self.agents = 0, 0.0, self.possible_agents[:]
        return self.seen({}, self.agents), {}

    def step(self, actions):
        assert list(actions) == self.agents
        self.count, self.total = self.count + 1, self.total + sum(map(float, map(np.sum, actions.values())))
        dead = {agent: self.total * (1 + self.possible_agents.index(agent)) > 40 for agent in actions}
        truncated = {agent: self.count == 5 and not dead[agent] for agent in actions}
        self.agents = [agent for agent in self.agents if not dead[agent] and not truncated[agent]]
        return self.seen(actions, list(actions)), dict.fromkeys(actions, self.total), dead, truncated, {}


class Steady(Visitors):
    """The second comes after a step, the first leaves after two, nobody else comes; all are truncated after four."""

    def reset(self, seed=None, options=None):
        super().reset(seed)
        self.plan, self.agents = {"a": (0, 2), "b": (1, 4), "c": (0, 4)}, ["a", "c"]
        return self.seen({}, self.agents), {}


class Revived(Steady):
    """The first is there again after its end."""

    def step(self, actions):
        outcome = super().step({agent: action for agent, action in actions.items() if agent in self.agents})
        if self.count == 3:
            self.agents.append("a")
        return outcome


class Relisted(Steady):
    """The first stays in the list after its end, and is told to go on."""

    def step(self, actions):
        seen, rewards, terminated, truncated, infos = super().step(actions)
        if self.count == 2:
            self.agents.append("a")
        if self.count > 2:
            terminated["a"], truncated["a"] = False, False
        return seen, rewards, terminated, truncated, infos


class Unannounced(Steady):
    """Nobody tells what the second sees when it comes."""

    def step(self, actions):
        seen, *rest = super().step(actions)
        return {agent: seen[agent] for agent in actions}, *rest


class Stranger(Steady):
    """Somebody comes who is not among the possible agents."""

    def step(self, actions):
        outcome = super().step(actions)
        self.agents += ["e"] * (self.count == 1)
        return outcome


class Nobody(Steady):
    """Starts without anybody."""

    def reset(self, seed=None, options=None):
        super().reset(seed)
        self.agents = []
        return {}, {}


class NobodyAtTimes(Steady):
    """In every second episode."""

    def reset(self, seed=None, options=None):
        outcome = super().reset(seed)
        self.agents = self.agents if seed == 0 or (seed or 0) % 2 else []
        return outcome


class Shrinking(Steady):
    """Its state has a number of everyone who is there."""

    def state(self):
        return np.ones(len(self.agents))


visitors, visitors_in_boxes, masked_visitors = (
    SimpleNamespace(parallel_env=each) for each in (Visitors, VisitorsInBoxes, MaskedVisitors)
)
deaths, steady = (SimpleNamespace(parallel_env=each) for each in (Deaths, Steady))
revived, unannounced, stranger = (SimpleNamespace(parallel_env=each) for each in (Revived, Unannounced, Stranger))
relisted = SimpleNamespace(parallel_env=Relisted)
nobody, nobody_at_times, shrinking = (SimpleNamespace(parallel_env=each) for each in (Nobody, NobodyAtTimes, Shrinking))
