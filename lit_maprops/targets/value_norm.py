"""Value normalization: the critic learns value targets on one scale, whatever the size of returns.

MAPPO's (Yu et al. 2022, appendix; its code's ``ValueNorm``, TorchRL's ``PopArtValueNorm``): mean and mean square of the
targets, averaged exponentially and without bias. The last layer is not rescaled when they move, as PopArt does (van
Hasselt et al. 2016).
"""

import torch
from torch import Tensor, nn

from lit_maprops.envs.ends import weighted

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
        new = weighted(target, weight).mean(1), weighted(target.square(), weight).mean(1), torch.ones_like(self.share)
        for average, value in zip((self.mean, self.square, self.share), new, strict=True):
            moved = BETA * average + (1 - BETA) * value
            taken = moved if learning is None else torch.where(learning.to(moved.device).unsqueeze(1), moved, average)
            average.copy_(taken)

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
        share = self.share.clamp(min=SMALLEST)
        mean = self.mean / share
        deviation = (self.square / share - mean.square()).clamp(min=SMALLEST).sqrt()
        shape = (len(mean), *(1,) * (value.dim() - 3), mean.shape[1], 1)
        return mean.view(shape), deviation.view(shape)
