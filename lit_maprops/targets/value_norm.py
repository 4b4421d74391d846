"""Value normalization: the critic learns value targets on one scale, whatever the size of returns.

MAPPO's (Yu et al. 2022, appendix; its code's ``ValueNorm``, TorchRL's ``PopArtValueNorm``): mean and mean square of the
targets, averaged exponentially and without bias, here in double precision: in single, mean square minus squared mean
leaves nothing of a deviation that is a hundredth of the mean. The critic's last layer stays as it is when they move;
``PopArt`` rescales it, so that values stay what they were (van Hasselt et al. 2016, arXiv 1602.07714).
"""

import torch
from torch import Tensor, nn
from typing_extensions import override

from lit_maprops.envs.ends import weighted
from lit_maprops.stacked.nets import StackedNet

BETA = 0.99999  # of the average, per target update
SMALLEST = (
    1e-5  # share of the average that is not the 0 it began with (MAPPO's code), variance (TorchRL; MAPPO's: 1e-2)
)


class ValueNorm(nn.Module):
    """Statistics of value targets, every seed's and agent's own; an agent's stay in updates without a step of it.

    Args:
        n_seeds: R.
        n_agents: A.
    """

    mean: Tensor  # [R, A] float64, averages that begin with 0
    square: Tensor  # [R, A] float64
    share: Tensor  # [R, A] float64, what is not that 0

    def __init__(self, n_seeds: int, n_agents: int) -> None:
        super().__init__()
        for name in ("mean", "square", "share"):
            self.register_buffer(name, torch.zeros(n_seeds, n_agents, dtype=torch.float64))

    @torch.no_grad()
    def update(self, target: Tensor, weight: Tensor | None, learning: Tensor | None) -> None:
        """Take in value targets ``[R, B, A, 1]`` (return).

        Args:
            target: the value targets.
            weight: of each, ``[R, B, A]``, with mean 1; None: all 1. See ``envs.ends.weights``.
            learning: ``[R]`` bool, seeds that take part; None: all.
        """
        mean, square, moves = self._newest(target.squeeze(-1).double(), weight)
        if learning is not None:
            moves = moves & learning.to(moves.device).unsqueeze(1)
        new = (mean, square, torch.ones_like(self.share))
        for average, value in zip((self.mean, self.square, self.share), new, strict=True):
            average.copy_(torch.where(moves, BETA * average + (1 - BETA) * value, average))

    def _newest(self, target: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Means of targets ``[R, B, A]`` and of their squares, and bool: whose there are any. ``[R, A]`` each."""
        there = torch.ones_like(self.share).bool() if weight is None else weight.amax(1) > 0
        return weighted(target, weight).mean(1), weighted(target.square(), weight).mean(1), there

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
        mean, deviation = (figure.to(value.dtype) for figure in self.statistics())
        shape = (len(mean), *(1,) * (value.dim() - 3), mean.shape[1], 1)
        return mean.view(shape), deviation.view(shape)

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of value targets so far, ``[R, A]`` float64 (return)."""
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
        scale = (deviation / new_deviation)[:, own].to(weights.dtype)
        weights.mul_(scale.unsqueeze(-1))
        bias.mul_(scale).add_(((mean - new_mean) / new_deviation)[:, own].to(bias.dtype))

    @override
    def _newest(self, target: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        mean, square, there = super()._newest(target, weight)
        if self._last_layer()[1].shape[1] == target.shape[2]:
            return mean, square, there
        agents = there.sum(1, keepdim=True).clamp(min=1)  # the mean of one that is not there is 0
        of_all = (figure.sum(1, keepdim=True) / agents for figure in (mean, square))
        mean, square = (figure.expand_as(there) for figure in of_all)
        return mean, square, there.any(1, keepdim=True).expand_as(there)

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
