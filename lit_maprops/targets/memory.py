"""Policies and critics that remember: recurrent networks over the episodes of D.

As in MAPPO's code (Yu et al. 2022, appendix): what is remembered before every step is stored with it at collection; a
target update cuts D into sequences of ``sequence_length`` steps of one environment, begins each with what is stored
there, forgets where an episode begins inside of it, and takes whole sequences as the rows of its minibatches. So the
ratios of the first gradient step are 1, gradients go back ``sequence_length`` steps at most, and an episode that a
batch cuts goes on with what it has seen.

Sequences in data: ``[R, L * C]``, C of them side by side, time first, marked by ``keys.BEGINS``. Data without that key
are steps by themselves, each with what was remembered before it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor
from typing_extensions import override

from lit_maprops import keys
from lit_maprops.envs import Task
from lit_maprops.stacked.agents import unroll_agents
from lit_maprops.stacked.layers import Architecture
from lit_maprops.stacked.nets import StackedNet
from lit_maprops.stacked.recurrent import RecurrentNet
from lit_maprops.system.errors import check
from lit_maprops.targets.critics import AgentSpecificCritic, CentralCritic, Critic, IndependentCritic
from lit_maprops.targets.policies import OneAgent, TargetPolicies

Unrolled = Callable[[Tensor, Tensor, Tensor | None], tuple[Tensor, Tensor]]


def _recurrent(net: StackedNet) -> RecurrentNet:
    assert isinstance(net, RecurrentNet)  # its architecture has a cell
    return net


def _along(
    unroll: Unrolled, data: TensorDictBase, inputs: Tensor, remembered: Any, length: int
) -> tuple[Tensor, Tensor]:
    """Outputs of the steps ``[R, *B]`` of ``data``, and what is remembered after each.

    Args:
        unroll: of inputs ``[R, L, C, ...]``, memory before the first step ``[R, C, ...]`` and begins ``[R, L, C]``.
        data: steps by themselves, or sequences.
        inputs: ``[R, *B, ...]``.
        remembered: key of what is remembered before a step.
        length: of sequences, L.
    """
    memory, begins = data.get(remembered), data.get(keys.BEGINS, None)
    batch = data.batch_size
    if begins is None:
        steps = inputs.reshape(batch[0], 1, -1, *inputs.shape[len(batch) :])
        output, after = unroll(steps, memory.reshape(batch[0], -1, *memory.shape[len(batch) :]), None)
    else:
        apart = (length, batch[1] // length)
        output, after = unroll(inputs.unflatten(1, apart), memory[:, : apart[1]], begins.unflatten(1, apart))
    return output.reshape(*batch, *output.shape[3:]), after.reshape(*batch, *after.shape[3:])


def check_length(length: int, steps: int) -> None:
    """Refuse sequences of a length into which the steps of an environment in a batch do not fall.

    Raises:
        ConfigError: says what to give.
    """
    check(
        steps % length == 0,
        f"<learner.sequence_length> is {length} and a batch has {steps} steps of each environment "
        "(<data.target_batch_size> / <data.num_envs>): give a divisor of them",
    )


def begins(data: TensorDictBase) -> Tensor:
    """Steps ``[R, *k, T, E]`` before which an episode has ended; the first of a batch remember that."""
    done = data.get(("next", keys.DONE)).squeeze(-1)
    return torch.cat([torch.zeros_like(done[..., :1, :]), done[..., :-1, :]], -2)


class RememberingAgent(OneAgent):
    """``OneAgent`` that remembers.

    Args:
        net: see ``OneAgent``.
        sequence_length: L.
    """

    in_keys = (keys.OBSERVATION, keys.MEMORY, keys.BEGINS)

    def __init__(self, net: RecurrentNet, sequence_length: int) -> None:
        super().__init__(net)
        self.sequence_length, self.remembered = sequence_length, {keys.MEMORY: (1, net.cell.carried)}

    def _unrolled(self, data: TensorDictBase, length: int) -> tuple[Tensor, Tensor]:
        def unroll(seen: Tensor, memory: Tensor, begins: Tensor | None) -> tuple[Tensor, Tensor]:
            return _recurrent(self.net).unroll(seen, memory.squeeze(2), begins)

        return _along(unroll, data, data.get(keys.OBSERVATION).squeeze(2), keys.MEMORY, length)

    @override
    def outputs(self, data: TensorDictBase) -> Tensor:
        return self._unrolled(data, self.sequence_length)[0]

    @override
    def remembered_in(self, data: TensorDictBase, length: int) -> Tensor:
        return self._unrolled(data, length)[1].unsqueeze(2)


class RecurrentPolicies(TargetPolicies):
    """``TargetPolicies`` that remember what they have seen of an episode.

    Args:
        task: see ``TargetPolicies``.
        architecture: with a cell.
        share_parameters: see ``TargetPolicies``.
        generators: see ``TargetPolicies``.
        initial_std: see ``TargetPolicies``.
        sequence_length: L.
        burn_in: steps before a sequence that ``burn_in.BurnIn`` begins with.
    """

    in_keys = [keys.OBSERVATION, keys.MEMORY]  # noqa: RUF012 -- of every class: TensorDict makes properties of them
    net: RecurrentNet

    def __init__(
        self,
        task: Task,
        architecture: Architecture,
        share_parameters: bool,
        generators: Sequence[torch.Generator],
        initial_std: float | None,
        sequence_length: int,
        burn_in: int = 0,
    ) -> None:
        super().__init__(task, architecture, share_parameters, generators, initial_std)
        self.sequence_length, self.burn_in = sequence_length, burn_in
        masked = [keys.ACTION_MASK] if task.masks_actions else []
        self.in_keys = [keys.OBSERVATION, *masked, keys.MEMORY]
        self.remembered = {keys.MEMORY: (task.n_agents, self.net.cell.carried)}

    def _outputs(self, data: TensorDictBase, length: int | None = None) -> tuple[Tensor, Tensor]:
        def unroll(*given: Any) -> tuple[Tensor, Tensor]:
            return unroll_agents(self.net, *given)

        return _along(unroll, data, data.get(keys.OBSERVATION), keys.MEMORY, length or self.sequence_length)

    def remembered_in(self, data: TensorDictBase, length: int) -> Tensor:
        """What is remembered after each step of sequences of this length, ``[R, L * C, A, H]``."""
        return self._outputs(data, length)[1]

    def _of_family(self, outputs: Tensor, data: TensorDictBase) -> Tensor:
        return self.family.from_outputs(outputs, self.initial_std, data.get(keys.ACTION_MASK, None))

    @override
    def parameters_in(self, data: TensorDictBase) -> Tensor:
        return self._of_family(self._outputs(data)[0], data)

    @override
    def advance(self, data: TensorDictBase) -> Tensor:
        outputs, after = self._outputs(data)
        data.set(("next", *keys.MEMORY), after)
        return self._of_family(outputs, data)

    @override
    def of_agents(self, agent: Tensor) -> RememberingAgent:
        return RememberingAgent(self.net.of_agents(agent), self.sequence_length)

    @override
    def rows(self, steps: TensorDictBase, data: TensorDictBase) -> TensorDictBase:
        """As sequences: those of every environment, one after the other.

        Raises:
            ConfigError: T is no multiple of their length.
        """
        check_length(self.sequence_length, data.shape[-2])
        envs = data.shape[-1]
        parts = data.shape[1:-1].numel() // self.sequence_length
        steps = steps.copy().set(keys.BEGINS, begins(data).flatten(1))
        apart = steps.unflatten(1, (parts, self.sequence_length, envs))
        sequences = apart.transpose(1, 2).flatten(1)
        if self.burn_in:  # the sequence of the same environment that ends where this one begins
            before = torch.arange(parts * envs, device=data.device) - envs
            sequences.set(keys.BEFORE, before.repeat(self.sequence_length).expand(sequences.shape).contiguous())
        return sequences

    @override
    def steps_of(self, rows: Tensor, count: int) -> Tensor:
        first = torch.arange(0, count, count // self.sequence_length, device=rows.device).view(-1, 1)
        return (first + rows.unsqueeze(1)).flatten(1)

    @override
    def share(self, steps: TensorDictBase, every: slice) -> TensorDictBase:
        length = self.sequence_length
        apart = steps.unflatten(1, (length, steps.shape[1] // length))
        return apart[:, :, every].flatten(1, 2)


class _RemembersValues:
    """What the critics below share; arguments as ``RecurrentPolicies``."""

    net: StackedNet
    sequence_length: int
    remembered: Mapping[Any, tuple[int, int]]

    def remember(self, memories: int, sequence_length: int) -> None:
        """Carry this many memories in every environment."""
        self.sequence_length, cell = sequence_length, _recurrent(self.net).cell
        self.remembered = {keys.CRITIC_MEMORY: (memories, cell.carried)}

    def _seen(self, data: TensorDictBase) -> Tensor:
        """Inputs ``[R, *B, A, in]``."""
        raise NotImplementedError

    def _unroll(self, *given: Any) -> tuple[Tensor, Tensor]:
        return unroll_agents(_recurrent(self.net), *given)

    def _values(self, data: TensorDictBase, length: int) -> tuple[Tensor, Tensor]:
        return _along(self._unroll, data, self._seen(data), keys.CRITIC_MEMORY, length)

    def values(self, data: TensorDictBase) -> Tensor:
        """As of those that remember nothing."""
        return self._values(data, self.sequence_length)[0]

    def advance(self, data: TensorDictBase) -> None:
        """Leave under ``"next"`` what is remembered after a vector step ``[R, E]``."""
        data.set(("next", keys.CRITIC_MEMORY), self._values(data, self.sequence_length)[1])

    def remembered_in(self, data: TensorDictBase, length: int) -> Tensor:
        """What is remembered after each step of sequences of this length, ``[R, L * C, C', H]``."""
        return self._values(data, length)[1]


class RecurrentIndependentCritic(_RemembersValues, IndependentCritic):
    """``IndependentCritic`` that remembers; arguments as ``RecurrentPolicies``."""

    in_keys = [keys.OBSERVATION, keys.CRITIC_MEMORY, keys.BEGINS]  # noqa: RUF012

    def __init__(self, task: Task, *others: Any, sequence_length: int) -> None:
        super().__init__(task, *others)
        self.remember(task.n_agents, sequence_length)

    @override
    def _seen(self, data: TensorDictBase) -> Tensor:
        return data.get(keys.OBSERVATION)


class RecurrentCentralCritic(_RemembersValues, CentralCritic):
    """``CentralCritic`` that remembers; arguments as ``RecurrentPolicies``."""

    in_keys = [keys.STATE, keys.CRITIC_MEMORY, keys.BEGINS]  # noqa: RUF012

    def __init__(self, task: Task, *others: Any, sequence_length: int) -> None:
        super().__init__(task, *others)
        self.remember(1, sequence_length)

    @override
    def _seen(self, data: TensorDictBase) -> Tensor:
        return data.get(keys.STATE)

    @override
    def _unroll(self, *given: Any) -> tuple[Tensor, Tensor]:
        state, memory, begins = given
        value, after = _recurrent(self.net).unroll(state, memory.squeeze(2), begins)
        return value.unsqueeze(-1), after.unsqueeze(3)


class RecurrentAgentSpecificCritic(_RemembersValues, AgentSpecificCritic):
    """``AgentSpecificCritic`` that remembers; arguments as ``RecurrentPolicies``."""

    in_keys = [keys.STATE, keys.OBSERVATION, keys.CRITIC_MEMORY, keys.BEGINS]  # noqa: RUF012

    def __init__(self, task: Task, *others: Any, sequence_length: int) -> None:
        super().__init__(task, *others)
        self.remember(task.n_agents, sequence_length)

    @override
    def _seen(self, data: TensorDictBase) -> Tensor:
        return self.inputs(data)


RECURRENT: dict[type[Critic], Any] = {
    IndependentCritic: RecurrentIndependentCritic,
    CentralCritic: RecurrentCentralCritic,
    AgentSpecificCritic: RecurrentAgentSpecificCritic,
}


def critic_of(kind: type[Critic], sequence_length: int | None, *made: Any) -> Critic:
    """A critic.

    Args:
        kind: of one that remembers nothing.
        sequence_length: of those that remember; None: that kind itself.
        *made: its arguments.
    """
    return kind(*made) if sequence_length is None else RECURRENT[kind](*made, sequence_length=sequence_length)
