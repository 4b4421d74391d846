"""Whether a series grows, told from its noise."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import linregress, t

BLOCKS = 10


class Slope(NamedTuple):
    """A straight line's rise per hour with its 95% interval."""

    rise: float
    low: float
    high: float

    @property
    def within_noise(self) -> bool:
        """Whether the interval holds 0 or lies below it."""
        return self.low <= 0

    def __str__(self) -> str:
        return f"{self.rise:+.3g} [{self.low:+.3g}, {self.high:+.3g}]"


def slope(hours: NDArray[np.floating], values: NDArray[np.floating]) -> Slope:
    """Least squares on the means of ``BLOCKS`` consecutive blocks (batch means).

    Samples a few seconds apart are far from independent, means of minutes nearly are: the interval is Student's for
    ``BLOCKS`` - 2 degrees of freedom.
    """
    x, y = (np.array([part.mean() for part in np.array_split(series, BLOCKS)]) for series in (hours, values))
    line = linregress(x, y)
    reach = float(t.ppf(0.975, BLOCKS - 2)) * line.stderr
    return Slope(line.slope, line.slope - reach, line.slope + reach)
