"""A TorchRL environment of groups of agents, as a PettingZoo parallel environment."""

from collections.abc import Mapping
from traceback import extract_tb
from typing import Any, NamedTuple

import numpy as np
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.data import Composite
from torchrl.envs import EnvBase

from lit_maprops.envs.pettingzoo.masks import idle_action
from lit_maprops.envs.torchrl.specs import GroupActions, seen, seen_space
from lit_maprops.system.errors import check

# In a group's observations, none of what agents see: of their legal actions, of who is there, and for logs.
_APART = ("action_mask", "mask", "info", "episode_reward")
_SEEN, _MASK, _STATE = "observation", "action_mask", "state"
_SUCCESS = ("success", "is_success")
_FLAGS = ("terminated", "truncated", "done")


class Group(NamedTuple):
    """Agents whose tensors lie under one key."""

    key: tuple[str, ...]
    action_key: tuple[str, ...]
    names: list[str]
    actions: GroupActions
    seen: list[str]  # keys under the group's
    masked: bool  # its specs have an action_mask


class GroupedAgents:
    """One TorchRL environment, played as PettingZoo's parallel interface says.

    Every entry of a group's ``observation`` is seen; without one, whatever the group observes except masks and infos.
    Legal actions are the group's ``action_mask``, or those of the action spec's own mask. An agent's end is its
    group's ``terminated`` or ``truncated``, where it has such keys, or that of the whole environment; ``done`` alone is
    an end by the rules. A reward of the whole environment is every agent's. ``success`` beside the agents, or in a
    group's ``info``, is a verdict. What the specs have of these must be in every answer, an ``action_mask`` above all.

    Args:
        env: of one row: its batch is empty or all ones.
        named: the argument that gave it, for messages.

    Raises:
        ConfigError: it has no groups of agents, several rows, or specs that are not served.
    """

    def __init__(self, env: EnvBase, named: str) -> None:
        self._env, self._n_batch = env, len(env.batch_size)
        check(
            env.batch_size.numel() == 1,
            f"{named} is a batch of {list(env.batch_size)} environments: have it make one (num_envs 1, say), since "
            "rows are environments of their own here",
        )
        self._groups = [self._group(key, named) for key in env.action_keys]
        keys, order = [group.key for group in self._groups], list(_group_map(env))
        check(
            len(set(keys)) == len(keys),
            f"{named} has several actions for one group of agents: choose one with a single action for each, such as a "
            "MultiCategorical one",
        )
        self._groups.sort(key=lambda group: order.index(group.key[-1]) if group.key[-1] in order else 0)
        self.possible_agents = [name for group in self._groups for name in group.names]
        check(
            len(set(self.possible_agents)) == len(self.possible_agents),
            f"{named} has two agents of one name: give every agent of its group_map a name of its own",
        )
        self.agents: list[str] = []
        self._where = {name: (group, k) for group in self._groups for k, name in enumerate(group.names)}
        spec, n_batch = env.full_observation_spec, self._n_batch
        self._sees = {}
        for name, (group, k) in self._where.items():
            parts = {key: seen_space(spec[(*group.key, key)], n_batch, k, named) for key in group.seen}
            self._sees[name] = _one_or_all(parts)
        self.has_state = _STATE in spec
        self._newest: TensorDictBase | None = None

    def _group(self, action_key: Any, named: str) -> Group:
        key = action_key[:-1] if isinstance(action_key, tuple) else ()
        check(
            bool(key),
            f"{named} has no groups of agents, its action is {action_key!r}: choose a multi-agent one, whose actions "
            "lie under the name of a group",
        )
        spec = self._env.full_action_spec[action_key]
        check(
            not type(spec).__name__.startswith("Stacked") and len(spec.shape) > self._n_batch,
            f"{named} has agents of different specs in the group {key[-1]}: give each a group of its own "
            "(MarlGroupMapType.ONE_GROUP_PER_AGENT)",
        )
        actions = GroupActions(spec, self._n_batch, named)
        names = list(_group_map(self._env).get(key[-1], [])) or [f"{key[-1]}_{k}" for k in range(actions.n_agents)]
        observed = self._env.full_observation_spec.get(key, None)
        check(isinstance(observed, Composite), f"{named} has no observations of the group {key[-1]}: choose another")
        keys = [_SEEN] if _SEEN in observed else [one for one in observed if one not in _APART]
        check(bool(keys), f"{named} has no observations of the group {key[-1]}: choose another")
        check(
            len(names) == actions.n_agents,
            f"{named} names {len(names)} agents of the group {key[-1]} in its group_map and has actions of "
            f"{actions.n_agents}: mend it",
        )
        return Group(key, action_key, names, actions, keys, _MASK in observed)

    def observation_space(self, agent: str) -> Any:
        """Gymnasium's space of what an agent sees."""
        return self._sees[agent]

    def action_space(self, agent: str) -> Any:
        """Gymnasium's space of what an agent does."""
        group, number = self._where[agent]
        return group.actions.spaces[number]

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start the episode of a seed."""
        self._env.set_seed(seed)
        self._newest = self._env.reset()
        self.agents = self.possible_agents[:]
        return self._looked(self._newest), self._infos(self._newest)

    def step(self, actions: dict[str, Any]) -> tuple[dict[str, Any], ...]:
        """Step under the actions of ``agents``; others take the first legal one of theirs.

        Raises:
            ValueError: an agent that was done is not done any more; something that its specs have is not there, or not
                of all agents.
        """
        assert self._newest is not None
        given = self._newest
        infos = {} if len(actions) == len(self.possible_agents) else self._infos(given)
        for group in self._groups:
            each = [
                actions[name] if name in actions else idle_action(space, infos[name].get(_MASK))
                for name, space in zip(group.names, group.actions.spaces, strict=True)
            ]
            given.set(group.action_key, group.actions.tensor(each))
        stepped = self._stepped(given)
        after = stepped.get("next")
        rewards, ends = self._rewards(after), {flag: self._flags(after, flag) for flag in _FLAGS}
        for name in self.possible_agents:
            if name not in self.agents and not any(flags[name] for flags in ends.values()):
                raise ValueError(f"agent {name} acts after its end: it is not done any more")
        acting, self.agents = self.agents, [name for name in self.agents if not ends["done"][name]]
        truncated = {name: ends["truncated"][name] for name in acting}
        terminated = {name: ends["terminated"][name] or (ends["done"][name] and not truncated[name]) for name in acting}
        self._newest = self._env.step_mdp(stepped)
        rewards = {name: rewards[name] for name in acting}
        return self._looked(after), rewards, terminated, truncated, self._infos(after)

    def _stepped(self, given: TensorDictBase) -> TensorDictBase:
        """TorchRL's step, whose own words on a reward of another kind do not say what it is about."""
        try:
            return self._env.step(given)
        except (AttributeError, RuntimeError) as error:
            if "_step_proc_data" not in [frame.name for frame in extract_tb(error.__traceback__)]:
                raise
            keys = " and ".join(_written(key) for key in self._env.reward_keys)
            raise ValueError(
                f"what _step returns has no {keys} of the shape that its reward_spec has: mend either"
            ) from error

    def state(self) -> np.ndarray:
        """The environment's ``state``.

        Raises:
            NotImplementedError: it has none.
        """
        if not self.has_state or self._newest is None:
            raise NotImplementedError("no state")
        values = self._newest.get(_STATE)
        if isinstance(values, Tensor):
            return values.detach().reshape(values.shape[self._n_batch :]).cpu().numpy()
        parts = [value.detach().cpu().reshape(-1).numpy() for value in values.values(True, True)]
        return np.concatenate(parts)

    def _looked(self, data: TensorDictBase) -> dict[str, Any]:
        found = {}
        if self.has_state:
            _given(data, _STATE)
        for name, (group, number) in self._where.items():
            parts = {key: seen(_given(data, (*group.key, key)), self._n_batch, number) for key in group.seen}
            found[name] = _one_or_all(parts)
        return found

    def _rewards(self, after: TensorDictBase) -> dict[str, float]:
        found: dict[str, float] = {}
        for group in self._groups:
            key = (*group.key, "reward")
            value = after.get(key, None)
            value = _given(after, "reward") if value is None else value
            each = value.reshape(-1).expand(len(group.names)) if value.numel() == 1 else value.reshape(-1)
            if len(each) != len(group.names):
                raise ValueError(_misshaped(key, value, group, "one number"))
            found |= dict(zip(group.names, each.tolist(), strict=True))
        return found

    def _flags(self, after: TensorDictBase, flag: str) -> dict[str, bool]:
        """Of every agent: its group's or the whole environment's."""
        whole = after.get(flag, None)
        common = whole is not None and bool(whole.any())
        found: dict[str, bool] = {}
        for group in self._groups:
            own = after.get((*group.key, flag), None)
            each = [False] * len(group.names)
            if own is not None:
                each = _rows(own, group, (*group.key, flag), "one flag").any(-1).tolist()
            found |= {name: common or one for name, one in zip(group.names, each, strict=True)}
        return found

    def _infos(self, data: TensorDictBase) -> dict[str, Any]:
        infos: dict[str, Any] = {name: {} for name in self.possible_agents}
        for group in self._groups:
            key = (*group.key, _MASK)
            mask = _given(data, key) if group.masked else data.get(key, None)
            if mask is None:
                mask = group.actions.allowed()
            else:
                mask = _rows(mask, group, key, "a flag of every action")
            verdicts = {one: data.get((*group.key, "info", one), None) for one in _SUCCESS}
            for number, name in enumerate(group.names):
                infos[name] |= {} if mask is None else {_MASK: mask[number].cpu().numpy()}
                infos[name] |= {one: _rows(value, group, (*group.key, "info", one), "one flag")[number].cpu().numpy()
                                for one, value in verdicts.items() if value is not None}  # fmt: skip
        common = {one: data.get(one, None) for one in _SUCCESS}
        return infos | {one: value.cpu().numpy() for one, value in common.items() if value is not None}


def _group_map(env: EnvBase) -> Mapping[str, Any]:
    """Names of agents by group, as far as an environment says so."""
    given = getattr(env, "group_map", None)
    return given if isinstance(given, Mapping) else {}


def _given(data: TensorDictBase, key: Any) -> Any:
    """What is under a key of the specs.

    Raises:
        ValueError: nothing is.
    """
    value = data.get(key, None)
    if value is None:
        raise ValueError(f"there is no {_written(key)}, which its specs have: put it into what _reset and _step return")
    return value


def _rows(value: Tensor, group: Group, key: tuple[str, ...], what: str) -> Tensor:
    """``[*B, agents, ...]`` as ``[agents, K]``.

    Raises:
        ValueError: there is no such dimension.
    """
    if value.numel() % len(group.names):
        raise ValueError(_misshaped(key, value, group, what))
    return value.reshape(len(group.names), -1)


def _misshaped(key: tuple[str, ...], value: Tensor, group: Group, what: str) -> str:
    return f"{_written(key)} has the shape {tuple(value.shape)}, expected {what} for each of {len(group.names)} agents"


def _written(key: Any) -> str:
    return key if isinstance(key, str) else ".".join(key)


def _one_or_all(parts: dict[str, Any]) -> Any:
    """An ``observation`` alone is what is seen; several entries are a Dict."""
    from gymnasium.spaces import Dict, Space

    if set(parts) == {_SEEN}:
        return parts[_SEEN]
    return Dict(parts) if any(isinstance(part, Space) for part in parts.values()) else parts
