"""Verdicts of synthetic sweeps: how often they are wrong, and how many seeds they take."""

import numpy as np
import pytest

from lit_maprops.trials.decision import BETTER, EQUAL, OPEN, VERDICTS, WORSE, Design, blocks_of, looks_of, path
from lit_maprops.trials.power import share_power, whole_seeds
from lit_maprops.trials.simulation import simulate

SWEEPS = 4_000
LOOKS = looks_of(440, 55)
# Shares of the samplers and of the base: without a difference, and on the edges of what the verdicts say.
SCENES = [
    ([0.5], 0.5),
    ([0.5, 0.5, 0.5], 0.5),
    ([0.95, 0.95, 0.95], 0.95),
    ([0.02, 0.02, 0.02, 0.02, 0.02], 0.02),
    ([0.7, 0.6, 0.5], 0.5),
    ([0.4, 0.5], 0.5),
]


@pytest.mark.parametrize(("shares", "base"), SCENES)
def test_at_most_one_sweep_of_twenty_has_a_wrong_verdict(shares: list[float], base: float) -> None:
    wrong = simulate(Design(LOOKS, len(shares)), shares, base, SWEEPS).wrong.mean()
    assert wrong <= 0.05


@pytest.mark.parametrize(("share", "base"), [(0.999, 0.9489), (0.5, 0.5501), (0.05, 0.1001)])
def test_just_beyond_the_margin_is_seldom_called_equal(share: float, base: float) -> None:
    found = simulate(Design(looks_of(3000, 500), 1), [share], base, SWEEPS)
    assert found.wrong.mean() <= 0.05
    assert found.share(EQUAL) <= 0.05


@pytest.mark.parametrize("looks", [looks_of(60, 10), looks_of(100, 100), looks_of(1000, 130)])
def test_other_looks_keep_the_error_rate(looks: tuple[int, ...]) -> None:
    for base in (0.1, 0.5, 0.9):
        assert simulate(Design(looks, 2), [base, base], base, SWEEPS).wrong.mean() <= 0.05


def test_a_true_difference_of_20_points_takes_far_fewer_seeds_than_the_plan_for_10() -> None:
    fixed = whole_seeds(lambda n: share_power(0.6, 0.5, n, 0.05), 0.8)
    found = simulate(Design(LOOKS, 1), [0.7], 0.5, SWEEPS)
    assert found.share(BETTER) > 0.99
    assert found.seeds.mean() < 0.7 * fixed
    three = simulate(Design(looks_of(560, 70), 3), [0.7, 0.7, 0.3], 0.5, SWEEPS)
    fixed = whole_seeds(lambda n: share_power(0.6, 0.5, n, 0.05 / 3), 0.8)
    assert three.seeds.mean() < 0.7 * fixed
    assert three.share(WORSE, 2) > 0.99


def test_the_effect_of_the_plan_is_seen_as_often_as_promised_and_earlier() -> None:
    found = simulate(Design(LOOKS, 1), [0.6], 0.5, SWEEPS)
    assert found.share(BETTER) > 0.79
    assert found.seeds.mean() < 387


def test_equal_samplers_are_called_equal_if_the_budget_is_enough() -> None:
    found = simulate(Design(looks_of(1600, 200), 1), [0.5], 0.5, SWEEPS)
    assert found.share(EQUAL) > 0.5
    assert simulate(Design(LOOKS, 1), [0.5], 0.5, SWEEPS).share(EQUAL) == 0


def test_a_path_ends_with_its_verdict_and_says_what_the_simulation_says() -> None:
    design, generator = Design(LOOKS, 2), np.random.default_rng(0)
    blocks = generator.binomial(55, [[0.75], [0.5]], (2, 8))
    solved, base = blocks.cumsum(1)
    looks = path(design, solved.tolist(), base.tolist())
    assert [look.verdict for look in looks[:-1]] == [OPEN] * (len(looks) - 1)
    assert looks[-1].verdict == BETTER and looks[-1].low > 0
    for number, look in enumerate(looks):
        assert look.seeds == LOOKS[number]
        assert look.low < look.difference < look.high
        _, verdicts = design.intervals(number, solved[number : number + 1], base[number : number + 1])
        assert VERDICTS[verdicts[0]] == look.verdict
    assert path(design, solved.tolist()[:1], base.tolist()) == looks[:1]
    assert path(design, [], base.tolist()) == []


def test_blocks_are_whole_and_the_last_one_is_what_is_left() -> None:
    assert looks_of(100, 40) == (40, 80, 100)
    assert looks_of(80, 40) == (40, 80)
    assert blocks_of((40, 80, 100)) == [(0, 40), (40, 40), (80, 20)]
