"""Advantages on one scale."""

import torch
from torch import Tensor

from lit_maprops.envs.ends import weighted


def normalized(advantage: Tensor, value: Tensor, weight: Tensor | None) -> Tensor:
    """Mean 0 and deviation 1 per seed and agent, ``[R, B, A, 1]``; 0 where all are equal up to rounding.

    Rounding must not be blown up to size 1: a batched product need not give equal rows equal bits. ``weight``
    ``[R, B, A]`` is that of ``envs.ends.weights``: steps of an agent that has left count for nothing.
    """
    wide = advantage.double()
    squares = value.double().square() + wide.square()
    mean, deviation = wide.mean(1, keepdim=True), wide.std(1, keepdim=True, correction=0)
    if weight is not None:
        weight = weight.double().unsqueeze(-1)
        own = weighted(wide, weight).mean(1, keepdim=True)
        spread = weighted((wide - own).square(), weight).mean(1, keepdim=True).sqrt()
        whole = (weight == 1).all(1, keepdim=True)  # the same bits as without a weight
        mean, deviation = torch.where(whole, mean, own), torch.where(whole, deviation, spread)
        squares = weighted(squares, weight)
    centered = wide - mean
    size = squares.mean(1, keepdim=True).sqrt()
    # Not "> ", which would turn the NaN of a broken seed into a 0.
    normalized = torch.where(deviation <= 1e-6 * size, 0.0, centered / (deviation + 1e-8))
    return weighted(normalized, None if weight is None else (weight != 0).double()).to(advantage.dtype)
