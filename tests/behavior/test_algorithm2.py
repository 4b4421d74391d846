"""Algorithm 2 against hand-computed losses, closed-form gradients and a scalar implementation with torch's Adam."""

import pytest
import torch
from behavior_helpers import StatesTask, built, generator, random_data, random_policy, updated
from stacked_layers import biases, weights
from torch import Tensor, nn

from lit_maprops import keys
from lit_maprops.behavior.algorithm2 import clipped_loss, log_ratio_and_kl
from lit_maprops.stacked.mlp import split_layers

# the objective


def loss_of(ratio: Tensor, epsilon: float) -> Tensor:
    """The loss of one entry whose D holds one action in each of ``len(ratio)`` rows."""
    return clipped_loss(ratio.view(1, 1, -1), torch.full((1, 1, len(ratio)), 1 / len(ratio)), epsilon).squeeze(0)


def test_clipped_loss_below_inside_and_above_the_clip():
    ratio = torch.tensor([0.5, 0.9, 1.2, 2.0])
    # With epsilon 0.3: 0.5 counts 0.7, the others count themselves; there is no clip above.
    assert loss_of(ratio, 0.3).item() == pytest.approx((0.7 + 0.9 + 1.2 + 2.0) / 4)


def test_clipped_loss_is_the_negative_objective_of_the_paper():
    ratio = torch.randn(40, generator=generator()).double().exp()
    for epsilon in (0.1, 0.3, 1.0, 10.0):
        objective = torch.minimum(-ratio, -ratio.clamp(1 - epsilon, 1 + epsilon)).mean(-1)
        torch.testing.assert_close(loss_of(ratio.float(), epsilon), -objective.float())


def test_no_gradient_below_the_clip_and_the_ratio_itself_elsewhere():
    ratio = torch.tensor([0.5, 0.69, 0.71, 1.0, 1.2, 2.0])
    log_ratio = ratio.log().requires_grad_()
    loss_of(log_ratio.exp(), 0.3).backward()
    # d r / d log r = r, divided by the 6 samples.
    torch.testing.assert_close(log_ratio.grad, torch.tensor([0.0, 0.0, 0.71, 1.0, 1.2, 2.0]) / 6)


def gradient_at_zero(behavior, data, epsilon: float) -> Tensor:
    """Gradient of the loss in the table Delta, ``[*S, n_states, K]``."""
    behavior.extend(data)
    samples, net = behavior.delta_trainer.store.samples(), behavior.net
    delta = net(samples.inputs.unflatten(0, net.stack)).flatten(0, -3).mT
    log_ratio, _ = log_ratio_and_kl(delta, samples.target, samples.visits)
    clipped_loss(log_ratio.exp(), samples.share, epsilon).sum().backward()
    return split_layers(net.flat.grad.flatten(0, -2), net.shapes)[0][0].unflatten(0, net.stack).mT


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


# the whole update


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
    for i, weight in enumerate(weights(stacked)):
        layer = nn.Linear(weight.shape[-2], weight.shape[-1], bias=len(biases(stacked)) > 0)
        with torch.no_grad():
            layer.weight.copy_(weight[entry].T)
            if layer.bias is not None:
                layer.bias.copy_(biases(stacked)[i][entry].squeeze(0))
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
        stats = updated(behavior, data)
        logits, action = data.get(keys.PARAMETERS), data.get(keys.ACTION)
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
    stats = updated(behavior, data)
    steps = []
    for seed in range(3):
        expected = [
            scalars[seed, agent](
                data.get(keys.OBSERVATION)[seed, :, agent],
                data.get(keys.PARAMETERS)[seed, :, agent],
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
