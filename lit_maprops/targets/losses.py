"""TorchRL's losses as ``ppo`` takes them."""

from typing import Any, Protocol

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torch.distributions import Distribution
from torchrl.modules import ProbabilisticActor
from torchrl.objectives.multiagent import IPPOLoss, MAPPOLoss

from lit_maprops import keys
from lit_maprops.targets.critics import Critic
from lit_maprops.targets.distributions import tolerant
from lit_maprops.targets.policies import TargetPolicies


class LossSettings(Protocol):
    """What is needed of a ``PPO``."""

    clip_epsilon: float
    clip_value: float | None
    entropy_coeff: float
    critic_coeff: float
    huber_delta: float | None


def huber(square: Tensor, delta: float | None, coeff: float = 1.0) -> Tensor:
    """What becomes of squared errors: from ``delta`` on the straight line that touches the parabola there.

    Twice ``torch.nn.HuberLoss``, so that a coefficient weighs what it weighs without a delta.

    Args:
        square: squared errors, times ``coeff``.
        delta: of the error; None: the squared errors.
        coeff: as in ``square``.
    """
    if delta is None:
        return square
    bound = coeff * delta**2
    line = 2 * delta * coeff**0.5 * square.clamp(min=max(bound, 1e-30)).sqrt() - bound
    return torch.where(square <= bound, square, line)  # a NaN stays one


class _Ours:
    """Skips a check of TorchRL's losses: they stop the host at every batch to ask the device if entropies are finite.

    Ours always are (see ``distributions``). tests/test_device.py counts what still waits. Also the Huber loss, with a
    delta, which TorchRL's have not.
    """

    huber_delta: float | None = None
    coeff = 1.0  # of the critic's loss, as a number

    def _get_entropy(self, dist: Distribution, adv_shape: torch.Size) -> Tensor:
        return dist.entropy().unsqueeze(-1)

    def loss_critic(self, tensordict: TensorDictBase) -> tuple[Any, ...]:
        """Huber's."""
        loss, *others = super().loss_critic(tensordict)  # type: ignore[misc]
        return huber(loss, self.huber_delta, self.coeff), *others


class UncheckedIPPOLoss(_Ours, IPPOLoss):
    """TorchRL's."""


class UncheckedMAPPOLoss(_Ours, MAPPOLoss):
    """TorchRL's."""


def built(
    kind: type[UncheckedIPPOLoss] | type[UncheckedMAPPOLoss],
    policies: TargetPolicies,
    critic: Critic,
    settings: LossSettings,
) -> UncheckedIPPOLoss | UncheckedMAPPOLoss:
    """The loss of policies and critic, a number per row and agent.

    Args:
        kind: of the loss.
        policies: pi_theta.
        critic: of any kind that goes with it.
        settings: of the loss.
    """
    actor = ProbabilisticActor(
        policies,
        in_keys={"parameters": keys.PARAMETERS},
        out_keys=[keys.ACTION],
        distribution_class=tolerant(policies.family),
    )
    # reduction="none" keeps the seed dimension; functional=False keeps our own parameters.
    loss = kind(
        actor,
        critic,
        clip_epsilon=settings.clip_epsilon,
        clip_value=settings.clip_value,
        entropy_coeff=settings.entropy_coeff,
        critic_coeff=settings.critic_coeff,
        loss_critic_type="l2",
        normalize_advantage=False,
        reduction="none",
        functional=False,
    )
    if settings.clip_value is not None:  # as a tensor its truth would be asked from the device
        del loss.clip_value
        loss.clip_value = settings.clip_value
    loss.huber_delta, loss.coeff = settings.huber_delta, settings.critic_coeff
    loss.set_keys(
        action=keys.ACTION,
        sample_log_prob=keys.LOG_PROB,
        value=keys.VALUE,
        value_target=keys.VALUE_TARGET,
        advantage=keys.ADVANTAGE,
    )
    return loss
