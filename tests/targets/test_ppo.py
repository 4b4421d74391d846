"""IPPO and MAPPO against a from-scratch PPO, one seed at a time with torch's own Adam and gradient clipping."""

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
    Reference,
    SizesTask,
    assert_layers,
    built,
    filled,
    gae,
    layers_of,
    random_batch,
    randomize_heads,
    store_targets,
)
from tensordict import TensorDict
from torch import Tensor, nn
from torch.nn.functional import one_hot

from lit_maprops import keys
from lit_maprops.envs import Task
from lit_maprops.stacked.streams import SeedStreams


class ScalarPPO:
    """PPO of one seed: a list of ``nn.Sequential`` policies and critics, torch's Adam and gradient clipping."""

    def __init__(self, learner, seed: int, task: type[Task] = SizesTask) -> None:
        self.learner, self.seed, self.task = learner, seed, task()
        self.shared, self.seen = learner.share_parameters, getattr(learner, "critic_input", "observation")
        self.policies = self._networks(learner.policies.net)
        self.critics = self._networks(learner.critic.net)
        networks = [*self.policies, *self.critics]
        self.adam = torch.optim.Adam([p for n in networks for p in n.parameters()], learner.learning_rate, eps=1e-5)

    def _networks(self, net) -> list[nn.Sequential]:
        one_per_seed = len(net.stack) == 1
        entries = [(self.seed,)] if one_per_seed else [(self.seed, agent) for agent in range(2)]
        return [layers_of(net, entry) for entry in entries]

    def _per_agent(self, networks: list[nn.Sequential], observation: Tensor) -> Tensor:
        outputs = []
        for agent in range(2):
            x = observation[:, agent]
            if self.shared:
                x = torch.cat([x, torch.eye(2)[agent].expand(len(x), 2)], -1)
            outputs.append(networks[0 if self.shared else agent](x))
        return torch.stack(outputs, 1)  # [B, A, out]

    def _value(self, data: dict[str, Tensor]) -> Tensor:
        if self.seen == "state":
            return self.critics[0](data["state"])
        seen = data["observation"]
        if self.seen == "agent_specific_state":
            seen = torch.cat([data["state"].unsqueeze(1).expand(-1, 2, -1), seen], -1)
        return self._per_agent(self.critics, seen).squeeze(-1)

    def policy(self, data: dict[str, Tensor]) -> Reference:
        return Reference(self.task, self._per_agent(self.policies, data["observation"]))

    def losses(self, data: dict[str, Tensor]) -> dict[str, Tensor]:
        """Sums over agents of means over samples."""
        clip, value_clip = self.learner.clip_epsilon, self.learner.clip_value
        pi = self.policy(data)
        ratio = (pi.log_prob(data["action"]) - data["log_prob"]).exp()
        surrogate = torch.minimum(ratio * data["advantage"], ratio.clamp(1 - clip, 1 + clip) * data["advantage"])
        value = self._value(data)
        error = (value - data["value_target"]) ** 2
        if value_clip is not None:
            moved = (value - data["value"]).clamp(-value_clip, value_clip)
            error = torch.maximum(error, (data["value"] + moved - data["value_target"]) ** 2)
        return {
            "policy_loss": -surrogate.mean(0).sum(),
            "critic_loss": self.learner.critic_coeff * error.mean(0).sum(),
            "entropy_loss": -self.learner.entropy_coeff * pi.entropy().mean(0).sum(),
        }

    def step(self, data: dict[str, Tensor]) -> dict[str, float]:
        losses = self.losses(data)
        self.adam.zero_grad()
        sum(losses.values()).backward()
        for network in (*self.policies, *self.critics):
            nn.utils.clip_grad_norm_(network.parameters(), self.learner.max_grad_norm)
        self.adam.step()
        return {name: loss.item() for name, loss in losses.items()}

    def assert_same(self) -> None:
        for net, networks in ((self.learner.policies.net, self.policies), (self.learner.critic.net, self.critics)):
            for agent, layers in enumerate(networks):
                assert_layers(net, (self.seed, agent)[: len(net.stack)], layers)


def samples_of(learner, trajectories: TensorDict) -> list[dict[str, Tensor]]:
    """Per seed, what PPO needs of D as plain tensors ``[B, ...]``, with our own advantages."""
    advantage, value_target = gae(learner, trajectories)
    with torch.no_grad():
        value = learner.critic.values(trajectories).squeeze(-1)
    columns = {
        "observation": trajectories.get(keys.OBSERVATION),
        "state": trajectories.get(keys.STATE),
        "action": trajectories.get(keys.ACTION),
        "log_prob": trajectories.get(keys.LOG_PROB),
        "advantage": advantage,
        "value_target": value_target,
        "value": value,
    }
    samples = []
    for seed in range(SEEDS):
        own = {name: column[seed].flatten(0, 2) for name, column in columns.items()}
        normalized = (own["advantage"] - own["advantage"].mean(0)) / own["advantage"].std(0, correction=0)
        samples.append(own | {"advantage": normalized})
    return samples


def rows(data: dict[str, Tensor], part: Tensor) -> dict[str, Tensor]:
    return {name: column[part] for name, column in data.items()}


# Small clips, so that some samples are clipped after the first step; large learning rate for the same reason.
TIGHT = SMALL | {"learning_rate": 0.02, "clip_epsilon": 0.05, "clip_value": 0.02, "max_grad_norm": 0.3}


@pytest.mark.every(3)
@pytest.mark.parametrize("name", PPOS)
@pytest.mark.parametrize("arguments", [{}, {"share_parameters": True}, {"clip_value": None, "entropy_coeff": 0.5}])
@pytest.mark.parametrize("minibatches", [1, 3])
@pytest.mark.parametrize("task", TASKS)
def test_update_is_that_of_a_from_scratch_ppo(name, arguments, minibatches, task):
    check_update(name, arguments, minibatches, task)


@pytest.mark.parametrize("share_parameters", [False, True])
@pytest.mark.parametrize("task", [SizesTask, GaussianTask])
def test_so_is_that_with_an_agent_specific_critic(share_parameters, task):
    """By the written out gradient, and with continuous actions by autograd."""
    arguments = {"critic_input": "agent_specific_state", "share_parameters": share_parameters}
    learner = check_update("MAPPO", arguments, 3, task)
    data = random_batch(learner)
    for seed in range(SEEDS):
        own = {
            "state": data.get(keys.STATE)[seed].flatten(0, 1),
            "observation": data.get(keys.OBSERVATION)[seed].flatten(0, 1),
        }
        torch.testing.assert_close(ScalarPPO(learner, seed)._value(own), learner.values(data)[seed].flatten(0, 1))
    assert "of the state or of observations, not of both" in learner.why_not_native() or task is GaussianTask


def check_update(name, arguments, minibatches, task):
    learner = built(name, task=task, **TIGHT | arguments, epochs=3, minibatches=minibatches)
    randomize_heads(learner)
    buffer = filled(random_batch(learner, 0), random_batch(learner, 1))
    samples = samples_of(learner, buffer.trajectories())
    scalars = [ScalarPPO(learner, seed, task) for seed in range(SEEDS)]
    stats = learner.update(buffer)
    order = SeedStreams(0, list(range(SEEDS)), "target minibatches")
    losses: list[list[dict[str, float]]] = [[] for _ in range(SEEDS)]
    for _ in range(3):
        for part in order.permutation(2 * STEPS * ENVS).tensor_split(minibatches, dim=1):
            for seed, scalar in enumerate(scalars):
                losses[seed].append(scalar.step(rows(samples[seed], part[seed])))
    assert (stats["clip_fraction"] > 0).all()
    for seed, scalar in enumerate(scalars):
        scalar.assert_same()
        for key in ("policy_loss", "critic_loss", "entropy_loss"):
            mean = sum(step[key] for step in losses[seed]) / len(losses[seed])
            assert stats[key][seed].item() == pytest.approx(mean, rel=1e-3, abs=1e-4), key
    return learner


@pytest.mark.parametrize("name", PPOS)
@pytest.mark.parametrize("task", TASKS)
def test_statistics_after_an_update(name, task):
    learner = built(name, task=task, **TIGHT, epochs=3, minibatches=2)
    buffer = filled(random_batch(learner))
    samples = samples_of(learner, buffer.trajectories())
    old = [ScalarPPO(learner, seed, task).policy(data) for seed, data in enumerate(samples)]
    stats = learner.update(buffer)
    for seed, data in enumerate(samples):
        new = ScalarPPO(learner, seed, task).policy(data)
        kl = old[seed].kl(new).mean()
        ratio = (new.log_prob(data["action"]) - data["log_prob"]).exp()
        torch.testing.assert_close(stats["target_kl"][seed], kl, atol=1e-6, rtol=1e-3)
        torch.testing.assert_close(stats["entropy"][seed], new.entropy().mean())
        torch.testing.assert_close(stats["clip_fraction"][seed], ((ratio - 1).abs() > 0.05).float().mean())
        assert stats["target_epochs"][seed] == 3


def test_the_ratio_is_against_the_stored_log_prob():
    """Doubling the stored probabilities halves the ratio: all samples are clipped from below at the first step."""
    learner = built("IPPO", **SMALL, epochs=1, minibatches=1, entropy_coeff=0.0)
    batch = random_batch(learner)
    batch.set(keys.LOG_PROB, batch.get(keys.LOG_PROB) + torch.tensor(2.0).log())
    buffer = filled(batch)
    samples = samples_of(learner, buffer.trajectories())
    stats = learner.update(buffer)
    for seed, data in enumerate(samples):
        advantage = data["advantage"]
        expected = -torch.minimum(0.5 * advantage, 0.8 * advantage).mean(0).sum()
        torch.testing.assert_close(stats["policy_loss"][seed], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", PPOS)
def test_the_critic_learns_large_returns(name):
    """Episodes of three steps with reward 100: V = 100 + 99 + 98.01, 100 + 99 and 100, by the default arguments."""
    learner = built(name, [0], hidden=[], learning_rate=10.0, anneal_learning_rate=True, epochs=2, minibatches=1)
    batch = random_batch(learner, n_seeds=1)
    step = torch.arange(STEPS).reshape(1, -1, 1).expand(batch.shape) % 3
    for prefix, number in (((), step), (("next",), (step + 1) % 3)):
        batch.set((*prefix, keys.STATE), one_hot(number, 5).float())
        batch.set((*prefix, *keys.OBSERVATION), one_hot(number, 4).float().unsqueeze(-2).repeat(1, 1, 1, 2, 1))
    batch.set(("next", *keys.REWARD), torch.full((*batch.shape, 2, 1), 100.0))
    batch.set(("next", keys.TRUNCATED), torch.zeros(*batch.shape, 1, dtype=torch.bool))
    for end in (keys.TERMINATED, keys.DONE):
        batch.set(("next", end), (step == 2).unsqueeze(-1))
    for update in range(60):
        learner.anneal(update / 60)
        store_targets(batch, learner.policies)
        learner.update(filled(batch))
    values = learner.critic.values(batch)[:, :3, 0, :, 0].detach()  # [R, 3, A]
    expected = torch.tensor([297.01, 199.0, 100.0]).reshape(1, 3, 1).expand(values.shape)
    torch.testing.assert_close(values, expected, rtol=1e-3, atol=0)
