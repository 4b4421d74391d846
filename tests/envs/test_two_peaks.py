"""TwoPeaks against its formula, written out with numpy, and against what its docstring says."""

import numpy as np
import pytest
import torch

from lit_maprops.envs import TwoPeaks
from lit_maprops.system.errors import ConfigError


def play(task: TwoPeaks, action: np.ndarray):
    state = task.initial_state(torch.zeros(len(action), 0))
    return task.transition(state, torch.from_numpy(action.astype(np.float32)), torch.zeros(len(action), 0))


def test_rewards_and_success_follow_the_formula():
    task = TwoPeaks(3, [2, 1, 2], width=0.3, other_reward=0.7, radius=0.25)
    action = np.random.default_rng(0).uniform(-1, 1, (500, 3, 2))
    action[:200] = 0.4 + np.random.default_rng(1).uniform(-0.3, 0.3, (200, 3, 2))
    action[200:250] = -0.6
    a = action.reshape(500, 6)[:, [0, 1, 2, 4, 5]]  # agent 1 has one component
    narrow = np.exp(-((a - 0.4) ** 2).sum(1) / (2 * 0.3**2))
    wide = 0.7 * np.exp(-((a + 0.6) ** 2).sum(1) / (2 * 0.4**2))
    outcome = play(task, action)
    np.testing.assert_allclose(outcome.reward, np.maximum(narrow, wide)[:, None].repeat(3, 1), rtol=1e-4, atol=1e-6)
    expected = (np.abs(a - 0.4) <= 0.25).all(1)
    assert 5 < expected.sum() < 195
    np.testing.assert_array_equal(outcome.success, expected)
    assert outcome.terminated.all()


def test_the_expected_gradient_at_the_start_leads_to_the_narrow_peak():
    """By quadrature: both agents' means rise, and following the gradient ends at the peak."""
    points, weights = np.polynomial.hermite_e.hermegauss(40)
    z = np.stack(np.meshgrid(points, points, indexing="ij"), -1).reshape(-1, 2)
    weight = np.outer(weights, weights).flatten() / weights.sum() ** 2
    mean, log_std = np.zeros(2), np.full(2, np.log(0.5))
    for step in range(300):
        std = np.exp(log_std)
        reward = play(TwoPeaks(), np.tanh(mean + std * z)[..., None]).reward[:, 0].numpy()
        of_mean = (weight * reward) @ (z / std)
        if step == 0:
            assert (of_mean > 0).all()
        mean, log_std = mean + 0.1 * of_mean, np.maximum(log_std + 0.1 * ((weight * reward) @ (z**2 - 1)), np.log(0.05))
    assert play(TwoPeaks(), np.tanh(mean)[None, :, None]).success.item()


@pytest.mark.parametrize(
    ("settings", "flag"),
    [
        ({"n_agents": 0}, "n_agents"),
        ({"components": [1, 1, 1]}, "components"),
        ({"components": [1, 0]}, "components"),
        ({"width": 0}, "width"),
        ({"other_reward": 2.0}, "other_reward"),
        ({"radius": float("nan")}, "radius"),
        ({"squash": "sigmoid"}, "squash"),
    ],
)
def test_bad_settings_are_one_line(settings, flag):
    with pytest.raises(ConfigError, match=rf"^{flag} .*"):
        TwoPeaks(**settings)
