"""Boundaries of group-sequential tests by alpha spending (Lan and DeMets, Biometrika 70, 1983).

The error rate that may be spent up to a look is alpha * t ** ``SPENDING``, t its share of the most seeds (Kim and
DeMets, Biometrika 74, 1987). Boundaries follow from the distribution of a Brownian motion that has not crossed one
before, by the recursive integration of Armitage, McPherson and Rowe (Journal of the Royal Statistical Society A 132,
1969).
"""

import math
from collections.abc import Sequence
from functools import cache

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
    motion, found = _Motion(0.0), []
    for time, error in zip(times.tolist(), np.diff(alpha * times**spending, prepend=0.0).tolist(), strict=True):
        low, high = 0.0, MOST_BOUNDARY
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            low, high = (middle, high) if motion.leaving(time, middle) > error else (low, middle)
        found.append(high)
        motion.go_on(time, high)
    return np.array(found)


def crossings(looks: Sequence[float], ends: Floats, drift: float) -> Floats:
    """Probability that each look is the first beyond its boundary, ``[looks]``.

    Args:
        looks: as of ``boundaries``.
        ends: the boundaries.
        drift: standard errors that the true difference is away from 0 at the last look.
    """
    motion, found = _Motion(drift), []
    for seeds, end in zip(looks, ends.tolist(), strict=True):
        found.append(motion.leaving(seeds / looks[-1], end))
        motion.go_on(seeds / looks[-1], end)
    return np.array(found)


class _Motion:
    """A Brownian motion on the scale of standard errors, as far as it has crossed no boundary.

    Args:
        drift: its mean at time 1.
    """

    def __init__(self, drift: float) -> None:
        self._drift, self._time = drift, 0.0
        self._places: Floats = np.zeros(1)  # where it may be
        self._weights: Floats = np.ones(1)  # how probably

    def leaving(self, time: float, end: float) -> float:
        """Probability that it is beyond plus or minus ``end`` at the next look, at ``time``."""
        means, spread = self._step(time)
        scale = spread * math.sqrt(2)  # numpy has no normal distribution, and scipy is in an extra
        beyond = [0.5 * (math.erfc((end - m) / scale) + math.erfc((end + m) / scale)) for m in means.tolist()]
        return float(np.array(beyond) @ self._weights)

    def go_on(self, time: float, end: float) -> None:
        """To the next look, unless it is beyond ``end`` there."""
        means, spread = self._step(time)
        places, weights = (end * array for array in _gauss_legendre())
        density = np.exp(-(((places[:, None] - means) / spread) ** 2) / 2) / (spread * math.sqrt(2 * math.pi))
        self._places, self._weights, self._time = places, weights * (density @ self._weights), time

    def _step(self, time: float) -> tuple[Floats, float]:
        """Means and standard deviation of where it is at ``time``, given where it was."""
        moved = self._drift * (time - self._time) / math.sqrt(time)
        return self._places * math.sqrt(self._time / time) + moved, math.sqrt(1 - self._time / time)


@cache
def _gauss_legendre() -> tuple[Floats, Floats]:
    return np.polynomial.legendre.leggauss(NODES)
