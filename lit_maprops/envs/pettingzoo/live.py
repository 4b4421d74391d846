"""A bounded store of PettingZoo environments in mid-episode."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np

from lit_maprops.envs.pettingzoo.agents import Agents


class LiveEpisodes:
    """Environments in the middle of episodes, found again by what was done in them: the seed and all actions.

    It only saves time: an episode that is not here is played again from its seed. It holds at most twice as many
    environments as the largest batch had rows (training and evaluation play by turns, each with its own rows); beyond
    that the one left alone for longest starts another episode.

    Args:
        make: makes an environment.
        agents: its agents.
    """

    def __init__(self, make: Callable[[], Any], agents: Agents) -> None:
        self._make, self._agents = make, agents
        self._live: OrderedDict[tuple[int, bytes], list[Any]] = OrderedDict()  # the one left alone for longest first
        self._idle: list[Any] = []
        self._made = self._most = 0

    def __len__(self) -> int:
        return self._made

    def expect(self, rows: int) -> None:
        """Have room for batches of ``rows`` episodes."""
        self._most = max(self._most, 2 * rows)

    def start(self, seed: int) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray]:
        """An environment at the start of the episode of ``seed``, its observations, global state and legal actions."""
        env = self._free()
        return env, *self._agents.reset(env, seed)

    def take(self, seed: int, actions: np.ndarray) -> Any:
        """An environment in the episode of ``seed`` after ``actions`` ``[steps, A, ...]``; hand it back afterwards."""
        key = (seed, actions.tobytes())
        if key in self._live:
            same = self._live[key]
            env = same.pop()
            if not same:
                del self._live[key]
            return env
        env = self.start(seed)[0]
        for action in actions:
            self._agents.step(env, action)
        return env

    def keep(self, env: Any, seed: int, actions: np.ndarray) -> None:
        """Hand back an environment whose episode goes on."""
        key = (seed, actions.tobytes())
        self._live.setdefault(key, []).append(env)
        self._live.move_to_end(key)

    def release(self, env: Any) -> None:
        """Hand back an environment whose episode is over."""
        self._idle.append(env)

    def lose(self) -> None:
        """An environment that was taken or started has raised: it does not come back."""
        self._made -= 1

    def forget(self) -> None:
        """Let all episodes be played again."""
        for same in self._live.values():
            self._idle += same
        self._live.clear()

    def _free(self) -> Any:
        if self._idle:
            return self._idle.pop()
        if self._made < self._most or not self._live:
            self._made += 1
            return self._make()
        oldest = next(iter(self._live))
        env = self._live[oldest].pop()
        if not self._live[oldest]:
            del self._live[oldest]
        return env
