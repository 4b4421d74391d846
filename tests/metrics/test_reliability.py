"""Intervals over seeds against closed forms and scipy's bootstrap."""

import math

import numpy as np
import pytest
from scipy.stats import bootstrap, norm

from lit_maprops.metrics.reliability import (
    Criterion,
    criterion,
    difference_interval,
    mean_interval,
    rate_text,
    share_text,
    wilson_interval,
)


def closed_form(successes: int, runs: int) -> tuple[float, float]:
    """(p + z^2/2n -+ z sqrt(p (1 - p)/n + z^2/4n^2)) / (1 + z^2/n)."""
    z, p = norm.ppf(0.975), successes / runs
    center = p + z**2 / (2 * runs)
    half = z * math.sqrt(p * (1 - p) / runs + z**2 / (4 * runs**2))
    return (center - half) / (1 + z**2 / runs), (center + half) / (1 + z**2 / runs)


@pytest.mark.parametrize(("successes", "runs"), [(41, 64), (60, 128), (1, 3), (0, 10), (10, 10), (0, 1)])
def test_wilson_interval(successes, runs):
    low, high = wilson_interval(successes, runs)
    expected_low, expected_high = closed_form(successes, runs)
    assert low == pytest.approx(max(expected_low, 0), abs=1e-9)
    assert high == pytest.approx(min(expected_high, 1), abs=1e-9)


def test_wilson_interval_worked_by_hand():
    # p = 1/2, n = 4, z^2 = 3.8415: (0.5 + 0.4802 -+ 1.96 sqrt(0.0625 + 0.0600)) / 1.9604.
    assert wilson_interval(2, 4) == pytest.approx((0.1500, 0.8500), abs=1e-4)


# Newcombe 1998, Statistics in Medicine 17, Table II, method 10 without continuity correction.
PUBLISHED = {
    (56, 70, 48, 80): (0.0524, 0.3339),
    (9, 10, 3, 10): (0.1705, 0.8090),
    (10, 10, 0, 20): (0.6791, 1.0),
    (5, 56, 0, 29): (-0.0381, 0.1926),
}


@pytest.mark.parametrize("counts", PUBLISHED)
def test_difference_interval_is_the_published_one(counts):
    assert difference_interval(*counts) == pytest.approx(PUBLISHED[counts], abs=1e-4)


def test_difference_interval_covers_the_difference():
    """Of 2,000 simulated comparisons of 0.44 and 0.6 with 64 runs each, 95% cover the truth, give or take the noise."""
    rng = np.random.default_rng(0)
    a, b = rng.binomial(64, 0.44, 2000), rng.binomial(64, 0.6, 2000)
    intervals = {pair: difference_interval(pair[0], 64, pair[1], 64) for pair in set(zip(a, b, strict=True))}
    covered = [intervals[pair][0] <= 0.44 - 0.6 <= intervals[pair][1] for pair in zip(a, b, strict=True)]
    assert 0.93 < np.mean(covered) < 0.97


def test_a_seed_is_solved_from_the_threshold_on_and_never_with_nan():
    assert criterion("success", 0.8, True).solved([1.0, 0.8, 0.79, 0.0, float("nan")]).tolist() == [1, 1, 0, 0, 0]
    assert criterion(None, 0.0, True).solved([0.0]).tolist() == [True]
    assert criterion("return", -2.5, False).solved([-2.4, -2.5, -2.6, float("nan")]).tolist() == [1, 1, 0, 0]
    assert not criterion("return", None, True).solved([1e9, float("nan")]).any()


@pytest.mark.parametrize("episodes", [10, 20, 50])
def test_a_share_that_is_exactly_the_threshold_reaches_it(episodes):
    """Rates are measured in single precision, which 0.7 and 0.9 are above."""
    for successes in range(episodes + 1):
        rate = float(np.float32(successes) / np.float32(episodes))
        assert Criterion("success", successes / episodes).solved([rate]).all()
        assert not Criterion("success", (successes + 1) / episodes).solved([rate]).any()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ((None, None, True), ("success", 0.8)),
        ((None, 0.5, True), ("success", 0.5)),
        ((None, None, False), ("return", None)),
        ((None, 0.8, False), ("return", None)),  # a share of successes is no return; earlier versions wrote 0.8 always
        (("success", None, False), ("success", 0.8)),
        (("return", None, True), ("return", None)),
        (("return", 20.0, True), ("return", 20.0)),
    ],
)
def test_what_decides_whether_a_seed_is_solved(settings, expected):
    assert criterion(*settings) == expected


def test_mean_interval_is_the_percentile_bootstrap():
    values = np.random.default_rng(1).gamma(2.0, 1.0, (3, 30))
    low, high = mean_interval(values)
    for point in range(3):
        reference = bootstrap(
            (values[point],), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(2)
        ).confidence_interval
        # Quantiles of 2000 resamples are good to a few hundredths of the standard error.
        tolerance = 0.15 * values[point].std() / math.sqrt(30)
        assert abs(low[point] - reference.low) < tolerance
        assert abs(high[point] - reference.high) < tolerance


def test_mean_interval_is_that_of_means_taken_one_by_one():
    values = np.random.default_rng(5).gamma(2.0, 1.0, (4, 21))
    values[2, 7] = np.nan
    resamples = np.random.default_rng(0).integers(0, 21, (2_000, 21))
    means = [[values[point, row].mean() for row in resamples] for point in range(4)]
    for end, quantile in zip(mean_interval(values), (0.025, 0.975), strict=True):
        np.testing.assert_allclose(end, np.quantile(means, quantile, axis=1), rtol=1e-12)


def test_mean_interval_has_about_the_normal_width():
    values = np.random.default_rng(3).normal(5.0, 2.0, (1, 400))
    low, high = mean_interval(values)
    half = norm.ppf(0.975) * values.std() / math.sqrt(400)
    assert low[0] == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert high[0] == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_mean_interval_is_deterministic_and_degenerates():
    values = np.random.default_rng(4).normal(size=(2, 5))
    for one, other in zip(mean_interval(values), mean_interval(values.copy()), strict=True):
        np.testing.assert_array_equal(one, other)
    single = np.array([[0.3], [0.7]])
    for end in mean_interval(single):
        np.testing.assert_array_equal(end, single[:, 0])
    for end in mean_interval(np.full((1, 6), 0.25)):
        np.testing.assert_array_equal(end, [0.25])


def test_a_share_reads_as_all_or_nothing_only_if_it_is() -> None:
    texts = {
        199 / 200: "99.5%",
        1999 / 2000: "99.95%",
        9999 / 10_000: "99.99%",
        1 - 1e-12: "100%",
        0.999: "99.9%",
        1.0: "100%",
        0.0: "0%",
        1 / 200: "0.5%",
        0.7: "70%",
        0.99: "99%",
    }
    assert {share: share_text(share) for share in texts} == texts
    assert [share_text(share, 1) for share in (0.87, 0.9996, 1.0)] == ["87.0%", "99.96%", "100.0%"]
    assert [rate_text(rate) for rate in (0.695, 0.996, 0.001, 0.0, 1.0)] == ["0.69", "0.996", "0.001", "0.00", "1.00"]
    assert share_text(math.nan) == "nan%" and rate_text(math.nan) == "nan"
