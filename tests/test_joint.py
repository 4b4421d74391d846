"""The joint action set against enumeration by itertools, torch.distributions and chi-square tests."""

import itertools

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from torch.distributions import Categorical
from torch.distributions import kl_divergence as torch_kl

from lit_maprops.distributions import joint

SIZES = [(1, 4), (2, 2), (2, 5), (3, 3), (4, 2)]  # agents, actions
NAN, INF = float("nan"), float("inf")
LARGEST_UNIFORM = 1 - 2**-24  # of torch.rand in float32


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_log_probs(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=generator()).log_softmax(-1)


# enumeration


@pytest.mark.parametrize(("n_agents", "n_actions"), SIZES)
def test_joint_log_probs_are_sums_over_agents_in_itertools_order(n_agents, n_actions):
    log_probs = random_log_probs(3, 2, n_agents, n_actions)
    result = joint.joint_log_probs(log_probs)
    assert result.shape == (3, 2, n_actions**n_agents)
    for k, actions in enumerate(itertools.product(range(n_actions), repeat=n_agents)):
        expected = sum(log_probs[..., agent, action] for agent, action in enumerate(actions))
        torch.testing.assert_close(result[..., k], expected)
    torch.testing.assert_close(result.exp().sum(-1), torch.ones(3, 2))


@pytest.mark.parametrize(("n_agents", "n_actions"), SIZES)
def test_numbers_of_joint_actions_are_those_of_itertools(n_agents, n_actions):
    actions = torch.tensor(list(itertools.product(range(n_actions), repeat=n_agents)))
    numbers = torch.arange(len(actions))
    assert torch.equal(joint.joint_index(actions, n_actions), numbers)
    assert torch.equal(joint.split_joint(numbers, n_agents, n_actions), actions)
    assert torch.equal(joint.joint_index(actions.reshape(1, -1, n_agents), n_actions), numbers.unsqueeze(0))


def test_numbers_of_joint_actions_beyond_32_bits():
    action = torch.full((40,), 1)
    assert joint.joint_index(action, 2).item() == 2**40 - 1
    assert torch.equal(joint.split_joint(torch.tensor(2**40 - 1), 40, 2), action)


# sampling


def draw(log_probs: torch.Tensor, draws: int, seed: int) -> np.ndarray:
    uniform = torch.rand(draws, generator=generator(seed))
    actions = joint.sample(log_probs.expand(draws, -1), uniform)
    assert actions.dtype == torch.int64
    return np.bincount(actions.numpy(), minlength=log_probs.shape[-1])


@pytest.mark.parametrize("n_actions", [2, 5, 64])
def test_frequencies_are_the_probabilities(n_actions):
    log_probs = random_log_probs(n_actions)
    counts = draw(log_probs, 50_000, n_actions)
    expected = log_probs.double().softmax(-1).numpy() * counts.sum()
    assert chisquare(counts, expected).pvalue > 1e-3


def test_zero_probability_actions_are_never_drawn():
    probabilities = torch.tensor([0.0, 0.3, 0.0, 0.0, 0.7, 0.0])
    counts = draw(probabilities.log(), 50_000, 1)
    assert counts[probabilities.numpy() == 0].sum() == 0
    assert chisquare(counts[[1, 4]], [15_000, 35_000]).pvalue > 1e-3


@pytest.mark.parametrize(
    ("probabilities", "first", "last"),
    [
        ([0.25] * 4, 0, 3),
        ([0.0, 1.0, 0.0], 1, 1),
        ([0.0, 0.5, 0.5, 0.0], 1, 2),
        ([1.0], 0, 0),
        ([1e-6, 1 - 1e-6], 0, 1),
    ],
)
def test_smallest_and_largest_uniform_number(probabilities, first, last):
    log_probs = torch.tensor(probabilities).log()
    drawn = joint.sample(log_probs.expand(2, -1), torch.tensor([0.0, LARGEST_UNIFORM]))
    assert drawn.tolist() == [first, last]


@pytest.mark.parametrize("n_actions", [3, 7, 1000, 100_000])
def test_the_largest_uniform_number_never_draws_a_masked_tail(n_actions):
    """Rounding of the cumulative sum must not let the draw fall behind the last possible action."""
    log_probs = random_log_probs(20, n_actions)
    log_probs[:, -2:] = -INF
    log_probs = log_probs.log_softmax(-1)
    drawn = joint.sample(log_probs, torch.full((20,), LARGEST_UNIFORM))
    assert (drawn < n_actions - 2).all()


def test_every_action_owns_its_interval():
    log_probs = torch.tensor([0.5, 0.25, 0.25]).log()
    uniform = torch.tensor([0.0, 0.499, 0.5, 0.749, 0.75, 0.999])
    assert joint.sample(log_probs.expand(6, -1), uniform).tolist() == [0, 0, 1, 1, 2, 2]


def test_nan_rows_stay_in_range_and_leave_the_others_alone():
    log_probs = random_log_probs(4, 6)
    uniform = torch.rand(4, generator=generator(1))
    clean = joint.sample(log_probs, uniform)
    log_probs[1] = NAN
    log_probs[3, 2] = NAN
    drawn = joint.sample(log_probs, uniform)
    assert ((drawn >= 0) & (drawn < 6)).all()
    assert torch.equal(drawn[[0, 2]], clean[[0, 2]])


# KL


def test_kl_is_that_of_torch_distributions():
    log_p, log_q = random_log_probs(2, 5, 7)
    expected = torch_kl(Categorical(logits=log_p), Categorical(logits=log_q))
    torch.testing.assert_close(joint.kl_divergence(log_p, log_q), expected)
    assert (joint.kl_divergence(log_p, log_p) == 0).all()


def test_kl_with_impossible_actions():
    log_p = torch.tensor([[0.5, 0.5, 0.0], [0.5, 0.25, 0.25], [0.0, 1.0, 0.0]]).log()
    log_q = torch.tensor([[0.25, 0.75, 0.0], [0.5, 0.5, 0.0], [0.2, 0.3, 0.5]]).log()
    expected = torch_kl(Categorical(probs=log_p.exp()), Categorical(probs=log_q.exp()))
    result = joint.kl_divergence(log_p, log_q)
    assert result[1] == INF == expected[1]
    torch.testing.assert_close(result[[0, 2]], expected[[0, 2]])


def test_kl_of_independent_agents_adds_up():
    log_p, log_q = random_log_probs(2, 5, 3, 4)
    joint_kl = joint.kl_divergence(joint.joint_log_probs(log_p), joint.joint_log_probs(log_q))
    torch.testing.assert_close(joint_kl, joint.kl_divergence(log_p, log_q).sum(-1))
