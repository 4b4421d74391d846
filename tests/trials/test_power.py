"""Power and seeds against statsmodels, and against counting all outcomes with the report's own interval."""

import math
import warnings

import numpy as np
import pytest
from scipy.stats import binom, norm

from lit_maprops.metrics.reliability import NORMAL_QUANTILE, corrected_quantile, difference_interval, wilson_interval
from lit_maprops.metrics.score_interval import score_interval
from lit_maprops.trials.power import (
    arcsine_effect,
    exact_power,
    mean_power,
    misses_zero,
    seeds_for,
    share_power,
    visible_effect,
    whole_seeds,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from statsmodels.stats.power import NormalIndPower, TTestIndPower
    from statsmodels.stats.proportion import proportion_confint, proportion_effectsize

PAIRS = [(0.6, 0.5), (0.5, 0.6), (1.0, 0.9), (0.0, 0.05), (0.31, 0.3), (0.9, 0.2)]


@pytest.mark.parametrize(("share", "base"), PAIRS)
@pytest.mark.parametrize("alpha", [0.05, 0.05 / 3])
def test_shares_as_statsmodels_has_them(share: float, base: float, alpha: float) -> None:
    effect = proportion_effectsize(share, base)
    assert arcsine_effect(share, base) == pytest.approx(effect, abs=1e-12)
    for seeds in (3, 64, 387, 5000):
        expected = NormalIndPower().power(effect, seeds, alpha)
        assert share_power(share, base, seeds, alpha) == pytest.approx(expected, abs=1e-9)
    expected = NormalIndPower().solve_power(abs(effect), alpha=alpha, power=0.8)
    assert seeds_for(lambda n: share_power(share, base, n, alpha), 0.8) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("effect", [0.1, 0.5, 2.0])
def test_means_as_statsmodels_has_them(effect: float) -> None:
    for seeds in (2, 10, 200):
        expected = TTestIndPower().power(effect, seeds, 0.05)
        assert mean_power(3 * effect, 3.0, seeds, 0.05) == pytest.approx(expected, abs=1e-6)
    expected = TTestIndPower().solve_power(effect, alpha=0.05, power=0.9)
    assert seeds_for(lambda n: mean_power(effect, 1.0, n, 0.05), 0.9, 2.0) == pytest.approx(expected, rel=1e-6)


def test_the_figures_of_the_design() -> None:
    def power(seeds: float) -> float:
        return share_power(0.6, 0.5, seeds, 0.05)

    assert whole_seeds(power, 0.8) == 387
    assert [round(power(seeds), 2) for seeds in (64, 128)] == [0.21, 0.36]


def test_whole_seeds_are_rounded_up_unless_hardly_anything_is_missing() -> None:
    for share in np.arange(0.55, 1.0, 0.05).tolist():
        needed = seeds_for(lambda n, p=share: share_power(p, 0.5, n, 0.05), 0.8)
        whole = whole_seeds(lambda n, p=share: share_power(p, 0.5, n, 0.05), 0.8)
        assert whole in (math.floor(needed), math.ceil(needed))
        assert share_power(share, 0.5, whole, 0.05) >= 0.7995
    assert whole_seeds(lambda n: share_power(0.5001, 0.5, n, 0.05), 0.8) == 0  # more than anybody runs


def test_what_a_budget_sees_is_the_effect_that_takes_it() -> None:
    found = visible_effect(lambda points: share_power(0.5 + points / 100, 0.5, 387.1677462, 0.05), 0.8, 50)
    assert found == pytest.approx(10, abs=1e-6)
    assert visible_effect(lambda points: share_power(0.99 + points / 100, 0.99, 20, 0.05), 0.8, 1) is None


@pytest.mark.parametrize("seeds", [3, 20])
@pytest.mark.parametrize("comparisons", [1, 3])
def test_exact_power_counts_what_the_interval_shows(seeds: int, comparisons: int) -> None:
    quantile = corrected_quantile(comparisons)
    assert quantile == pytest.approx(norm.ppf(1 - 0.05 / comparisons / 2), abs=1e-9)
    a, b = np.divmod(np.arange((seeds + 1) ** 2), seeds + 1)
    low, high = score_interval(a[:, None], [seeds], b[:, None], [seeds], quantile=quantile)
    shown = (low > 0) | (high < 0)
    assert (misses_zero(a, b, seeds, quantile) == shown).all()
    for share, base in PAIRS:
        expected = (binom.pmf(a, seeds, share) * binom.pmf(b, seeds, base) * shown).sum()
        assert exact_power(share, base, seeds, quantile) == pytest.approx(expected, abs=1e-9)


def test_another_level_of_the_score_interval() -> None:
    """At the end of an interval without correction, the statistic is the quantile (Miettinen and Nurminen)."""
    low, _ = score_interval([40], [50], [25], [50], continuity=False, quantile=2.5)
    inner, _ = score_interval([40], [50], [25], [50], continuity=False)
    assert low < inner
    # The likeliest shares with the difference `low`, by brute force.
    base = np.linspace(max(0, -low), min(1, 1 - low), 200_001)[1:-1]
    likelihood = 40 * np.log(base + low) + 10 * np.log1p(-base - low) + 25 * np.log(base) + 25 * np.log1p(-base)
    q = base[likelihood.argmax()]
    p = q + low
    deviation = math.sqrt((p * (1 - p) + q * (1 - q)) / 50 * 100 / 99)
    assert (0.8 - 0.5 - low) / deviation == pytest.approx(2.5, abs=1e-3)


@pytest.mark.parametrize(("share", "seeds"), [(0.5, 64), (0.7, 200), (0.9, 64)])
def test_coverage_of_wilsons_interval(share: float, seeds: int) -> None:
    """By 20,000 simulated samplers; statsmodels has the same ends."""
    ends = {k: wilson_interval(k, seeds) for k in range(seeds + 1)}
    for k in (0, 1, seeds // 2, seeds):
        assert ends[k] == pytest.approx(proportion_confint(k, seeds, method="wilson"), abs=1e-6)
    drawn = np.random.default_rng(0).binomial(seeds, share, 20_000)
    covered = np.array([ends[k][0] <= share <= ends[k][1] for k in drawn.tolist()])
    assert 0.93 < covered.mean() < 0.97


@pytest.mark.parametrize(("share", "base", "seeds"), [(0.6, 0.5, 64), (0.7, 0.7, 200), (0.9, 0.6, 32)])
def test_coverage_of_newcombes_interval(share: float, base: float, seeds: int) -> None:
    generator = np.random.default_rng(1)
    a, b = generator.binomial(seeds, share, 20_000).tolist(), generator.binomial(seeds, base, 20_000).tolist()
    ends = {pair: difference_interval(pair[0], seeds, pair[1], seeds) for pair in set(zip(a, b, strict=True))}
    covered = [ends[p][0] <= share - base <= ends[p][1] for p in zip(a, b, strict=True)]
    assert 0.93 < np.mean(covered) < 0.97


@pytest.mark.parametrize("comparisons", [2, 5])
def test_corrected_intervals_hold_together(comparisons: int) -> None:
    """Samplers that share one base, without a difference: in 95% of the settings all intervals hold it."""
    generator, seeds = np.random.default_rng(2), 100
    solved = generator.binomial(seeds, 0.6, (20_000, comparisons + 1))
    corrected, single = (
        misses_zero(solved[:, 1:], solved[:, :1], seeds, quantile).any(1).mean()
        for quantile in (corrected_quantile(comparisons), NORMAL_QUANTILE)
    )
    assert corrected < 0.05 < single
