"""Which agents of a PettingZoo environment are there: ``agents`` may lose and gain some of its ``possible_agents``."""

from collections.abc import Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from lit_maprops.envs.ends import ABSENT, RUNS


class Presence:
    """Every agent's own part of an environment's episode: not there yet, there, or over.

    An agent may come once and go once. PettingZoo's own test of its interface forbids that one comes back; one that
    only stays in the list after its end is taken for gone, as many packages clear it when all are, while its flags go
    on to say so (``Agents.step``).

    Args:
        names: of the possible agents.
    """

    def __init__(self, names: Sequence[Any]) -> None:
        self._names = names
        self._ends: WeakKeyDictionary[Any, np.ndarray] = WeakKeyDictionary()
        self._gone: WeakKeyDictionary[Any, set[Any]] = WeakKeyDictionary()

    def begin(self, env: Any) -> np.ndarray:
        """How each agent starts an episode that was just reset, ``envs.ends``: ``[A]`` uint8.

        Raises:
            ValueError: nobody is there, or somebody who is not possible.
        """
        here = self._here(env)
        if not here:
            raise ValueError("it starts without any agent")
        ends = np.array([RUNS if name in here else ABSENT for name in self._names], dtype=np.uint8)
        self._ends[env], self._gone[env] = ends, set()
        return ends.copy()

    def ends(self, env: Any) -> np.ndarray:
        """``envs.ends`` of the state it is in: ``[A]`` uint8."""
        return self._ends[env].copy()

    def follow(self, env: Any, end: np.ndarray, seen: Mapping[Any, Any]) -> np.ndarray:
        """``envs.ends`` after a step, with those who came: ``[A]`` uint8.

        Args:
            env: that was stepped.
            end: of those who were there before it, otherwise as before it.
            seen: the observations that the step gave.

        Raises:
            ValueError: an agent is there again after its end, came without an observation, or is not possible.
        """
        here, gone, end = self._here(env), self._gone[env], end.copy()
        for number, name in enumerate(self._names):
            if end[number] == ABSENT and name in here:
                if name not in seen:
                    raise ValueError(f"agent {name} comes without an observation")
                end[number] = RUNS
            elif end[number] not in (RUNS, ABSENT):
                if name in here and name in gone:
                    raise ValueError(f"agent {name} acts after its end: it is in agents again")
                if name not in here:
                    gone.add(name)
        self._ends[env] = end
        return end.copy()

    def _here(self, env: Any) -> set[Any]:
        here = set(env.agents)
        unknown = sorted(map(str, here.difference(self._names)))
        if unknown:
            raise ValueError(f"its agents hold {unknown[0]}, who is not one of its possible_agents")
        return here
