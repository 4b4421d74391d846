"""What the agents of a PettingZoo environment see and do, as arrays."""

from typing import Any, NamedTuple

import numpy as np

from lit_maprops.envs.base import Interface
from lit_maprops.envs.ends import RUNS, TERMINATED, TRUNCATED
from lit_maprops.envs.pettingzoo.masks import MASK, OBSERVATION, Masks, seen_space
from lit_maprops.envs.pettingzoo.packages import one_line
from lit_maprops.envs.pettingzoo.presence import Presence
from lit_maprops.envs.pettingzoo.verdicts import Verdicts
from lit_maprops.system.errors import ConfigError, check


class Outcome(NamedTuple):
    """What one step of one environment gives."""

    observation: np.ndarray  # [A, O] float32
    state: np.ndarray  # [S] float32
    reward: np.ndarray  # [A] float32
    terminated: bool
    truncated: bool
    end: np.ndarray  # [A] uint8, how each agent's own episode has ended: ``envs.ends``
    legal: np.ndarray  # [A, N] bool, which actions are next
    success: bool = False  # if the episode ends here


class Agents:
    """What the agents of an environment see and do, as arrays that all share a shape.

    Attributes:
        names: the package's names of the agents.
        continuous: actions are boxes.
        action_sizes: components, or numbers of actions, of each agent.
        observation_sizes: numbers each agent sees.
        has_state: the environment gives a global state; otherwise it is all observations one after the other.
        state_size: numbers in the global state.
        verdicts: of success.
        masks: of illegal actions.
        presence: of each agent in each environment.

    Args:
        env: an environment that was just made.
        named: the argument that gave it, for messages.
        tells_presence: the global state says who is there, by a last number of each agent: 1 if it is, and after the
            step that truncates it, else 0. None: where not all are there in the episode of seed 0.

    Raises:
        ConfigError: the environment has no fixed set of agents, or spaces that are not served.
    """

    def __init__(self, env: Any, named: str, tells_presence: bool | None = None) -> None:
        from gymnasium.spaces import Box

        self.names: list[Any] = list(getattr(env, "possible_agents", []))
        check(bool(self.names), f"{named} has no fixed set of agents (possible_agents): choose another")
        spaces = [env.action_space(name) for name in self.names]
        kinds = sorted({type(space).__name__ for space in spaces})
        check(kinds in (["Box"], ["Discrete"]), f"{named} has actions of kind {' and '.join(kinds)}: choose one with "
              "Box or Discrete actions for all agents")  # fmt: skip
        self.continuous = isinstance(spaces[0], Box)
        whole_spaces = [env.observation_space(name) for name in self.names]
        seen = [seen_space(space) for space in whole_spaces]
        others = sorted({type(space).__name__ for space in seen if not isinstance(space, Box)})
        check(
            not others,
            f"{named} has observations of kind {' and '.join(others)}: choose one with Box observations, or with a "
            f"Dict of {OBSERVATION}, a Box, and {MASK}",
        )
        self.observation_sizes = [int(np.prod(space.shape)) for space in seen]
        self._spaces, self.state_size = spaces, 0
        if self.continuous:
            whole = next((space.dtype for space in spaces if not np.issubdtype(space.dtype, np.floating)), None)
            check(
                whole is None,
                f"{named} has Box actions of whole numbers ({whole}), which real numbers would not reach in their "
                "proportions: choose one with Discrete actions, or with a Box of floats",
            )
            bounded = all(np.isfinite(space.low).all() and np.isfinite(space.high).all() for space in spaces)
            check(bounded, f"{named} has actions without bounds, which [-1, 1] cannot be scaled to: choose another")
            self.action_sizes = [int(np.prod(space.shape)) for space in spaces]
            self._middle = [(space.low.astype(np.float64) + space.high) / 2 for space in spaces]
            self._half = [(space.high.astype(np.float64) - space.low) / 2 for space in spaces]
        else:
            self.action_sizes = [int(space.n) for space in spaces]
        self.presence = Presence(self.names)
        observation, end = self._first_sight(env, named, whole_spaces)
        self._tells_presence = bool((end != RUNS).any()) if tells_presence is None else tells_presence
        self.verdicts = Verdicts()
        self.has_state = _gives_state(env, named)
        self.state_size = len(self._state(env, observation, end == RUNS))

    def _first_sight(self, env: Any, named: str, spaces: list[Any]) -> tuple[np.ndarray, np.ndarray]:
        """Observations ``[A, O]`` and ends ``[A]`` at a start, or a refusal. Sets ``masks``."""
        try:
            first = env.reset(seed=0)
        except Exception as error:
            lacks = isinstance(error, TypeError) and "seed" in str(error)
            how = "cannot be reset with a seed" if lacks else "fails at its reset"
            raise ConfigError(f"{named} {how}: {one_line(error)}") from error
        check(
            isinstance(first, tuple) and len(first) == 2,
            f"{named} has an old interface: its reset must give observations and infos, as PettingZoo's has since 1.23",
        )
        seen, infos = first
        try:
            end = self.presence.begin(env)
        except ValueError as error:
            raise ConfigError(f"{named} cannot be played: {error}") from error
        self.masks = Masks(self.names, self.action_sizes, spaces, infos)
        self.masks.check(named, self.continuous)
        try:
            self.masks.legal(seen, infos)
            return self._stacked(self._of_those(end == RUNS, seen)), end
        except Exception as error:
            raise ConfigError(
                f"{named} starts with observations or masks that are not of their spaces: {one_line(error)}"
            ) from error

    def interface(self, number: int) -> Interface:
        """What an agent sees and does, in the package's own numbers."""
        space, size = self._spaces[number], self.action_sizes[number]
        first = 0 if self.continuous else int(space.start)
        return Interface(
            str(self.names[number]),
            [f"observation[{k}]" for k in range(self.observation_sizes[number])],
            [f"action[{k}]" for k in range(first, first + size)],
            space.low.flatten().tolist() if self.continuous else [],
            space.high.flatten().tolist() if self.continuous else [],
        )

    def reset(self, env: Any, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Start the episode of ``seed``: observations ``[A, O]``, global state ``[S]`` and ``Outcome.legal``."""
        seen, infos = env.reset(seed=seed)
        end = self.presence.begin(env)
        self.verdicts.begin(env)
        observation = self._stacked(self._of_those(end == RUNS, seen))
        return observation, self._state(env, observation, end == RUNS), self.masks.legal(seen, infos)

    def step(self, env: Any, action: np.ndarray) -> Outcome:
        """Step under ``action`` ``[A]`` integers or ``[A, D]`` in [-1, 1]; those of agents that left count for nothing.

        An agent whose end came before the others', or that has not come yet, sees zeros and gets no reward, whatever
        the package says of it; one that the package drops without a word is terminated. The episode is over when the
        last have left: truncated if one of these was truncated and not terminated in the same step, otherwise
        terminated.
        """
        acting = {name: self._given(number, action[number]) for number, name in enumerate(self.names)
                  if name in env.agents}  # fmt: skip
        seen, reward, terminated, truncated, infos = env.step(acting)
        before = self.presence.ends(env)
        end, rewards = before.copy(), np.zeros(len(self.names), dtype=np.float32)
        living = {name: number for number, name in enumerate(self.names) if before[number] == RUNS}
        for name, number in living.items():
            rewards[number] = _number("reward", name, reward.get(name, 0.0))
            if _number("termination", name, terminated.get(name, False)):
                end[number] = TERMINATED
            elif _number("truncation", name, truncated.get(name, False)):
                end[number] = TRUNCATED
            elif name not in env.agents:
                end[number] = TERMINATED
        end = self.presence.follow(env, end, seen)
        over = bool((end != RUNS).all())
        cut = over and bool(((end == TRUNCATED) & (before == RUNS)).any())
        shown = self._of_those((before == RUNS) | (end == RUNS), seen)
        observation, legal = self._stacked(shown), self.masks.legal(shown, infos)
        success = self.verdicts.success(env, infos)
        # Who is truncated is there in the state that its value is asked of.
        state = self._state(env, observation, (end == RUNS) | ((end == TRUNCATED) & (before == RUNS)))
        return Outcome(observation, state, rewards, over and not cut, cut, end, legal, success)

    def _of_those(self, there: np.ndarray, seen: dict[Any, Any]) -> dict[Any, Any]:
        """What those agents see, of ``there`` ``[A]`` bool."""
        return {name: seen[name] for name, flag in zip(self.names, there, strict=True) if flag and name in seen}

    def _given(self, number: int, action: np.ndarray) -> Any:
        space = self._spaces[number]
        if not self.continuous:
            return int(action + space.start)
        chosen = action[: self.action_sizes[number]].reshape(space.shape)
        scaled = self._middle[number] + self._half[number] * chosen
        return np.clip(scaled.astype(space.dtype), space.low, space.high)  # rounding may leave the box

    def _stacked(self, seen: dict[Any, Any]) -> np.ndarray:
        out = np.zeros((len(self.names), max(self.observation_sizes)), dtype=np.float32)
        for number, name in enumerate(self.names):
            if name in seen:
                size = self.observation_sizes[number]
                out[number, :size] = np.asarray(self.masks.observed(number, seen[name])).reshape(size)
        return out

    def _state(self, env: Any, observation: np.ndarray, there: np.ndarray) -> np.ndarray:
        flags = [there.astype(np.float32)] if self._tells_presence else []
        if self.has_state:
            try:
                state = np.concatenate([np.array(env.state(), dtype=np.float32).reshape(-1), *flags])
            except Exception as error:
                raise ValueError(f"its state() fails, {one_line(error)}") from error
            if len(state) != (self.state_size or len(state)):
                had = self.state_size - len(state)
                raise ValueError(f"its state() has {abs(had)} {'more' if had < 0 else 'fewer'} numbers than at first")
            return state
        parts = zip(observation, self.observation_sizes, strict=True)
        return np.concatenate([*(seen[:size] for seen, size in parts), *flags])


def _number(what: str, name: Any, value: Any) -> float:
    """The one number in what a package gave for an agent: a number, or an array of one."""
    try:
        (number,) = np.asarray([] if value is None else value, dtype=np.float64).reshape(-1)
    except (TypeError, ValueError):
        raise ValueError(f"the {what} of agent {name} is {_short(value)}, not a number") from None
    return float(number)


def _short(value: Any) -> str:
    shape = getattr(value, "shape", None)
    return f"an array of shape {tuple(shape)}" if shape is not None else repr(value)[:60]


def _gives_state(env: Any, named: str) -> bool:
    try:
        return bool(np.asarray(env.state(), dtype=np.float32).size)
    except Exception as error:  # wrappers of packages without a state fail in ways of their own
        its_own = getattr(type(getattr(env, "unwrapped", env)), "state", None)
        without = isinstance(error, NotImplementedError) or its_own is None
        check(
            without or its_own.__module__.startswith("pettingzoo."),
            f"{named} has a state() that fails, {one_line(error)}: mend it, or take it out",
        )
        return False
