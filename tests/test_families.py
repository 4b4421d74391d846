"""Families of policies: what is masked never happens and never spoils a number; squashing changes no ratio."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical as TorchCategorical
from torch.distributions import Normal, TransformedDistribution, kl_divergence
from torch.distributions.transforms import TanhTransform
from torchrl.modules import TanhNormal

from lit_maprops.distributions.families import LARGEST_STD, SMALLEST_STD, Categorical, Gaussian
from lit_maprops.envs import Coordination, TaskEnv, TwoPeaks
from lit_maprops.stacked.streams import SeedStreams
from lit_maprops.targets.distributions import tolerant

ACTIONS = torch.tensor([[True, False, True, False], [False, True, True, True], [True, True, True, True]])
COMPONENTS = torch.tensor([[True, False], [True, True]])


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# agents with different numbers of actions


def masked() -> tuple[Categorical, Tensor, Tensor]:
    family = Categorical(ACTIONS)
    return family, family.from_outputs(normal(5, 3, 4), None), family.from_outputs(normal(5, 3, 4, seed=1), None)


def test_masked_policies_are_categoricals_over_what_exists():
    family, p, q = masked()
    for agent, has in enumerate(ACTIONS):
        own, other = (TorchCategorical(logits=x[:, agent, has]) for x in (normal(5, 3, 4), normal(5, 3, 4, seed=1)))
        assert (p[:, agent, ~has] == -torch.inf).all()
        torch.testing.assert_close(p[:, agent, has], own.logits)
        torch.testing.assert_close(family.entropy(p)[:, agent], own.entropy())
        torch.testing.assert_close(tolerant(family)(p).entropy()[:, agent], own.entropy())
        torch.testing.assert_close(family.kl_divergence(p, q)[:, agent], kl_divergence(own, other))


@pytest.mark.parametrize("figure", ["log_prob", "entropy", "loss_entropy"])
def test_gradients_of_masked_policies_are_finite(figure):
    family, outputs = Categorical(ACTIONS), normal(5, 3, 4).requires_grad_()
    parameters = family.from_outputs(outputs, None)
    value = {
        "log_prob": lambda: family.log_prob(parameters, torch.tensor([0, 2, 3]).expand(5, 3)),
        "entropy": lambda: family.entropy(parameters),
        "loss_entropy": lambda: tolerant(family)(parameters).entropy(),
    }[figure]()
    (gradient,) = torch.autograd.grad(value.sum(), outputs)
    assert gradient.isfinite().all()
    assert (gradient[:, ~ACTIONS] == 0).all() and (gradient[:, ACTIONS] != 0).all()


def test_masked_actions_are_never_drawn_at_either_end_of_the_interval():
    family, p, _ = masked()
    has = ACTIONS.expand(5, 3, 4)
    draws = [torch.full((5, 3), end) for end in (0.0, 1 - 2**-24, 0.5)]
    draws += SeedStreams(0, range(200), "actions").uniform(5, 3).unbind(0)
    seen = torch.zeros_like(has)
    for uniform in draws:
        action = family.sample(p, uniform)
        assert has.gather(-1, action.unsqueeze(-1)).all()
        seen |= torch.nn.functional.one_hot(action, 4).bool()
    assert (seen == has).all(), "and every other one is"
    assert has.gather(-1, family.mode(p).unsqueeze(-1)).all()


class Masked(Coordination):
    def action_mask(self) -> Tensor:
        return torch.tensor([[True, False, True], [True, True, True], [False, True, False]])


def test_random_actions_of_the_environment_exist():
    env = TaskEnv(Masked(3, 3), 0, [0, 1], 4)
    drawn = torch.stack([env.rand_action(env.reset()).get(("agents", "action")) for _ in range(40)])
    assert [drawn[..., agent].unique().tolist() for agent in range(3)] == [[0, 2], [0, 1, 2], [1]]


# continuous actions


def gaussians() -> tuple[Gaussian, Tensor, Tensor, Tensor]:
    family = Gaussian(COMPONENTS)
    p, q = (family.from_outputs(normal(6, 2, 4, seed=seed), None) for seed in (0, 1))
    return family, p, q, family.sample(p, torch.rand(6, 2, 2, generator=torch.Generator().manual_seed(2)))


@pytest.mark.parametrize("squashed", ["TransformedDistribution", "TanhNormal"])
def test_ratios_of_squashed_policies_are_those_before_squashing(squashed):
    family, p, q, u = gaussians()
    ours = family.log_prob(p, u) - family.log_prob(q, u)
    action = u.double().tanh()

    def log_prob(parameters: Tensor) -> Tensor:
        mean, std = parameters[..., :2].double(), parameters[..., 2:].double().exp()
        if squashed == "TanhNormal":
            each = TanhNormal(mean.unsqueeze(-1), std.unsqueeze(-1), safe_tanh=False).log_prob(action.unsqueeze(-1))
        else:
            each = TransformedDistribution(Normal(mean, std), TanhTransform()).log_prob(action)
        return torch.where(COMPONENTS, each, 0.0).sum(-1)

    theirs = log_prob(p) - log_prob(q)
    assert ours.abs().mean() > 0.1
    torch.testing.assert_close(ours.double(), theirs, rtol=1e-3, atol=1e-4)
    # The densities themselves differ, by the Jacobian.
    jacobian = torch.where(COMPONENTS, (1 - action.square()).log(), 0.0).sum(-1)
    torch.testing.assert_close(family.log_prob(p, u).double() - jacobian, log_prob(p), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("initial_std", [None, 0.06, 0.5, 1.9])
def test_standard_deviations_start_as_told_and_stay_within_their_limits(initial_std):
    family = Gaussian(COMPONENTS)
    start = family.from_outputs(torch.zeros(2, 4), initial_std)
    expected = math.log(0.5 if initial_std is None else initial_std)
    torch.testing.assert_close(start[..., 2:], torch.where(COMPONENTS, expected, 0.0))
    assert (start[..., :2] == 0).all()
    outputs = torch.linspace(-200, 200, 41).reshape(-1, 1, 1).expand(-1, 2, 4)
    std = family.from_outputs(outputs, initial_std)[:, 1, 2:].exp()
    assert (std.diff(dim=0) >= 0).all()
    assert std.min() == pytest.approx(SMALLEST_STD) and std.max() == pytest.approx(LARGEST_STD)


def test_padding_has_neutral_parameters_and_no_gradient():
    outputs = normal(6, 2, 4).requires_grad_()
    parameters = Gaussian(COMPONENTS).from_outputs(outputs, None)
    assert (parameters[:, 0, [1, 3]] == 0).all()
    (gradient,) = torch.autograd.grad(parameters.sum(), outputs)
    assert (gradient[:, 0, [1, 3]] == 0).all() and (gradient != 0).sum() == 6 * 6


def test_the_mode_maximizes_the_density():
    family, p, _, u = gaussians()
    mode = family.mode(p)
    assert (family.log_prob(p, mode) > family.log_prob(p, u)).all()
    for shift in (0.01, -0.01):
        moved = torch.where(COMPONENTS, mode + shift, 0.0)
        assert (family.log_prob(p, mode) > family.log_prob(p, moved)).all()


def test_draws_lie_at_their_quantiles():
    family, p, _, _ = gaussians()
    uniform = torch.rand(6, 2, 2, generator=torch.Generator().manual_seed(3))
    expected = Normal(p[..., :2].double(), p[..., 2:].double().exp()).icdf(uniform.double())
    drawn = family.sample(p, uniform)
    torch.testing.assert_close(drawn.double(), torch.where(COMPONENTS, expected, 0.0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("squash", "bounded"), [("tanh", torch.tanh), ("clip", lambda u: u.clip(-1, 1))])
def test_the_environment_bounds_actions_and_keeps_what_was_drawn(squash, bounded):
    task = TwoPeaks(squash=squash)
    env, executed = TaskEnv(task, 0, [0, 1], 2), []
    transition = task.transition
    task.transition = lambda state, action, noise: executed.append(action) or transition(state, action, noise)
    u = torch.tensor([0.5, -3.0, torch.nan, 100.0]).reshape(2, 2, 1, 1).expand(2, 2, 2, 1)
    stepped = env.step(env.reset().set(("agents", "action"), u))
    torch.testing.assert_close(executed[0], torch.where(u.isnan(), 0.0, bounded(u)))
    assert torch.equal(stepped.get(("agents", "action")).nan_to_num(), u.nan_to_num())
    assert stepped.get(("next", "agents", "reward")).isfinite().all(), "a broken seed gets a reward like any other"
