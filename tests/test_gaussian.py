"""Diagonal Gaussians of agents with different numbers of components, against torch.distributions and scipy."""

import pytest
import torch
from scipy.stats import kstest, norm
from torch import Tensor
from torch.distributions import Independent, Normal
from torch.distributions import kl_divergence as torch_kl

from lit_maprops.distributions import gaussian
from lit_maprops.stacked.streams import SeedStreams

MASK = torch.tensor([[True, True, False], [True, False, False], [True, True, True]])  # 3 agents, D = 3, J = 6
NAN = float("nan")


def parameters_of(*shape: int, seed: int = 0) -> Tensor:
    """``[*shape, A, 2 D]`` with zeros in the padding."""
    drawn = torch.randn(*shape, 3, 2, 3, generator=torch.Generator().manual_seed(seed))
    return torch.where(MASK.unsqueeze(1), drawn, 0.0).flatten(-2)


def actions_of(*shape: int, seed: int = 1) -> Tensor:
    drawn = 2 * torch.randn(*shape, 3, 3, generator=torch.Generator().manual_seed(seed))
    return torch.where(MASK, drawn, 0.0)


def distribution(parameters: Tensor, agent: int) -> Independent:
    """The agent's existing components only, as torch has them, in float64."""
    mean, log_std = parameters[..., agent, :].double().unflatten(-1, (2, 3)).unbind(-2)
    own = MASK[agent]
    return Independent(Normal(mean[..., own], log_std[..., own].exp()), 1)


def test_split():
    mean, log_std = gaussian.split(torch.arange(6.0).expand(2, 6))
    assert mean.tolist() == [[0, 1, 2]] * 2
    assert log_std.tolist() == [[3, 4, 5]] * 2


def test_log_prob_kl_and_entropy_are_those_of_torch_distributions():
    p, q, action = parameters_of(2, 5), parameters_of(2, 5, seed=2), actions_of(2, 5)
    log_prob, kl = gaussian.log_prob(p, action, MASK), gaussian.kl_divergence(p, q, MASK)
    entropy = gaussian.entropy(p, MASK)
    assert log_prob.shape == kl.shape == entropy.shape == (2, 5, 3)
    for agent in range(3):
        own, other = distribution(p, agent), distribution(q, agent)
        taken = action[..., agent, MASK[agent]].double()
        torch.testing.assert_close(log_prob[..., agent].double(), own.log_prob(taken), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(kl[..., agent].double(), torch_kl(own, other), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(entropy[..., agent].double(), own.entropy(), rtol=1e-5, atol=1e-5)
    assert (gaussian.kl_divergence(p, p, MASK) == 0).all()


def test_padding_counts_nothing_whatever_it_holds():
    p, q, action = parameters_of(4), parameters_of(4, seed=2), actions_of(4)
    hidden = ~MASK
    dirty = torch.where(torch.cat([hidden, hidden], -1), 3.0, p)
    unclean = torch.where(hidden, -7.0, action)
    assert torch.equal(gaussian.log_prob(dirty, unclean, MASK), gaussian.log_prob(p, action, MASK))
    assert torch.equal(gaussian.kl_divergence(dirty, q, MASK), gaussian.kl_divergence(p, q, MASK))
    assert torch.equal(gaussian.entropy(dirty, MASK), gaussian.entropy(p, MASK))


def test_small_divergences_survive_float32():
    p = torch.zeros(1, 1, 2)
    q = torch.tensor([[[0.0, 1e-3]]])
    exact = torch_kl(Normal(0.0, 1.0), Normal(torch.zeros(1).double(), torch.tensor([1e-3]).double().exp()))
    kl = gaussian.kl_divergence(p, q, torch.tensor([[True]]))
    torch.testing.assert_close(kl.flatten().double(), exact, rtol=1e-3, atol=0.0)


# sampling


def test_samples_have_the_distribution_of_their_parameters():
    """Kolmogorov-Smirnov per component, and no correlation between components."""
    parameters = parameters_of()
    uniform = SeedStreams(0, [0], "test").uniform(40_000, 3, 3)[0]
    action = gaussian.sample(parameters.expand(len(uniform), -1, -1), uniform, MASK)
    mean, log_std = parameters.unflatten(-1, (2, 3)).unbind(-2)
    for agent, component in MASK.nonzero().tolist():
        cdf = norm(mean[agent, component].item(), log_std[agent, component].exp().item()).cdf
        assert kstest(action[:, agent, component].numpy(), cdf).pvalue > 1e-3
    assert (action[:, ~MASK] == 0).all()
    correlation = torch.corrcoef(gaussian.whiten(parameters, action, MASK).mT)
    assert (correlation - torch.eye(6)).abs().max() < 0.03  # six standard errors
    torch.testing.assert_close(action[:, MASK].mean(0), mean[MASK], atol=0.08, rtol=0.0)
    torch.testing.assert_close(action[:, MASK].std(0).log(), log_std[MASK], atol=0.02, rtol=0.0)


def test_quantiles_are_those_of_scipy():
    uniform = torch.tensor([2**-24, 0.01, 0.25, 0.5, 0.75, 0.999])
    expected = torch.tensor(norm.ppf(uniform.double().numpy() + 2**-25))
    torch.testing.assert_close(gaussian.standard_normal(uniform).double(), expected, rtol=1e-6, atol=1e-6)


def test_smallest_and_largest_uniform_number_are_finite_and_opposite():
    ends = gaussian.standard_normal(torch.tensor([0.0, 1 - 2**-24]))
    assert ends[0] == -ends[1]
    assert ends[0].item() == pytest.approx(norm.ppf(2**-25))


def test_whitening_is_inverted_and_orders_agents_before_components():
    parameters, action = parameters_of(2, 4), actions_of(2, 4)
    z = gaussian.whiten(parameters, action, MASK)
    assert z.shape == (2, 4, 6)
    torch.testing.assert_close(gaussian.unwhiten(parameters, z, MASK), action, atol=1e-5, rtol=1e-5)
    mean, log_std = gaussian.split(parameters)
    for j, (agent, component) in enumerate(MASK.nonzero().tolist()):
        one = (action - mean)[..., agent, component] / log_std[..., agent, component].exp()
        torch.testing.assert_close(z[..., j], one)
    assert (gaussian.unwhiten(parameters, torch.ones(2, 4, 6), MASK)[..., ~MASK] == 0).all()


def test_whitened_log_prob_is_that_of_the_joint_up_to_the_volume():
    parameters, action = parameters_of(5), actions_of(5)
    z = gaussian.whiten(parameters, action, MASK)
    volume = gaussian.split(parameters)[1].sum((-1, -2))
    expected = Normal(0.0, 1.0).log_prob(z).sum(-1) - volume
    torch.testing.assert_close(gaussian.log_prob(parameters, action, MASK).sum(-1), expected, atol=1e-4, rtol=1e-5)


def test_nan_stays_in_its_row():
    parameters, action = parameters_of(3), actions_of(3)
    uniform = torch.full((3, 3, 3), 0.3)
    broken = parameters.clone()
    broken[1] = NAN
    others = [0, 2]
    for of in (
        lambda p: gaussian.log_prob(p, action, MASK),
        lambda p: gaussian.sample(p, uniform, MASK),
        lambda p: gaussian.entropy(p, MASK),
        lambda p: gaussian.whiten(p, action, MASK),
    ):
        assert torch.equal(of(broken)[others], of(parameters)[others])
