"""Figures of merit by hand, and against arch, rliable and statsmodels."""

import numpy as np
import pytest
from scipy.stats import bootstrap, trim_mean

from lit_maprops.metrics.score_interval import score_interval
from lit_maprops.report import statistics

RNG = np.random.default_rng(5)
X = RNG.choice([0.0, 0.5, 0.9, 1.0], 30, p=[0.3, 0.1, 0.2, 0.4])
Y = RNG.choice([0.0, 0.5, 0.9, 1.0], 40, p=[0.5, 0.1, 0.2, 0.2])


def test_iqm_by_hand() -> None:
    assert statistics.iqm(np.array([0, 0, 0.25, 0.5, 0.75, 1, 1, 1])) == pytest.approx((0.25 + 0.5 + 0.75 + 1) / 4)
    assert statistics.iqm(np.array([0.0, 1.0]), np.array([1.0, 0.0])) == pytest.approx(0.5)


def test_improvement_by_hand() -> None:
    x, y = np.array([1.0, 0.5]), np.array([0.5, 0.0])
    assert statistics.improvement([x], [y]).value == pytest.approx((1 + 1 + 0.5 + 1) / 4)
    assert statistics.improvement([y], [x]).value == pytest.approx(1 - 3.5 / 4)
    # The mean over strata, not over pooled pairs.
    assert statistics.improvement([x, np.zeros(4)], [y, np.zeros(2)]).value == pytest.approx((3.5 / 4 + 0.5) / 2)


def test_mean_difference_by_hand() -> None:
    assert statistics.mean_difference(np.array([1.0, 0]), np.ones(3), np.zeros(2), np.ones(2)) == pytest.approx(0.25)


def test_share_by_hand() -> None:
    """Wilson's formula for 3 of 4."""
    n, p, z = 4, 0.75, 1.959964
    center, half = p + z**2 / (2 * n), z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    share = statistics.share(np.array([1.0, 1, 1, 0]))
    assert share.value == 0.75
    assert (share.low, share.high) == pytest.approx(
        ((center - half) / (1 + z**2 / n), (center + half) / (1 + z**2 / n))
    )


def test_share_against_statsmodels() -> None:
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    share = statistics.share((X > 0.8).astype(float))
    expected = proportion.proportion_confint(int((X > 0.8).sum()), len(X), method="wilson")
    assert (share.low, share.high) == pytest.approx(expected)


def test_difference_of_shares_counts_every_stratum_once() -> None:
    """All of a sampler's seeds agree in one stratum, as many as can be in the other."""
    x, y = [np.ones(8), np.repeat([1.0, 0.0], [3, 7])], [np.zeros(4), np.repeat([1.0, 0.0], [3, 3])]
    difference = statistics.share_difference(x, y)
    assert difference.value == pytest.approx((1 + 3 / 10 - 3 / 6) / 2)
    assert (difference.low, difference.high) == pytest.approx(score_interval([8, 3], [8, 10], [0, 3], [4, 6]))
    one = statistics.share_difference(x[:1], y[:1])
    assert one.value == 1 == one.high and 0 < one.low < 0.7


def test_equal_scores_have_an_interval_of_the_improvement() -> None:
    """16 seeds at 1 against 16 at 0: resampling gave [1, 1]. The end solves Newcombe's equation (2006, method 5)."""
    found = statistics.improvement([np.ones(16)], [np.zeros(16)])
    end = found.low
    variance = end * (1 - end) / 16**2 * (1 + 15 * ((1 - end) / (2 - end) + end / (1 + end)))
    assert (1 - end) ** 2 == pytest.approx(1.959964**2 * variance, rel=1e-4)
    assert 0.8 < end < found.high == found.value == 1
    turned = statistics.improvement([np.zeros(16)], [np.ones(16)])
    assert (turned.low, turned.value, turned.high) == pytest.approx((0, 0, 1 - end))
    tied = statistics.improvement([np.ones(16)], [np.ones(16)])
    assert tied.value == 0.5 and tied.low == pytest.approx(1 - tied.high) and tied.high > 0.6
    # Two such strata, each with half the weight.
    two = statistics.improvement([np.ones(16)] * 2, [np.zeros(16)] * 2)
    assert 1 - two.low == pytest.approx((1 - end) / np.sqrt(2))


@pytest.mark.parametrize("sizes", [(30,), (12, 18)], ids=["one stratum", "two strata"])
def test_iqm_interval_against_rliable(sizes: tuple[int, ...]) -> None:
    """Their stratified bootstrap resamples each task by itself; equal up to the noise of 2,000 resamples."""
    library = pytest.importorskip("rliable.library")
    strata = np.split(X, np.cumsum(sizes)[:-1])
    ours = statistics.bootstrap(statistics.iqm, strata)
    if len(sizes) == 1:
        from rliable import metrics

        def aggregate(scores: np.ndarray) -> np.ndarray:
            return np.array([metrics.aggregate_iqm(scores)])

        points, ends = library.get_interval_estimates({"x": X[:, None]}, aggregate, reps=4000)
        assert ours.value == pytest.approx(points["x"][0])
        assert (ours.low, ours.high) == pytest.approx(ends["x"][:, 0], abs=0.05)
    else:
        # rliable wants equally many runs per task: an oracle of one loop instead.
        rng = np.random.default_rng(1)
        draws = [statistics.iqm(*(rng.choice(s, len(s)) for s in strata)) for _ in range(4000)]
        assert (ours.low, ours.high) == pytest.approx(np.percentile(draws, [2.5, 97.5]), abs=0.05)


def test_improvement_against_rliable() -> None:
    """rliable leaves ties at the Mann-Whitney statistic of scipy, hence the same one half."""
    metrics = pytest.importorskip("rliable.metrics")
    ours = statistics.improvement([X], [Y])
    assert ours.value == pytest.approx(metrics.probability_of_improvement(X[:, None], Y[:, None]))


def test_improvement_interval_against_arch() -> None:
    arch = pytest.importorskip("arch.bootstrap")
    ours = statistics.improvement([X], [Y])
    ends = arch.IndependentSamplesBootstrap(X, Y, seed=3).conf_int(
        lambda x, y: (x[:, None] > y).mean() + 0.5 * (x[:, None] == y).mean(), 4000, method="percentile"
    )
    assert (ours.low, ours.high) == pytest.approx(ends[:, 0], abs=0.02)


def test_bootstrap_against_scipy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same draws, whole and in parts."""
    for most in (statistics.BATCH_NUMBERS, 700 * (len(X) + len(Y))):
        monkeypatch.setattr(statistics, "BATCH_NUMBERS", most)
        theirs = bootstrap(
            (X, Y),
            lambda x, y, axis: trim_mean(np.concatenate([x, y], axis), 0.25, axis=axis),
            vectorized=True,
            n_resamples=statistics.RESAMPLES,
            batch=most // (len(X) + len(Y)),
            method="percentile",
            rng=np.random.default_rng(0),
        ).confidence_interval
        ours = statistics.bootstrap(statistics.iqm, [X, Y])
        assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_a_single_seed_has_no_interval() -> None:
    alone = statistics.bootstrap(statistics.iqm, [np.array([0.7])])
    assert alone.value == pytest.approx(0.7)
    assert np.isnan(alone.low) and alone.beats(0.0) == 0


def test_verdict_needs_the_whole_interval() -> None:
    assert statistics.Interval(0.2, 0.1, 0.3).beats(0) == 1
    assert statistics.Interval(-0.2, -0.3, -0.1).beats(0) == -1
    assert statistics.Interval(0.2, -0.01, 0.3).beats(0) == 0


def test_power_law_by_hand() -> None:
    x = np.array([8.0, 16, 32, 64])
    fit = statistics.power_law(x, 3 * x**-0.5)
    assert fit is not None and fit.slope == pytest.approx(-0.5) and fit.factor == pytest.approx(3)
    assert statistics.power_law(x, np.array([0.0, 0, 1, 1])) is None


def test_equal_data_give_equal_intervals() -> None:
    assert statistics.improvement([X], [Y]) == statistics.improvement([X], [Y])
