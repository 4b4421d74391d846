"""Agents that leave before the others: every learner gives each agent what its own steps alone would have given it."""

import pytest
import torch
from targets_helpers import (
    ENVS,
    PPOS,
    SEEDS,
    SMALL,
    STEPS,
    TASKS,
    GaussianTask,
    SizesTask,
    built,
    filled,
    random_batch,
    randomize_heads,
)
from tensordict import TensorDict
from torch import Tensor

from lit_maprops import keys
from lit_maprops.distributions.families import Categorical
from lit_maprops.envs.ends import ABSENT, RUNS, TERMINATED, TRUNCATED, weighted, weights
from lit_maprops.metrics.gradients import policy_gradient
from lit_maprops.native.build import why_none

LEARNED = {"Reinforce": {"hidden": [8]}, "IPPO": SMALL | {"minibatches": 1, "epochs": 2}}


def leaving(learner, seed: int = 0) -> TensorDict:
    """A random batch in which, in the second environment, agent 0 has left before the first step."""
    data = random_batch(learner, seed)
    end = torch.zeros(*data.batch_size, 2, dtype=torch.uint8)
    end[:, :, 1, 0] = TERMINATED
    data.set(keys.END, end)
    data.set(("next", *keys.END), end.clone())
    left = end != RUNS
    data.set(keys.PARAMETERS, learner.policies.family.idle(data.get(keys.PARAMETERS), left))
    if data.get(keys.ACTION).dim() == left.dim():  # discrete
        data.set(keys.ACTION, data.get(keys.ACTION).masked_fill(left, 0))
    data.set(keys.LOG_PROB, learner.policies.family.log_prob(data.get(keys.PARAMETERS), data.get(keys.ACTION)))
    return data


def agents_parameters(learner, agent: int) -> list[Tensor]:
    nets = [learner.policies.net] + ([learner.critic.net] if hasattr(learner, "critic") else [])
    return [p.detach()[:, agent].clone() for net in nets for p in net.parameters()]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.__name__)
@pytest.mark.parametrize("name", LEARNED)
def test_each_agent_learns_as_from_its_own_steps_alone(name, task):
    """Networks of their own, one minibatch: agent 0 as from the first environment, agent 1 as from both."""
    learner = built(name, task=task, **LEARNED[name])
    data = leaving(learner)
    start = agents_parameters(learner, 0)
    statistics = learner.update(filled(data))

    first = built(name, task=task, **LEARNED[name])
    own = data[:, :, :1].exclude(keys.END, ("next", *keys.END))
    first.update(filled(own.contiguous()))
    both = built(name, task=task, **LEARNED[name])
    both.update(filled(data.exclude(keys.END, ("next", *keys.END))))

    for agent, reference in ((0, first), (1, both)):
        for found, expected in zip(agents_parameters(learner, agent), agents_parameters(reference, agent), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    assert any((a - b).abs().max() > 1e-4 for a, b in zip(start, agents_parameters(first, 0), strict=True))
    assert all(value.isfinite().all() for value in statistics.values())


@pytest.mark.parametrize("name", [*PPOS, "HAPPO", "Reinforce"])
def test_where_nobody_leaves_nothing_changes_to_the_bit(name):
    plain, watched = built(name), built(name)
    data = random_batch(plain)
    plain.update(filled(data))
    end = torch.zeros(*data.batch_size, 2, dtype=torch.uint8)
    watched.update(filled(data.copy().set(keys.END, end).set(("next", *keys.END), end.clone())))
    for expected, found in zip(plain.parameters(), watched.parameters(), strict=True):
        assert torch.equal(expected, found)


@pytest.mark.parametrize("engine", ["torch", "native"])
@pytest.mark.parametrize("name", [*PPOS, "HAPPO", "Reinforce"])
def test_an_agent_without_a_step_is_in_no_figure(name, engine):
    """KL and entropy are those of the agent that is there, by whose KL the update stops."""
    learner = built(name, **{} if name == "Reinforce" else SMALL | {"epochs": 2})
    if name != "Reinforce":
        randomize_heads(learner)
    data = leaving(learner)
    end = torch.zeros(*data.batch_size, 2, dtype=torch.uint8)
    end[..., 0] = ABSENT
    data.set(keys.END, end).set(("next", *keys.END), end.clone())
    family = learner.policies.family
    data.set(keys.PARAMETERS, family.idle(data.get(keys.PARAMETERS), end != RUNS))
    data.get(keys.ACTION)[..., 0] = 0
    data.set(keys.LOG_PROB, family.log_prob(data.get(keys.PARAMETERS), data.get(keys.ACTION)))
    if engine == "native":
        if reason := why_none() or learner.why_not_native():
            pytest.skip(reason)
        learner.native = True
    before = family.entropy(learner.policies.parameters_in(data))
    figures = learner.update(filled(data))
    new = learner.policies.parameters_in(data)
    entropy = before if name == "Reinforce" else family.entropy(new)
    torch.testing.assert_close(figures["entropy"], entropy[..., 1].flatten(1).mean(1), rtol=1e-5, atol=1e-6)
    if name != "Reinforce":
        kl = family.kl_divergence(data.get(keys.PARAMETERS), new)[..., 1].flatten(1).mean(1)
        assert (kl > 0).all()
        torch.testing.assert_close(figures["target_kl"], kl, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", PPOS)
def test_advantages_are_those_of_each_agents_own_episodes(name):
    """Random ends of agents and episodes, against a recursion for one agent at a time."""
    learner = built(name, **SMALL)
    randomize_heads(learner)
    data = random_batch(learner)
    generator = torch.Generator().manual_seed(3)
    end = torch.zeros(SEEDS, STEPS + 1, ENVS, 2, dtype=torch.uint8)
    shown = end[:, 1:].clone()  # after each step, before the next episode starts
    for t in range(STEPS):
        comes = torch.rand(SEEDS, ENVS, 2, generator=generator)
        kind = torch.where(comes < 0.2, TERMINATED, torch.where(comes < 0.4, TRUNCATED, RUNS))
        following = torch.where(end[:, t] != RUNS, end[:, t], kind.to(torch.uint8))
        data.get("next").get(keys.DONE)[:, t] |= (following != RUNS).all(-1, keepdim=True)
        end[:, t + 1] = torch.where(data.get("next").get(keys.DONE)[:, t], 0, following)
        shown[:, t] = following
    data.set(keys.END, end[:, :-1].clone())
    data.set(("next", *keys.END), shown)
    value, advantage, target = learner._estimates(filled(data).trajectories())
    following_value = learner.critic.values(data.get("next"))
    compared = 0
    for seed in range(SEEDS):
        for env in range(ENVS):
            for agent in range(2):
                ahead = 0.0
                for t in reversed(range(STEPS)):
                    if end[seed, t, env, agent] != RUNS:
                        ahead = 0.0
                        continue
                    own, whole = int(shown[seed, t, env, agent]), data.get("next")[seed, t, env]
                    terminated = own == TERMINATED or (own == RUNS and bool(whole.get(keys.TERMINATED)))
                    over = own != RUNS or bool(whole.get(keys.DONE))
                    here = value[seed, 0, t, env, agent, 0]
                    bootstrap = 0.0 if terminated else following_value[seed, t, env, agent, 0]
                    delta = whole.get(keys.REWARD)[agent, 0] + learner.gamma * bootstrap - here
                    ahead = delta + (0.0 if over else learner.gamma * learner.gae_lambda * ahead)
                    torch.testing.assert_close(advantage[seed, 0, t, env, agent, 0], ahead, rtol=1e-4, atol=1e-5)
                    torch.testing.assert_close(target[seed, 0, t, env, agent, 0], ahead + here, rtol=1e-4, atol=1e-5)
                    compared += 1
    assert 0 < compared < SEEDS * ENVS * 2 * STEPS  # some had left


def test_a_survivor_who_is_truncated_lets_nobody_else_bootstrap():
    """1 a step, ends after 2 and 4 steps of 6: the return up to the own end, whatever the critic says."""
    learner = built("IPPO", [0], **SMALL | {"gamma": 0.99, "gae_lambda": 1.0})
    randomize_heads(learner)
    data = random_batch(learner, n_seeds=1)[:, :, :1].contiguous()
    end = torch.zeros(1, STEPS, 1, 2, dtype=torch.uint8)
    end[:, 2:, :, 0] = TERMINATED
    end[:, 4:, :, 1] = TERMINATED
    data.set(keys.END, end)
    data.set(("next", *keys.END), torch.cat([end[:, 1:], end[:, -1:]], 1))
    data.get("next").get(keys.REWARD).fill_(1.0)
    for key in (keys.DONE, keys.TRUNCATED, keys.TERMINATED):
        data.get("next").get(key).fill_(False)
    for key in (keys.DONE, keys.TRUNCATED):  # by somebody who still lives
        data.get("next").get(key)[:, -1] = True
    data.get("next").get(keys.OBSERVATION)[:, :-1] = data.get(keys.OBSERVATION)[:, 1:]  # so that values telescope
    target = learner._estimates(filled(data).trajectories())[2]
    assert target[0, 0, 0, 0, :, 0].tolist() == pytest.approx([1 + 0.99, 1 + 0.99 + 0.99**2 + 0.99**3])


@pytest.mark.parametrize("name", LEARNED)
def test_the_policy_gradient_is_a_mean_over_own_steps(name):
    learner = built(name, hidden=[8])
    data = leaving(learner)
    advantage = learner.advantages(data.unsqueeze(1)).squeeze(1)
    gradient = policy_gradient(learner.policies, data.flatten(1, 2), advantage.flatten(1, 2))
    one = data[:, :, :1].exclude(keys.END, ("next", *keys.END))
    alone = policy_gradient(
        learner.policies, one.flatten(1, 2), learner.advantages(one.unsqueeze(1)).squeeze(1).flatten(1, 2)
    )
    n_seeds = SEEDS
    flat = learner.policies.net.flat
    halves = [g.reshape(n_seeds, *flat.shape[1:]) for g in (gradient, alone)]
    torch.testing.assert_close(halves[0][:, 0], halves[1][:, 0], rtol=1e-4, atol=1e-6)
    assert halves[1][:, 0].abs().max() > 1e-4


def test_agents_that_left_have_nothing_to_choose():
    family = Categorical(torch.tensor([[True, True, True], [False, True, True]]))
    parameters = family.from_outputs(torch.randn(4, 2, 3), None)
    left = torch.tensor([[True, True], [True, False], [False, True], [False, False]])
    idle = family.idle(parameters, left)
    only = [[1.0, 0, 0], [0, 1.0, 0]]
    for row in range(4):
        for agent in range(2):
            expected = only[agent] if left[row, agent] else parameters[row, agent].exp().tolist()
            assert idle[row, agent].exp().tolist() == pytest.approx(expected)
    assert GaussianTask().family.idle(torch.ones(1, 2, 4), left[1:2]).tolist() == [[[0] * 4, [1] * 4]]


def test_weights():
    """Means over three steps; the first agent has left after one of them, the second never, the third before."""
    end = torch.tensor([[[0, 0, 1], [2, 0, 1], [2, 0, 1]]], dtype=torch.uint8)
    weight = weights(TensorDict({keys.END: end}, batch_size=[1, 3]))
    assert weight.tolist() == [[[3, 1, 0], [0, 1, 0], [0, 1, 0]]]
    value = torch.tensor([[[1.0, 2, torch.nan]] * 3])
    assert weighted(value, weight).mean(1).tolist() == [[1, 2, 0]]
    assert weights(random_batch(built("Reinforce"))) is None and SizesTask().agents_leave is False
