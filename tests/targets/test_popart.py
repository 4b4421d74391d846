"""PopArt: values stay when statistics move, by the rescaling of van Hasselt et al. 2016, written out layer by layer."""

import copy

import pytest
import torch
from stacked_layers import biases, weights
from targets_helpers import SEEDS, SMALL, SizesTask, built, filled, generator, random_batch, randomize_heads
from test_recurrent_learners import remembering_batch
from torch import Tensor

from lit_maprops import keys
from lit_maprops.stacked.nets import StackedMLP
from lit_maprops.system.errors import ConfigError

KINDS = {
    "central": ("MAPPO", {}),
    "in turn": ("HAPPO", {}),
    "agent-specific": ("MAPPO", {"critic_input": "agent_specific_state"}),
    "agent-specific, shared": ("MAPPO", {"critic_input": "agent_specific_state", "share_parameters": True}),
    "own": ("IPPO", {}),
    "own, shared": ("IPPO", {"share_parameters": True}),
    "of modules": ("IPPO", {"critic_layer_norm": True, "critic_activation": "relu"}),
    "remembering": ("MAPPO", {"memory": "gru", "memory_size": 5, "sequence_length": 3}),
    "remembering, no hidden layer": ("MAPPO", {"memory": "gru", "memory_size": 5, "sequence_length": 3, "hidden": []}),
    "of modules, central": ("MAPPO", {"activation": "gelu"}),
}


def targets(round_: int) -> Tensor:
    """``[R, B, A, 1]``, of different size by agent and round."""
    drawn = torch.randn(SEEDS, 40, 2, 1, generator=generator(round_))
    return (round_ + 1) * (5 + 3 * drawn) * torch.tensor([1.0, 20.0]).view(2, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_values_stay_when_the_statistics_move(kind):
    name, arguments = KINDS[kind]
    learner = built(name, **SMALL | arguments, value_norm="popart")
    randomize_heads(learner)
    learner.task = SizesTask()
    data = remembering_batch(learner) if learner.memory else random_batch(learner)
    for round_ in range(4):
        before, raw = learner.values(data), learner.critic.values(data).detach()
        learner.normalizer.update(targets(round_), None, None)
        assert ((raw - learner.critic.values(data)).abs() > 0.001).any()
        mean, deviation = learner.normalizer.statistics()
        moved = (learner.values(data) - before).abs().amax((1, 2))
        assert (moved <= 1e-5 * (mean.abs() + deviation)).all()  # what a float32 in these units can hold
    mean, deviation = learner.normalizer.statistics()
    seen = torch.cat([targets(round_) for round_ in range(4)], 1).squeeze(-1)
    wanted, square = seen.double().mean(1), seen.double().square().mean(1)
    if "shared" in kind:  # by all agents, who have one output
        wanted, square = (value.mean(1, keepdim=True).expand(-1, 2) for value in (wanted, square))
    torch.testing.assert_close(mean, wanted, rtol=1e-3, atol=0)
    torch.testing.assert_close(deviation, (square - wanted.square()).sqrt(), rtol=2e-3, atol=0)


def test_the_last_layer_is_that_of_the_papers_formula_and_no_other_moves():
    learner = built("MAPPO", **SMALL, value_norm="popart")
    randomize_heads(learner)
    learner.normalizer.update(targets(0), None, None)
    mean, deviation = (value.double() for value in learner.normalizer.statistics())
    before = [[value.double() for value in of(learner.critic.net)] for of in (weights, biases)]
    learner.normalizer.update(targets(1), None, None)
    new_mean, new_deviation = (value.double() for value in learner.normalizer.statistics())
    (first, last), (first_bias, last_bias) = ([v.double() for v in of(learner.critic.net)] for of in (weights, biases))
    assert torch.equal(first, before[0][0]) and torch.equal(first_bias, before[1][0])
    for seed in range(SEEDS):
        sigma, sigma_new = torch.diag(deviation[seed]), torch.diag(new_deviation[seed])
        old = before[0][1][seed].T  # [A, width]
        torch.testing.assert_close(last[seed].T, sigma_new.inverse() @ sigma @ old, rtol=1e-5, atol=1e-6)
        shifted = sigma_new.inverse() @ (sigma @ before[1][1][seed] + mean[seed] - new_mean[seed])
        torch.testing.assert_close(last_bias[seed], shifted, rtol=1e-5, atol=1e-5)


def test_seeds_that_do_not_learn_keep_their_bits():
    learner = built("MAPPO", **SMALL, value_norm="popart")
    randomize_heads(learner)
    learner.normalizer.update(targets(0), None, None)
    before = learner.critic.net.flat.detach().clone()
    broken = targets(1)
    broken[1] = torch.nan
    learner.normalizer.update(broken, None, torch.tensor([True, False, True]))
    changed = (learner.critic.net.flat != before).any(1)
    assert changed.tolist() == [True, False, True] and learner.critic.net.flat.isfinite().all()


@pytest.mark.parametrize("kind", ["central", "own, shared"])
def test_an_agent_without_a_step_moves_nothing(kind):
    """With one output for all agents the statistics are those of the agents that are there."""
    name, arguments = KINDS[kind]
    learner = built(name, **SMALL | arguments, value_norm="popart")
    randomize_heads(learner)
    learner.normalizer.update(targets(0), None, None)
    mean, deviation = learner.normalizer.statistics()
    weight = torch.ones_like(targets(1)[..., 0])
    weight[..., 1] = 0.0
    learner.normalizer.update(targets(1), weight, None)
    new_mean, new_deviation = learner.normalizer.statistics()
    assert ((new_mean - mean)[:, 0].abs() > 0.01).all()
    if "shared" not in kind:
        assert torch.equal(new_mean[:, 1], mean[:, 1]) and torch.equal(new_deviation[:, 1], deviation[:, 1])
        return
    before = targets(0).double().mean((1, 2, 3))
    torch.testing.assert_close(
        new_mean[:, 1], (before + targets(1)[:, :, 0].double().mean((1, 2))) / 2, rtol=1e-3, atol=0
    )


@pytest.mark.parametrize("kind", ["central", "own, shared", "in turn"])
def test_an_update_learns_in_the_new_units(kind):
    """Its targets are normalized by what they are part of, and what the critic put out is said in the same units."""
    name, arguments = KINDS[kind]
    learner = built(name, **SMALL, **arguments, value_norm="popart", clip_value=0.2)
    randomize_heads(learner)
    batch = random_batch(learner)
    batch.get(("next", *keys.REWARD)).mul_(50).add_(10)
    data = filled(batch).trajectories()
    value, _, target = learner._estimates(data)
    prepared = learner._prepare(data)
    mean, deviation = (each.float().view(SEEDS, 1, 2, 1) for each in learner.normalizer.statistics())
    wanted = (target.flatten(1, 3) - mean) / deviation
    torch.testing.assert_close(prepared.get(keys.VALUE_TARGET), wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        prepared.get(keys.VALUE), learner.critic.values(data).flatten(1, 3), atol=1e-4, rtol=1e-4
    )
    torch.testing.assert_close(
        learner.values(data).flatten(1, 3), value.squeeze(-1).flatten(1, 3), rtol=1e-4, atol=1e-3
    )
    assert all(figure.isfinite().all() for figure in learner.update(filled(batch)).values())


def test_a_restored_learner_goes_on_to_the_bit():
    one, other = (built("MAPPO", **SMALL, value_norm="popart", epochs=1) for _ in range(2))
    batches = [filled(random_batch(one, round_)) for round_ in range(2)]
    one.update(batches[0])
    other.load_state_dict(one.state_dict())
    other.optimizer.load_state_dict(copy.deepcopy(one.optimizer.state_dict()))
    other.restore(one.checkpoint_state())
    for learner in (one, other):
        learner.update(batches[1])
    assert all(torch.equal(p, q) for p, q in zip(one.state_dict().values(), other.state_dict().values(), strict=True))
    assert isinstance(one.critic.net, StackedMLP)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"value_norm": "art"}, "value_norm is 'art': choose one of true, false, popart"),
        ({"value_norm": 1}, "value_norm is 1: choose one of true, false, popart"),
        ({"value_norm": "popart", "hidden": []}, "popart, which rescales .* behind hidden ones: give critic_hidden"),
        ({"value_norm": "popart", "critic_network": "own_modules.Plain"}, "critic_network is your own: give true"),
    ],
)
def test_what_cannot_be_rescaled_is_one_line(arguments, words):
    with pytest.raises(ConfigError, match=words):
        built("MAPPO", **arguments)
    built("MAPPO", value_norm="popart", hidden=[], critic_hidden=[4])
