"""Policy gradients against autograd of enumerated returns; bias and variance against their definitions."""

import itertools

import pytest
import torch
from tensordict import TensorDict
from torch import Tensor
from torch.distributions import Categorical

from lit_maprops import keys
from lit_maprops.envs import BoulderPush, Coordination, MatrixGame, StagedGame, State, Task
from lit_maprops.envs.base import Transition
from lit_maprops.metrics.gradients import Reference, exact_reference, policy_gradient, pooled, spread
from lit_maprops.stacked.streams import SeedStreams
from lit_maprops.targets import TargetPolicies


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def policies_of(task: Task, seeds: int, hidden: list[int], shared: bool = False) -> TargetPolicies:
    policies = TargetPolicies(task, hidden, shared, SeedStreams(0, list(range(seeds)), "weights").generators)
    torch.nn.init.normal_(policies.net.flat, std=0.7, generator=generator(1))
    return policies


GAMES = {
    "figure1": MatrixGame(),
    "a payoff per agent": MatrixGame([[[1, 2], [-1, 0.5]], [[3, -2], [0.8, 1]]]),
    "3 agents": Coordination(3, 2),
    "3 actions": MatrixGame("climbing"),
}


@pytest.mark.parametrize("hidden", [[], [5]])
@pytest.mark.parametrize("task", GAMES.values(), ids=GAMES)
def test_exact_gradient_is_autograd_of_the_enumerated_return(task, hidden):
    """Every agent's parameters by the derivative of its own expected payoff, written with torch.distributions."""
    policies = policies_of(task, 3, hidden)
    reference = exact_reference(policies, task)
    for seed in range(3):
        for agent in range(task.n_agents):
            logits = policies.distribution_parameters(torch.ones(3, 1, task.n_agents, 1))[seed, 0]
            chances = [Categorical(logits=own).probs for own in logits]
            expected = torch.zeros(())
            for actions in itertools.product(range(task.n_actions), repeat=task.n_agents):
                start = task.initial_state(torch.zeros(0))
                reward = task.transition(start, torch.tensor(actions), torch.zeros(0)).reward[agent]
                chance = torch.stack([p[a] for p, a in zip(chances, actions, strict=True)]).prod()
                expected = expected + chance * reward
            full = torch.autograd.grad(expected, policies.net.flat)[0][seed, agent]
            own = reference.gradient[seed].reshape(task.n_agents, -1)[agent]
            torch.testing.assert_close(own, full, atol=1e-6, rtol=1e-4)
    assert reference.batches == 0 and (reference.variance == 0).all()


def test_exact_gradient_with_shared_parameters_is_that_of_the_common_return():
    task = MatrixGame("climbing")
    policies = policies_of(task, 2, [4], shared=True)
    logits = policies.distribution_parameters(torch.ones(2, 1, 2, 1)).squeeze(1).exp()
    payoff = task.payoff[:, 0].reshape(3, 3)
    expected = torch.einsum("ra,rb,ab->r", logits[:, 0], logits[:, 1], payoff)
    full = torch.autograd.grad(expected.sum(), policies.net.flat)[0]
    torch.testing.assert_close(exact_reference(policies, task).gradient, full, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(exact_reference(policies, task).episode_return, expected.detach())


def test_only_one_step_games_are_enumerated():
    assert exact_reference(policies_of(BoulderPush(), 1, []), BoulderPush()) is None
    assert exact_reference(policies_of(Coordination(10, 5), 1, []), Coordination(10, 5)) is None


class DrawnPayoff(MatrixGame):
    """Twice the payoff in half of the steps, nothing in the others."""

    step_noise = 1

    def transition(self, state: State, action: Tensor, noise: Tensor) -> Transition:
        outcome = super().transition(state, action, noise)
        return outcome._replace(reward=2 * (noise >= 0.5) * outcome.reward)


class DrawnStart(MatrixGame):
    start_noise = 1


SEVERAL = {
    "stages": StagedGame(),
    "stages that may not come": StagedGame(advance="best"),
    "a drawn payoff": DrawnPayoff(),
    "a drawn start": DrawnStart(),
}


@pytest.mark.parametrize("task", SEVERAL.values(), ids=SEVERAL)
def test_matrix_games_of_several_steps_or_with_chance_are_not_enumerated(task):
    """One joint action of stage 0, or one draw of the payoff, says nothing of the others."""
    assert exact_reference(policies_of(task, 1, []), task) is None


def test_a_game_of_one_stage_is_the_matrix_game():
    staged, plain = StagedGame("climbing", stages=1), MatrixGame("climbing")
    policies = policies_of(plain, 2, [4])
    torch.testing.assert_close(exact_reference(policies, staged), exact_reference(policies, plain))


def batch_of(task: Task, action: Tensor) -> tuple[TensorDict, Tensor]:
    """A batch of joint actions ``[R, B, A]`` and their payoffs ``[R, B, A]``."""
    start = task.initial_state(torch.zeros(*action.shape[:2], 0))
    data = TensorDict({keys.ACTION: action}, batch_size=action.shape[:2])
    data.set(keys.OBSERVATION, torch.ones(*action.shape, 1))
    return data, task.transition(start, action, torch.zeros(*action.shape[:2], 0)).reward


@pytest.mark.parametrize("task", GAMES.values(), ids=GAMES)
def test_a_batch_in_exact_proportions_gives_the_exact_gradient(task):
    """The estimator is linear in d_D: with d_D = pi_theta nothing is left of the error. Quarters and halves only."""
    policies = policies_of(task, 1, [])
    with torch.no_grad():
        policies.net.flat.zero_()
    every = torch.tensor(list(itertools.product(range(task.n_actions), repeat=task.n_agents))).unsqueeze(0)
    data, reward = batch_of(task, every.repeat(1, 4, 1))
    found = policy_gradient(policies, data, reward)
    torch.testing.assert_close(found, exact_reference(policies, task).gradient, atol=1e-6, rtol=1e-5)


def sampled(task: Task, policies: TargetPolicies, batches: int, steps: int, logits: Tensor | None = None) -> Tensor:
    """Gradients ``[1, K, P]`` of K batches; actions drawn from ``logits`` ``[A, N]`` or from the policies."""
    if logits is None:
        logits = policies.distribution_parameters(torch.ones(1, 1, task.n_agents, 1))[0, 0].detach()
    agents = [
        torch.multinomial(own.exp(), batches * steps, True, generator=generator(k)) for k, own in enumerate(logits)
    ]
    data, reward = batch_of(task, torch.stack(agents, -1).reshape(batches, steps, task.n_agents))
    return policy_gradient(policies.repeated(batches), data, reward).unsqueeze(0)


def test_on_policy_batches_are_unbiased_and_skewed_ones_are_not():
    task = MatrixGame()
    policies = policies_of(task, 1, [])
    reference = exact_reference(policies, task)
    bias = spread(sampled(task, policies, 4000, 8), reference)["bias_squared"]
    assert abs(bias.value.item()) < 4 * bias.error.item()
    skewed = torch.tensor([[0.9, 0.1], [0.6, 0.4]]).log()
    found = spread(sampled(task, policies, 4000, 8, skewed), reference)["bias_squared"]
    # In expectation the skewed batch gives sum_a phi(a) r(a) grad log pi(a).
    every = torch.tensor(list(itertools.product(range(2), repeat=2)))
    data, reward = batch_of(task, every.unsqueeze(1))
    single = policy_gradient(policies.repeated(4), data, reward)
    chance = torch.stack([(skewed[0, a] + skewed[1, b]).exp() for a, b in every.tolist()])
    truth = ((chance.unsqueeze(-1) * single).sum(0) - reference.gradient[0]).square().sum().item()
    assert abs(found.value.item() - truth) < 4 * found.error.item()
    assert truth > 20 * found.error.item()  # or the test could not tell


def test_variance_of_the_batch_mean_falls_as_one_over_n():
    task = MatrixGame()
    policies = policies_of(task, 1, [])
    reference = exact_reference(policies, task)
    # Closed form of one sample: E |g|^2 - |E g|^2 over the joint actions.
    every = torch.tensor(list(itertools.product(range(2), repeat=2)))
    data, reward = batch_of(task, every.unsqueeze(1))
    single = policy_gradient(policies.repeated(4), data, reward)
    logits = policies.distribution_parameters(torch.ones(1, 1, 2, 1))[0, 0].detach()
    chance = torch.stack([(logits[0, a] + logits[1, b]).exp() for a, b in every.tolist()])
    one = (chance * single.square().sum(-1)).sum() - reference.gradient.square().sum()
    for steps in (1, 4, 16):
        found = spread(sampled(task, policies, 4000, steps), reference)["variance"]
        assert abs(found.value.item() - one.item() / steps) < 4 * found.error.item()
        assert found.error.item() < 0.1 * one.item() / steps


def test_spread_is_that_of_its_definitions():
    gradients = torch.randn(2, 5, 7, generator=generator(), dtype=torch.float64)
    reference = Reference(
        torch.randn(2, 7, generator=generator(1), dtype=torch.float64),
        torch.tensor([0.0, 0.3]), torch.zeros(2), torch.zeros(2), 10,
    )  # fmt: skip
    found = spread(gradients, reference)
    for seed in range(2):
        off = gradients[seed] - reference.gradient[seed]
        pairs = [float(off[i] @ off[j]) for i, j in itertools.permutations(range(5), 2)]
        less = float(reference.variance[seed])
        assert found["bias_squared"].value[seed].item() == pytest.approx(sum(pairs) / 20 - less)
        assert found["variance"].value[seed].item() == pytest.approx(float(gradients[seed].var(0).sum()))
        assert found["mse"].value[seed].item() == pytest.approx(float(off.square().sum(1).mean()) - less)
        cosine = torch.cosine_similarity(gradients[seed], reference.gradient[seed].unsqueeze(0))
        assert found["cosine"].value[seed].item() == pytest.approx(float(cosine.mean()))
        assert found["cosine"].error[seed].item() == pytest.approx(float(cosine.std() / 5**0.5))
        left = []
        for j in range(5):
            rest = torch.cat([gradients[seed, :j], gradients[seed, j + 1 :]])
            left.append(float(rest.var(0).sum()))
        mean = sum(left) / 5
        error = (0.8 * sum((value - mean) ** 2 for value in left)) ** 0.5
        assert found["variance"].error[seed].item() == pytest.approx(error)
    total = found["bias_squared"].value + found["variance"].value
    torch.testing.assert_close(found["mse"].value, total)


def test_intervals_cover_what_they_claim():
    """400 data sets of normal gradients with known bias and variance: about 95% of the intervals hold the truth."""
    shift = torch.tensor([0.5, 0.0, -0.3, 0.0], dtype=torch.float64)
    gradients = shift + torch.randn(400, 24, 4, generator=generator(), dtype=torch.float64)
    nothing = torch.zeros(400, dtype=torch.float64)
    found = spread(gradients, Reference(torch.zeros(400, 4, dtype=torch.float64), nothing, nothing, nothing, 0))
    for name, truth in (("bias_squared", 0.34), ("variance", 4.0), ("mse", 4.34)):
        value, error = found[name]
        covered = ((value - truth).abs() <= 1.96 * error).double().mean().item()
        assert 0.88 < covered <= 1.0, name
        mean, own = pooled(found[name])
        assert abs(mean - truth) < 4 * own


def test_a_seed_with_nan_is_left_out_of_the_pooled_mean_and_leaves_the_others_alone():
    gradients = torch.randn(3, 6, 4, generator=generator())
    reference = Reference(torch.zeros(3, 4) + 1, torch.zeros(3), torch.zeros(3), torch.zeros(3), 0)
    sound = spread(gradients, reference)
    gradients[1] = torch.nan
    broken = spread(gradients, reference)
    for name in sound:
        assert torch.equal(sound[name].value[[0, 2]], broken[name].value[[0, 2]])
        assert pooled(broken[name])[0] == pytest.approx(sound[name].value[[0, 2]].mean().item())
