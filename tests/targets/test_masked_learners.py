"""Learners where states forbid actions: TorchRL's MaskedCategorical for one seed, and expected gradients enumerated."""

import pytest
import torch
from masked_game import LEGAL, REWARD, ROOMS, Doors, legal_joint
from targets_helpers import PPOS, SMALL, SizesTask, built, filled, generator, random_batch, randomize_heads
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from test_native_ppo import NATIVE, TIGHT, assert_equal_up_to_rounding, left_early
from torchrl.modules import MaskedCategorical, ProbabilisticActor

from lit_maprops import keys
from lit_maprops.metrics.gradients import policy_gradient
from lit_maprops.native.build import why_none
from lit_maprops.stacked.agents import per_agent
from lit_maprops.targets import TargetPolicies, ppo_gradient


class MaskedSizes(SizesTask):
    """Sizes without rules, whose states forbid actions."""

    def legal_actions(self, state):
        raise NotImplementedError


def masked_batch(learner, seed: int = 0) -> TensorDict:
    """A random batch in which every agent lacks actions here and there, and took legal ones."""
    data = random_batch(learner, seed)
    shape = (*data.batch_size, 2, 3)
    legal = torch.rand(shape, generator=generator(seed + 50)) < 0.6
    legal.scatter_(-1, data.get(keys.ACTION).unsqueeze(-1), True)
    data.set(keys.ACTION_MASK, legal)
    data.set(("next", *keys.ACTION_MASK), legal.clone())
    parameters = learner.policies.parameters_in(data).detach()
    log_prob = learner.policies.family.log_prob(parameters, data.get(keys.ACTION))
    # Collected under other policies, so that ratios are not 1.
    data.set(keys.PARAMETERS, parameters).set(
        keys.LOG_PROB, log_prob + 0.3 * torch.randn(log_prob.shape, generator=generator(9))
    )
    return data.set(keys.TARGET_LOG_PROB, log_prob.sum(-1))


@pytest.mark.parametrize("share", [False, True], ids=["separate", "shared"])
@pytest.mark.parametrize("name", PPOS)
def test_ppos_loss_and_gradient_are_those_of_torchrls_distribution(name: str, share: bool) -> None:
    learner = built(name, task=MaskedSizes, clip_epsilon=0.1, entropy_coeff=0.3, share_parameters=share, **SMALL)
    randomize_heads(learner)
    data = learner._prepare(masked_batch(learner).unsqueeze(1))
    assert ppo_gradient.knows(learner.policies, learner.critic, learner.loss)
    rows = torch.stack([torch.randperm(12, generator=generator(seed))[:7] for seed in range(3)])
    losses = learner._gradient_on(data)(rows, 7)
    own = learner.policies.net.flat.grad.clone()

    index = torch.arange(3).unsqueeze(1)
    part = data[index, rows]
    outputs = per_agent(learner.policies.net, part.get(keys.OBSERVATION))
    policy = MaskedCategorical(logits=outputs, mask=part.get(keys.ACTION_MASK))
    ratio = (policy.log_prob(part.get(keys.ACTION)) - part.get(keys.LOG_PROB)).exp()
    advantage = part.get(keys.ADVANTAGE).squeeze(-1)
    gain = torch.minimum(ratio * advantage, ratio.clamp(0.9, 1.1) * advantage)
    # Of legal actions alone: the log-probability of the others is -inf, and 0 times it NaN.
    entropy = -(policy.probs * policy.logits.where(part.get(keys.ACTION_MASK), 0.0)).sum(-1)
    expected = {"policy_loss": -gain, "entropy_loss": -0.3 * entropy}
    expected = {key: value.sum((1, 2)) / 7 for key, value in expected.items()}
    for key, value in expected.items():
        torch.testing.assert_close(losses[key], value.detach(), rtol=1e-5, atol=1e-6)
    (gradient,) = torch.autograd.grad(sum(value.sum() for value in expected.values()), learner.policies.net.flat)
    assert gradient.abs().max() > 0.01
    torch.testing.assert_close(own, gradient, rtol=1e-4, atol=1e-6)
    # TorchRL's loss on our distribution, which learns where the gradient is not written out.
    again = learner._autograd(part, 7)
    for key in expected:
        torch.testing.assert_close(again[key], losses[key], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(learner.policies.net.flat.grad, gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.skipif(why_none() is not None, reason=f"no kernels: {why_none()}")
@pytest.mark.parametrize(
    ("name", "share"), [(name, share) for name in NATIVE for share in (False, True) if name != "HAPPO" or not share]
)
def test_the_kernel_makes_the_same_update(name: str, share: bool) -> None:
    """Also of an agent that has left and may do nothing any more."""
    tight = TIGHT | {"entropy_coeff": 0.3, "share_parameters": share}
    both = [built(name, task=MaskedSizes, **tight) for _ in range(2)]
    for learner in both:
        randomize_heads(learner)
    both[1].native = True
    assert both[1].why_not_native() is None
    data = left_early(masked_batch(both[0]), both[0])
    data.get(keys.ACTION_MASK)[:, 2:, 1, 0] = False
    expected, found = (learner.update(filled(data)) for learner in both)
    for key, value in expected.items():
        assert value.isfinite().all()
        torch.testing.assert_close(found[key], value, rtol=2e-4, atol=2e-6, msg=f"{key}: {value}")
    assert_equal_up_to_rounding(*both)


@pytest.mark.parametrize("name", [*PPOS, "HAPPO", "Reinforce"])
def test_updates_leave_finite_numbers_and_illegal_actions_alone(name: str) -> None:
    learner = built(name, task=MaskedSizes, hidden=[8])
    data = masked_batch(learner)
    statistics = learner.update(filled(data))
    assert all(value.isfinite().all() for value in statistics.values()), statistics
    legal = data.get(keys.ACTION_MASK)
    entropy = learner.policies.family.entropy(learner.policies.parameters_in(data))
    assert entropy.isfinite().all() and (entropy <= legal.sum(-1).log() + 1e-6).all()
    assert (entropy[legal.sum(-1) == 1].abs() < 1e-6).all()


@pytest.mark.parametrize("name", [*PPOS, "HAPPO", "Reinforce"])
def test_masks_that_forbid_nothing_change_no_bit(name: str) -> None:
    plain, masked = built(name, hidden=[8]), built(name, task=MaskedSizes, hidden=[8])
    data = random_batch(plain)
    plain.update(filled(data))
    masked.update(filled(data.copy().set(keys.ACTION_MASK, torch.ones(*data.batch_size, 2, 3).bool())))
    for expected, found in zip(plain.parameters(), masked.parameters(), strict=True):
        assert torch.equal(expected, found)


def policies_of_doors() -> TargetPolicies:
    policies = TargetPolicies(Doors(), [8], False, [generator(seed) for seed in range(2)])
    with torch.no_grad():
        policies.net.flat.copy_(torch.randn(policies.net.flat.shape, generator=generator(4)))
    return policies


def actor(policies: TargetPolicies, seed: int) -> ProbabilisticActor:
    """A TorchRL actor of one seed with a MaskedCategorical."""
    network = TensorDictModule(
        lambda observation: per_agent(policies.net, observation.unsqueeze(0).expand(2, *observation.shape))[seed],
        in_keys=[keys.OBSERVATION], out_keys=["logits"],
    )  # fmt: skip
    return ProbabilisticActor(
        network, in_keys={"logits": "logits", "mask": keys.ACTION_MASK}, out_keys=[keys.ACTION],
        distribution_class=MaskedCategorical, return_log_prob=True, log_prob_key="log_prob",
    )  # fmt: skip


@pytest.mark.parametrize("seed", [0, 1])
def test_policies_are_those_of_torchrls_actor(seed: int) -> None:
    policies, rooms = policies_of_doors(), torch.arange(ROOMS).repeat(250)
    observation, _ = Doors().observe({"room": rooms})
    data = TensorDict({keys.OBSERVATION: observation, keys.ACTION_MASK: LEGAL[rooms]}, batch_size=len(rooms))
    torch.manual_seed(0)
    drawn = actor(policies, seed)(data)
    parameters = policies.parameters_in(TensorDict(
        {keys.OBSERVATION: observation.expand(2, -1, -1, -1), keys.ACTION_MASK: LEGAL[rooms].expand(2, -1, -1, -1)},
        batch_size=(2, len(rooms)),
    ))[seed]  # fmt: skip
    log_prob = policies.family.log_prob(parameters, drawn.get(keys.ACTION))
    torch.testing.assert_close(log_prob, drawn.get("log_prob"), rtol=1e-5, atol=1e-6)
    distribution = MaskedCategorical(logits=drawn.get("logits"), mask=LEGAL[rooms])
    assert torch.equal(policies.family.mode(parameters), distribution.mode)
    torch.testing.assert_close(parameters.exp(), distribution.probs, rtol=1e-5, atol=1e-6)


def test_the_expected_gradient_is_that_of_the_enumerated_return() -> None:
    """Legal joint actions of every room, weighted by their probabilities, against plain autograd."""
    policies = policies_of_doors()
    steps = [(room, actions) for room in range(ROOMS) for actions in legal_joint(room)]
    rooms = torch.tensor([room for room, _ in steps])
    action = torch.tensor([actions for _, actions in steps])
    observation, _ = Doors().observe({"room": rooms})
    data = TensorDict(
        {keys.OBSERVATION: observation, keys.ACTION_MASK: LEGAL[rooms], keys.ACTION: action}, batch_size=len(steps)
    )
    data = data.expand(2, len(steps)).clone()
    log_prob = policies.family.log_prob(policies.parameters_in(data), action.expand(2, -1, -1)).detach()
    chance = log_prob.sum(-1).exp()
    assert torch.allclose(chance.sum(1), torch.tensor(float(ROOMS)))  # nothing is left for what is illegal
    reward = REWARD[rooms, action[:, 0], action[:, 1]]  # [B, A]
    found = policy_gradient(policies, data, chance.unsqueeze(-1) * reward * len(steps) / ROOMS)

    outputs = per_agent(policies.net, torch.eye(ROOMS).view(1, ROOMS, 1, ROOMS).expand(2, -1, 2, -1)).double()
    own = torch.zeros((), dtype=torch.float64)
    for agent in range(2):  # which ascends its own reward, by its own policy
        for room, actions in steps:
            each = []
            for i, chosen in enumerate(actions):
                allowed = LEGAL[room, i].nonzero().flatten()
                weight = outputs[:, room, i]
                probability = weight[:, chosen].exp() / weight[:, allowed].exp().sum(-1)
                each.append(probability if i == agent else probability.detach())
            own = own + (each[0] * each[1]).sum() * REWARD[room, actions[0], actions[1], agent] / ROOMS
    (expected,) = torch.autograd.grad(own, policies.net.flat)
    assert expected.abs().max() > 0.01
    torch.testing.assert_close(found, expected.flatten(1), rtol=1e-4, atol=1e-6)
