"""A task that is only sizes, random batches, and per-seed re-implementations with ``torch.nn`` modules."""

import itertools
import math

import torch
from stacked_layers import biases, weights
from tensordict import TensorDict
from torch import Tensor, nn
from torch.distributions import Categorical, Independent, Normal, kl_divergence

from lit_maprops import keys
from lit_maprops.buffer import Buffer
from lit_maprops.distributions.families import Gaussian
from lit_maprops.envs.base import State, Task, Transition
from lit_maprops.stacked.nets import StackedMLP
from lit_maprops.targets import LEARNERS, Learner, TargetPolicies

SEEDS, STEPS, ENVS = 3, 6, 2
PPOS = ["IPPO", "MAPPO"]
SMALL = {"hidden": [8], "gamma": 0.9, "gae_lambda": 0.7}


class SizesTask(Task):
    """Sizes without rules: the batches here are made up."""

    n_agents, n_actions, observation_dim, state_dim, max_steps = 2, 3, 4, 5, 10

    def initial_state(self, noise: Tensor) -> State:
        raise NotImplementedError

    def transition(self, state: State, action: Tensor, noise: Tensor) -> Transition:
        raise NotImplementedError

    def observe(self, state: State) -> tuple[Tensor, Tensor]:
        raise NotImplementedError


class MaskedTask(SizesTask):
    """Agents with different numbers of actions."""

    def action_mask(self) -> Tensor:
        return torch.tensor([[True, True, False], [True, True, True]])


class GaussianTask(SizesTask):
    """Continuous actions, of different size."""

    continuous_actions, n_actions, action_dim = True, 0, 2

    def action_mask(self) -> Tensor:
        return torch.tensor([[True, False], [True, True]])


TASKS = [SizesTask, MaskedTask, GaussianTask]


class Reference:
    """The agents' policies as torch's distributions, over what exists only; from outputs ``[B, A, K]`` of a network."""

    def __init__(self, task: Task, outputs: Tensor, initial_std: float = 0.5) -> None:
        self.task, self.sizes = task, task.action_mask().sum(-1).tolist()
        if not task.continuous_actions:
            self.parts = [Categorical(logits=outputs[:, i, :size]) for i, size in enumerate(self.sizes)]
            return
        mean, raw = outputs[..., : task.action_dim], outputs[..., task.action_dim :]
        # Log standard deviations between log 0.05 and log 2, initial_std where outputs are 0.
        low, width = math.log(0.05), math.log(2 / 0.05)
        start = math.log((math.log(initial_std) - low) / (low + width - math.log(initial_std)))
        std = (low + width * torch.sigmoid(4 * raw / width + start)).exp()
        self.parts = [Independent(Normal(mean[:, i, :size], std[:, i, :size]), 1) for i, size in enumerate(self.sizes)]

    def log_prob(self, action: Tensor) -> Tensor:
        parts = [action[:, i, :size] for i, size in enumerate(self.sizes)] if action.dim() == 3 else action.unbind(1)
        return torch.stack([part.log_prob(own) for part, own in zip(self.parts, parts, strict=True)], -1)

    def entropy(self) -> Tensor:
        return torch.stack([part.entropy() for part in self.parts], -1)

    def kl(self, other: "Reference") -> Tensor:
        return torch.stack([kl_divergence(p, q) for p, q in zip(self.parts, other.parts, strict=True)], -1)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def built(name: str, seed_ids: list[int] | None = None, task: type[Task] = SizesTask, **arguments: object) -> Learner:
    learner = LEARNERS[name](**arguments)
    learner.build(task(), 0, list(range(SEEDS)) if seed_ids is None else seed_ids)
    return learner


def randomize_heads(learner: Learner) -> None:
    """Policies far from uniform and biases other than zero, so that every term of a loss has a gradient."""
    for i, net in enumerate((learner.policies.net, learner.critic.net)):
        for k, p in enumerate(net.parameters()):
            nn.init.normal_(p, std=0.4, generator=generator(100 * i + k))


def random_batch(learner: Learner, seed: int = 0, n_seeds: int = SEEDS) -> TensorDict:
    """A batch ``[R, T, E]`` with random observations, states, rewards and ends of both kinds."""
    shape, task, rng = (n_seeds, STEPS, ENVS), SizesTask(), generator(seed)
    data = TensorDict(batch_size=shape)
    for prefix in ((), ("next",)):
        data.set((*prefix, *keys.OBSERVATION), torch.randn(*shape, task.n_agents, task.observation_dim, generator=rng))
        data.set((*prefix, keys.STATE), torch.randn(*shape, task.state_dim, generator=rng))
    data.set(("next", *keys.REWARD), torch.randn(*shape, task.n_agents, 1, generator=rng))
    ends = torch.rand(*shape, 1, generator=rng)
    data.set(("next", keys.TERMINATED), ends < 0.2)
    data.set(("next", keys.TRUNCATED), (ends >= 0.2) & (ends < 0.4))
    data.set(("next", keys.DONE), ends < 0.4)
    family = learner.policies.family
    if isinstance(family, Gaussian):  # far from its mean a density is too small for ratios
        parameters = learner.policies.distribution_parameters(data.get(keys.OBSERVATION)).detach()
        data.set(keys.ACTION, family.sample(parameters, torch.rand(*shape, *family.uniforms, generator=rng)))
    else:
        action = torch.randint(task.n_actions, (*shape, task.n_agents), generator=rng)
        data.set(keys.ACTION, action % family.mask.sum(-1))
    store_targets(data, learner.policies)
    return data


@torch.no_grad()
def store_targets(data: TensorDict, policies: TargetPolicies) -> None:
    parameters = policies.distribution_parameters(data.get(keys.OBSERVATION))
    log_prob = policies.family.log_prob(parameters, data.get(keys.ACTION))
    data.set(keys.PARAMETERS, parameters)
    data.set(keys.LOG_PROB, log_prob)
    data.set(keys.TARGET_LOG_PROB, log_prob.sum(-1))


def filled(*batches: TensorDict) -> Buffer:
    """A full buffer whose history is all of ``batches``."""
    buffer = Buffer(STEPS, len(batches))
    for k, batch in enumerate(batches):
        if k:
            buffer.next_batch()
        buffer.extend(batch)
    return buffer


def parameters_of(learner: Learner) -> list[Tensor]:
    return [p.detach().clone() for p in learner.parameters()]


def layers_of(net: StackedMLP, entry: tuple[int, ...]) -> nn.Sequential:
    """One stack entry as ``nn.Linear`` and ``nn.Tanh`` layers."""
    modules: list[nn.Module] = []
    for i, weight in enumerate(weights(net)):
        layer = nn.Linear(weight.shape[-2], weight.shape[-1], bias=len(biases(net)) > 0)
        with torch.no_grad():
            layer.weight.copy_(weight[entry].T)
            if layer.bias is not None:
                layer.bias.copy_(biases(net)[i][entry])
        modules += [layer, nn.Tanh()]
    return nn.Sequential(*modules[:-1])


def assert_layers(net: StackedMLP, entry: tuple[int, ...], layers: nn.Sequential, tolerance: float = 2e-5) -> None:
    for i, layer in enumerate(layers[::2]):
        torch.testing.assert_close(weights(net)[i][entry], layer.weight.T, atol=tolerance, rtol=1e-4)
        if biases(net):
            torch.testing.assert_close(biases(net)[i][entry], layer.bias, atol=tolerance, rtol=1e-4)


def gae(learner: Learner, data: TensorDict) -> tuple[Tensor, Tensor]:
    """Advantages and value targets ``[R, k, T, E, A]``, one transition at a time, last to first.

    ``data`` is ``[R, k, T, E]``. A terminal state is worth 0; a truncated episode and the end of a batch bootstrap; the
    sum of TD errors stops at either end of an episode and at the end of a batch.
    """
    with torch.no_grad():
        value = learner.critic.values(data).squeeze(-1).tolist()
        next_value = learner.critic.values(data.get("next")).squeeze(-1).tolist()
    reward = data.get(("next", *keys.REWARD)).squeeze(-1).tolist()
    done = data.get(("next", keys.DONE)).squeeze(-1).tolist()
    terminated = data.get(("next", keys.TERMINATED)).squeeze(-1).tolist()
    advantage = torch.zeros(*data.shape, 2)
    n_seeds, n_batches, steps, envs = data.shape
    for r, k, e, a in itertools.product(range(n_seeds), range(n_batches), range(envs), range(2)):
        following = 0.0
        for t in reversed(range(steps)):
            bootstrap = 0.0 if terminated[r][k][t][e] else next_value[r][k][t][e][a]
            error = reward[r][k][t][e][a] + learner.gamma * bootstrap - value[r][k][t][e][a]
            carried = 0.0 if done[r][k][t][e] else following
            following = error + learner.gamma * learner.gae_lambda * carried
            advantage[r, k, t, e, a] = following
    return advantage, advantage + torch.tensor(value)
