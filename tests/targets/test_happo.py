"""HAPPO against a from-scratch loop over one seed's agents, and against closed forms on a 2x2 game."""

import math

import pytest
import torch
from targets_helpers import (
    ENVS,
    SEEDS,
    SMALL,
    STEPS,
    TASKS,
    GaussianTask,
    Reference,
    assert_layers,
    built,
    filled,
    gae,
    layers_of,
    parameters_of,
    random_batch,
    randomize_heads,
    store_targets,
)
from tensordict import TensorDict
from test_agents_leave import leaving
from torch import Tensor, nn

from lit_maprops import keys
from lit_maprops.buffer import Buffer
from lit_maprops.envs.ends import RUNS
from lit_maprops.native.build import why_none
from lit_maprops.stacked.streams import SeedStreams
from lit_maprops.system.errors import ConfigError

TIGHT = SMALL | {"learning_rate": 0.02, "clip_epsilon": 0.05, "clip_value": 0.02, "max_grad_norm": 0.3}
KERNEL = pytest.mark.skipif(why_none() is not None, reason=f"no kernels: {why_none()}")
ENGINES = [(task, False) for task in TASKS]  # and natively, where there is a kernel for it
ENGINES += [pytest.param(task, True, marks=KERNEL) for task in TASKS if not task.continuous_actions]


class LoopHAPPO:
    """One seed's, after the paper's Algorithm 4, on ``nn.Sequential`` with an Adam of its own for every network."""

    def __init__(self, learner, seed: int, task) -> None:
        self.learner, self.seed, self.task = learner, seed, task()
        self.policies = [layers_of(learner.policies.net, (seed, agent)) for agent in range(2)]
        self.critic = layers_of(learner.critic.net, (seed,))
        self.adams = [
            torch.optim.Adam(net.parameters(), learner.learning_rate, eps=1e-5) for net in (*self.policies, self.critic)
        ]
        self.losses: dict[str, list[float]] = {"policy_loss": [], "critic_loss": [], "entropy_loss": []}

    def policy(self, observation: Tensor) -> Reference:
        outputs = [net(observation[:, agent]) for agent, net in enumerate(self.policies)]
        return Reference(self.task, torch.stack(outputs, 1))

    def _step(self, net: nn.Module, adam: torch.optim.Adam, loss: Tensor) -> None:
        adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), self.learner.max_grad_norm)
        adam.step()

    def update(self, data: dict[str, Tensor], passes: list[list[Tensor]], order: list[int]) -> list[int]:
        """Agents in their order, then the critic; the passes that each agent made."""
        learner, clip, made = self.learner, self.learner.clip_epsilon, []
        product, alive = torch.ones(len(data["advantage"])), data["alive"]  # [B], [B, A]
        with torch.no_grad():
            old = self.policy(data["observation"])
        for agent in order:
            made.append(0)
            m = product * data["advantage"][:, agent]
            for parts in passes:
                made[-1] += 1
                for part in (part[alive[part, agent]] for part in parts):
                    pi = self.policy(data["observation"][part])
                    ratio = (pi.log_prob(data["action"][part])[:, agent] - data["log_prob"][part, agent]).exp()
                    gain = torch.minimum(ratio * m[part], ratio.clamp(1 - clip, 1 + clip) * m[part]).mean()
                    bonus = learner.entropy_coeff * pi.entropy()[:, agent].mean()
                    self._step(self.policies[agent], self.adams[agent], -gain - bonus)
                    self.losses["policy_loss"].append(-gain.item())
                    self.losses["entropy_loss"].append(-bonus.item())
                with torch.no_grad():
                    kl = old.kl(self.policy(data["observation"]))[alive[:, agent], agent].mean()
                if learner.kl_stop is not None and kl > learner.kl_stop:
                    break
            with torch.no_grad():
                new = self.policy(data["observation"]).log_prob(data["action"])[:, agent]
                product *= torch.where(alive[:, agent], (new - data["log_prob"][:, agent]).exp(), 1.0)
        for part in (part for parts in passes for part in parts):
            value, target, before = self.critic(data["state"][part]), data["target"][part], data["value"][part]
            moved = before + (value - before).clamp(-learner.clip_value, learner.clip_value)
            error = torch.maximum((value - target) ** 2, (moved - target) ** 2)
            own = [error[alive[part, agent], agent].mean() for agent in range(2)]
            loss = learner.critic_coeff * (own[0] + own[1])
            self._step(self.critic, self.adams[-1], loss)
            self.losses["critic_loss"].append(loss.item())
        return made


def samples_of(learner, trajectories: TensorDict) -> list[dict[str, Tensor]]:
    """Per seed, plain tensors ``[B, ...]``, with our own advantage of the mean reward, normalized over own steps."""
    advantage, target = gae(learner, trajectories)
    end = trajectories.get(keys.END, None)
    alive = torch.ones(advantage.shape, dtype=torch.bool) if end is None else end == RUNS
    with torch.no_grad():
        value = learner.critic.values(trajectories).squeeze(-1)
    columns = {
        "observation": trajectories.get(keys.OBSERVATION), "state": trajectories.get(keys.STATE),
        "action": trajectories.get(keys.ACTION), "log_prob": trajectories.get(keys.LOG_PROB),
        "advantage": torch.where(alive, advantage, 0.0).mean(-1), "target": target, "value": value, "alive": alive,
    }  # fmt: skip
    samples = [{name: column[seed].flatten(0, 2) for name, column in columns.items()} for seed in range(SEEDS)]
    for own in samples:
        team, columns = own["advantage"], []
        for mine in own["alive"].unbind(1):
            columns.append((team - team[mine].mean()) / team[mine].std(correction=0))
        own["advantage"] = torch.stack(columns, 1)
    return samples


@pytest.mark.every(3)
@pytest.mark.parametrize("stop", [False, True])
@pytest.mark.parametrize("minibatches", [1, 3])
@pytest.mark.parametrize(("task", "native"), ENGINES)
def test_two_updates_are_those_of_a_loop_over_the_agents(task, native, minibatches, stop):
    """The second with other moments in every agent's Adam, and with another order."""
    epochs, kl_stop = 3, 0.1 if task is GaussianTask else 0.004
    arguments = {"kl_stop": kl_stop, "entropy_coeff": 0.3} if stop else {}
    learner = built("HAPPO", task=task, **TIGHT | arguments, epochs=epochs, minibatches=minibatches)
    learner.native = native
    randomize_heads(learner)
    streams = [SeedStreams(0, list(range(SEEDS)), purpose) for purpose in ("target minibatches", "agent order")]
    loops = [LoopHAPPO(learner, seed, task) for seed in range(SEEDS)]
    orders, stopped = [], []
    for round_ in range(2):
        batch = random_batch(learner, round_)
        buffer = filled(batch)
        samples = samples_of(learner, buffer.trajectories())
        passes = [streams[0].permutation(STEPS * ENVS).tensor_split(minibatches, dim=1) for _ in range(epochs)]
        orders.append(streams[1].permutation(2).tolist())
        stats = learner.update(buffer)
        for seed, loop in enumerate(loops):
            for losses in loop.losses.values():
                losses.clear()
            own = [[part[seed] for part in parts] for parts in passes]
            made = loop.update(samples[seed], own, orders[-1][seed])
            stopped.append(made)
            assert stats["target_epochs"][seed] == sum(made) / 2
            for agent in range(2):
                assert_layers(learner.policies.net, (seed, agent), loop.policies[agent], 1e-4)
            assert_layers(learner.critic.net, (seed,), loop.critic, 1e-4)
            losses = loop.losses
            steps = [minibatches * number for number in made]
            for key in ("policy_loss", "entropy_loss"):
                first, second = losses[key][: steps[0]], losses[key][steps[0] :]
                mean = sum(first) / steps[0] + sum(second) / steps[1]
                assert stats[key][seed].item() == pytest.approx(mean, rel=1e-3, abs=1e-4), key
            mean = sum(losses["critic_loss"]) / len(losses["critic_loss"])
            assert stats["critic_loss"][seed].item() == pytest.approx(mean, rel=1e-3, abs=1e-4)
    assert len({tuple(order) for order in orders[0] + orders[1]}) == 2, "choose seeds with both orders"
    if stop:
        assert len({number for made in stopped for number in made}) > 1, "choose a stop that stops some agents"
    else:
        assert (stats["clip_fraction"] > 0).all()


@pytest.mark.parametrize(("task", "native"), ENGINES)
def test_so_is_one_after_an_agent_has_left(task, native):
    """Of its steps from then on nobody's but the others' learn, and its ratio there is 1."""
    learner = built("HAPPO", task=task, **TIGHT, epochs=3, minibatches=1)
    learner.native = native
    randomize_heads(learner)
    buffer = filled(leaving(learner))
    samples = samples_of(learner, buffer.trajectories())
    streams = [SeedStreams(0, list(range(SEEDS)), purpose) for purpose in ("target minibatches", "agent order")]
    passes = [streams[0].permutation(STEPS * ENVS) for _ in range(3)]
    order = streams[1].permutation(2).tolist()
    loops = [LoopHAPPO(learner, seed, task) for seed in range(SEEDS)]
    learner.update(buffer)
    for seed, loop in enumerate(loops):
        loop.update(samples[seed], [[rows[seed]] for rows in passes], order[seed])
        for agent in range(2):
            assert_layers(learner.policies.net, (seed, agent), loop.policies[agent], 1e-4)
        assert_layers(learner.critic.net, (seed,), loop.critic, 1e-4)


def game(learner, payoff: Tensor) -> TensorDict:
    """Each joint action of a 2x2 game with one state as often as the others, which is what uniform policies expect."""
    batch = random_batch(learner, n_seeds=1)[:, :2, :2].clone()
    for prefix in ((), ("next",)):
        batch.get((*prefix, *keys.OBSERVATION)).copy_(torch.tensor([1.0, 0, 0, 0]))
        batch.get((*prefix, keys.STATE)).copy_(torch.tensor([1.0, 0, 0, 0, 0]))
    joint = torch.stack(torch.meshgrid(torch.arange(2), torch.arange(2), indexing="ij"), -1)
    batch.set(keys.ACTION, joint.unsqueeze(0))
    batch.set(("next", *keys.REWARD), payoff.view(1, 2, 2, 1, 1).expand(1, 2, 2, 2, 1).clone())
    for end in (keys.DONE, keys.TERMINATED):
        batch.get(("next", end)).fill_(True)
    store_targets(batch, learner.policies)
    return batch


class TwoActions(TASKS[0]):
    n_actions = 2


def test_the_second_agent_of_a_2x2_game_answers_what_the_first_has_become():
    """Tables, one gradient step each, no clip: the closed form of both agents' gradients.

    pi_i(0) = sigmoid(l_i), l_i the difference of the table's entries. With A the normalized payoff, agent one's
    gradient for its entry 0 is sum_b pi_2(b) (A_0b - A_1b) / 4; agent two's is the same of the others' new policy p:
    sum_a p(a) (A_a0 - A_a1) / 4, of which MAPPO's has p = 1/2. In this game its sign is another one.
    """
    payoff = torch.tensor([[4.0, 2.0], [0.0, 3.0]])
    moves = {}
    for name in ("HAPPO", "MAPPO"):
        arguments = {"hidden": [], "epochs": 1, "minibatches": 1, "entropy_coeff": 0.0, "clip_epsilon": 1e6}
        learner = built(name, [5], TwoActions, **arguments, max_grad_norm=1e6)
        batch, gradients = game(learner, payoff), []
        original = learner.step_optimizer

        def step(learner=learner, gradients=gradients, original=original, **options):
            grad = learner.policies.net.flat.grad
            gradients.append(None if grad is None else grad.clone())
            with torch.no_grad():
                if grad is not None:  # plain ascent with a step of 20, in place of Adam
                    learner.policies.net.flat -= 20 * grad

        learner.step_optimizer = step
        order = SeedStreams(0, [5], "agent order").permutation(2)[0].tolist()
        buffer = Buffer(2, 1)
        buffer.extend(batch)
        learner.update(buffer)
        moves[name] = [g.view(2, 2, 4)[..., 0] for g in gradients if g is not None]
    a = (payoff - payoff.mean()) / payoff.std(correction=0)
    first = (a[0] - a[1]).mul(torch.tensor([0.5, 0.5])).sum() / 4 if order[0] == 0 else (a[:, 0] - a[:, 1]).mean() / 4
    p = 1 / (1 + math.exp(-40 * first))
    mixed = torch.tensor([p, 1 - p])
    second = (mixed @ (a[:, 0] - a[:, 1]) if order[0] == 0 else mixed @ (a[0] - a[1])) / 4
    agent_one, agent_two = moves["HAPPO"]
    expected = [torch.zeros(2, 2), torch.zeros(2, 2)]
    expected[0][order[0]] = torch.tensor([-first, first])
    expected[1][order[1]] = torch.tensor([-second, second])
    torch.testing.assert_close(agent_one, expected[0], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(agent_two, expected[1], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(moves["MAPPO"][0][order[0]], expected[0][order[0]], rtol=1e-4, atol=1e-6)
    assert second.sign() == -moves["MAPPO"][0][order[1], 1].sign() != 0


def test_the_order_is_the_seeds_own_and_every_agent_comes_first_somewhere():
    learner = built("HAPPO", list(range(64)), hidden=[])
    alone = built("HAPPO", [7], hidden=[])
    for _ in range(3):
        order = learner._orders(4)[-1]
        assert torch.equal(order.sort(1).values, torch.arange(2).expand(64, -1))
        assert 20 < (order[:, 0] == 0).sum() < 44
        assert torch.equal(alone._orders(4)[-1][0], order[7])


def test_an_update_goes_on_bit_for_bit_from_a_checkpoint():
    def learner():
        made = built("HAPPO", **SMALL, epochs=2, minibatches=2)
        randomize_heads(made)
        return made

    whole, resumed = learner(), learner()
    batches = [filled(random_batch(whole, round_)) for round_ in range(3)]
    for batch in batches[:2]:
        whole.update(batch)
    saved = whole.state_dict(), whole.optimizer.state_dict(), whole.checkpoint_state()
    saved = torch.utils._pytree.tree_map(lambda x: x.clone() if isinstance(x, Tensor) else x, saved)
    expected = whole.update(batches[2])
    resumed.load_state_dict(saved[0])
    resumed.optimizer.load_state_dict(saved[1])
    resumed.restore(saved[2])
    found = resumed.update(batches[2])
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert all(torch.equal(one, other) for one, other in zip(parameters_of(whole), parameters_of(resumed), strict=True))


def test_what_cannot_go_together_is_one_line():
    with pytest.raises(ConfigError, match="share_parameters is true and HAPPO updates one agent after another"):
        built("HAPPO", share_parameters=True)
    assert "Gaussian" in built("HAPPO", task=GaussianTask).why_not_native()
