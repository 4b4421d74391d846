"""Score interval of the difference of two solved shares, in one setting or as the mean over several.

Miettinen and Nurminen, Statistics in Medicine 4, 1985: the variance is that of the most likely shares which have the
difference in question, times N / (N - 1), N the runs of both samplers. So it is not 0 where all are solved or none.
Two things are ours. Only the mean difference over settings is held fixed, not one difference for all, as a sampler may
help in one setting and hurt in another; the factor then takes account of the further shares that are fitted. And half
of the largest step of the estimate, the most that one run changes it, is taken off its distance (a continuity
correction): without, 95% intervals cover some shares near 0 and 1 with 82% only, as Wilson's and Newcombe's do.
Coverage: tests/metrics/test_score_interval.py.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lit_maprops.metrics.reliability import NORMAL_QUANTILE

Floats = NDArray[np.floating]
HALVINGS = 50  # of the bracket that holds an end; a few more, and its upper end would be rounded to 1


def score_interval(
    a: ArrayLike,
    runs_a: ArrayLike,
    b: ArrayLike,
    runs_b: ArrayLike,
    *,
    continuity: bool = True,
    quantile: float = NORMAL_QUANTILE,
) -> tuple[Floats, Floats]:
    """95% interval of the mean over settings of a / runs_a - b / runs_b.

    Args:
        a: solved runs of the first sampler in each setting, ``[..., settings]``.
        runs_a: its runs, each at least 1, ``[settings]``.
        b: of the second sampler, as ``a``.
        runs_b: likewise.
        continuity: whether to take off half a step.
        quantile: standard errors to either end; that of another level than 95%.

    Returns:
        Lower and upper ends, from -1 to 1, ``[...]``.
    """
    solved = np.concatenate([a, b], axis=-1).astype(float)
    runs = np.concatenate([runs_a, runs_b]).astype(float)
    settings = len(runs) // 2
    weights = np.repeat([1.0, -1.0], settings) / settings
    # A share fitted to n runs takes 1 / n off the mean of its variance, less its part in the one thing held fixed.
    part = weights**2 / runs / (weights**2 / runs).sum()
    inflation = 1 / (1 - (1 - part) / runs)  # in one setting N / (N - 1)
    step = float((np.abs(weights) / runs).max()) / 2 if continuity else 0.0
    # With every run's outcome turned around the difference changes its sign, and its upper end becomes the lower one.
    low, turned = _lower_end(np.stack([solved, runs - solved]), runs, weights, inflation, step, quantile)
    return low, -turned


def _lower_end(
    solved: Floats, runs: Floats, weights: Floats, inflation: Floats, step: float, quantile: float
) -> Floats:
    """The smallest difference that the data do not reject, by bisection, ``[...]``."""
    estimate = (solved / runs) @ weights
    scale = (runs / np.abs(weights)).max()
    inside, outside = np.zeros_like(estimate), np.ones_like(estimate)
    for _ in range(HALVINGS):
        middle = (inside + outside) / 2
        shares = _likeliest(scale * middle / (1 - middle), solved, runs, weights)
        deviation = np.sqrt((shares * (1 - shares) / runs) @ (weights**2 * inflation))
        kept = estimate - shares @ weights - step <= quantile * deviation
        inside, outside = np.where(kept, middle, inside), np.where(kept, outside, middle)
    ends = _likeliest(scale * inside / (1 - inside), solved, runs, weights) @ weights
    return np.where(outside == 1, -1.0, ends)[()]  # where not even -1 is rejected


def _likeliest(multiplier: Floats, solved: Floats, runs: Floats, weights: Floats) -> Floats:
    """The most likely shares with a given difference, ``[..., 2 settings]``.

    The Lagrange multiplier, ``[...]``, says which: 0 is the observed difference, infinity is -1. Each share p solves
    solved / p - (runs - solved) / (1 - p) = multiplier * weight, a quadratic equation.
    """
    pull = multiplier[..., None] * weights
    linear = runs + pull
    root = np.sqrt(np.maximum(linear**2 - 4 * pull * solved, 0.0))
    # Two forms of the one root in [0, 1], each where nothing cancels.
    few = 2 * solved / np.where(linear > 0, linear + root, 1.0)
    many = (linear - root) / np.where(linear > 0, 1.0, 2 * pull)
    return np.clip(np.where(linear > 0, few, many), 0.0, 1.0)
