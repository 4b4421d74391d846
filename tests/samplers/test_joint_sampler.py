"""What a sampler draws, keeps and saves: for every registered behavior policy, and against exact figures."""

import io
import itertools
import math

import numpy as np
import pytest
import torch
from sampler_helpers import ENVS, SERVED, SIZES, policy_of, run, sampler_of, states_of, theta_of
from scipy.stats import chisquare, multinomial

from lit_maprops.behavior import MAPROPS, PROPS, Greedy, OnPolicy
from lit_maprops.samplers import JointSampler

MILD = {"clip_epsilon": 0.3, "kl_cutoff": 0.05, "learning_rate": 0.5, "epochs": 8, "hidden": []}
UNIFORM = torch.full((1, 2, 2), math.log(0.5))


@pytest.mark.parametrize(("name", "kind"), SERVED)
def test_actions_exist_and_log_prob_is_that_of_theta(name: str, kind: str) -> None:
    sampler, theta = sampler_of(name, kind), theta_of(kind, 3)
    for action in run(sampler, kind, range(8)):
        assert action.shape[:2] == (ENVS, len(SIZES))
        if kind == "discrete":
            assert action.dtype == torch.int64
            assert ((action >= 0) & (action < torch.tensor(SIZES))).all()
        else:
            assert (action[:, 1, 2] == 0).all()  # agent 1 has two components
    drawn, number = sampler.drawn, states_of(7)[0]
    assert drawn is not None
    for env, agent in itertools.product(range(ENVS), range(len(SIZES))):
        row, size, taken = theta[number[env], agent], SIZES[agent], drawn.action[env, agent]
        if kind == "discrete":
            expected = row[taken]
        else:
            mean, log_std = row[:size], row[3 : 3 + size]
            expected = torch.distributions.Normal(mean, log_std.exp()).log_prob(taken[:size]).sum()
        assert drawn.log_prob[env, agent] == pytest.approx(float(expected), abs=1e-5)


@pytest.mark.parametrize(("name", "kind"), [case for case in SERVED if case[0] != "Greedy"])
def test_phi_is_theta_after_every_reset(name: str, kind: str) -> None:
    sampler = sampler_of(name, kind)
    run(sampler, kind, range(8))
    sampler.reset()
    number, state = states_of(0)
    sampler.act(state, theta_of(kind, 3, seed=5)[number])
    assert sampler.drawn is not None
    assert sampler.drawn.kl.abs().max() < 1e-6
    assert (sampler.drawn.behavior_log_prob - sampler.drawn.log_prob.sum(-1)).abs().max() < 1e-5


def test_draws_after_a_reset_have_the_probabilities_of_theta() -> None:
    """4,000 environments at once; joint actions of three agents with 3, 2 and 3 actions against the product."""
    envs, theta = 4000, theta_of("discrete", 1)
    sampler = JointSampler(policy_of("MAPROPS"), SIZES, num_envs=envs)
    action = sampler.act(torch.ones(envs, 1), theta.expand(envs, -1, -1)).tolist()
    combinations = list(itertools.product(*map(range, SIZES)))
    expected = [math.prod(theta[0, i, a].exp().item() for i, a in enumerate(actions)) for actions in combinations]
    seen = [sum(tuple(row) == actions for row in action) for actions in combinations]
    assert chisquare(seen, np.array(expected) / sum(expected) * envs).pvalue > 1e-3


STATEFUL = [{"warm_start": True}, {"reset_optimizer": False, "minibatches": 2}, {"trained_layers": "last"}]


@pytest.mark.parametrize(
    ("name", "kind", "options"),
    [(*case, {}) for case in SERVED] + [("MAPROPS", "discrete", options | {"kl_cutoff": 0.01}) for options in STATEFUL],
)
def test_a_saved_sampler_continues_bit_for_bit(name: str, kind: str, options: dict) -> None:
    sampler = sampler_of(name, kind, **options)
    run(sampler, kind, range(9))
    sampler.reset(theta_of(kind, 2 * ENVS, seed=3).unflatten(0, (2, ENVS)))  # keeps two steps
    run(sampler, kind, range(9, 14))
    file = io.BytesIO()
    torch.save(sampler.state_dict(), file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    expected = run(sampler, kind, range(14, 22))
    other = sampler_of(name, kind, seed=1, **options)
    run(other, kind, range(3))
    other.load_state_dict(saved)
    continued = run(other, kind, range(14, 22))
    assert all(torch.equal(a, b) for a, b in zip(expected, continued, strict=True))
    assert all(torch.equal(value, other.behavior.state_dict()[k]) for k, value in sampler.behavior.state_dict().items())


def test_before_the_first_step_there_is_little_to_save() -> None:
    fresh, used = sampler_of("MAPROPS", "discrete"), sampler_of("MAPROPS", "discrete")
    run(used, "discrete", range(4))
    used.load_state_dict(fresh.state_dict())
    assert all(map(torch.equal, run(used, "discrete", range(6)), run(fresh, "discrete", range(6))))


def test_samplers_do_not_share_a_behavior_policy() -> None:
    behavior = policy_of("MAPROPS")
    first, second = (JointSampler(behavior, SIZES, num_envs=ENVS, seed=seed) for seed in (0, 0))
    run(first, "discrete", range(6))
    again = sampler_of("MAPROPS", "discrete")
    assert all(map(torch.equal, run(second, "discrete", range(6)), run(again, "discrete", range(6))))


def test_kept_steps_count_under_the_new_policies() -> None:
    """Greedy takes argmax of pi_theta(a) (N + 1) - N(a): by hand, from the three steps that D keeps of five."""
    sampler = JointSampler(Greedy(), [2, 2], num_envs=1)
    state = torch.ones(1, 1)
    taken = []
    for _ in range(5):
        action = sampler.act(state, UNIFORM)[0].tolist()
        taken.append(2 * action[0] + action[1])
        sampler.observe()
    new = torch.tensor([[0.9, 0.1], [0.6, 0.4]]).log()
    sampler.reset(new.expand(3, 1, 2, 2))
    counts = [taken[-3:].count(k) for k in range(4)]
    probabilities = [0.9 * 0.6, 0.9 * 0.4, 0.1 * 0.6, 0.1 * 0.4]
    for _ in range(6):
        deficit = [p * (sum(counts) + 1) - n for p, n in zip(probabilities, counts, strict=True)]
        action = sampler.act(state, new.unsqueeze(0))[0].tolist()
        assert 2 * action[0] + action[1] == int(np.argmax(deficit))
        counts[int(np.argmax(deficit))] += 1
        sampler.observe()


def mean_joint_tv(sampler: JointSampler, n: int, batches: int) -> tuple[float, float]:
    """Mean total variation of a batch's joint actions against the uniform distribution, and its standard error."""
    errors, state = [], torch.ones(1, 1)
    for _ in range(batches):
        actions = []
        for step in range(n):
            actions.append(sampler.act(state, UNIFORM)[0])
            sampler.observe()
            if step + 1 < n:
                sampler.update(measure=False)
        sampler.reset()
        number = torch.stack(actions) @ torch.tensor([2, 1])
        errors.append(0.5 * (torch.bincount(number, minlength=4) / n - 0.25).abs().sum().item())
    return float(np.mean(errors)), float(np.std(errors, ddof=1)) / math.sqrt(batches)


def exact_on_policy_tv(n: int) -> float:
    """By enumeration of all counts."""
    total = 0.0
    for counts in itertools.product(range(n + 1), repeat=4):
        if sum(counts) == n:
            total += multinomial.pmf(counts, n, [0.25] * 4) * 0.5 * sum(abs(c / n - 0.25) for c in counts)
    return total


def test_joint_sampling_error_of_uniform_policies() -> None:
    """n = 8, m = 1: 0.231 on-policy, 0.166 PROPS, 0.125 MA-PROPS, as a prototype measured on 200 seeds or more."""
    expected = {"OnPolicy": exact_on_policy_tv(8), "PROPS": 0.166, "MAPROPS": 0.125}
    assert expected["OnPolicy"] == pytest.approx(0.231, abs=0.005)  # its standard error
    means = {}
    for behavior in (OnPolicy(), PROPS(**MILD), MAPROPS(**MILD)):
        name = type(behavior).__name__
        means[name], error = mean_joint_tv(JointSampler(behavior, [2, 2], num_envs=1), 8, 60)
        assert abs(means[name] - expected[name]) < 4 * math.hypot(error, 0.005)  # the prototype's standard error
    assert means["MAPROPS"] < means["PROPS"] < means["OnPolicy"]
