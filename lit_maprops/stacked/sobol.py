"""Points of Sobol's sequence, and what makes each of them uniform: a digital shift or Owen's scrambling.

Coordinates are whole numbers of ``BITS`` bits, k for k / 2**BITS on [0, 1): as many as a float32 between 0.5 and 1 has,
so that none is ever rounded, and none to 1. The points are those of ``torch.quasirandom.SobolEngine`` (direction
numbers of Joe and Kuo 2008), in its order.
"""

from functools import cache

import torch
from torch import Tensor
from torch.quasirandom import SobolEngine

BITS = 24
PERIOD = 2**14  # points, after which they come again: then every dyadic interval has been hit alike
# Of SplitMix64 (Steele, Lea and Flood 2014), as signed numbers: products of int64 wrap around.
_STEP = 0x9E3779B97F4A7C15 - 2**64
_ROUNDS = ((30, 0xBF58476D1CE4E5B9 - 2**64), (27, 0x94D049BB133111EB - 2**64))
_LAST = 31


@cache
def sobol_points(dimensions: int) -> Tensor:
    """The first ``PERIOD`` points of Sobol's sequence in W dimensions, 0 first: ``[PERIOD, W]`` int32, to be read."""
    points = SobolEngine(dimensions).draw(PERIOD, dtype=torch.float64)
    return (points * 2**BITS).to(torch.int32)


def to_bits(uniform: Tensor) -> Tensor:
    """Numbers on [0, 1) with at most ``BITS`` bits, as those of ``torch.rand`` are, as int32."""
    return (uniform * 2**BITS).to(torch.int32)


def to_uniform(bits: Tensor) -> Tensor:
    """int32 coordinates as float32 numbers on [0, 1), exactly."""
    return bits.float() * 2**-BITS


def owen(points: Tensor, keys: Tensor) -> Tensor:
    """Nested uniform scrambling (Owen 1995): each bit flips or not by a hash of the key and of the bits above it.

    Args:
        points: ``[*B]`` int32 coordinates.
        keys: ``[*B]`` int64, at least 0 and below 2**38; for equal keys the flips are the same.

    Returns:
        ``[*B]`` int32: for every key a permutation of all coordinates that keeps dyadic intervals together.
    """
    depth = torch.arange(BITS, device=points.device)  # bits above the one that may flip
    above = (points.long().unsqueeze(-1) >> (BITS - depth)) | (1 << depth)  # a node of the tree of intervals
    hashed = _mixed(keys.unsqueeze(-1) * 2 ** (BITS + 1) + above)
    flips = ((hashed & 1) << (BITS - 1 - depth)).sum(-1)
    return points ^ flips.to(torch.int32)


def _mixed(numbers: Tensor) -> Tensor:
    """SplitMix64's output for int64 counters."""
    numbers = (numbers + 1) * _STEP
    for shift, factor in _ROUNDS:
        numbers = (numbers ^ _shifted(numbers, shift)) * factor
    return numbers ^ _shifted(numbers, _LAST)


def _shifted(numbers: Tensor, by: int) -> Tensor:
    """To the right, as numbers without a sign."""
    return (numbers >> by) & ((1 << (64 - by)) - 1)
