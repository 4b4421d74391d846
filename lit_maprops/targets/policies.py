"""pi_theta: one decentralized policy per agent, seeing its own observation only."""

import copy
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import Tensor

from lit_maprops import keys
from lit_maprops.envs import Task
from lit_maprops.envs.pictures import picture_of
from lit_maprops.stacked.agents import agent_network, per_agent
from lit_maprops.stacked.layers import Architecture
from lit_maprops.stacked.nets import StackedNet

POLICY_GAIN = 0.01  # last layer: nearly uniform actions at the start, as is usual for PPO


class OneAgent:
    """The networks of one agent of every seed, in data of its own alone, ``[R, B, 1, ...]``.

    Args:
        net: of stack ``(R,)``.
    """

    in_keys: Sequence[Any] = (keys.OBSERVATION,)
    remembered: Mapping[Any, tuple[int, int]] = MappingProxyType({})
    sequence_length: int = 1

    def __init__(self, net: StackedNet) -> None:
        self.net = net

    def outputs(self, data: TensorDictBase) -> Tensor:
        """``[R, B, K]``."""
        return self.net(data.get(keys.OBSERVATION).squeeze(2))

    def remembered_in(self, data: TensorDictBase, length: int) -> Tensor:
        """What is remembered after each step of sequences of this length, ``[R, L * C, 1, H]``."""
        raise NotImplementedError("they remember nothing")


class TargetPolicies(TensorDictModuleBase):
    """The agents' policies for R seeds, of the task's family.

    ``hidden=[]`` makes them tables, which start uniform or with means of 0. Shared parameters tell agents apart by a
    one-hot index appended to the observation.

    Args:
        task: sizes of observations and actions.
        hidden: units of each hidden layer, or all that the networks are made of.
        share_parameters: one network for all agents of a seed instead of one per agent.
        generators: one per seed; they fix the initial weights.
        initial_std: see ``Family.from_outputs``.

    Attributes:
        remembered: what is carried from step to step: the shape of each key in an environment.
        sequence_length: steps of a row of a minibatch.
    """

    in_keys = [keys.OBSERVATION]  # noqa: RUF012
    out_keys = [keys.PARAMETERS]  # noqa: RUF012
    remembered: Mapping[Any, tuple[int, int]] = MappingProxyType({})
    sequence_length: int = 1

    def __init__(
        self,
        task: Task,
        hidden: Sequence[int] | Architecture,
        share_parameters: bool,
        generators: Sequence[torch.Generator],
        initial_std: float | None = None,
    ) -> None:
        super().__init__()
        self.family, self.initial_std = task.family, initial_std
        if task.masks_actions:
            self.in_keys = [keys.OBSERVATION, keys.ACTION_MASK]
        made = hidden if isinstance(hidden, Architecture) else Architecture(hidden)
        gain = 0.0 if made.table else POLICY_GAIN
        sizes = task.n_agents, task.observation_dim
        outputs, picture = self.family.outputs, picture_of(task)
        self.net = agent_network(*sizes, made, outputs, share_parameters, gain, generators, picture)

    def repeated(self, times: int) -> "TargetPolicies":
        """A copy for ``R * times`` entries, every seed's policies ``times`` times in a row."""
        twin = copy.deepcopy(self)
        twin.net = self.net.repeated(times)
        return twin

    def distribution_parameters(self, observation: Tensor, legal: Tensor | None = None) -> Tensor:
        """What determines pi_theta_i(. | o_i), ``keys.PARAMETERS``: ``[R, *B, A, O] -> [R, *B, A, K]``.

        Args:
            observation: of every agent.
            legal: ``keys.ACTION_MASK`` of tasks that have it, ``[R, *B, A, N]`` bool; None: all actions are legal.
        """
        return self.family.from_outputs(per_agent(self.net, observation), self.initial_std, legal)

    def parameters_in(self, data: TensorDictBase) -> Tensor:
        """``distribution_parameters`` in the steps ``[R, *B]`` of D, over the actions that were legal there."""
        legal = data.get(keys.ACTION_MASK, None)
        seen = (data.get(keys.OBSERVATION), *(() if legal is None else (legal,)))
        return self.distribution_parameters(*seen)

    def advance(self, data: TensorDictBase) -> Tensor:
        """``parameters_in`` one vector step ``[R, E]``; what is remembered after it is left under ``"next"``."""
        return self.parameters_in(data)

    def rows(self, steps: TensorDictBase, data: TensorDictBase) -> TensorDictBase:
        """The steps ``[R, B]`` of D ``[R, *k, T, E]`` in the order in which ``parameters_in`` takes them."""
        return steps

    def steps_of(self, rows: Tensor, count: int) -> Tensor:
        """Places of the steps ``[R, b * sequence_length]`` of rows ``[R, b]`` of minibatches, among all ``count``."""
        return rows

    def share(self, steps: TensorDictBase, every: slice) -> TensorDictBase:
        """The steps of some of the rows."""
        return steps[:, every]

    def of_agents(self, agent: Tensor) -> OneAgent:
        """The policies of one agent of every seed, ``[R]`` int64, as they are now."""
        return OneAgent(self.net.of_agents(agent))

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write ``PARAMETERS`` from ``OBSERVATION``, and ``ACTION_MASK`` where the task has it."""
        return tensordict.set(keys.PARAMETERS, self.parameters_in(tensordict))

    def moderate(self) -> bool:
        """Whether no seed's policies can have come to NaN."""
        return self.net.moderate()
