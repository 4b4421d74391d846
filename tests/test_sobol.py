"""Sobol's points against SciPy's, and scramblings against what they must keep."""

import numpy as np
import pytest
import torch
from scipy.stats import chisquare, kstest, qmc

from lit_maprops.stacked.sobol import BITS, PERIOD, owen, sobol_points, to_bits, to_uniform


@pytest.mark.parametrize("dimensions", [1, 2, 5, 21])
def test_points_are_scipys(dimensions: int) -> None:
    ours = to_uniform(sobol_points(dimensions)[:1024])
    theirs = qmc.Sobol(dimensions, scramble=False).random(1024)
    assert np.array_equal(ours.numpy(), theirs.astype(np.float32))


def test_a_whole_period_holds_every_interval_once() -> None:
    for column in sobol_points(3).T:
        assert torch.equal((column.long() * PERIOD >> BITS).sort().values, torch.arange(PERIOD))


def test_bits_and_numbers_are_each_others() -> None:
    uniform = torch.rand(10_000, generator=torch.Generator().manual_seed(1))
    assert torch.equal(to_uniform(to_bits(uniform)), uniform)
    assert to_uniform(torch.tensor([2**BITS - 1], dtype=torch.int32)) < 1


def scrambled(points: torch.Tensor, key: int) -> torch.Tensor:
    return owen(points, torch.full(points.shape, key))


def test_owens_scrambling_keeps_dyadic_intervals_together() -> None:
    """Two points share their first b bits after it if and only if they shared them before."""
    points = torch.randint(2**BITS, (300,), dtype=torch.int32, generator=torch.Generator().manual_seed(0))
    for key in (0, 1, 2**37 + 5):
        after = scrambled(points, key)
        for bits in range(1, BITS + 1):
            before, now = points >> (BITS - bits), after >> (BITS - bits)
            assert torch.equal(now.unsqueeze(0) == now.unsqueeze(1), before.unsqueeze(0) == before.unsqueeze(1))


def test_owens_scrambling_flips_halves_apart() -> None:
    """What tells it from a digital shift: for half of the keys the second bit flips in one half alone."""
    points = torch.tensor([0, 2 ** (BITS - 1)], dtype=torch.int32)
    second = [scrambled(points, key) >> (BITS - 2) & 1 for key in range(2000)]
    differ = sum(int(bits[0] != bits[1]) for bits in second)
    assert abs(differ - 1000) < 4 * 500**0.5


@pytest.mark.parametrize("place", [0, 1, 2**23, 2**24 - 1])
def test_any_point_becomes_uniform(place: int) -> None:
    point = torch.full((20_000,), place, dtype=torch.int32)
    uniform = to_uniform(owen(point, torch.arange(20_000)))
    assert kstest(uniform.numpy(), "uniform").pvalue > 1e-3


def test_flips_of_neighboring_keys_are_independent() -> None:
    point = torch.zeros(40_000, dtype=torch.int32)
    first = owen(point, torch.arange(40_000)) >> (BITS - 2)
    pairs = first[0::2] * 4 + first[1::2]
    assert chisquare(torch.bincount(pairs, minlength=16).numpy()).pvalue > 1e-3
