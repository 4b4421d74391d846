"""PettingZoo environments as arrays: what agents see and do, and a bounded store of environments in mid-episode."""

import importlib
import io
import os
import warnings
from collections import OrderedDict
from collections.abc import Callable
from contextlib import redirect_stderr
from typing import Any, NamedTuple

import numpy as np

from lit_maprops.envs.base import Interface
from lit_maprops.system.errors import ConfigError, check
from lit_maprops.system.named_code import check_named

_EXTRA = {"gymnasium", "gymnasium_robotics", "mpe2", "mujoco", "pettingzoo"}  # what the extra `envs` installs


class Outcome(NamedTuple):
    """What one step of one environment gives."""

    observation: np.ndarray  # [A, O] float32
    state: np.ndarray  # [S] float32
    reward: np.ndarray  # [A] float32
    terminated: bool
    truncated: bool
    success: bool = False


def found(name: str) -> Callable[..., Any]:
    """The function ``parallel_env`` of the PettingZoo module with this import path.

    Raises:
        ConfigError: there is no such module, or it has no ``parallel_env``.
    """
    check_named("<env.name>", name, also=_EXTRA)
    named = f"<env.name> is {name!r}"
    try:
        module = _imported(name)
    except ModuleNotFoundError as error:
        missing = error.name or name
        if missing in _EXTRA:
            fix = "pip install 'lit_maprops[envs]'"
        elif f"{name}.".startswith(f"{missing}."):
            fix = "give the import path of a PettingZoo module, such as mpe2.simple_spread_v3"
        else:
            fix = f"install {missing}"
        raise ConfigError(f"{named} and there is no module {missing}: {fix}") from error
    except (ImportError, ValueError) as error:
        raise ConfigError(f"{named}, which cannot be imported: {one_line(error)}") from error
    makes = getattr(module, "parallel_env", None)
    turns = "in this module agents act by turns only" if hasattr(module, "env") else "it is no module of PettingZoo"
    check(callable(makes), f"{named}, which has no parallel_env: {turns}, choose another")
    return makes  # type: ignore[return-value]


def _imported(name: str) -> Any:
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")  # remarks of packages about environments that nobody asked for
        path, *rest = name.split(".")
        thing = importlib.import_module(path)
        for part in rest:
            path = f"{path}.{part}"
            thing = getattr(thing, part) if hasattr(thing, part) else importlib.import_module(path)
    return thing


def one_line(error: Exception) -> str:
    """What went wrong in another package, as one line."""
    return " ".join(str(error).split()) or type(error).__name__


class Agents:
    """What the agents of an environment see and do, as arrays that all share a shape.

    Attributes:
        names: the package's names of the agents.
        continuous: actions are boxes.
        action_sizes: components, or numbers of actions, of each agent.
        observation_sizes: numbers each agent sees.
        has_state: the environment gives a global state; otherwise it is all observations one after the other.
        state_size: numbers in the global state.

    Args:
        env: an environment that was just made.
        named: the argument that gave it, for messages.

    Raises:
        ConfigError: the environment has no fixed set of agents, or spaces that are not served.
    """

    def __init__(self, env: Any, named: str) -> None:
        from gymnasium.spaces import Box

        self.names: list[Any] = list(getattr(env, "possible_agents", []))
        check(bool(self.names), f"{named} has no fixed set of agents (possible_agents): choose another")
        spaces = [env.action_space(name) for name in self.names]
        kinds = sorted({type(space).__name__ for space in spaces})
        check(kinds in (["Box"], ["Discrete"]), f"{named} has actions of kind {' and '.join(kinds)}: choose one with "
              "Box or Discrete actions for all agents")  # fmt: skip
        self.continuous = isinstance(spaces[0], Box)
        seen = [env.observation_space(name) for name in self.names]
        others = sorted({type(space).__name__ for space in seen if not isinstance(space, Box)})
        check(not others, f"{named} has observations of kind {' and '.join(others)}: choose one with Box observations")
        self.observation_sizes = [int(np.prod(space.shape)) for space in seen]
        self._spaces = spaces
        if self.continuous:
            bounded = all(np.isfinite(space.low).all() and np.isfinite(space.high).all() for space in spaces)
            check(bounded, f"{named} has actions without bounds, which [-1, 1] cannot be scaled to: choose another")
            self.action_sizes = [int(np.prod(space.shape)) for space in spaces]
            self._middle = [(space.low.astype(np.float64) + space.high) / 2 for space in spaces]
            self._half = [(space.high.astype(np.float64) - space.low) / 2 for space in spaces]
        else:
            self.action_sizes = [int(space.n) for space in spaces]
        try:
            observation = self._stacked(env.reset(seed=0)[0])
        except Exception as error:
            raise ConfigError(f"{named} cannot be reset with a seed: {one_line(error)}") from error
        check(
            set(env.agents) == set(self.names),
            f"{named} starts without some of its agents: choose one whose agents are all there from the start",
        )
        self.has_state = _gives_state(env)
        self.state_size = len(self._state(env, observation))

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

    def reset(self, env: Any, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Start the episode of ``seed``: observations ``[A, O]`` and global state ``[S]``, float32."""
        observation = self._stacked(env.reset(seed=seed)[0])
        return observation, self._state(env, observation)

    def step(self, env: Any, action: np.ndarray) -> Outcome:
        """Step under ``action`` ``[A]`` integers or ``[A, D]`` in [-1, 1]; those of agents that left count for nothing.

        An agent that left before the others sees zeros and gets no reward. The episode is over when the last have
        left: truncated if one of these was, otherwise terminated.
        """
        acting = {name: self._given(number, action[number]) for number, name in enumerate(self.names)
                  if name in env.agents}  # fmt: skip
        seen, reward, terminated, truncated, _ = env.step(acting)
        ended = all(terminated.get(name, False) or truncated.get(name, False) for name in acting) or not env.agents
        cut = ended and any(truncated.get(name, False) for name in acting)
        observation = self._stacked(seen)
        rewards = np.array([reward.get(name, 0.0) for name in self.names], dtype=np.float32)
        return Outcome(observation, self._state(env, observation), rewards, bool(ended and not cut), bool(cut))

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
                out[number, :size] = np.asarray(seen[name]).reshape(size)
        return out

    def _state(self, env: Any, observation: np.ndarray) -> np.ndarray:
        if self.has_state:
            return np.array(env.state(), dtype=np.float32).reshape(-1)
        parts = zip(observation, self.observation_sizes, strict=True)
        return np.concatenate([seen[:size] for seen, size in parts])


def _gives_state(env: Any) -> bool:
    try:
        return bool(np.asarray(env.state(), dtype=np.float32).size)
    except Exception:  # NotImplementedError as a rule; wrappers of packages without a state fail in ways of their own
        return False


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

    def start(self, seed: int) -> tuple[Any, np.ndarray, np.ndarray]:
        """An environment at the start of the episode of ``seed``, its observations and its global state."""
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
