"""The policies' families as TorchRL's losses want them: distributions that pass NaN on.

TorchRL's PPO loss stops all seeds if one seed's entropy is not finite; here that entropy is 0, and the NaN still shows
in the policy loss of its own seed.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution

from lit_maprops.distributions import families


class TolerantCategorical(Categorical):
    """A categorical per agent, from log-probabilities ``[*B, A, N]``."""

    def __init__(self, parameters: Tensor) -> None:
        super().__init__(logits=parameters, validate_args=False)

    def entropy(self) -> Tensor:
        """As of ``Categorical``, 0 instead of NaN: ``[*B, A]`` (nats)."""
        finite = self.logits.clamp(min=torch.finfo(self.logits.dtype).min)  # 0 log 0 is 0
        return -(finite.exp() * finite).sum(-1).nan_to_num(0.0)


class TolerantGaussian(Distribution):
    """A diagonal Gaussian per agent over the components it has, before squashing: see ``families.Gaussian``."""

    arg_constraints = {}  # noqa: RUF012

    def __init__(self, family: families.Family, parameters: Tensor) -> None:
        super().__init__(parameters.shape[:-1], torch.Size([parameters.shape[-1] // 2]), validate_args=False)
        self.family, self.parameters = family, parameters

    def log_prob(self, value: Tensor) -> Tensor:
        """Of actions ``[*B, A, D]``: ``[*B, A]`` (nats)."""
        return self.family.log_prob(self.parameters, value)

    def entropy(self) -> Tensor:
        """Differential entropy, 0 instead of NaN: ``[*B, A]`` (nats)."""
        return self.family.entropy(self.parameters).nan_to_num(0.0)


def tolerant(family: families.Family) -> Callable[..., Distribution]:
    """The class of distributions for a family, to be called with ``parameters``."""
    if isinstance(family, families.Gaussian):
        return lambda parameters: TolerantGaussian(family, parameters)
    return TolerantCategorical
