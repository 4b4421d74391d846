"""Small Gymnasium environments of several agents, each with what ``--data.env.name`` takes."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, Tuple

SIGHT = Box(-np.inf, np.inf, (2,), np.float32)


class Counting(gymnasium.Env):
    """Two agents see the step and a number drawn at the start; the reward of each is its own action.

    Args:
        ends: after how many steps each agent's own episode ends; one number: everybody's at once.
        masks: where legal actions are said: nowhere, in infos, or by a method.
        rewards: one for each agent, or what everybody gets.
        verdict: what infos say under ``success``; None: nothing.
        broken: what is given in no order: "rewards", "reset", "step", "observations", "names" or "infos".
        how: "list", "array" or "numbers" of agents are given their masks and rewards by.
        state: there is a global state.
    """

    def __init__(
        self,
        ends: Any = 3,
        masks: str | None = None,
        rewards: str = "each",
        verdict: Any = None,
        broken: str | None = None,
        state: bool = False,
        how: str = "list",
    ) -> None:
        self.action_space = Tuple([Discrete(3, start=1), Discrete(2)])
        self.observation_space = Tuple([SIGHT, SIGHT])
        self._ends, self._masks, self._rewards, self._verdict, self._broken = ends, masks, rewards, verdict, broken
        self._how = how
        if masks == "method":
            self.get_avail_actions = lambda: self._legal()
        if state:
            self.get_state = lambda: np.array([self._step, 7.0])

    def _legal(self) -> Any:
        legal = [[1, 0, 1], [self._step % 2, 1]]
        return self._given(legal if self._how != "array" else np.array([legal[0], [*legal[1], 0]]))

    def _given(self, each: Any) -> Any:
        kinds = {"list": list, "array": np.array, "numbers": lambda own: dict(enumerate(own))}
        return kinds[self._how](each)

    def _over(self) -> Any:
        if self._ends == "__all__":
            return {"__all__": self._step >= 3, 0: self._step >= 1, 1: False}
        return self._given([self._step >= e for e in self._ends])

    def _seen(self) -> list[np.ndarray]:
        seen = [np.array([self._step, self._number + agent], np.float32) for agent in range(2)]
        return seen[:1] if self._broken == "observations" and self._step else seen

    def _info(self) -> Any:
        if self._broken == "infos" and self._step:
            return "nothing"
        info = {"action_mask": self._legal()} if self._masks == "infos" else {}
        return info if self._verdict is None else info | {"success": self._verdict}

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        """As Gymnasium's."""
        super().reset(seed=seed)
        self._step, self._number = 0, float(self.np_random.random())
        return self._seen() if self._broken == "reset" else (self._seen(), self._info())

    def step(self, action: tuple[int, int]) -> Any:
        """As Gymnasium's."""
        assert self.action_space.contains(tuple(action)), action
        self._step += 1
        reward: Any = [float(one) for one in action] if self._rewards == "each" else float(sum(action))
        reward = [*reward, 0.0] if self._broken == "rewards" else reward
        reward = {"red": 1.0} if self._broken == "names" else self._given(reward) if self._rewards == "each" else reward
        over: Any = self._step >= self._ends if isinstance(self._ends, int) else self._over()
        answer = self._seen(), reward, over, False, self._info()
        return answer[:4] if self._broken == "step" else answer


class Resting(Counting):
    """The first agent's end comes after a step; then its last action alone is legal, and others raise."""

    def __init__(self) -> None:
        super().__init__(ends=[1, 3], masks="infos")

    def _legal(self) -> Any:
        return [[self._step < 1, self._step < 1, 1], [1, 1]]

    def step(self, action: tuple[int, int]) -> Any:
        """As Gymnasium's."""
        if not self._legal()[0][action[0] - 1]:
            raise ValueError("an illegal action")
        return super().step(action)


class Listed(Counting):
    """Infos of each agent in a list."""

    def _info(self) -> Any:
        return [{"action_mask": [0, 1, 1], "success": True}, {"action_mask": [1, 1], "success": self._step > 1}]


class Named(gymnasium.Env):
    """Agents by their names, in Dicts; the second is cut off first."""

    action_space = Dict({"pusher": Discrete(2), "puller": Discrete(2)})
    observation_space = Dict({"pusher": SIGHT, "puller": SIGHT})

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        """As Gymnasium's."""
        self._step = 0
        return dict.fromkeys(("pusher", "puller"), np.zeros(2, np.float32)), {}

    def step(self, action: dict[str, int]) -> Any:
        """As Gymnasium's."""
        self._step += 1
        seen = dict.fromkeys(("pusher", "puller"), np.full(2, self._step, np.float32))
        return (
            seen,
            {name: 10.0 * number for name, number in action.items()},
            {"pusher": self._step == 4, "puller": False},
            {"puller": self._step >= 2, "pusher": False},
            {"pusher": {"success": True}, "puller": {"success": self._step > 1}},
        )


class Alone(gymnasium.Env):
    """One agent."""

    action_space, observation_space = Discrete(2), SIGHT


gymnasium.register("Counting-v0", "gymnasium_toys:Counting", max_episode_steps=2)
