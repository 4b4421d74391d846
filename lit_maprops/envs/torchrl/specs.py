"""TorchRL's specs of groups of agents as Gymnasium's spaces of each agent, whose actions become TorchRL's tensors."""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchrl.data import Binary, Bounded, Categorical, Composite, MultiCategorical, MultiOneHot, OneHot, Unbounded

from lit_maprops.system.errors import ConfigError, check


class GroupActions:
    """The actions of a group's agents.

    Args:
        spec: ``[*B, agents, ...]``; B is one environment.
        n_batch: dimensions of B.
        named: the argument that gave the environment, for messages.

    Attributes:
        n_agents: in the group.
        spaces: Gymnasium's space of every agent.

    Raises:
        ConfigError: there is no such space.
    """

    def __init__(self, spec: Any, n_batch: int, named: str) -> None:
        self._spec, self.n_agents = spec, spec.shape[n_batch]
        self._shape = tuple(spec.shape[n_batch + 1 :])  # of one agent's action
        self.spaces = [self._space(agent, named) for agent in range(self.n_agents)]

    def _space(self, agent: int, named: str) -> Any:
        from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete

        spec = self._spec
        if isinstance(spec, Binary):
            return MultiBinary(self._shape or 1)
        if isinstance(spec, MultiOneHot):
            return MultiDiscrete([box.n for box in spec.space.boxes])
        if isinstance(spec, OneHot):
            return Discrete(spec.space.n)
        if isinstance(spec, MultiCategorical):
            return MultiDiscrete(self._of(agent, torch.as_tensor(spec.nvec)).numpy())
        if isinstance(spec, Categorical):
            n, count = int(spec.space.n), prod(self._shape)
            return Discrete(n) if count == 1 else MultiDiscrete(np.full(self._shape, n))
        if isinstance(spec, Bounded | Unbounded):
            low, high = (self._of(agent, bound).numpy() for bound in (spec.space.low, spec.space.high))
            whole = not spec.dtype.is_floating_point
            unbounded = isinstance(spec, Unbounded)
            low, high = (
                (np.full_like(low, -np.inf), np.full_like(high, np.inf)) if unbounded and not whole else (low, high)
            )
            return Box(low, high, dtype=low.dtype.type)
        raise ConfigError(f"{named} has actions of spec {type(spec).__name__}: choose one with Bounded, Categorical, "
                          "OneHot, MultiCategorical, MultiOneHot or Binary actions")  # fmt: skip

    def _of(self, agent: int, bound: Tensor) -> Tensor:
        whole = bound.detach().cpu().expand(self._spec.shape)
        return whole.reshape(self.n_agents, *self._shape)[agent]

    def tensor(self, actions: Sequence[Any]) -> Tensor:
        """Actions of all agents, each in its space, as the spec has them."""
        chosen = torch.as_tensor(np.stack([np.asarray(action) for action in actions]))
        spec = self._spec
        if isinstance(spec, MultiOneHot):
            each = zip(chosen.unbind(-1), spec.space.boxes, strict=True)
            chosen = torch.cat([torch.nn.functional.one_hot(one.long(), box.n) for one, box in each], -1)
        elif isinstance(spec, OneHot):
            chosen = torch.nn.functional.one_hot(chosen.long(), spec.space.n)
        return chosen.reshape(spec.shape).to(spec.device, spec.dtype)

    def allowed(self) -> Tensor | None:
        """Which actions the spec itself allows now, ``[agents, N]`` bool; None: it says nothing."""
        mask = getattr(self._spec, "mask", None)
        return None if mask is None else mask.reshape(self.n_agents, -1)


def seen_space(spec: Any, n_batch: int, agent: int, named: str) -> Any:
    """Gymnasium's space of what an agent of a group observes.

    Args:
        spec: ``[*B, agents, ...]``, or a Composite of such ones.
        n_batch: dimensions of B, one environment.
        agent: its place in the group.
        named: the argument that gave the environment, for messages.

    Raises:
        ConfigError: there is no such space.
    """
    from gymnasium.spaces import Box, Dict, MultiBinary, MultiDiscrete

    if isinstance(spec, Composite):
        return Dict({key: seen_space(part, n_batch, agent, named) for key, part in spec.items()})
    known = isinstance(spec, Bounded | Unbounded | Categorical | OneHot)  # Binary and the rest are kinds of these
    check(known, f"{named} has observations of spec {type(spec).__name__}, which are no numbers: choose another")
    shape = tuple(spec.shape[n_batch + 1 :])
    check(all(size >= 0 for size in shape), f"{named} has observations of no fixed shape, {shape}: choose another")
    if spec.dtype == torch.bool and not isinstance(spec, OneHot):
        return MultiBinary(shape or 1)
    if isinstance(spec, Categorical) and not isinstance(spec, Binary):
        counts = torch.as_tensor(spec.nvec if isinstance(spec, MultiCategorical) else int(spec.space.n))
        own = counts.expand(spec.shape).reshape(-1, *shape)[agent]
        return MultiDiscrete(own.reshape(shape or (1,)).numpy())
    pixels = spec.dtype == torch.uint8
    if pixels and isinstance(spec, Bounded):
        bounds = (
            bound.expand(spec.shape).reshape(-1, *shape)[agent].cpu() for bound in (spec.space.low, spec.space.high)
        )
        return Box(*(bound.numpy() for bound in bounds), dtype=np.uint8)
    return Box(0, 255, shape, np.uint8) if pixels else Box(-np.inf, np.inf, shape)


def seen(values: Any, n_batch: int, agent: int) -> Any:
    """What an agent of a group observes, out of what all of the group do."""
    if isinstance(values, Tensor):
        return values.detach().reshape(values.shape[n_batch:])[agent].cpu().numpy()
    return {key: seen(part, n_batch, agent) for key, part in values.items()}
