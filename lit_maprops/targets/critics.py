"""Critics: the one place where IPPO and MAPPO differ.

IPPO (de Witt et al. 2020): V_i(o_i), a critic per agent on its own observation. MAPPO (Yu et al. 2022): one central
network on the global state. Rewards may differ by agent (penalties), so the central network has, decided here, one
value head per agent. Or, the same paper's agent-specific global state: V_i(s, o_i), with the agent's own observation
beside the state.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Self

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import Tensor
from typing_extensions import override

from lit_maprops import keys
from lit_maprops.envs import Task
from lit_maprops.envs.pictures import picture_of
from lit_maprops.stacked.agents import agent_network, per_agent
from lit_maprops.stacked.layers import Architecture
from lit_maprops.stacked.nets import StackedNet


class Critic(TensorDictModuleBase, ABC):
    """Values of every agent.

    Attributes:
        net: whose outputs they are.
        outputs: values that one network puts out.
        sees_observations: so also the picture in them, if there is one.
        remembered: see ``RecurrentPolicies``; nothing.
    """

    net: StackedNet
    outputs: int
    sees_observations: bool
    in_keys: list[Any]
    out_keys = [keys.VALUE]  # noqa: RUF012
    remembered: Mapping[Any, tuple[int, int]] = MappingProxyType({})

    @abstractmethod
    def values(self, data: TensorDictBase) -> Tensor:
        """``[R, *B, A, 1]`` from ``in_keys`` (units of return)."""

    def repeated(self, times: int) -> Self:
        """A copy for ``R * times`` entries, every seed's critic ``times`` times in a row."""
        twin = copy.deepcopy(self)
        twin.net = self.net.repeated(times)
        return twin

    def advance(self, data: TensorDictBase) -> None:
        """Leave under ``"next"`` what is remembered after a vector step ``[R, E]``: nothing."""

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write ``VALUE``."""
        return tensordict.set(keys.VALUE, self.values(tensordict))


class IndependentCritic(Critic):
    """V_i(o_i) of every agent; arguments as ``TargetPolicies``."""

    outputs = 1
    sees_observations = True
    in_keys: list[Any] = [keys.OBSERVATION]  # noqa: RUF012

    def __init__(
        self,
        task: Task,
        hidden: Sequence[int] | Architecture,
        share_parameters: bool,
        generators: Sequence[torch.Generator],
    ) -> None:
        super().__init__()
        made = hidden if isinstance(hidden, Architecture) else Architecture(hidden)
        sizes = task.n_agents, task.observation_dim
        self.net = agent_network(*sizes, made, 1, share_parameters, 1.0, generators, picture_of(task))

    @override
    def values(self, data: TensorDictBase) -> Tensor:
        """``[R, *B, A, 1]`` from ``OBSERVATION`` (units of return)."""
        return per_agent(self.net, data.get(keys.OBSERVATION))


class CentralCritic(Critic):
    """V(s) with one head per agent; ``share_parameters`` does not apply to it."""

    sees_observations = False
    in_keys: list[Any] = [keys.STATE]  # noqa: RUF012

    def __init__(
        self,
        task: Task,
        hidden: Sequence[int] | Architecture,
        share_parameters: bool,
        generators: Sequence[torch.Generator],
    ) -> None:
        super().__init__()
        made = hidden if isinstance(hidden, Architecture) else Architecture(hidden)
        self.outputs = task.n_agents
        self.net = made.stacked(task.state_dim, self.outputs, (len(generators),), 1.0, generators)

    @override
    def values(self, data: TensorDictBase) -> Tensor:
        """``[R, *B, A, 1]`` from ``STATE`` (units of return)."""
        state = data.get(keys.STATE)
        n_seeds = state.shape[0]
        value = self.net(state.reshape(n_seeds, -1, state.shape[-1]))
        return value.reshape(*state.shape[:-1], -1, 1)


class AgentSpecificCritic(Critic):
    """V_i(s, o_i) of every agent (Yu et al. 2022, agent-specific global state); arguments as ``TargetPolicies``.

    A network per agent, or one for all of a seed that also sees the agent's one-hot index.
    """

    outputs = 1
    sees_observations = True
    in_keys: list[Any] = [keys.STATE, keys.OBSERVATION]  # noqa: RUF012

    def __init__(
        self,
        task: Task,
        hidden: Sequence[int] | Architecture,
        share_parameters: bool,
        generators: Sequence[torch.Generator],
    ) -> None:
        super().__init__()
        made = hidden if isinstance(hidden, Architecture) else Architecture(hidden)
        picture = picture_of(task)
        moved = None if picture is None else picture._replace(first=picture.first + task.state_dim)
        sizes = task.n_agents, task.state_dim + task.observation_dim
        self.net = agent_network(*sizes, made, 1, share_parameters, 1.0, generators, moved)

    def inputs(self, data: TensorDictBase) -> Tensor:
        """``[R, *B, A, S + O]``: the global state beside each agent's observation."""
        observation = data.get(keys.OBSERVATION)
        state = data.get(keys.STATE).unsqueeze(-2).expand(*observation.shape[:-1], -1)
        return torch.cat([state, observation], -1)

    @override
    def values(self, data: TensorDictBase) -> Tensor:
        """``[R, *B, A, 1]`` from ``STATE`` and ``OBSERVATION`` (units of return)."""
        return per_agent(self.net, self.inputs(data))
