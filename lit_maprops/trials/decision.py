"""When a comparison of solved shares is decided: a group-sequential test with intervals that hold at every look.

Every sampler is compared with the base at the same numbers of seeds, the looks. The interval of a look is the report's
score interval, as many standard errors wide as the look's boundary says (a repeated confidence interval: Jennison and
Turnbull, Journal of the Royal Statistical Society B 51, 1989). All intervals of all looks and samplers hold together
with probability 1 - alpha, up to the approximations of a score interval, since each of K samplers has alpha / K
(Bonferroni). A verdict is wrong only if an interval is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lit_maprops.metrics.score_interval import score_interval
from lit_maprops.trials.boundaries import boundaries

BETTER, WORSE, EQUAL, OPEN = "better", "worse", "equal", "open"
VERDICTS = (OPEN, BETTER, WORSE, EQUAL)  # by their numbers


class Look(NamedTuple):
    """A sampler beside the base after some seeds of each.

    Attributes:
        seeds: of each.
        difference: of the solved shares, sampler minus base.
        low: end of the interval that holds at every look.
        high: the other.
        verdict: ``better``, ``worse``, ``equal`` or ``open``.
    """

    seeds: int
    difference: float
    low: float
    high: float
    verdict: str


@dataclass(frozen=True)
class Design:
    """What is decided before the first seed.

    Args:
        looks: seeds of each sampler at every look, growing; the last are the budget.
        comparisons: samplers that are compared with the base.
        margin: difference of shares within which two are called equal.
        alpha: error rate over all looks and comparisons.
    """

    looks: tuple[int, ...]
    comparisons: int
    margin: float = 0.05
    alpha: float = 0.05

    @cached_property
    def quantiles(self) -> NDArray[np.floating]:
        """Standard errors to the ends of the interval at each look, ``[looks]``."""
        return boundaries(self.looks, self.alpha / self.comparisons)

    def look(self, number: int, solved: int, base: int) -> Look:
        """One sampler at one look.

        Args:
            number: of the look, from 0.
            solved: seeds that the sampler solved.
            base: that the base solved, of as many.
        """
        ends, verdicts = self.intervals(number, np.array([solved]), np.array([base]))
        seeds = self.looks[number]
        return Look(seeds, (solved - base) / seeds, float(ends[0][0]), float(ends[1][0]), VERDICTS[verdicts[0]])

    def intervals(self, number: int, solved: NDArray, base: NDArray) -> tuple[tuple[NDArray, NDArray], NDArray]:
        """Many samplers at one look.

        Returns:
            Lower and upper ends of the differences, and numbers of the verdicts in ``VERDICTS``, each ``[samplers]``.
        """
        # Shares repeat where many sweeps are simulated.
        pairs, which = np.unique(np.stack([solved, base]), axis=1, return_inverse=True)
        seeds, quantile = [self.looks[number]], float(self.quantiles[number])
        low, high = score_interval(pairs[0][:, None], seeds, pairs[1][:, None], seeds, quantile=quantile)
        low, high = low[which], high[which]
        within = (low > -self.margin) & (high < self.margin)
        return (low, high), np.select([low > 0, high < 0, within], [1, 2, 3], 0)


def path(design: Design, solved: Sequence[int], base: Sequence[int]) -> list[Look]:
    """The looks of one sampler up to its verdict.

    Args:
        design: of the comparison.
        solved: seeds that the sampler solved up to each look, as far as they are known.
        base: likewise of the base.
    """
    found: list[Look] = []
    for number, (a, b) in enumerate(zip(solved, base, strict=False)):
        found.append(design.look(number, a, b))
        if found[-1].verdict != OPEN:
            break
    return found


def looks_of(most: int, block: int) -> tuple[int, ...]:
    """Seeds at each look: whole blocks, and what is left of the most seeds."""
    return (*range(block, most, block), most)


def blocks_of(looks: Sequence[int]) -> list[tuple[int, int]]:
    """First seed and number of seeds of the block before each look."""
    return [(before, after - before) for before, after in pairwise((0, *looks))]


def words_of(verdict: str, margin: float) -> str:
    """A last verdict in words."""
    words = {EQUAL: f"equal within {100 * margin:g} points", OPEN: "undecidable at this budget"}
    return words.get(verdict, verdict)
