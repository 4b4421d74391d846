"""What the agents of a PettingZoo environment see and do, as arrays."""

from collections.abc import Mapping
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from lit_maprops.envs.base import Interface
from lit_maprops.envs.ends import RUNS, TERMINATED, TRUNCATED
from lit_maprops.envs.pettingzoo.actions import ActionSpaces
from lit_maprops.envs.pettingzoo.masks import MASK, Masks, idle_action, seen_space
from lit_maprops.envs.pettingzoo.packages import one_line
from lit_maprops.envs.pettingzoo.presence import Presence
from lit_maprops.envs.pettingzoo.spaces import WHITE, ObservationSpaces, Pictures
from lit_maprops.envs.pettingzoo.verdicts import Verdicts
from lit_maprops.system.entry_points import tried
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
        observation_dim: numbers an agent sees, the most any does, O.
        picture: channels, rows and columns of the picture that agents see; None: they see none.
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
        pictures: see ``PettingZoo``.

    Raises:
        ConfigError: the environment has no fixed set of agents, or spaces that are not served.
    """

    def __init__(self, env: Any, named: str, pictures: Pictures = "auto", tells_presence: bool | None = None) -> None:
        self.names: list[Any] = list(getattr(env, "possible_agents", []))
        check(bool(self.names), f"{named} has no fixed set of agents (possible_agents): choose another")
        spaces = self._asked_for("action_space", env, named)
        self._does = ActionSpaces(spaces, named)
        self.continuous, self.action_sizes = self._does.continuous, self._does.sizes
        whole_spaces = self._asked_for("observation_space", env, named)
        self._sees = ObservationSpaces(self.names, [seen_space(space) for space in whole_spaces], named, pictures)
        self.observation_dim, self.picture = self._sees.width, self._sees.picture
        self._pixels = pictures != "none"
        self._spaces, self.state_size = [*whole_spaces, *spaces], 0
        self._known: WeakKeyDictionary[Any, list[Any]] = WeakKeyDictionary()  # spaces that were found unchanged
        self._newest: WeakKeyDictionary[Any, tuple[Any, Any]] = WeakKeyDictionary()  # observations and infos
        self.presence = Presence(self.names)
        observation, end = self._first_sight(env, named, whole_spaces)
        self._tells_presence = bool((end != RUNS).any()) if tells_presence is None else tells_presence
        self.verdicts = Verdicts()
        self.has_state = _gives_state(env, named)
        self.state_size = len(self._state(env, observation, end == RUNS))

    def _asked_for(self, kind: str, env: Any, named: str) -> list[Any]:
        """A space of every agent."""
        spaces, reason = tried(lambda: [getattr(env, kind)(name) for name in self.names])
        check(not reason, f"{named} raises when asked for an {kind} ({reason}): mend it")
        return spaces

    def _first_sight(self, env: Any, named: str, spaces: list[Any]) -> tuple[np.ndarray, np.ndarray]:
        """Observations ``[A, O]`` and ends ``[A]`` at a start, or a refusal. Sets ``masks``."""
        try:
            first = env.reset(seed=0)
        except (Exception, SystemExit) as error:
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
        self.masks = Masks(self.names, self.action_sizes, spaces, infos, self._does.components)
        self.masks.check(named, self.continuous)
        try:
            legal = self.masks.legal(seen, infos)
            observation = self._stacked(self._of_those(end == RUNS, end == RUNS, seen))
        except (Exception, SystemExit) as error:
            raise ConfigError(
                f"{named} starts with observations or masks that are not of their spaces: {one_line(error)}"
            ) from error
        without = (legal.any(1) < np.equal(end, RUNS)).tolist()
        stuck = [name for name, lacks in zip(self.names, without, strict=True) if lacks]
        check(not stuck, f"{named} starts without a legal action of agent {(*stuck, '')[0]}: mend its {MASK}")
        return observation, end

    def interface(self, number: int) -> Interface:
        """What an agent sees and does, in the package's own numbers."""
        return Interface(
            str(self.names[number]),
            self._sees.interface(number),
            self._does.names(number),
            *self._does.bounds(number),
        )

    def reset(self, env: Any, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Start the episode of ``seed``: observations ``[A, O]``, global state ``[S]`` and ``Outcome.legal``."""
        seen, infos = env.reset(seed=seed)
        self._check_spaces(env)
        end = self.presence.begin(env)
        self.verdicts.begin(env)
        observation = self._stacked(self._of_those(end == RUNS, end == RUNS, seen))
        self._newest[env] = seen, infos
        return observation, self._state(env, observation, end == RUNS), self.masks.legal(seen, infos)

    def step(self, env: Any, action: np.ndarray) -> Outcome:
        """Step under ``action`` ``[A]`` integers or ``[A, D]`` in [-1, 1]; agents that left do what they may.

        An agent whose end came before the others', or that has not come yet, sees zeros and gets no reward, whatever
        the package says of it; one that the package drops without a word is terminated. The episode is over when the
        last have left: truncated if one of these was truncated and not terminated in the same step, otherwise
        terminated.

        Raises:
            ValueError: an answer is not of its kind, or an agent acts after its end.
        """
        before = self.presence.ends(env)
        acting = {name: self._done_by(env, number, action, before[number]) for number, name in enumerate(self.names)
                  if name in env.agents}  # fmt: skip
        seen, reward, terminated, truncated, infos = env.step(acting)
        self._newest[env] = seen, infos
        end, rewards = before.copy(), np.zeros(len(self.names), dtype=np.float32)
        living = {name: number for number, name in enumerate(self.names) if before[number] == RUNS}
        gone = [name for name, flag in zip(self.names, before, strict=True) if flag in (TERMINATED, TRUNCATED)]
        for name in gone:
            if name in acting and not _told(terminated, truncated, name):
                raise ValueError(f"agent {name} acts after its end: it is neither terminated nor truncated any more")
        for name, number in living.items():
            rewards[number] = _number("reward", name, self._own("rewards", reward, name, 0.0))
            if _number("termination", name, self._own("terminations", terminated, name, False)):
                end[number] = TERMINATED
            elif _number("truncation", name, self._own("truncations", truncated, name, False)):
                end[number] = TRUNCATED
            elif name not in env.agents:
                end[number] = TERMINATED
        end = self.presence.follow(env, end, seen)
        over = bool((end != RUNS).all())
        cut = over and bool(((end == TRUNCATED) & (before == RUNS)).any())
        shown = self._of_those((before == RUNS) | (end == RUNS), end == RUNS, seen)
        observation, legal = self._stacked(shown), self.masks.legal(shown, infos)
        success = self.verdicts.success(env, infos)
        # Who is truncated is there in the state that its value is asked of.
        state = self._state(env, observation, (end == RUNS) | ((end == TRUNCATED) & (before == RUNS)))
        return Outcome(observation, state, rewards, over and not cut, cut, end, legal, success)

    def _done_by(self, env: Any, number: int, action: np.ndarray, end: int) -> Any:
        if end != RUNS and self.masks.given:
            return idle_action(self._does.spaces[number], self.masks.of(number, *self._newest[env]))
        return self._does.given(number, action[number])

    def _of_those(self, there: np.ndarray, runs: np.ndarray, seen: dict[Any, Any]) -> dict[Any, Any]:
        """What those agents see, of ``there`` ``[A]`` bool; agents of ``runs`` act on it.

        Raises:
            ValueError: one of these sees nothing.
        """
        for name, flag in zip(self.names, runs, strict=True):
            if flag and name not in seen:
                raise ValueError(f"agent {name} is in agents and no observation is given for it")
        return {name: seen[name] for name, flag in zip(self.names, there, strict=True) if flag and name in seen}

    def _own(self, what: str, given: dict[Any, Any], name: Any, otherwise: Any) -> Any:
        """An agent's entry, which it need not have.

        Raises:
            ValueError: it has none, and somebody has who is no agent: a name is misspelt; or nothing is given by name.
        """
        if not isinstance(given, Mapping):
            raise ValueError(f"its {what} are of the kind {type(given).__name__}, expected a dict by agents")
        if name not in given:
            others = [other for other in given if other not in self.names and not str(other).startswith("__")]
            if others:
                raise ValueError(f"its {what} have none of agent {name}, and one of {others[0]!r}, which is no agent")
        return given.get(name, otherwise)

    def _check_spaces(self, env: Any) -> None:
        """Whether an environment at a start has the spaces that it was made with.

        Raises:
            ValueError: it has others.
        """
        now = [space(name) for space in (env.observation_space, env.action_space) for name in self.names]
        known = self._known.get(env, self._spaces)
        for number, (space, before) in enumerate(zip(now, known, strict=True)):
            if space is not before and space != self._spaces[number]:
                kind = "observation" if number < len(self.names) else "action"
                name = self.names[number % len(self.names)]
                raise ValueError(f"the {kind} space of agent {name} has changed from {before} to {space}")
        self._known[env] = now

    def _stacked(self, seen: dict[Any, Any]) -> np.ndarray:
        observed = {name: self.masks.observed(number, seen[name]) for number, name in enumerate(self.names)
                    if name in seen}  # fmt: skip
        return self._sees.rows(observed)

    def _state(self, env: Any, observation: np.ndarray, there: np.ndarray) -> np.ndarray:
        flags = [there.astype(np.float32)] if self._tells_presence else []
        if self.has_state:
            try:
                state = np.concatenate([self._numbers(env.state()), *flags])
            except (Exception, SystemExit) as error:
                raise ValueError(f"its state() fails, {one_line(error)}") from error
            if len(state) != (self.state_size or len(state)):
                had = self.state_size - len(state)
                raise ValueError(f"its state() has {abs(had)} {'more' if had < 0 else 'fewer'} numbers than at first")
            return state
        return np.concatenate([self._sees.together(observation), *flags])

    def _numbers(self, state: Any) -> np.ndarray:
        """A global state as a row; a picture as those of observations."""
        numbers = np.array(state)
        scaled = self._pixels and numbers.dtype == np.uint8 and numbers.ndim > 1
        with np.errstate(over="ignore"):  # see ``ObservationSpaces``
            row = numbers.astype(np.float32).reshape(-1)
        return row / np.float32(WHITE) if scaled else row


def _told(terminated: Mapping[Any, Any], truncated: Mapping[Any, Any], name: Any) -> bool:
    """Whether the flags of an agent, if it has any, say that it is over."""
    given = [flags[name] for flags in (terminated, truncated) if name in flags]
    return not given or any(_number("end", name, flag) for flag in given)


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
    except (Exception, SystemExit) as error:  # wrappers of packages without a state fail in ways of their own
        its_own = getattr(type(getattr(env, "unwrapped", env)), "state", None)
        without = isinstance(error, NotImplementedError) or its_own is None
        check(
            without or its_own.__module__.startswith("pettingzoo."),
            f"{named} has a state() that fails, {one_line(error)}: mend it, or take it out",
        )
        return False
