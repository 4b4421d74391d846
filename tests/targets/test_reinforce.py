"""REINFORCE against policy gradients worked out by hand and by a loop over time steps."""

import math

import pytest
import torch
from stacked_layers import biases, weights
from targets_helpers import ENVS, SEEDS, STEPS, TASKS, Reference, SizesTask, built, filled, layers_of, random_batch
from tensordict import TensorDict
from torch import Tensor

from lit_maprops import keys
from lit_maprops.buffer import Buffer
from lit_maprops.targets import Reinforce


class TwoAgents(SizesTask):
    n_actions, observation_dim, state_dim = 2, 1, 1


def batch_of(action: list, reward: list, done: list[bool]) -> TensorDict:
    """One seed, one environment: ``action`` and ``reward`` are ``[T][A]``, observations the constant 1."""
    steps = len(action)
    data = TensorDict({keys.STATE: torch.ones(1, steps, 1, 1)}, batch_size=[1, steps, 1])
    data.set(keys.OBSERVATION, torch.ones(1, steps, 1, 2, 1))
    data.set(keys.ACTION, torch.tensor(action).reshape(1, steps, 1, 2))
    data.set(("next", *keys.REWARD), torch.tensor(reward).reshape(1, steps, 1, 2, 1))
    data.set(("next", keys.DONE), torch.tensor(done).reshape(1, steps, 1, 1))
    return data


def logits_after(batch: TensorDict, **arguments: float) -> Tensor:
    """The agents' logits ``[A, N]``, which start at zero, after one update."""
    learner = Reinforce(**arguments)
    learner.build(TwoAgents(), 0, [0])
    buffer = Buffer(batch.shape[1])
    buffer.extend(batch)
    learner.update(buffer)
    return weights(learner.policies.net)[0].detach()[0, :, 0]


def test_one_step_game():
    batch = batch_of([[0, 0], [0, 1], [1, 0], [1, 1]], [[1.0, 1.0], [-1.0, -1.0], [-1.0, -1.0], [0.6, 0.6]], [True] * 4)
    # Mean reward -0.1, advantages 1.1, -0.9, -0.9, 0.7; grad log pi(a) in logit 0 is +-1/2 for a uniform policy, so
    # logit 0 of agent 0 moves by 2/4 * (1.1 - 0.9 + 0.9 - 0.7) / 2 = 0.1 at learning rate 2; agent 1 is alike.
    expected = torch.tensor([[0.1, -0.1], [0.1, -0.1]])
    torch.testing.assert_close(logits_after(batch, learning_rate=2.0), expected)


def test_agents_follow_their_own_rewards():
    batch = batch_of([[0, 0], [1, 1]], [[1.0, 0.0], [0.0, 3.0]], [True, True])
    # Agent 0: advantages +-1/2, logit 0 moves by (1/2 * 1/2 + 1/2 * 1/2) / 2 = 1/4; agent 1: three times the other way.
    expected = torch.tensor([[0.25, -0.25], [-0.75, 0.75]])
    torch.testing.assert_close(logits_after(batch, learning_rate=1.0), expected)


@pytest.mark.parametrize(("gamma", "returns"), [(0.5, (2.0, 2.0, 4.0)), (1.0, (3.0, 2.0, 4.0))])
def test_a_two_step_episode_and_one_cut_by_the_end_of_the_batch(gamma, returns):
    batch = batch_of([[0, 0], [0, 1], [1, 1]], [[1.0, 1.0], [2.0, 2.0], [4.0, 4.0]], [False, True, False])
    # The episode of steps 0 and 1 earns 1 + 2 gamma, 2; step 2 begins an episode that the batch cuts after reward 4.
    mean = sum(returns) / 3
    advantage = [g - mean for g in returns]
    first = (advantage[0] + advantage[1] - advantage[2]) / 3 / 2
    second = (advantage[0] - advantage[1] - advantage[2]) / 3 / 2
    expected = torch.tensor([[first, -first], [second, -second]])
    torch.testing.assert_close(logits_after(batch, learning_rate=1.0, gamma=gamma), expected)


@pytest.mark.parametrize("gamma", [0.0, 1e-8, 0.3, 1.0])
def test_every_allowed_discount_works(gamma):
    batch = batch_of([[0, 0], [0, 1], [1, 1]], [[1.0, 1.0], [2.0, 2.0], [4.0, 4.0]], [False, True, False])
    returns = (1 + 2 * gamma, 2.0, 4.0)
    advantage = [g - sum(returns) / 3 for g in returns]
    first = (advantage[0] + advantage[1] - advantage[2]) / 6
    result = logits_after(batch, learning_rate=1.0, gamma=gamma)
    torch.testing.assert_close(result[0], torch.tensor([first, -first]))


def returns_of(data: TensorDict, gamma: float) -> Tensor:
    """Returns to go ``[R, k, T, E, A]``, cut at ends of episodes and batches; ``data`` is ``[R, k, T, E]``."""
    reward = data.get(("next", *keys.REWARD)).squeeze(-1)
    done = data.get(("next", keys.DONE))
    returns, following = torch.zeros_like(reward), torch.zeros_like(reward[:, :, 0])
    for t in reversed(range(reward.shape[2])):
        following = reward[:, :, t] + gamma * following * ~done[:, :, t]
        returns[:, :, t] = following
    return returns


@pytest.mark.parametrize("share_parameters", [False, True])
@pytest.mark.parametrize("hidden", [[], [8]])
@pytest.mark.parametrize("task", TASKS)
def test_gradient_with_several_seeds_environments_and_batches(hidden, share_parameters, task):
    arguments = {"hidden": hidden, "gamma": 0.9, "learning_rate": 0.5, "share_parameters": share_parameters}
    learner = built("Reinforce", task=task, **arguments)
    buffer = filled(random_batch(learner, 0), random_batch(learner, 1))
    data, returns = buffer.trajectories(), returns_of(buffer.trajectories(), 0.9).flatten(1, 3)
    net, expected = learner.policies.net, {}
    for seed in range(SEEDS):
        networks = [layers_of(net, (seed,) if share_parameters else (seed, agent)) for agent in range(2)]
        if share_parameters:
            networks[1] = networks[0]
        outputs = []
        for agent, layers in enumerate(networks):
            x = data.get(keys.OBSERVATION)[seed].flatten(0, 2)[:, agent]
            if share_parameters:
                x = torch.cat([x, torch.eye(2)[agent].expand(len(x), 2)], -1)
            outputs.append(layers(x))
        policy = Reference(task(), torch.stack(outputs, 1))
        log_prob = policy.log_prob(data.get(keys.ACTION)[seed].flatten(0, 2))
        own = returns[seed]
        (((own - own.mean(0)) * log_prob).sum() / (2 * STEPS * ENVS)).backward()
        entropy = policy.entropy().mean()
        expected |= {(seed, agent): (layers, entropy.detach()) for agent, layers in enumerate(networks)}
    stats = learner.update(buffer)
    for (seed, agent), (layers, entropy) in expected.items():
        torch.testing.assert_close(stats["entropy"][seed], entropy)
        entry = (seed, agent)[: len(net.stack)]
        for i, layer in enumerate(layers[::2]):
            ascended = layer.weight + 0.5 * layer.weight.grad
            torch.testing.assert_close(weights(net)[i][entry], ascended.T, atol=1e-5, rtol=1e-4)
            if hidden:
                bias = layer.bias + 0.5 * layer.bias.grad
                torch.testing.assert_close(biases(net)[i][entry], bias, atol=1e-5, rtol=1e-4)
    assert stats["policy_loss"].shape == (SEEDS,)
    if not hidden and task is SizesTask:
        torch.testing.assert_close(stats["entropy"], torch.full((SEEDS,), math.log(3)))


def test_a_seed_learns_the_same_alone_and_in_company():
    learner, alone = built("Reinforce", gamma=0.9, hidden=[8]), built("Reinforce", [0], gamma=0.9, hidden=[8])
    batch = random_batch(learner)
    batch.get(("next", keys.DONE))[0] = True  # the others' episodes are longer
    stats, own = learner.update(filled(batch)), alone.update(filled(batch[:1]))
    for stacked, single in zip(learner.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(stacked[:1], single)
    for key, value in own.items():
        torch.testing.assert_close(stats[key][:1], value)
