"""The energy distance against scipy in one dimension, against brute force in three, and on-policy in expectation."""

import math

import numpy as np
import pytest
import torch
from mpmath import hyp1f1
from scipy.stats import energy_distance as scipy_energy_distance
from scipy.stats import norm
from tensordict import TensorDict
from torch import Tensor

from lit_maprops import keys
from lit_maprops.distributions.families import Gaussian
from lit_maprops.metrics import energy
from lit_maprops.stacked.streams import SeedStreams

MASK = torch.tensor([[True, False], [True, True]])  # J = 3


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shift", [0.0, 0.7])
def test_one_dimension_is_scipys(shift):
    z = normal(3, 40, 1) * 1.3 + shift
    points = norm.ppf((np.arange(200_000) + 0.5) / 200_000)  # stands for the normal distribution
    for seed, value in enumerate(energy.energy_distance(z)):
        expected = scipy_energy_distance(z[seed, :, 0].numpy(), points) ** 2
        assert value.item() == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_three_dimensions_are_brute_force():
    z = 0.6 * normal(2, 30, 3) + torch.tensor([0.5, 0.0, -0.2])
    other = normal(400_000, 3, seed=1)
    half = len(other) // 2
    between = (other[:half] - other[half:]).norm(dim=-1).mean()
    for seed, value in enumerate(energy.energy_distance(z)):
        to_normal = torch.stack([(point - other).norm(dim=-1).mean() for point in z[seed]]).mean()
        within = torch.stack([(a - b).norm() for a in z[seed] for b in z[seed]]).mean()
        assert value.item() == pytest.approx(float(2 * to_normal - within - between), abs=0.01)
        assert value.item() > 0.1


@pytest.mark.parametrize("dim", [1, 2, 5, 30])
def test_the_distance_to_a_normal_is_that_of_mpmath(dim):
    norms = torch.tensor([0.0, 1e-3, 0.5, 2.0, 8.0, 100.0])
    factor = math.sqrt(2) * math.gamma((dim + 1) / 2) / math.gamma(dim / 2)
    expected = [factor * float(hyp1f1(-0.5, dim / 2, -0.5 * x * x)) for x in norms.double().tolist()]
    torch.testing.assert_close(energy.distance_to_normal(norms, dim).tolist(), expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize("dim", [1, 3])
def test_mean_distance_counts_every_pair(dim, monkeypatch):
    monkeypatch.setattr(energy, "ROWS_AT_ONCE", 4)
    z = normal(2, 11, dim)
    expected = (z.double().unsqueeze(1) - z.double().unsqueeze(2)).norm(dim=-1).mean((1, 2))
    torch.testing.assert_close(energy.mean_distance(z), expected, rtol=1e-5, atol=0)


def data_of(z: Tensor) -> TensorDict:
    """D whose whitened actions are ``[R, B, 3]``, under policies that differ from step to step."""
    mean, log_std = normal(*z.shape[:2], 2, 2, seed=5), 0.5 * normal(*z.shape[:2], 2, 2, seed=6)
    padded = torch.stack([z[..., 0], torch.zeros_like(z[..., 0]), z[..., 1], z[..., 2]], -1).unflatten(-1, (2, 2))
    action = torch.where(MASK, mean + log_std.exp() * padded, 0.0)
    parameters = torch.cat([torch.where(MASK, part, 0.0) for part in (mean, log_std)], -1)
    return TensorDict({keys.ACTION: action, keys.PARAMETERS: parameters}, batch_size=z.shape[:2])


def errors(z: Tensor) -> dict[str, Tensor]:
    return energy.energy_error(data_of(z), Gaussian(MASK), SeedStreams(0, range(len(z)), "sampling error"))


def test_policies_are_whitened_away_and_agents_are_told_apart():
    z = normal(4, 25, 3) * torch.tensor([1.0, 0.3, 0.3])
    figures = errors(z)
    torch.testing.assert_close(figures["joint_energy"], energy.energy_distance(z), rtol=1e-3, atol=1e-5)
    of_agents = energy.energy_distance(z[..., :1]), energy.energy_distance(z[..., 1:])
    torch.testing.assert_close(figures["agent_energy"], sum(of_agents) / 2, rtol=1e-3, atol=1e-5)


def test_on_policy_actions_have_the_expectation_of_a_sample():
    """E abs(Z - Z') / n: what V-statistics of n independent draws have, 2 gamma((J + 1) / 2) / (gamma(J / 2) n)."""
    figures, rows = errors(normal(600, 12, 3)), 12
    between = [2 * math.gamma((dim + 1) / 2) / math.gamma(dim / 2) for dim in (1, 2, 3)]
    for name, expected in (("joint_energy", between[2]), ("agent_energy", (between[0] + between[1]) / 2)):
        for suffix in ("", "_on_policy"):
            values = figures[name + suffix]
            assert abs(values.mean() - expected / rows) < 4 * values.std() / len(values) ** 0.5


def test_errors_are_lower_for_balanced_actions_and_higher_for_biased_ones():
    quantiles = torch.special.ndtri((torch.arange(64) + 0.5) / 64)
    orders = [torch.stack([torch.randperm(64, generator=g) for _ in range(3)], -1) for g in [torch.Generator()] * 5]
    even = torch.stack([quantiles[order] for order in orders])  # each component is balanced
    balanced, shifted = errors(even), errors(even + 0.5)
    assert (balanced["agent_energy"] < 0.5 * balanced["agent_energy_on_policy"].mean()).all()
    assert (shifted["joint_energy"] > balanced["joint_energy_on_policy"].mean()).all()


def test_nan_of_one_seed_stays_there():
    z = normal(3, 20, 3)
    clean, z[1, 3] = errors(z), torch.nan
    ill = errors(z)
    assert ill["joint_energy"][1].isnan() and ill["agent_energy"][1].isnan()
    for name, value in clean.items():
        assert torch.equal(ill[name][[0, 2]], value[[0, 2]])
