"""Value normalization against TorchRL's, the Huber loss against torch's, and both in PPO."""

import pytest
import torch
from targets_helpers import PPOS, SEEDS, SMALL, built, filled, gae, generator, random_batch, randomize_heads
from torchrl.modules import PopArtValueNorm

from lit_maprops import keys
from lit_maprops.system.errors import ConfigError
from lit_maprops.targets.losses import huber
from lit_maprops.targets.value_norm import ValueNorm


def test_it_is_torchrls_for_every_seed_and_agent():
    own = ValueNorm(3, 2)
    theirs = [[PopArtValueNorm() for _ in range(2)] for _ in range(3)]
    for round_ in range(4):
        target = 5 + 3 * torch.randn(3, 40, 2, 1, generator=generator(round_)) * torch.tensor([1.0, 20.0]).view(2, 1)
        own.update(target, None, None)
        for seed, agent in ((r, a) for r in range(3) for a in range(2)):
            theirs[seed][agent].update(target[seed, :, agent])
    value = torch.randn(3, 4, 5, 2, 1, generator=generator(9))
    for seed, agent in ((r, a) for r in range(3) for a in range(2)):
        part, wanted = value[seed, :, :, agent], theirs[seed][agent]
        torch.testing.assert_close(own.normalize(value)[seed, :, :, agent], wanted.normalize(part))
        torch.testing.assert_close(own.denormalize(value)[seed, :, :, agent], wanted.denormalize(part))
    torch.testing.assert_close(own.denormalize(own.normalize(value)), value)


@pytest.mark.parametrize(("mean", "deviation", "updates"), [(99, 0.5, 7_000), (1_000, 1.0, 2_000), (0.5, 2.0, 2_000)])
def test_a_deviation_far_smaller_than_the_mean_lasts(mean, deviation, updates):
    """Against plain averages, which the exponential ones nearly are in as many updates; single precision ends at 0."""
    own, draws = ValueNorm(1, 1), generator(0)
    seen = []
    for _ in range(updates):
        seen.append(mean + deviation * torch.randn(1, 64, 1, 1, generator=draws))
        own.update(seen[-1], None, None)
    values = torch.cat(seen, 1).double()
    found_mean, found = own.statistics()
    assert found_mean.item() == pytest.approx(values.mean().item(), rel=1e-5, abs=0.001)
    assert found.item() == pytest.approx(values.std().item(), rel=0.01)
    assert own.normalize(seen[-1]).dtype == torch.float32


def test_an_agent_without_a_step_keeps_its_statistics():
    """Units 10 and 3 of two agents, of whom the second is in the first update alone, as if it were the only one."""
    both = torch.tensor([10.0, 3.0]).view(2, 1) + torch.randn(1, 50, 2, 1, generator=generator(1))
    own, once = ValueNorm(1, 2), ValueNorm(1, 2)
    once.update(both, None, None)
    weight = torch.ones(1, 50, 2)
    own.update(both, weight, None)
    weight[..., 1] = 0.0
    for round_ in range(3):
        own.update(both + round_, weight, None)
    for found, expected in zip(own.statistics(), once.statistics(), strict=True):
        assert torch.equal(found[:, 1], expected[:, 1]) and not torch.equal(found[:, 0], expected[:, 0])


def test_steps_without_weight_count_for_nothing_and_seeds_that_do_not_learn_stay():
    target = torch.randn(2, 6, 2, 1, generator=generator())
    own, few = ValueNorm(2, 2), ValueNorm(2, 2)
    weight = torch.ones(2, 6, 2)
    weight[:, 4:] = 0
    broken = target.clone()
    broken[:, 4:] = torch.nan
    own.update(broken, 1.5 * weight, torch.tensor([True, False]))
    few.update(target[:, :4], None, None)
    torch.testing.assert_close(own.mean[0], few.mean[0])
    torch.testing.assert_close(own.square[0], few.square[0])
    assert not own.mean[1].any() and not own.share[1].any()


@pytest.mark.parametrize("coeff", [1.0, 0.7])
def test_huber_is_twice_torchs(coeff):
    error = torch.linspace(-3, 3, 61, dtype=torch.float64).requires_grad_()
    found = huber(coeff * error.square(), 1.25, coeff)
    expected = 2 * coeff * torch.nn.functional.huber_loss(error, torch.zeros_like(error), "none", 1.25)
    torch.testing.assert_close(found, expected)
    (own,) = torch.autograd.grad(found.sum(), error, retain_graph=True)
    (theirs,) = torch.autograd.grad(expected.sum(), error)
    torch.testing.assert_close(own, theirs)
    assert huber(error, None) is error


@pytest.mark.parametrize("name", PPOS)
@pytest.mark.parametrize("clip", [None, 0.1])
def test_the_written_out_gradient_of_hubers_loss_is_autograds(name, clip):
    arguments = SMALL | {"value_loss": "huber", "huber_delta": 0.3, "clip_value": clip, "critic_coeff": 0.7}
    learners = [built(name, **arguments) for _ in range(2)]
    learners[1].loss.__class__ = type("Own", (type(learners[1].loss),), {})  # what somebody made of it is not known
    results = []
    for learner in learners:
        randomize_heads(learner)
        data = learner._prepare(filled(random_batch(learner)).trajectories())
        data.get(keys.VALUE).add_(0.2)  # else nothing has moved
        losses = learner._gradient_on(data)(torch.arange(7).expand(SEEDS, -1), 7)
        results.append((losses, [p.grad.clone() for p in learner.parameters()]))
    (own, gradients), (theirs, wanted) = results
    for key, value in theirs.items():
        torch.testing.assert_close(own[key], value, rtol=1e-5, atol=1e-6)
    for one, other in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", PPOS)
def test_ppo_learns_normalized_targets_and_tells_values_in_units_of_return(name):
    learner = built(name, **SMALL, value_norm=True)
    randomize_heads(learner)
    learner.normalizer.update(3 + 2 * torch.randn(SEEDS, 50, 2, 1, generator=generator(3)), None, None)
    data = filled(random_batch(learner)).trajectories()
    raw = learner.critic.values(data)
    mean, deviation = learner.normalizer._for(raw)
    torch.testing.assert_close(learner.values(data), (raw * deviation + mean).squeeze(-1))
    assert mean.min() > 2 and deviation.min() > 1
    plain = built(name, **SMALL)
    plain.critic.values = lambda part: learner._values(part)  # the reference asks for values in units of return
    advantage, target = gae(plain, data)
    found = learner._estimates(data)
    torch.testing.assert_close(found[1].squeeze(-1), advantage, rtol=1e-4, atol=1e-4)
    prepared = learner._prepare(data)
    torch.testing.assert_close(
        learner.normalizer.denormalize(prepared.get(keys.VALUE_TARGET)).squeeze(-1),
        target.flatten(1, 3),
        rtol=1e-4,
        atol=1e-4,
    )
    torch.testing.assert_close(prepared.get(keys.VALUE), raw.flatten(1, 3), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", PPOS)
def test_the_size_of_rewards_does_not_matter_to_what_the_critic_learns(name):
    """Up to the first update's statistics: a critic that puts out 0 and returns 1000 times as large."""
    found = []
    for size in (1.0, 1000.0):
        learner = built(name, **SMALL | {"gae_lambda": 1.0, "gamma": 0.0}, value_norm=True)
        batch = random_batch(learner)
        batch.get(("next", *keys.REWARD)).mul_(size)
        learner.update(filled(batch))
        found.append([p.detach().clone() for p in learner.critic.parameters()])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_what_has_no_effect_is_refused():
    with pytest.raises(ConfigError, match="huber_delta is given and value_loss is mse"):
        built("MAPPO", huber_delta=1.0)
    with pytest.raises(ConfigError, match="value_loss is 'l1': choose one of mse, huber"):
        built("MAPPO", value_loss="l1")
