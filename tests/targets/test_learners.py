"""Learning rates, and what policies and critics may see."""

import pytest
import torch
from stacked_layers import weights
from targets_helpers import (
    ENVS,
    PPOS,
    SEEDS,
    SMALL,
    STEPS,
    SizesTask,
    built,
    filled,
    parameters_of,
    random_batch,
    randomize_heads,
)

from lit_maprops import keys


@pytest.mark.parametrize("arguments", [{}, {"share_parameters": True}, {"hidden": []}])
def test_ippo_and_mappo_start_from_the_same_policies(arguments):
    ippo, mappo = (built(name, **arguments) for name in PPOS)
    ours, theirs = ippo.policies.state_dict(), mappo.policies.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize("share_parameters", [False, True])
def test_ippos_critic_sees_its_agents_observation_only(share_parameters):
    learner = built("IPPO", share_parameters=share_parameters)
    batch = random_batch(learner)
    before = learner.critic.values(batch)
    batch.get(keys.STATE).add_(1)
    assert torch.equal(learner.critic.values(batch), before)
    batch.get(keys.OBSERVATION)[..., 1, :] += 1
    after = learner.critic.values(batch)
    torch.testing.assert_close(after[..., 0, :], before[..., 0, :])
    assert (after[..., 1, :] != before[..., 1, :]).all()


def test_mappos_critic_sees_the_state_only():
    learner = built("MAPPO")
    batch = random_batch(learner)
    before = learner.critic.values(batch)
    assert before.shape == (SEEDS, STEPS, ENVS, 2, 1)
    batch.get(keys.OBSERVATION).add_(1)
    assert torch.equal(learner.critic.values(batch), before)
    batch.get(keys.STATE).add_(1)
    assert (learner.critic.values(batch) != before).all()


@pytest.mark.parametrize("name", [*PPOS, "Reinforce"])
@pytest.mark.parametrize("share_parameters", [False, True])
def test_policies_are_decentralized(name, share_parameters):
    learner = built(name, hidden=[8], share_parameters=share_parameters)
    observation = random_batch(learner).get(keys.OBSERVATION)
    before = learner.policies.distribution_parameters(observation)
    other = observation.clone()
    other[..., 1, :] += 1
    after = learner.policies.distribution_parameters(other)
    torch.testing.assert_close(after[..., 0, :], before[..., 0, :])
    assert (after[..., 1, :] != before[..., 1, :]).any(-1).all()


def test_shared_parameters_are_one_network_that_knows_the_agent():
    learner = built("IPPO", hidden=[8], share_parameters=True)
    randomize_heads(learner)
    task = SizesTask()
    assert learner.policies.net.stack == (SEEDS,)
    assert weights(learner.policies.net)[0].shape == (SEEDS, task.observation_dim + task.n_agents, 8)
    observation = random_batch(learner).get(keys.OBSERVATION)
    observation[..., 1, :] = observation[..., 0, :]
    logits = learner.policies.distribution_parameters(observation)
    assert (logits[..., 0, :] != logits[..., 1, :]).any(-1).all()


@pytest.mark.parametrize("name", [*PPOS, "HAPPO", "Reinforce"])
def test_tables_start_uniform(name):
    learner = built(name, hidden=[])
    logits = random_batch(learner).get(keys.PARAMETERS)
    torch.testing.assert_close(logits, torch.full_like(logits, 1 / 3).log())


@pytest.mark.parametrize("name", [*PPOS, "HAPPO", "Reinforce"])
def test_learning_rate_is_annealed_linearly_to_zero(name):
    learner = built(name, learning_rate=0.1, anneal_learning_rate=True)
    for progress, expected in ((0.0, 0.1), (0.25, 0.075), (0.9, 0.01), (1.0, 0.0)):
        learner.anneal(progress)
        assert learner.optimizer.param_groups[0]["lr"] == pytest.approx(expected)
    before = parameters_of(learner)
    learner.update(filled(random_batch(learner)))
    assert all(torch.equal(old, new) for old, new in zip(before, parameters_of(learner), strict=True))


@pytest.mark.parametrize("name", [*PPOS, "HAPPO", "Reinforce"])
def test_learning_rate_stays_without_annealing(name):
    learner = built(name, learning_rate=0.1)
    learner.anneal(0.9)
    assert learner.optimizer.param_groups[0]["lr"] == 0.1


def test_half_the_learning_rate_is_half_the_first_step():
    steps = []
    for progress in (0.0, 0.5):
        learner = built("IPPO", **SMALL, anneal_learning_rate=True, epochs=1, minibatches=1)
        learner.anneal(progress)
        before = parameters_of(learner)
        learner.update(filled(random_batch(learner)))
        steps.append([new - old for old, new in zip(before, parameters_of(learner), strict=True)])
    for whole, half in zip(*steps, strict=True):
        torch.testing.assert_close(0.5 * whole, half, atol=1e-6, rtol=1e-3)
