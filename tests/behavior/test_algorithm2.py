"""Algorithm 2 against hand-computed losses, closed-form gradients and a scalar implementation with torch's Adam."""

import pytest
import torch
from behavior_helpers import TRAINED, StatesTask, built, data_of, generator, random_data, random_policy
from torch import Tensor, nn

from lit_maprops import keys
from lit_maprops.behavior import BEHAVIORS
from lit_maprops.behavior.algorithm2 import clipped_loss, minibatch_rows
from lit_maprops.streams import SeedStreams

LN_HALF = float(torch.tensor(0.5).log())


# ---- the objective ---------------------------------------------------------------------------------------------------


def test_clipped_loss_below_inside_and_above_the_clip():
    ratio = torch.tensor([0.5, 0.9, 1.2, 2.0])
    # With epsilon 0.3: 0.5 counts 0.7, the others count themselves; there is no clip above.
    assert clipped_loss(ratio.log(), 0.3).item() == pytest.approx((0.7 + 0.9 + 1.2 + 2.0) / 4)


def test_clipped_loss_is_the_negative_objective_of_the_paper():
    log_ratio = torch.randn(5, 40, generator=generator())
    ratio = log_ratio.double().exp()
    for epsilon in (0.1, 0.3, 1.0, 10.0):
        objective = torch.minimum(-ratio, -ratio.clamp(1 - epsilon, 1 + epsilon)).mean(-1)
        torch.testing.assert_close(clipped_loss(log_ratio, epsilon), -objective.float())


def test_no_gradient_below_the_clip_and_the_ratio_itself_elsewhere():
    ratio = torch.tensor([0.5, 0.69, 0.71, 1.0, 1.2, 2.0])
    log_ratio = ratio.log().requires_grad_()
    clipped_loss(log_ratio, 0.3).backward()
    # d r / d log r = r, divided by the 6 samples.
    torch.testing.assert_close(log_ratio.grad, torch.tensor([0.0, 0.0, 0.71, 1.0, 1.2, 2.0]) / 6)


def gradient_at_zero(behavior, data, epsilon: float) -> Tensor:
    """Gradient of the loss in the table Delta, ``[*S, n_states, K]``."""
    log_ratio, _ = behavior.log_ratio_and_kl(data)(None)
    clipped_loss(log_ratio, epsilon).sum().backward()
    return behavior.net.weights[0].grad


@pytest.mark.parametrize("epsilon", [0.1, 0.3, 2.0])
def test_gradient_at_zero_is_joint_d_minus_pi(epsilon):
    task = StatesTask(n_states=3, n_agents=2, n_actions=3)
    theta = random_policy(task, 4)
    data = random_data(task, theta, rows=50)
    gradient = gradient_at_zero(built("MAPROPS", task, 4, hidden=[]), data, epsilon)
    state, action = data.get(keys.STATE_INDEX).squeeze(-1), data.get(keys.ACTION)
    for seed in range(4):
        for s in range(3):
            here = state[seed] == s
            pi = theta[seed, s, 0].exp().outer(theta[seed, s, 1].exp()).flatten()
            counts = torch.bincount(action[seed, here, 0] * 3 + action[seed, here, 1], minlength=9)
            expected = counts / 50 - here.float().mean() * pi
            torch.testing.assert_close(gradient[seed, s], expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("epsilon", [0.1, 2.0])
def test_gradient_at_zero_is_every_agents_d_minus_pi_for_props(epsilon):
    task = StatesTask(n_states=2, n_agents=3, n_actions=4)
    theta = random_policy(task, 2)
    data = random_data(task, theta, rows=50)
    gradient = gradient_at_zero(built("PROPS", task, 2, hidden=[]), data, epsilon)
    state, action = data.get(keys.STATE_INDEX).squeeze(-1), data.get(keys.ACTION)
    for seed in range(2):
        for agent in range(3):
            for s in range(2):
                here = state[seed] == s
                counts = torch.bincount(action[seed, here, agent], minlength=4)
                expected = counts / 50 - here.float().mean() * theta[seed, s, agent].exp()
                torch.testing.assert_close(gradient[seed, agent, s], expected, atol=1e-6, rtol=1e-5)


# ---- the whole update ------------------------------------------------------------------------------------------------


class ScalarUpdate:
    """Algorithm 2 for one seed (and agent), full batch, written with ``nn.Module`` and ``torch.optim.Adam``."""

    def __init__(self, net: nn.Module, last: list[Tensor], lr: float) -> None:
        self.net, self.last = net, last
        self.adam = torch.optim.Adam(net.parameters(), lr)

    def __call__(
        self, features: Tensor, target: Tensor, taken: Tensor, epochs: int, epsilon: float, cutoff: float
    ) -> dict[str, float]:
        with torch.no_grad():
            for parameter in self.last:
                parameter.zero_()
        steps, hit = 0, False
        pi = torch.distributions.Categorical(logits=target)
        for _ in range(epochs):
            phi = torch.distributions.Categorical(logits=target + self.net(features))
            if torch.distributions.kl_divergence(pi, phi).mean() > cutoff:
                hit = True
                break
            ratio = (phi.log_prob(taken) - pi.log_prob(taken)).exp()
            loss = -torch.minimum(-ratio, -ratio.clamp(1 - epsilon, 1 + epsilon)).mean()
            self.adam.zero_grad()
            loss.backward()
            self.adam.step()
            steps += 1
        phi = torch.distributions.Categorical(logits=target + self.net(features))
        ratio = (phi.log_prob(taken) - pi.log_prob(taken)).exp()
        return {
            "kl": torch.distributions.kl_divergence(pi, phi).mean().item(),
            "gradient_steps": steps,
            "cutoff_hit": float(hit),
            "ratio_clipped": (ratio < 1 - epsilon).float().mean().item(),
        }


def layers_of(stacked, entry: tuple[int, ...]) -> nn.Sequential:
    """One stack entry of a ``StackedMLP`` as ``nn.Linear`` layers."""
    modules: list[nn.Module] = []
    for i, weight in enumerate(stacked.weights):
        layer = nn.Linear(weight.shape[-2], weight.shape[-1], bias=len(stacked.biases) > 0)
        with torch.no_grad():
            layer.weight.copy_(weight[entry].T)
            if layer.bias is not None:
                layer.bias.copy_(stacked.biases[i][entry].squeeze(0))
        modules += [layer, nn.Tanh()]
    return nn.Sequential(*modules[:-1])


def scalar_of(behavior, entry: tuple[int, ...]) -> ScalarUpdate:
    net = layers_of(behavior.net, entry)
    return ScalarUpdate(net, list(net[-1].parameters()), behavior.learning_rate)


SETTINGS = {"clip_epsilon": 0.3, "kl_cutoff": 0.02, "epochs": 6}


@pytest.mark.parametrize("hidden", [[], [8, 8]])
@pytest.mark.parametrize("reset_optimizer", [False, True])
def test_ma_props_updates_are_those_of_the_scalar_implementation(hidden, reset_optimizer):
    task = StatesTask(n_states=2, n_agents=2, n_actions=3)
    theta = random_policy(task, 5)
    arguments = SETTINGS | {"learning_rate": 0.08, "hidden": hidden, "reset_optimizer": reset_optimizer}
    behavior = built("MAPROPS", task, 5, **arguments)
    scalars = [scalar_of(behavior, (seed,)) for seed in range(5)]
    used = set()
    for update in range(3):
        data = random_data(task, theta, rows=6 + 20 * update, seed=update)
        stats = behavior.update(data)
        logits, action = data.get(keys.LOGITS), data.get(keys.ACTION)
        for seed, scalar in enumerate(scalars):
            if reset_optimizer:
                scalar.adam = torch.optim.Adam(scalar.net.parameters(), behavior.learning_rate)
            target = (logits[seed, :, 0, :, None] + logits[seed, :, 1, None, :]).flatten(1)
            taken = action[seed, :, 0] * 3 + action[seed, :, 1]
            expected = scalar(data.get(keys.STATE)[seed], target, taken, 6, 0.3, 0.02)
            for name, value in expected.items():
                assert stats[name][seed].item() == pytest.approx(value, rel=1e-3, abs=1e-6), name
            delta = behavior.net(data.get(keys.STATE))[seed]
            torch.testing.assert_close(delta, scalar.net(data.get(keys.STATE)[seed]), atol=2e-5, rtol=1e-4)
            used.add(int(expected["gradient_steps"]))
        assert (stats["gradient_steps_allowed"] == 6).all()
    assert len(used) > 1, "choose data on which the seeds stop at different steps"


def test_props_updates_are_those_of_one_scalar_implementation_per_agent():
    task = StatesTask(n_states=2, n_agents=3, n_actions=2)
    theta = random_policy(task, 3)
    behavior = built("PROPS", task, 3, **SETTINGS, learning_rate=0.08, hidden=[8])
    scalars = {(seed, agent): scalar_of(behavior, (seed, agent)) for seed in range(3) for agent in range(3)}
    data = random_data(task, theta, rows=12)
    stats = behavior.update(data)
    steps = []
    for seed in range(3):
        expected = [
            scalars[seed, agent](
                data.get(keys.OBSERVATION)[seed, :, agent],
                data.get(keys.LOGITS)[seed, :, agent],
                data.get(keys.ACTION)[seed, :, agent],
                6,
                0.3,
                0.02,
            )
            for agent in range(3)
        ]
        steps += [agent["gradient_steps"] for agent in expected]
        for name in ("gradient_steps", "cutoff_hit", "ratio_clipped"):
            mean = sum(agent[name] for agent in expected) / 3
            assert stats[name][seed].item() == pytest.approx(mean, rel=1e-3, abs=1e-6), name
        # Agents are independent, so the joint KL is the sum.
        assert stats["kl"][seed].item() == pytest.approx(sum(agent["kl"] for agent in expected), rel=1e-3, abs=1e-6)
    assert len(set(steps)) > 1, "choose data on which the agents stop at different steps"


# ---- stops are per seed ----------------------------------------------------------------------------------------------


def one_skewed_one_balanced(task: StatesTask, rows: int = 16) -> tuple[Tensor, Tensor]:
    """Uniform theta for two seeds; seed 0's D holds one joint action, seed 1's all of them equally often."""
    theta = torch.full((2, 1, 2, 2), LN_HALF)
    number = torch.arange(rows)
    action = torch.stack([torch.zeros(rows, 2, dtype=torch.int64), torch.stack([number // 2 % 2, number % 2], -1)])
    return theta, action


@pytest.mark.parametrize("name", TRAINED)
def test_a_stopped_seed_stays_while_others_go_on(name):
    task = StatesTask(n_states=3, n_actions=3)
    data = random_data(task, random_policy(task, 4), rows=24)
    arguments = {"epochs": 12, "learning_rate": 0.05, "hidden": [], "kl_cutoff": 0.05}
    together = built(name, task, 4, **arguments)
    stats = together.update(data)
    assert len(set(stats["gradient_steps"].tolist())) > 1
    for seed in range(4):
        alone = BEHAVIORS[name](**arguments)
        alone.build(task, 0, [seed])
        own = alone.update(data[seed : seed + 1])
        for key, value in own.items():
            torch.testing.assert_close(stats[key][seed : seed + 1], value)
        for stacked, single in zip(together.net.parameters(), alone.net.parameters(), strict=True):
            torch.testing.assert_close(stacked[seed : seed + 1], single)


def test_cutoff_and_gradient_steps_of_two_seeds():
    task = StatesTask()
    theta, action = one_skewed_one_balanced(task)
    data = data_of(task, theta, torch.zeros(2, 16, dtype=torch.int64), action)
    behavior = built("MAPROPS", task, 2, epochs=7, learning_rate=0.5, hidden=[], kl_cutoff=0.05)
    stats = behavior.update(data)
    # Seed 0: one Adam step of 0.5 in each logit, then KL = log((e^-0.5 + 3 e^0.5) / 4) - 0.25 = 0.089 is too much.
    assert stats["gradient_steps"].tolist() == [1, 7]
    assert stats["cutoff_hit"].tolist() == [True, False]
    torch.testing.assert_close(behavior.net.weights[0][0, 0], torch.tensor([-0.5, 0.5, 0.5, 0.5]))
    expected = torch.logsumexp(torch.tensor([-0.5, 0.5, 0.5, 0.5]), 0) + 2 * LN_HALF - 0.25
    torch.testing.assert_close(stats["kl"][0], expected)


def test_an_update_that_ends_on_its_last_step_has_not_hit_the_cutoff():
    task = StatesTask()
    theta, action = one_skewed_one_balanced(task)
    data = data_of(task, theta, torch.zeros(2, 16, dtype=torch.int64), action)
    behavior = built("MAPROPS", task, 2, epochs=1, learning_rate=0.5, hidden=[], kl_cutoff=0.05)
    stats = behavior.update(data)
    assert stats["kl"][0] > 0.05
    assert stats["cutoff_hit"].tolist() == [False, False]


@pytest.mark.parametrize("name", TRAINED)
def test_later_updates_do_not_depend_on_how_long_other_seeds_trained(name):
    """A seed that stopped early must use up as many random numbers in company as alone."""
    task = StatesTask(n_states=3, n_actions=3)
    theta = random_policy(task, 2)
    first, second = random_data(task, theta, rows=24, seed=1), random_data(task, theta, rows=24, seed=2)
    first.get(keys.ACTION)[0] = 0  # one seed's D holds one joint action only, so that the seeds stop far apart

    def table_after(seeds: list[int]) -> dict[int, Tensor]:
        behavior = BEHAVIORS[name](epochs=6, minibatches=3, learning_rate=0.05, hidden=[], kl_cutoff=0.02)
        behavior.build(task, 0, seeds)
        behavior.update(first[seeds])
        behavior.update(second[seeds])
        return dict(zip(seeds, behavior.net.weights[0].detach(), strict=True))

    together = table_after([0, 1])
    for seed in (0, 1):
        torch.testing.assert_close(together[seed], table_after([seed])[seed])


# ---- minibatches -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "parts", "sizes"), [(10, 3, [4, 3, 3]), (4, 4, [1] * 4), (2, 5, [1, 1])])
def test_every_epoch_visits_every_row_of_every_seed_once(rows, parts, sizes):
    drawn = list(minibatch_rows(SeedStreams(0, [0, 1], "test"), rows, 3, parts))
    assert [part.shape[1] for part in drawn] == sizes * 3
    for epoch in range(3):
        visited = torch.cat(drawn[epoch * len(sizes) : (epoch + 1) * len(sizes)], dim=1)
        assert (visited.sort(dim=1).values == torch.arange(rows)).all()


@pytest.mark.parametrize(("rows", "parts"), [(10, 1), (1, 4)])
def test_a_single_part_is_all_rows(rows, parts):
    assert list(minibatch_rows(SeedStreams(0, [0], "test"), rows, 3, parts)) == [None] * 3


def test_steps_with_minibatches_are_counted():
    task = StatesTask()
    theta = torch.full((1, 1, 2, 2), LN_HALF)
    behavior = built("MAPROPS", task, 1, epochs=3, minibatches=4, kl_cutoff=10.0)
    stats = behavior.update(random_data(task, theta, rows=9))
    assert stats["gradient_steps"].item() == stats["gradient_steps_allowed"].item() == 12
    stats = behavior.update(random_data(task, theta, rows=2))
    assert stats["gradient_steps"].item() == stats["gradient_steps_allowed"].item() == 6


def test_props_counts_the_steps_of_both_agents():
    task = StatesTask()
    theta, action = one_skewed_one_balanced(task)
    action[0, :, 1] = torch.arange(16) % 2  # agent 1's own actions are balanced, agent 0's are not
    data = data_of(task, theta, torch.zeros(2, 16, dtype=torch.int64), action)
    behavior = built("PROPS", task, 2, epochs=7, learning_rate=0.5, hidden=[], kl_cutoff=0.05)
    stats = behavior.update(data)
    assert stats["gradient_steps"].tolist() == [(1 + 7) / 2, 7]
    assert stats["cutoff_hit"].tolist() == [0.5, 0]
    expected = torch.tensor([[-0.5, 0.5], [0.0, 0.0]])
    torch.testing.assert_close(behavior.net.weights[0][0, :, 0], expected, atol=1e-5, rtol=0)
