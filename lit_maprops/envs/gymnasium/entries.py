"""A Gymnasium environment of several agents, whose spaces have an entry for each, as a PettingZoo parallel environment.

Tuples of spaces and lists of rewards are how Level-Based Foraging, RWARE and other packages of EPyMARL's
(Papoudakis et al. 2021, arXiv 2006.07869) have it; Dicts by names of agents how others do.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from lit_maprops.envs.pettingzoo.masks import idle_action
from lit_maprops.system.errors import check

_MASK, _SUCCESS = "action_mask", ("success", "is_success")
_MASKS_OF = "get_avail_actions"  # EPyMARL's, a list of flags for each agent
_STATES_OF = ("state", "get_state")
_ALL = "__all__"  # RLlib's, of all agents


class EntryEnv:
    """One Gymnasium environment, played as PettingZoo's parallel interface says.

    A reward, an end or a verdict of success that is a single one is every agent's. An agent whose own end has come acts
    no more: the environment is given the first of its legal actions, or zeros. Legal actions are the ``action_mask``
    of the infos, an entry for each agent, or what ``get_avail_actions`` says; the global state is that of ``state``
    or ``get_state``.

    Args:
        make: makes the environment.
        named: the argument that gave it, for messages.
        anew: have every episode but the first played by another one, instead of resetting this.

    Raises:
        ConfigError: its spaces are no Tuples or Dicts of one entry for each agent.
    """

    def __init__(self, make: Callable[[], Any], named: str, anew: bool) -> None:
        self._make, self._anew, self._used = make, anew, False
        self._env = env = make()
        acts, sees = (_entries(getattr(env, f"{kind}_space", None)) for kind in ("action", "observation"))
        check(
            bool(acts) and acts.keys() == sees.keys(),
            f"{named} acts in {env.action_space} and sees {env.observation_space}: choose one that has Tuples of both "
            "with an entry for each agent, or Dicts with the same names",
        )
        self._by_name = not isinstance(env.action_space.spaces, tuple)
        self._acts, self._sees = acts, sees
        self.possible_agents = list(acts)
        self.agents: list[str] = []
        self._newest: dict[str, Any] = {}

    @property
    def max_episode_steps(self) -> int | None:
        """The time limit of the registry, or of lbforaging's kind."""
        limits = self._env.spec and self._env.spec.max_episode_steps, self._own("_max_episode_steps")
        return next((limit for limit in limits if limit), None)

    @property
    def env(self) -> Any:
        """The environment itself."""
        return self._env

    def observation_space(self, agent: str) -> Any:
        """Gymnasium's space of what an agent sees."""
        return self._sees[agent]

    def action_space(self, agent: str) -> Any:
        """Gymnasium's space of what an agent does."""
        return self._acts[agent]

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start the episode of a seed."""
        if self._anew and self._used:
            self._env.close()
            self._env = self._make()
        self._used = True
        first = self._env.reset(seed=seed)
        if not isinstance(first, tuple) or len(first) != 2:
            raise ValueError("its reset gives no observations and infos, as Gymnasium's has since 0.26")
        self.agents = self.possible_agents[:]
        self._newest = self._infos(first[1])
        return self._each("observations", first[0]), self._newest

    def step(self, actions: dict[str, Any]) -> tuple[dict[str, Any], ...]:
        """Step under the actions of ``agents``.

        Raises:
            ValueError: something is not given for each agent, or an agent acts after its end.
        """
        masks = {name: info.get(_MASK) for name, info in self._newest.items() if name in self._acts}
        each = {
            name: actions[name] if name in actions else idle_action(space, masks[name])
            for name, space in self._acts.items()
        }
        stepped = self._env.step(each if self._by_name else tuple(each.values()))
        if not isinstance(stepped, tuple) or len(stepped) != 5:
            raise ValueError("its step does not give five things, as Gymnasium's does since 0.26")
        seen, *others, infos = stepped
        names = ("rewards", "terminations", "truncations")
        rewards, terminated, truncated = (
            self._each(what, given, common=True) for what, given in zip(names, others, strict=True)
        )
        for name in self.possible_agents:
            if name not in self.agents and not (terminated.get(name) or truncated.get(name)):
                raise ValueError(f"agent {name} acts after its end: it is neither terminated nor truncated any more")
        acting = self.agents
        self.agents = [name for name in acting if not (terminated.get(name) or truncated.get(name))]
        answers = (
            {name: given[name] for name in acting if name in given} for given in (rewards, terminated, truncated)
        )
        self._newest = self._infos(infos)
        return self._each("observations", seen), *answers, self._newest

    def state(self) -> Any:
        """The environment's own.

        Raises:
            NotImplementedError: it has none.
        """
        for name in _STATES_OF:
            if callable(self._own(name)):
                return self._own(name)()
        raise NotImplementedError("no state")

    def close(self) -> None:
        """Of the environment."""
        self._env.close()

    def _own(self, name: str) -> Any:
        """Of the environment behind its wrappers; None: it has nothing of that name."""
        return getattr(self._env.unwrapped, name, None)

    def _each(self, what: str, given: Any, common: bool = False) -> dict[str, Any]:
        """What each agent gets.

        Args:
            what: it is, for messages.
            given: a sequence with an entry for each, or a mapping from names or numbers of agents.
            common: a single one is everybody's, and so is what a mapping has under ``__all__`` if it is true.

        Raises:
            ValueError: it has entries of others, or not of all.
        """
        names = self.possible_agents
        if isinstance(given, Mapping):
            every = given.get(_ALL, False) if common else False
            found = {self._named(what, key): value for key, value in given.items() if key != _ALL}
            return dict.fromkeys(names, every) if every else found
        if common and _single(given):
            return dict.fromkeys(names, given)
        count = len(given) if hasattr(given, "__len__") else None
        if count != len(names):
            has = f"are of the kind {type(given).__name__}" if count is None else f"have {count} entries"
            raise ValueError(f"its {what} {has}, expected one for each of {len(names)} agents: mend it")
        return dict(zip(names, given, strict=True))

    def _named(self, what: str, key: Any) -> str:
        """The agent that a mapping names, or that has this number."""
        names = self.possible_agents
        if str(key) in names:
            return str(key)
        if not isinstance(key, int | np.integer) or not 0 <= key < len(names):
            raise ValueError(f"its {what} have an entry of {key!r}, which is no agent: name {' and '.join(names)}")
        return names[int(key)]

    def _infos(self, infos: Any) -> dict[str, Any]:
        """By agent, as far as they are of agents; a verdict of all stands beside them."""
        if isinstance(infos, list | tuple):
            infos = self._each("infos", infos)
        elif infos is not None and not isinstance(infos, Mapping):
            raise ValueError(f"its infos are of the kind {type(infos).__name__}, expected a dict: mend it")
        infos = infos or {}
        found: dict[str, Any] = {name: {} for name in self.possible_agents}
        for number, name in enumerate(self.possible_agents):
            own = infos.get(name, infos.get(number))
            found[name] |= self._info_of(name, own) if isinstance(own, Mapping) else {}
        for key in (_MASK, *_SUCCESS):
            given = infos.get(key)
            given = self._legal() if given is None and key == _MASK else given
            if key in _SUCCESS and _single(given):
                found[key] = given
            elif given is not None:
                for name, own in self._each(key, given).items():
                    found[name] |= self._info_of(name, {key: own})
        return found

    def _info_of(self, name: str, info: Mapping[Any, Any]) -> dict[Any, Any]:
        """With a mask that is as long as the agent's actions: rows of a rectangle are filled up with zeros."""
        mask, count = info.get(_MASK), getattr(self._acts[name], "n", None)
        if mask is None or np.ndim(mask) != 1 or not isinstance(count, int | np.integer) or np.any(mask[count:]):
            return dict(info)
        return dict(info) | {_MASK: mask[:count]}

    def _legal(self) -> Any:
        """What ``get_avail_actions`` says; None: there is no such method."""
        method = self._own(_MASKS_OF)
        if not callable(method):
            return None
        try:
            return method()
        except TypeError as error:
            raise ValueError(f"its {_MASKS_OF}() fails, {error}: it is asked for all agents at once") from error


def _entries(space: Any) -> dict[str, Any]:
    """Of a Tuple, by number, or a Dict, by name; none of other spaces."""
    inner = getattr(space, "spaces", None)
    if isinstance(inner, Mapping):
        return {str(name): one for name, one in inner.items()}
    return {f"agent_{number}": one for number, one in enumerate(inner or ())}


def _single(given: Any) -> bool:
    """Whether it is one number or flag, or an array of one."""
    return isinstance(given, bool | int | float | np.generic) or (isinstance(given, np.ndarray) and given.size == 1)
