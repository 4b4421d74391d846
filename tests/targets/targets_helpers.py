"""A task that is only sizes, random batches, and per-seed re-implementations with ``torch.nn`` modules."""

import itertools

import torch
from stacked_layers import biases, weights
from tensordict import TensorDict
from torch import Tensor, nn

from lit_maprops import keys
from lit_maprops.buffer import Buffer
from lit_maprops.envs.base import State, Task, Transition
from lit_maprops.nets import StackedMLP
from lit_maprops.targets import LEARNERS, Learner

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


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def built(name: str, seed_ids: list[int] | None = None, **arguments: object) -> Learner:
    learner = LEARNERS[name](**arguments)
    learner.build(SizesTask(), 0, list(range(SEEDS)) if seed_ids is None else seed_ids)
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
    data.set(keys.ACTION, torch.randint(task.n_actions, (*shape, task.n_agents), generator=rng))
    with torch.no_grad():
        store_targets(data, learner.policies.given(data.get(keys.OBSERVATION)))
    return data


def store_targets(data: TensorDict, logits: Tensor) -> None:
    log_prob = logits.gather(-1, data.get(keys.ACTION).unsqueeze(-1)).squeeze(-1)
    data.set(keys.PARAMETERS, logits)
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
