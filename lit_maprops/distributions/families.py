"""The families of distributions that target policies pi_theta_i(. | o_i) come from: the one place that tells discrete
from continuous actions.

``*B`` are any leading dimensions, ``A`` agents, ``N`` actions of each, ``D`` components of a continuous action. What
determines a policy in a state, its *parameters*, is ``[*B, A, K]``: log-probabilities, or those of
``distributions.gaussian``.
"""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor
from typing_extensions import override

from lit_maprops.distributions import gaussian, joint
from lit_maprops.stacked.device_cache import DeviceCache

# Standard deviations before squashing. Below the first, ratios of densities swing over orders of magnitude in one
# gradient step; above the second, tanh sends nine in ten actions beyond +-0.25 and half of them beyond +-0.87.
SMALLEST_STD, LARGEST_STD = 0.05, 2.0
INITIAL_STD = 0.5  # 95% of the first actions within +-0.75 after tanh, 5% at a bound under clip


class Family(ABC):
    """One kind of distribution for all agents.

    Args:
        mask: what exists of an agent's action, ``[A, N]`` or ``[A, D]`` bool.
        restricted: in some states fewer actions are legal than exist.

    Attributes:
        outputs: numbers that a policy network puts out for one agent, K.
        uniforms: shape of the uniform numbers from which the agents of one environment draw.
    """

    outputs: int
    uniforms: tuple[int, ...]

    def __init__(self, mask: Tensor, restricted: bool = False) -> None:
        self.mask, self._mask = mask, DeviceCache(mask)
        self.restricted = restricted

    def mask_on(self, device: torch.device) -> Tensor:
        """``mask`` on a device."""
        return self._mask.on(device)

    @abstractmethod
    def from_outputs(self, outputs: Tensor, initial_std: float | None, legal: Tensor | None = None) -> Tensor:
        """A network's outputs as parameters, both ``[*B, A, K]``.

        Args:
            outputs: of the network.
            initial_std: standard deviation at outputs of 0, for families that have one; None: ``INITIAL_STD``.
            legal: which actions are, ``[*B, A, N]`` bool, at least one of every agent; None: all that exist.
        """

    @abstractmethod
    def log_prob(self, parameters: Tensor, action: Tensor) -> Tensor:
        """Log-probability or log-density of each agent's action: ``[*B, A]`` (nats)."""

    @abstractmethod
    def kl_divergence(self, p: Tensor, q: Tensor) -> Tensor:
        """Exact KL(p || q) of each agent's policies: parameters ``[*B, A, K]`` -> ``[*B, A]`` (nats)."""

    @abstractmethod
    def entropy(self, parameters: Tensor) -> Tensor:
        """Of each agent's policy: ``[*B, A]`` (nats)."""

    @abstractmethod
    def mode(self, parameters: Tensor) -> Tensor:
        """The most probable action of each agent."""

    @abstractmethod
    def idle(self, parameters: Tensor, left: Tensor) -> Tensor:
        """``[*B, A, K]`` in which agents that have ``left``, ``[*B, A]`` bool, have nothing to choose."""

    @abstractmethod
    def sample(self, parameters: Tensor, uniform: Tensor) -> Tensor:
        """Draw actions from numbers on [0, 1), ``[*B, *uniforms]``."""


class Categorical(Family):
    """Actions are numbers, ``[*B, A]`` int64; parameters are log-probabilities, -inf where the mask is False."""

    def __init__(self, mask: Tensor, restricted: bool = False) -> None:
        super().__init__(mask, restricted)
        self.outputs, self.uniforms = mask.shape[-1], (mask.shape[0],)
        self._lacks = not bool(mask.all())
        self._masked = self._lacks or restricted

    @override
    def from_outputs(self, outputs: Tensor, initial_std: float | None, legal: Tensor | None = None) -> Tensor:
        """Normalizes over the actions that an agent has and that are legal."""
        if self._lacks:
            outputs = outputs.masked_fill(~self.mask_on(outputs.device), -torch.inf)
        if legal is not None:
            outputs = outputs.masked_fill(~legal, -torch.inf)
        return outputs - outputs.logsumexp(-1, keepdim=True)  # over a few actions log_softmax is three times slower

    @override
    def log_prob(self, parameters: Tensor, action: Tensor) -> Tensor:
        return parameters.gather(-1, action.unsqueeze(-1)).squeeze(-1)

    @override
    def kl_divergence(self, p: Tensor, q: Tensor) -> Tensor:
        return joint.kl_divergence(p, q)

    @override
    def entropy(self, parameters: Tensor) -> Tensor:
        """0 log 0 is 0."""
        finite = parameters.clamp(min=torch.finfo(parameters.dtype).min) if self._masked else parameters
        return -(finite.exp() * finite).sum(-1)

    @override
    def mode(self, parameters: Tensor) -> Tensor:
        """The first of equals."""
        return parameters.argmax(-1)

    @override
    def idle(self, parameters: Tensor, left: Tensor) -> Tensor:
        """The first action that the agent has, and no other."""
        first = self.mask_on(parameters.device).int().argmax(-1, keepdim=True)
        only = parameters.new_full(self.mask.shape, -torch.inf).scatter(-1, first, 0.0)
        return torch.where(left.unsqueeze(-1), only, parameters)

    @override
    def sample(self, parameters: Tensor, uniform: Tensor) -> Tensor:
        return joint.sample(parameters, uniform)


class Gaussian(Family):
    """Actions are vectors u, ``[*B, A, D]`` float32; parameters are means and log standard deviations.

    u is what a policy draws, before ``TaskEnv`` bounds it. Ratios of densities and divergences are the same before and
    after a bijection such as tanh, whose Jacobian cancels. The entropy is not; decided here: the one of u, since after
    squashing there is no closed form. Under clipping, too, everything is that of u.
    """

    def __init__(self, mask: Tensor, restricted: bool = False) -> None:
        super().__init__(mask, restricted)
        self.outputs, self.uniforms = 2 * mask.shape[-1], tuple(mask.shape)

    @override
    def from_outputs(self, outputs: Tensor, initial_std: float | None, legal: Tensor | None = None) -> Tensor:
        """The log standard deviations go through a scaled tanh into the limits above."""
        low, high = math.log(SMALLEST_STD), math.log(LARGEST_STD)
        center, half = (low + high) / 2, (high - low) / 2
        start = math.atanh((math.log(INITIAL_STD if initial_std is None else initial_std) - center) / half)
        mean, raw = gaussian.split(outputs)
        log_std = center + half * torch.tanh(raw / half + start)
        exists = self._existing(outputs)
        return torch.cat([torch.where(exists, mean, 0.0), torch.where(exists, log_std, 0.0)], -1)

    @override
    def log_prob(self, parameters: Tensor, action: Tensor) -> Tensor:
        return gaussian.log_prob(parameters, action, self._existing(parameters))

    @override
    def kl_divergence(self, p: Tensor, q: Tensor) -> Tensor:
        return gaussian.kl_divergence(p, q, self._existing(p))

    @override
    def entropy(self, parameters: Tensor) -> Tensor:
        """Differential, of u."""
        return gaussian.entropy(parameters, self._existing(parameters))

    @override
    def mode(self, parameters: Tensor) -> Tensor:
        """The mean of u, which under tanh is the median of the executed action."""
        return gaussian.split(parameters)[0]

    @override
    def idle(self, parameters: Tensor, left: Tensor) -> Tensor:
        """Standard normal noise, which no policy decides and the task does not hear."""
        return torch.where(left.unsqueeze(-1), 0.0, parameters)

    @override
    def sample(self, parameters: Tensor, uniform: Tensor) -> Tensor:
        return gaussian.sample(parameters, uniform, self._existing(parameters))

    def _existing(self, like: Tensor) -> Tensor:
        return self.mask_on(like.device)
