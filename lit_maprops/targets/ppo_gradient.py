"""The gradient of PPO's loss, written out: what autograd makes of ``ppo``'s, in less than half the time.

Of a policy's outputs u in one step, with pi = softmax(u), the ratio rho = pi(a) / pi_old(a), the advantage A and the
entropy H, and of a critic's value v with its target t:

    policy loss   - min(rho A, clip(rho) A)          d / du_k = - rho A (1[k = a] - pi_k), 0 where the clip is less
    entropy loss  - entropy_coeff H                  d / du_k = entropy_coeff pi_k (log pi_k + H)
    critic loss   critic_coeff (v - t)^2             d / dv   = 2 critic_coeff (v - t), bounded for Huber's loss

``G`` policies and ``C`` critics of ``H`` values go through ``stacked.mlp`` in groups that stay in the cache, forward
and backward in one go. Networks see ``U`` rows each: those of a minibatch or, where agents share one network, those of
all agents in turn.
"""

import math
from typing import Any, NamedTuple, Protocol

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torch.nn.functional import one_hot

from lit_maprops import keys
from lit_maprops.distributions.families import Categorical
from lit_maprops.envs.ends import weighted
from lit_maprops.stacked import mlp
from lit_maprops.stacked.nets import StackedMLP, StackedNet
from lit_maprops.stacked.recurrent import RecurrentNet
from lit_maprops.targets.critics import AgentSpecificCritic, CentralCritic, Critic, IndependentCritic
from lit_maprops.targets.losses import UncheckedIPPOLoss, UncheckedMAPPOLoss, huber
from lit_maprops.targets.policies import TargetPolicies

LOSSES = ("policy_loss", "critic_loss", "entropy_loss")


class Trained(Protocol):
    """What is needed of a ``PPO``."""

    policies: TargetPolicies
    critic: Critic
    clip_epsilon: float
    clip_value: float | None
    entropy_coeff: float
    critic_coeff: float
    huber_delta: float | None
    burn_in: int


def knows(policies: Any, critic: Any, loss: Any) -> bool:
    """Whether the gradient of this loss is the one that is written here; what somebody made of it is not."""
    return (
        type(policies) is TargetPolicies
        and type(critic) in (IndependentCritic, CentralCritic, AgentSpecificCritic)
        and type(loss) in (UncheckedIPPOLoss, UncheckedMAPPOLoss)
        and type(policies.net) is type(critic.net) is StackedMLP
        and type(policies.family) is Categorical
    )


class Samples(NamedTuple):
    """D, or a minibatch of it, with agents before rows: inputs are ``[R, A, B, in]``, ``[R, 1, B, in]`` if central."""

    seen: Tensor  # inputs of the policies
    judged: Tensor  # inputs of the critic
    action: Tensor  # [R, A, B] int64
    numbers: Tensor  # [4 or 5, R, A, B]: log pi_theta at collection, advantage, value, value target, and a weight
    legal: Tensor | None = None  # [R, A, B, N] bool, which actions were; None: all that agents have

    @classmethod
    def of(cls, learner: Trained, data: TensorDictBase) -> "Samples":
        """D as ``PPO`` has prepared it, ``[R, B]``, laid out for ``gradient``."""
        observation = data.get(keys.OBSERVATION).transpose(1, 2)
        n_agents = observation.shape[1]
        identity = one_hot(torch.arange(n_agents, device=observation.device), n_agents).unsqueeze(1)

        def inputs(net: StackedNet) -> Tensor:
            if len(net.stack) == 2:
                return observation.contiguous()
            shown = identity.to(observation.dtype).expand(*observation.shape[:3], n_agents)
            return torch.cat([observation, shown], -1)

        seen = inputs(learner.policies.net)
        judged = data.get(keys.STATE).unsqueeze(1) if keys.STATE in learner.critic.in_keys else seen
        if keys.OBSERVATION in learner.critic.in_keys and judged is not seen:
            own = inputs(learner.critic.net)
            judged = torch.cat([judged.expand(*own.shape[:3], -1), own], -1)
        numbers = [
            data.get(key).reshape(*data.shape, n_agents)
            for key in (keys.LOG_PROB, keys.ADVANTAGE, keys.VALUE, keys.VALUE_TARGET)
        ]
        weight = data.get(keys.WEIGHT, None)
        numbers += [] if weight is None else [weight]
        turned = torch.stack(numbers).transpose(2, 3).contiguous()
        legal = data.get(keys.ACTION_MASK, None)
        legal = None if legal is None else legal.transpose(1, 2).contiguous()
        return cls(seen, judged, data.get(keys.ACTION).transpose(1, 2).contiguous(), turned, legal)

    def take(self, rows: Tensor) -> "Samples":
        """Rows ``[R, b]``."""
        seen = _of_rows(self.seen, rows)
        judged = seen if self.judged is self.seen else _of_rows(self.judged, rows)
        each = rows.unsqueeze(1).expand(-1, self.action.shape[1], -1)
        return Samples(
            seen,
            judged,
            self.action.gather(-1, each),
            self.numbers.gather(-1, each.expand(len(self.numbers), -1, -1, -1)),
            None if self.legal is None else _of_rows(self.legal, rows),
        )


def _of_rows(inputs: Tensor, rows: Tensor) -> Tensor:
    n_seeds, parts, n_rows, _ = inputs.shape
    first = torch.arange(0, n_seeds * parts * n_rows, n_rows, device=rows.device).view(n_seeds, parts, 1)
    chosen = first + rows.unsqueeze(1)
    # index_select copies rows as they are, which indexing does number by number.
    return inputs.flatten(0, 2).index_select(0, chosen.flatten()).unflatten(0, chosen.shape)


@torch.no_grad()
def gradient(learner: Trained, part: Samples, count: int) -> dict[str, Tensor]:
    """Losses ``[R]`` of a minibatch, sums over agents and rows divided by ``count``; ``.grad`` is their gradient."""
    seeds = len(part.action)
    log_prob, advantage, value, target, *rest = part.numbers
    weight = rest[0] if rest else None
    policy = PolicyLoss(learner, part, log_prob, advantage, weight, count)
    critic = CriticLoss(learner, value, target, weight, count)
    losses = {
        **_backpropagated(learner.policies.net, part.seen, policy),
        **_backpropagated(learner.critic.net, part.judged, critic),
    }
    return {name: losses[name].reshape(seeds, -1).sum(1) / count for name in LOSSES}


def _backpropagated(net: StackedNet, inputs: Tensor, loss: "PolicyLoss | CriticLoss") -> dict[str, Tensor]:
    """Losses of every row and network; leaves the gradient of their sum in the network's ``.grad``."""
    assert isinstance(net, StackedMLP)  # ``knows`` says so
    flat = net.flat.detach().flatten(0, -2)
    if net.flat.grad is None:
        net.flat.grad = torch.empty(net.flat.shape, device=flat.device)
    grad = net.flat.grad.view_as(flat)
    inputs = inputs.reshape(len(flat), -1, inputs.shape[-1])
    found = []
    for part in mlp.groups(len(flat), inputs.shape[1], net.shapes, flat.device):
        layers = mlp.split_layers(flat[part], net.shapes)
        x, output = mlp.forward(layers, inputs[part].to(flat.dtype))
        losses, slope = loss(output, part)
        found.append(losses)
        mlp.backward(layers, x, slope, out=grad[part])
    return {name: torch.cat([losses[name] for losses in found]) for name in found[0]}


class PolicyLoss:
    """Policy and entropy loss of networks' outputs ``[G, K, U]``, and their derivative."""

    def __init__(
        self, learner: Trained, part: Samples, log_prob: Tensor, advantage: Tensor, weight: Tensor | None, count: int
    ) -> None:
        stack = learner.policies.net.stack
        self.networks, self.count, self.entropy_coeff = math.prod(stack), count, learner.entropy_coeff
        # As TorchRL's loss has them.
        self.bounds = torch.tensor([-learner.clip_epsilon, learner.clip_epsilon]).log1p().tolist()
        self.action, self.log_prob, self.advantage = (self._own(t) for t in (part.action, log_prob, advantage))
        self.weight = None if weight is None else self._own(weight)
        self.absent = self._absent(learner.policies.family, len(stack) == 1, part)

    def _own(self, tensor: Tensor) -> Tensor:
        """``[R, A, b]`` as the networks' rows, ``[G, U]``."""
        return tensor.reshape(self.networks, -1)

    def _absent(self, family: Any, shared: bool, part: Samples) -> Tensor | None:
        """Which actions are not there, ``[G, K, 1]``; where agents share a network, or states say so, ``[G, K, U]``."""
        if part.legal is not None:
            return ~part.legal.reshape(self.networks, -1, part.legal.shape[-1]).mT
        if family.mask.all():
            return None
        seeds, _, rows = part.action.shape
        absent = ~family.mask_on(part.action.device)
        return (
            absent.T.repeat_interleave(rows, 1).expand(seeds, -1, -1) if shared else absent.repeat(seeds, 1)[..., None]
        )

    def __call__(self, output: Tensor, part: slice) -> tuple[dict[str, Tensor], Tensor]:
        """Losses ``[G, U]`` of the networks ``part``, and the derivative of their sum in ``output``, which is lost."""
        action, advantage = self.action[part].unsqueeze(1), self.advantage[part]
        weight = None if self.weight is None else self.weight[part]
        if self.absent is not None:
            output = output.masked_fill(self.absent[part], -torch.inf)
        log_pi = output.sub_(output.logsumexp(1, keepdim=True))
        log_ratio = log_pi.gather(1, action).squeeze(1) - self.log_prob[part]
        gain, bounded = log_ratio.exp() * advantage, log_ratio.clamp(*self.bounds).exp() * advantage
        pi = log_pi.exp()
        if self.absent is not None:
            log_pi = log_pi.clamp(min=torch.finfo(log_pi.dtype).min)  # 0 log 0 is 0
        entropy = torch.linalg.vecdot(pi, log_pi, dim=1).neg_()
        losses = {
            "policy_loss": -torch.minimum(gain, bounded),
            "entropy_loss": -self.entropy_coeff * entropy.nan_to_num(0.0),
        }
        pull = torch.where(bounded < gain, 0.0, gain).unsqueeze(1)  # a NaN stays one
        slope = log_pi.add_(entropy.unsqueeze(1)).mul_(self.entropy_coeff).add_(pull).mul_(pi)
        slope = slope.scatter_add_(1, action, -pull).div_(self.count)
        weigh = None if weight is None else weight.unsqueeze(1)
        return {name: weighted(loss, weight) for name, loss in losses.items()}, weighted(slope, weigh)


class CriticLoss:
    """Critic loss of networks' values ``[C, H, U]``, and its derivative."""

    def __init__(self, learner: Trained, value: Tensor, target: Tensor, weight: Tensor | None, count: int) -> None:
        self.clip_value, self.coeff, self.count = learner.clip_value, learner.critic_coeff, count
        self.delta = learner.huber_delta
        net = learner.critic.net
        assert isinstance(net, (StackedMLP, RecurrentNet))  # ``knows`` says so, here or in ``sequence_gradient``
        self.shape = math.prod(net.stack), net.out_dim, -1
        self.value, self.target = value.reshape(self.shape), target.reshape(self.shape)
        self.weight = None if weight is None else weight.reshape(self.shape)

    def __call__(self, output: Tensor, part: slice) -> tuple[dict[str, Tensor], Tensor]:
        """Losses ``[C, H, U]`` of the networks ``part``, and the derivative of their sum in ``output``."""
        error = output - self.target[part]
        loss = error.square()
        if self.clip_value is not None:
            moved = output - self.value[part]
            bounded = moved.clamp(-self.clip_value, self.clip_value)
            other = self.value[part] + bounded - self.target[part]
            worse = other.square() > loss
            loss = torch.maximum(loss, other.square())
            error = torch.where(worse, other * (moved == bounded), error)
        if self.delta is not None:
            loss, error = huber(loss, self.delta), error.clamp(-self.delta, self.delta)
        weight = None if self.weight is None else self.weight[part]
        slope = weighted(error * (2 * self.coeff / self.count), weight)
        return {"critic_loss": weighted(self.coeff * loss, weight)}, slope
