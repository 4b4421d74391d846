"""The gradient of PPO's loss for policies and critics that remember: ``ppo_gradient``'s loss and its derivative in the
outputs, and from there back through time by ``stacked.recurrent``.
"""

from collections.abc import Callable
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor

from lit_maprops import keys
from lit_maprops.buffer import taken_rows
from lit_maprops.distributions.families import Categorical
from lit_maprops.stacked.nets import StackedMLP
from lit_maprops.stacked.recurrent import RecurrentNet
from lit_maprops.targets import ppo_gradient
from lit_maprops.targets.burn_in import BurnIn
from lit_maprops.targets.losses import UncheckedIPPOLoss, UncheckedMAPPOLoss
from lit_maprops.targets.memory import RECURRENT, RecurrentPolicies
from lit_maprops.targets.ppo_gradient import LOSSES, CriticLoss, PolicyLoss, Samples, Trained

Gradient = Callable[[Tensor, int], dict[str, Tensor]]


def gradient_on(
    learner: Trained, loss: Any, data: TensorDictBase, by_autograd: Callable[[TensorDictBase, int], dict[str, Tensor]]
) -> Gradient:
    """What gives the losses ``[R]`` of rows ``[R, b]`` of minibatches, divided by a count, and leaves their gradients.

    Args:
        learner: whose networks they are.
        loss: of policies and critic, as autograd takes it.
        data: D as ``PPO`` has prepared it.
        by_autograd: the same of steps ``[R, b]`` of D, where the derivative of this loss is not written down.
    """
    policies, critic = learner.policies, learner.critic
    if ppo_gradient.knows(policies, critic, loss):
        samples = Samples.of(learner, data)
        return lambda rows, count: ppo_gradient.gradient(learner, samples.take(rows), count)
    if knows(policies, critic, loss):
        sequences = _Sequences(learner, data)
        return lambda rows, count: gradient(learner, sequences, rows, count)
    unused = {keys.OBSERVATION, keys.STATE, keys.PARAMETERS} - {*policies.in_keys, *critic.in_keys}
    learned_from, steps, length = data.exclude(*unused), data.shape[1], policies.sequence_length
    burn_in = burn_in_of(learner, data)

    def of_sequences(rows: Tensor, count: int) -> dict[str, Tensor]:
        taken = taken_rows(learned_from, policies.steps_of(rows, steps))
        return by_autograd(burn_in.begin(taken, rows), count * length)

    return of_sequences


def burn_in_of(learner: Trained, data: TensorDictBase) -> BurnIn:
    """Of policies and critic; of those that remember nothing, nothing."""
    networks: list[Any] = [net for net in (learner.policies, learner.critic) if net.remembered]
    return BurnIn(networks, data, learner.policies.sequence_length, learner.burn_in)


def knows(policies: Any, critic: Any, loss: Any) -> bool:
    """As ``ppo_gradient.knows``."""
    return (
        type(policies) is RecurrentPolicies
        and type(critic) in RECURRENT.values()
        and type(loss) in (UncheckedIPPOLoss, UncheckedMAPPOLoss)
        and type(policies.family) is Categorical
    )


class _Sequences:
    """D as sequences: the steps as ``Samples``, and what belongs to whole sequences."""

    def __init__(self, learner: Trained, data: TensorDictBase) -> None:
        self.samples, self.length = Samples.of(learner, data), learner.policies.sequence_length
        self.steps_of, self.steps = learner.policies.steps_of, data.shape[1]
        count = self.steps // self.length
        self.begins = data.get(keys.BEGINS).unflatten(1, (self.length, count))  # [R, L, C]
        self.burn_in = burn_in_of(learner, data)

    def take(self, rows: Tensor) -> tuple[Samples, list[Tensor], Tensor]:
        """Of sequences ``[R, b]``: steps, what is remembered before them ``[R, ., b, H]``, begins ``[R, L, b]``."""
        starts = self.burn_in.starts(rows)
        remembered = [starts[key].transpose(1, 2) for key in (keys.MEMORY, keys.CRITIC_MEMORY)]
        begins = self.begins.gather(2, rows.unsqueeze(1).expand(-1, self.length, -1))
        return self.samples.take(self.steps_of(rows, self.steps)), remembered, begins


def gradient(learner: Trained, sequences: _Sequences, rows: Tensor, count: int) -> dict[str, Tensor]:
    """Losses ``[R]`` of the sequences ``rows`` ``[R, b]``, sums over agents and steps divided by ``count`` times their
    length; ``.grad`` is their gradient.
    """
    part, (memory, critic_memory), begins = sequences.take(rows)
    log_prob, advantage, value, target, *rest = part.numbers
    weight, steps = rest[0] if rest else None, count * sequences.length
    policy = PolicyLoss(learner, part, log_prob, advantage, weight, steps)
    critic = CriticLoss(learner, value, target, weight, steps)
    losses = {
        **_backpropagated(learner.policies.net, part.seen, memory, begins, policy),
        **_backpropagated(learner.critic.net, part.judged, critic_memory, begins, critic),
    }
    return {name: losses[name].reshape(len(rows), -1).sum(1) / steps for name in LOSSES}


def _backpropagated(
    net: Any, inputs: Tensor, memory: Tensor, begins: Tensor, loss: PolicyLoss | CriticLoss
) -> dict[str, Tensor]:
    """Losses of every row and network; leaves the gradient of their sum in the weights' ``.grad``.

    Args:
        net: the networks.
        inputs: ``[R, A, L * b, in]``; A is 1 of a central critic.
        memory: ``[R, A, b, H]``.
        begins: ``[R, L, b]`` bool.
        loss: of outputs ``[G, K, U]``.
    """
    assert isinstance(net, RecurrentNet)  # ``knows`` says so
    agents, steps, alone = inputs.shape[1], begins.shape[1:], len(net.stack) == 2
    apart = inputs.unflatten(2, steps)  # [R, A, L, b, in]
    if alone:
        given = apart.flatten(0, 1), memory.flatten(0, 1), begins.repeat_interleave(agents, 0)
    else:  # agents side by side, as sequences of one network
        given = apart.transpose(1, 2).flatten(2, 3), memory.flatten(1, 2), begins.repeat(1, 1, agents)

    def of_outputs(output: Tensor, part: slice) -> tuple[dict[str, Tensor], Tensor]:
        if alone or agents == 1:
            return loss(output, part)
        losses, slope = loss(_turned(output, steps[0], agents), part)
        return losses, _turned(slope, agents, steps[0])

    if type(net.encoder) is StackedMLP:
        return net.backpropagate(*given, of_outputs)
    output, _ = net.unroll(*(tensor.unflatten(0, net.stack) for tensor in given))
    rows = output.reshape(-1, steps.numel() * (1 if alone else agents), net.out_dim).mT
    with torch.no_grad():
        losses, slope = of_outputs(rows.detach().clone(), slice(None))
    for weight in net.parameters():
        weight.grad = None
    rows.backward(slope)
    return losses


def _turned(output: Tensor, outer: int, inner: int) -> Tensor:
    """``[G, K, outer inner b]`` with the two exchanged."""
    return output.unflatten(2, (outer, inner, -1)).transpose(2, 3).flatten(2)
