"""Boundaries against the multivariate normal distribution, and against simulated Brownian motions."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm

from lit_maprops.trials.boundaries import boundaries, crossings


def test_one_look_is_the_fixed_test() -> None:
    assert boundaries([64], 0.05) == pytest.approx([norm.ppf(0.975)], abs=1e-9)


@pytest.mark.parametrize("looks", [[1, 2, 3], [1, 2, 4], [10, 90, 100]])
@pytest.mark.parametrize("spending", [1.0, 2.0, 3.0])
def test_each_look_spends_its_part(looks: list[int], spending: float) -> None:
    times = np.array(looks) / looks[-1]
    ends = boundaries(looks, 0.05, spending)
    covariance = np.sqrt(np.minimum.outer(times, times) / np.maximum.outer(times, times))
    for k in range(1, len(looks) + 1):
        normal = multivariate_normal(np.zeros(k), covariance[:k, :k], abseps=1e-7, seed=0)
        inside = normal.cdf(ends[:k], lower_limit=-ends[:k])
        assert 1 - inside == pytest.approx(0.05 * times[k - 1] ** spending, abs=2e-5)


@pytest.mark.parametrize("drift", [0.0, 2.8, -1.0])
def test_crossings_are_those_of_simulated_motions(drift: float) -> None:
    looks, generator = list(range(1, 9)), np.random.default_rng(0)
    ends = boundaries(looks, 0.05)
    steps = generator.normal(drift / 8, 8**-0.5, (40_000, 8))
    beyond = abs(steps.cumsum(1) / np.sqrt(np.arange(1, 9) / 8)) > ends
    first = np.where(beyond.any(1), beyond.argmax(1), 8)
    expected = np.bincount(first, minlength=9)[:8] / len(first)
    assert crossings(looks, ends, drift) == pytest.approx(expected, abs=0.01)
    if drift == 0:
        assert crossings(looks, ends, 0.0).sum() == pytest.approx(0.05, abs=1e-6)
