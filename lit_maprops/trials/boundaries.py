"""Boundaries of group-sequential tests by alpha spending (Lan and DeMets, Biometrika 70, 1983).

The error rate that may be spent up to a look is alpha * t ** ``SPENDING``, t its share of the most seeds (Kim and
DeMets, Biometrika 74, 1987). Boundaries follow from the distribution of a Brownian motion that has not crossed one before, by
the recursive integration of Armitage, McPherson and Rowe (Journal of the Royal Statistical Society A 132, 1969).
"""

import math
from collections.abc import Sequence
from functools import cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

SPENDING = 2.0  # 1: nearly equal boundaries (Pocock); 3: high ones first (O'Brien and Fleming)
NODES = 200  # of an integral
MOST_BOUNDARY = 8.0  # standard errors; beyond, nothing is left to spend
HALVINGS = 60

Floats = NDArray[np.floating]


def boundaries(looks: Sequence[float], alpha: float, spending: float = SPENDING) -> Floats:
    """How many standard errors a difference must be away at each look, ``[looks]``.

    Args:
        looks: seeds at each, growing; the last are the most.
        alpha: two-sided error rate over all looks.
        spending: exponent of the share of seeds.
    """
    times = np.asarray(looks, dtype=float) / looks[-1]
    spent = np.diff(alpha * times**spending, prepend=0.0)
    found = [min(NormalDist().inv_cdf(1 - spent[0] / 2), MOST_BOUNDARY)]
    places, weights = _nodes(found[0])
    inside = weights * np.exp(-(places**2) / 2) / math.sqrt(2 * math.pi)
    for before, time, error in zip(times[:-1], times[1:], spent[1:], strict=True):
        centers, spread = places * math.sqrt(before / time), math.sqrt(1 - before / time)
        found.append(_boundary(centers, spread, inside, error))
        new, weights = _nodes(found[-1])
        density = np.exp(-(((new[:, None] - centers) / spread) ** 2) / 2) / (spread * math.sqrt(2 * math.pi))
        places, inside = new, weights * (density @ inside)
    return np.array(found)


def _below(values: Floats) -> Floats:
    """The standard normal distribution; numpy has none, and scipy is in an extra."""
    return np.array([0.5 * math.erfc(-value / math.sqrt(2)) for value in values.tolist()])


def _nodes(end: float) -> tuple[Floats, Floats]:
    places, weights = _gauss_legendre()
    return end * places, end * weights


@cache
def _gauss_legendre() -> tuple[Floats, Floats]:
    return np.polynomial.legendre.leggauss(NODES)


def _boundary(centers: Floats, spread: float, inside: Floats, error: float) -> float:
    """Where as much is outside as may be spent."""
    low, high = 0.0, MOST_BOUNDARY
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        outside = (_below((centers - middle) / spread) + _below((-middle - centers) / spread)) @ inside
        low, high = (middle, high) if outside > error else (low, middle)
    return high
