"""Synthetic sweeps until decided: how often a verdict is wrong, and how many seeds it takes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lit_maprops.trials.decision import BETTER, EQUAL, OPEN, VERDICTS, WORSE, Design


@dataclass(frozen=True)
class Outcomes:
    """What became of the sweeps.

    Attributes:
        verdicts: numbers in ``VERDICTS``, ``[sweeps, samplers]``.
        seeds: of each sampler, and of the base last, ``[sweeps, samplers + 1]``.
        wrong: sweeps with a wrong verdict of any sampler, ``[sweeps]``.
    """

    verdicts: NDArray[np.integer]
    seeds: NDArray[np.integer]
    wrong: NDArray[np.bool_]

    def share(self, verdict: str, sampler: int = 0) -> float:
        """How often a sampler got a verdict."""
        return float((self.verdicts[:, sampler] == VERDICTS.index(verdict)).mean())


def simulate(design: Design, shares: Sequence[float], base: float, sweeps: int, seed: int = 0) -> Outcomes:
    """Sweeps of samplers that solve their seeds independently.

    Args:
        design: of the comparisons, one for each of ``shares``.
        shares: true, of the samplers.
        base: true, of the base.
        sweeps: how many.
        seed: of the random numbers.
    """
    looks, true = np.array(design.looks), np.array([*shares, base])
    blocks = np.diff(looks, prepend=0)
    generator = np.random.default_rng(seed)
    solved = generator.binomial(blocks, true[:, None], (sweeps, len(true), len(looks))).cumsum(-1)
    verdicts = np.zeros((sweeps, len(shares)), dtype=int)
    seeds = np.full((sweeps, len(true)), looks[-1])
    for number, count in enumerate(looks):
        sweep, sampler = np.nonzero(verdicts == 0)
        _, found = design.intervals(number, solved[sweep, sampler, number], solved[sweep, -1, number])
        verdicts[sweep, sampler] = found
        decided = found > 0
        seeds[sweep[decided], sampler[decided]] = count
    seeds[:, -1] = seeds[:, :-1].max(1)
    return Outcomes(verdicts, seeds, _wrong(verdicts, true[:-1] - base, design.margin))


def _wrong(verdicts: NDArray, difference: NDArray, margin: float) -> NDArray[np.bool_]:
    close = 1e-9  # 0.6 - 0.5 is not quite 0.1
    truth = {
        OPEN: np.ones_like(difference, dtype=bool),
        BETTER: difference > close,
        WORSE: difference < -close,
        EQUAL: abs(difference) <= margin + close,
    }
    return np.array([[not truth[v][k] for v in VERDICTS] for k in range(len(difference))])[
        np.arange(len(difference)), verdicts
    ].any(1)
