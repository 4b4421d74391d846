"""Advantages and value targets of PPO against a plain-Python recursion; nothing leaks, rounding is not blown up."""

import pytest
import torch
from targets_helpers import (
    ENVS,
    PPOS,
    SEEDS,
    SMALL,
    STEPS,
    built,
    filled,
    gae,
    random_batch,
    randomize_heads,
    store_targets,
)
from tensordict import TensorDict
from torch import Tensor
from torchrl.objectives.value.functional import generalized_advantage_estimate

from lit_maprops import keys
from lit_maprops.targets.gae import advantages


@pytest.mark.parametrize("name", PPOS)
@pytest.mark.parametrize("batches", [1, 3])
def test_advantages_and_value_targets_are_those_of_the_recursion(name, batches):
    learner = built(name, **SMALL)
    randomize_heads(learner)
    buffer = filled(*(random_batch(learner, seed) for seed in range(batches)))
    prepared = learner._prepare(buffer.trajectories())
    advantage, value_target = gae(learner, buffer.trajectories())
    flat = advantage.flatten(1, 3)
    for seed in range(SEEDS):
        for agent in range(2):
            own = flat[seed, :, agent]
            expected = (own - own.mean()) / own.std(correction=0)
            torch.testing.assert_close(prepared.get(keys.ADVANTAGE)[seed, :, agent, 0], expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(
        prepared.get(keys.VALUE_TARGET).squeeze(-1), value_target.flatten(1, 3), atol=1e-5, rtol=1e-4
    )


@pytest.mark.parametrize("name", PPOS)
def test_advantages_are_normalized_for_every_seed_and_agent(name):
    learner = built(name, **SMALL)
    batch = random_batch(learner)
    scale = torch.tensor([1.0, 100.0, 0.01]).reshape(-1, 1, 1, 1, 1) * torch.tensor([1.0, 5.0]).reshape(-1, 1)
    batch.set(("next", *keys.REWARD), scale * batch.get(("next", *keys.REWARD)) + 7 * scale)
    advantage = learner._prepare(filled(batch).trajectories()).get(keys.ADVANTAGE).squeeze(-1)
    torch.testing.assert_close(advantage.mean(1), torch.zeros(SEEDS, 2), atol=1e-5, rtol=0)
    torch.testing.assert_close(advantage.std(1, correction=0), torch.ones(SEEDS, 2), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", PPOS)
@pytest.mark.parametrize("reward", [0.0, 0.7, 1.0, 13.3])
def test_a_batch_of_equal_advantages_does_not_move_the_policies(name, reward):
    """A converged game: the advantages differ by rounding at most, and normalizing must not blow that up."""
    learner = built(name, **SMALL, entropy_coeff=0.0)
    batch = random_batch(learner)
    for end in (keys.DONE, keys.TERMINATED):
        batch.get(("next", end)).fill_(True)
    for column in (keys.STATE, keys.OBSERVATION):
        batch.get(column).fill_(1)
    batch.get(("next", *keys.REWARD)).fill_(reward)
    store_targets(batch, learner.policies)
    advantage = learner._prepare(filled(batch).trajectories()).get(keys.ADVANTAGE)
    assert (advantage == 0).all()
    before = learner.policies.distribution_parameters(batch.get(keys.OBSERVATION)).exp()
    learner.update(filled(batch))
    after = learner.policies.distribution_parameters(batch.get(keys.OBSERVATION)).exp()
    torch.testing.assert_close(before, after, atol=1e-3, rtol=0)


@pytest.mark.parametrize("steps", [1, 2, 5, 64, 100])
@pytest.mark.parametrize("gae_lambda", [0.0, 0.95, 1.0])
def test_in_windows_that_double_it_is_the_loop(steps, gae_lambda):
    """TorchRL's, whose discounts are single; a NaN reaches the same steps, also across the end of an episode."""
    draw = torch.Generator().manual_seed(steps)
    numbers = torch.randn(3, 2, 4, steps, 3, generator=draw, dtype=torch.float64)
    done = torch.rand(2, 4, steps, 3, generator=draw) < 0.2
    terminated = done & (torch.rand(done.shape, generator=draw) < 0.5)
    numbers[2, 1, 2, steps // 2] = torch.nan
    arguments = (0.9, gae_lambda, *numbers, done, terminated)
    for own, expected in zip(advantages(*arguments), generalized_advantage_estimate(*arguments), strict=True):
        torch.testing.assert_close(own, expected, atol=1e-6, rtol=1e-6, equal_nan=True)
        assert own[0].isfinite().all() and own[1, 2, 0].isnan().all()


def value_targets(learner, *batches: TensorDict) -> Tensor:
    """``[R, k, T, E, A]``."""
    flat = learner._prepare(filled(*batches).trajectories()).get(keys.VALUE_TARGET)
    return flat.reshape(SEEDS, len(batches), STEPS, ENVS, 2)


def test_nothing_leaks_across_the_seam_between_batches():
    learner = built("MAPPO", **SMALL)
    first, second = random_batch(learner, 0), random_batch(learner, 1)
    for end in (keys.DONE, keys.TERMINATED, keys.TRUNCATED):
        first.get(("next", end)).fill_(False)
    before = value_targets(learner, first, second)
    second.get(("next", *keys.REWARD)).add_(100)
    after = value_targets(learner, first, second)
    assert torch.equal(before[:, 0], after[:, 0])
    assert (before[:, 1] != after[:, 1]).all()


def test_nothing_leaks_between_environments_or_seeds():
    learner = built("MAPPO", **SMALL)
    batch = random_batch(learner)
    before = value_targets(learner, batch)
    batch.get(("next", *keys.REWARD))[1, :, 0] += 100
    after = value_targets(learner, batch)
    untouched = torch.ones(SEEDS, ENVS, dtype=torch.bool)
    untouched[1, 0] = False
    same = (before == after).all(-1).all(2).squeeze(1)  # [R, E]
    assert torch.equal(same, untouched)


def test_a_time_limit_bootstraps_and_a_terminal_state_does_not():
    """One step with reward 1 everywhere: the value target is 1 + gamma V(s') or 1."""
    learner = built("IPPO", **SMALL)
    randomize_heads(learner)
    batch = random_batch(learner)
    batch.get(("next", *keys.REWARD)).fill_(1)
    batch.get(("next", keys.DONE)).fill_(True)
    batch.get(("next", keys.TERMINATED)).fill_(False)
    batch.get(("next", keys.TERMINATED))[:, 2:] = True
    target = value_targets(learner, batch).squeeze(1)
    with torch.no_grad():
        next_value = learner.critic.values(batch.get("next")).squeeze(-1)
    torch.testing.assert_close(target[:, :2], 1 + 0.9 * next_value[:, :2])
    torch.testing.assert_close(target[:, 2:], torch.ones(SEEDS, STEPS - 2, ENVS, 2))
