"""Score intervals of differences: published numbers, brute force, and exact coverage."""

import itertools
import math

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import binom, norm

from lit_maprops.metrics.score_interval import score_interval

SHARES = (0.0, 0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.995, 1.0)
LEAST_COVERAGE = 0.93

# Newcombe 1998, Statistics in Medicine 17, Table II, method 6 (Miettinen and Nurminen), without continuity correction.
PUBLISHED = {
    (56, 70, 48, 80): (0.0528, 0.3382),
    (9, 10, 3, 10): (0.1700, 0.8406),
    (6, 7, 2, 7): (0.0342, 0.8534),
    (5, 56, 0, 29): (-0.0326, 0.1933),
    (0, 10, 0, 20): (-0.1658, 0.2844),
    (0, 10, 0, 10): (-0.2879, 0.2879),
    (10, 10, 0, 20): (0.7156, 1.0),
    (10, 10, 0, 10): (0.6636, 1.0),
}


@pytest.mark.parametrize("counts", PUBLISHED)
def test_one_setting_without_correction_is_the_published_interval(counts: tuple[int, ...]) -> None:
    a, runs_a, b, runs_b = ([count] for count in counts)
    assert score_interval(a, runs_a, b, runs_b, continuity=False) == pytest.approx(PUBLISHED[counts], abs=6e-5)


@pytest.mark.parametrize(
    ("a", "runs_a", "b", "runs_b"),
    [([3], [5], [1], [4]), ([8, 3], [8, 9], [2, 6], [7, 8]), ([4, 4, 1], [4, 4, 4], [0, 2, 3], [4, 4, 5])],
    ids=["one setting", "two", "three"],
)
def test_the_ends_are_what_the_data_just_do_not_reject(
    a: list[int], runs_a: list[int], b: list[int], runs_b: list[int]
) -> None:
    """The most likely shares of each difference by a general optimizer; only the definition is shared."""
    solved, runs = np.array(a + b), np.array(runs_a + runs_b)
    weights = np.repeat([1, -1], len(a)) / len(a)
    part = (weights**2 / runs) / (weights**2 / runs).sum()
    step = max(1 / count for count in runs) / len(a) / 2

    def statistic(difference: float) -> float:
        def loss(p: np.ndarray) -> float:
            return -float((solved * np.log(p) + (runs - solved) * np.log1p(-p)).sum())

        fixed = {"type": "eq", "fun": lambda p: weights @ p - difference}
        start = np.where(weights > 0, 0.5 + difference / 2, 0.5 - difference / 2)
        bounds = [(1e-9, 1 - 1e-9)] * len(runs)
        p = minimize(loss, start, bounds=bounds, constraints=[fixed], options={"ftol": 1e-13, "maxiter": 500}).x
        variance = (weights**2 * p * (1 - p) / (runs - 1 + part)).sum()
        return float((abs(weights @ (solved / runs) - difference) - step) / np.sqrt(variance))

    for end in score_interval(a, runs_a, b, runs_b):
        assert statistic(float(end)) == pytest.approx(norm.ppf(0.975), abs=2e-3)


def coverage(runs_a: tuple[int, ...], runs_b: tuple[int, ...]) -> float:
    """The least over shares, alike in all settings of a sampler: all outcomes, weighted by their probability."""
    settings, runs = len(runs_a), (*runs_a, *runs_b)
    outcomes = np.array(list(itertools.product(*(range(count + 1) for count in runs))))
    low, high = score_interval(outcomes[:, :settings], runs_a, outcomes[:, settings:], runs_b)
    mass = [np.stack([binom.pmf(x, n, SHARES) for x in range(n + 1)]) for n in runs]  # [outcomes, shares]
    of_arm = [
        np.prod([mass[i][outcomes[:, i]] for i in arm], axis=0)
        for arm in (range(settings), range(settings, 2 * settings))
    ]
    difference = np.subtract.outer(SHARES, SHARES)
    least = 1.0
    for i, j in np.ndindex(difference.shape):
        covered = (low <= difference[i, j] + 1e-9) & (high >= difference[i, j] - 1e-9)
        least = min(least, float((of_arm[0][:, i] * of_arm[1][:, j] * covered).sum()))
    return least


ONE = [(1, 1), (1, 64), (2, 2), (2, 5), (2, 64), (3, 3), (4, 4), (4, 16), (5, 5), (8, 8), (12, 40), (16, 16), (16, 64)]
ONE += [(32, 32), (64, 64)]


@pytest.mark.parametrize(("runs_a", "runs_b"), ONE)
def test_coverage_in_one_setting(runs_a: int, runs_b: int) -> None:
    """Exact. Newcombe's interval has 0.82 with two runs and 0.85 with 64, a share being 0 or 1, the other near."""
    assert coverage((runs_a,), (runs_b,)) > 0.9499


SEVERAL = [((2, 2), (2, 2)), ((4, 4), (4, 4)), ((2, 8), (3, 4)), ((2, 2, 2, 2), (2, 2, 2, 2)), ((3, 1, 4), (3, 2, 2))]


@pytest.mark.parametrize(("runs_a", "runs_b"), SEVERAL)
def test_coverage_in_several_settings(runs_a: tuple[int, ...], runs_b: tuple[int, ...]) -> None:
    """Exact."""
    assert coverage(runs_a, runs_b) > LEAST_COVERAGE


@pytest.mark.parametrize(
    ("settings", "runs"), [(3, 2), (4, 4), (6, 3), (8, 2), pytest.param(8, 3, marks=pytest.mark.slow)]
)
def test_coverage_in_many_alike_settings(settings: int, runs: int) -> None:
    """Exact: which setting gave which count does not matter, so that few outcomes are left."""
    counts = np.array(list(itertools.combinations_with_replacement(range(runs + 1), settings)))
    orders = [
        math.factorial(settings) / math.prod(math.factorial(n) for n in np.bincount(row).tolist()) for row in counts
    ]
    first, second = np.divmod(np.arange(len(counts) ** 2), len(counts))
    low, high = score_interval(counts[first], [runs] * settings, counts[second], [runs] * settings)
    shares = [0.0, 0.05, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 0.95, 1.0]
    mass = {p: np.array(orders) * np.prod(binom.pmf(counts, runs, p), axis=1) for p in shares}
    for p, q in itertools.product(shares, shares):
        covered = ((low <= p - q + 1e-9) & (high >= p - q - 1e-9)).reshape(len(counts), -1)
        assert mass[p] @ covered @ mass[q] > LEAST_COVERAGE


@pytest.mark.parametrize("settings", [2, 4, 8])
@pytest.mark.parametrize("runs", [2, 4, 16, 64])
def test_coverage_in_settings_unlike_each_other(settings: int, runs: int) -> None:
    """Simulated, with a standard error of at most 0.005: some settings that all solve, some that none does."""
    rng = np.random.default_rng(settings * runs)
    counts, draws = np.full(settings, runs), 2500
    for _ in range(3):
        p, q = rng.choice(SHARES, (2, settings))
        a, b = rng.binomial(runs, p, (draws, settings)), rng.binomial(runs, q, (draws, settings))
        low, high = score_interval(a, counts, b, counts)
        truth = (p - q).mean()
        assert np.mean((low <= truth + 1e-9) & (high >= truth - 1e-9)) > LEAST_COVERAGE


def test_all_against_none_leaves_room() -> None:
    """16 of 16 against 0 of 16, in one setting and in two: resampling gave [1, 1]."""
    one, _ = score_interval([16], [16], [0], [16])
    two, high = score_interval([16, 16], [16, 16], [0, 0], [16, 16])
    # At the end both shares are 1 - e and e: 2 e - 1 / 32 = z sqrt(2 e (1 - e) / 16 * 32 / 31) in one setting; in two
    # a share's variance is e (1 - e) / (16 - 3 / 4).
    z, e = norm.ppf(0.975), (1 - float(one)) / 2
    assert 2 * e - 1 / 32 == pytest.approx(z * np.sqrt(2 * e * (1 - e) / 16 * 32 / 31), abs=1e-9)
    e = (1 - float(two)) / 2
    assert 2 * e - 1 / 64 == pytest.approx(z * np.sqrt(4 * e * (1 - e) / 4 / 15.25), abs=1e-9)
    assert one < two < 1 == high


def test_samplers_changed_over_change_the_sign() -> None:
    low, high = score_interval([3, 8], [8, 8], [5, 0], [9, 4])
    assert score_interval([5, 0], [9, 4], [3, 8], [8, 8]) == pytest.approx((-high, -low), abs=1e-12)
