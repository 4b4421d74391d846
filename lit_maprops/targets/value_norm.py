"""Value normalization: the critic learns value targets on one scale, whatever the size of returns.

MAPPO's (Yu et al. 2022, appendix; its code's ``ValueNorm``, TorchRL's ``PopArtValueNorm``): mean and mean square of the
targets, averaged exponentially and without bias. The critic's last layer stays as it is when they move; ``PopArt``
rescales it, so that values stay what they were (van Hasselt et al. 2016, arXiv 1602.07714).
"""

import torch
from torch import Tensor, nn
from typing_extensions import override

from lit_maprops.envs.ends import weighted
from lit_maprops.stacked.nets import StackedNet

BETA = 0.99999  # of the average, per target update
SMALLEST = 1e-5  # variance, and share of the average that is not the 0 it began with (as in MAPPO's code)


class ValueNorm(nn.Module):
    """Statistics of value targets, every seed's and agent's own.

    Args:
        n_seeds: R.
        n_agents: A.
    """

    mean: Tensor  # [R, A], averages that begin with 0
    square: Tensor  # [R, A]
    share: Tensor  # [R, A], what is not that 0

    def __init__(self, n_seeds: int, n_agents: int) -> None:
        super().__init__()
        for name in ("mean", "square", "share"):
            self.register_buffer(name, torch.zeros(n_seeds, n_agents))

    @torch.no_grad()
    def update(self, target: Tensor, weight: Tensor | None, learning: Tensor | None) -> None:
        """Take in value targets ``[R, B, A, 1]`` (return).

        Args:
            target: the value targets.
            weight: of each, ``[R, B, A]``, with mean 1; None: all 1. See ``envs.ends.weights``.
            learning: ``[R]`` bool, seeds that take part; None: all.
        """
        target = target.squeeze(-1)
        new = *self._means(target, weight), torch.ones_like(self.share)
        for average, value in zip((self.mean, self.square, self.share), new, strict=True):
            moved = BETA * average + (1 - BETA) * value
            taken = moved if learning is None else torch.where(learning.to(moved.device).unsqueeze(1), moved, average)
            average.copy_(taken)

    def _means(self, target: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
        """Of targets ``[R, B, A]`` and of their squares, ``[R, A]``."""
        return weighted(target, weight).mean(1), weighted(target.square(), weight).mean(1)

    def normalize(self, value: Tensor) -> Tensor:
        """From units of return to the critic's: ``[R, *B, A, 1]``."""
        mean, deviation = self._for(value)
        return (value - mean) / deviation

    def denormalize(self, value: Tensor) -> Tensor:
        """From the critic's units to those of return: ``[R, *B, A, 1]``."""
        mean, deviation = self._for(value)
        return value * deviation + mean

    def _for(self, value: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation, in a shape that goes with ``value``."""
        mean, deviation = self.statistics()
        shape = (len(mean), *(1,) * (value.dim() - 3), mean.shape[1], 1)
        return mean.view(shape), deviation.view(shape)

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of value targets so far, ``[R, A]`` (return)."""
        share = self.share.clamp(min=SMALLEST)
        mean = self.mean / share
        return mean, (self.square / share - mean.square()).clamp(min=SMALLEST).sqrt()


class PopArt(ValueNorm):
    """Statistics that the critic's last layer follows: what it puts out, in units of return, stays when they move.

    With mean mu and deviation sigma that become mu' and sigma', its weights W and biases b become (van Hasselt et al.
    2016, equation 9 and proposition 1) W sigma / sigma' and (sigma b + mu - mu') / sigma'. Before the first targets mu
    is 0 and sigma 1. Adam's moments stay. Where agents share one output, the statistics are those of all agents.

    Args:
        n_seeds: R.
        n_agents: A.
        net: of the critic; its last layer is linear with biases, its weights the last of ``flat``.
        width: numbers that its last layer sees.
        outputs: numbers that it puts out.
    """

    def __init__(self, n_seeds: int, n_agents: int, net: StackedNet, width: int, outputs: int) -> None:
        super().__init__(n_seeds, n_agents)
        self._net, self._width, self._outputs = (net,), width, outputs  # in a tuple: it is the critic's

    @torch.no_grad()
    @override
    def update(self, target: Tensor, weight: Tensor | None, learning: Tensor | None) -> None:
        """As ``ValueNorm.update``, and rescale the last layer."""
        mean, deviation = self.statistics()
        super().update(target, weight, learning)
        new_mean, new_deviation = self.statistics()
        weights, bias = self._last_layer()
        own = slice(bias.shape[1])  # of a shared output, any agent's
        scale = (deviation / new_deviation)[:, own]
        weights.mul_(scale.unsqueeze(-1))
        bias.mul_(scale).add_(((mean - new_mean) / new_deviation)[:, own])

    @override
    def _means(self, target: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
        each = super()._means(target, weight)
        if self._last_layer()[1].shape[1] == target.shape[2]:
            return each
        return each[0].mean(1, keepdim=True).expand_as(each[0]), each[1].mean(1, keepdim=True).expand_as(each[1])

    @override
    def statistics(self) -> tuple[Tensor, Tensor]:
        """As of ``ValueNorm``, 0 and 1 before the first targets."""
        mean, deviation = super().statistics()
        return mean, torch.where(self.share > 0, deviation, 1.0)

    def _last_layer(self) -> tuple[Tensor, Tensor]:
        """Weights ``[R, H, width]`` and biases ``[R, H]``, views: H is A, or 1 where agents share one output."""
        (net,) = self._net
        flat, outputs = net.flat.detach(), self._outputs
        weights, bias = flat[..., -outputs * (self._width + 1) : -outputs], flat[..., -outputs:]
        return weights.unflatten(-1, (outputs, self._width)).flatten(1, -2), bias.flatten(1)
