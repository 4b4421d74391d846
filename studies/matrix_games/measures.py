"""What the studies of one-state games measure: sampling error at a fixed policy, and solved runs."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from lit_maprops import keys
from lit_maprops.behavior import MAPROPS, PROPS, BehaviorPolicy, Greedy, OnPolicy
from lit_maprops.data import MultiAgentData
from lit_maprops.distributions.joint import joint_log_probs, split_joint
from lit_maprops.envs import MatrixGame, Task
from lit_maprops.metrics.sampling_error import tabular_error
from lit_maprops.module import LitMAPROPS
from lit_maprops.stacked.nets import StackedMLP
from lit_maprops.stacked.streams import SeedStreams
from lit_maprops.targets import Reinforce
from studies.train import train

RUN_SEED = 20_261_123
FIXED_SEEDS, GAME_SEEDS = 1_000, 400
Maker = Callable[[], BehaviorPolicy]


def weak(kind: type, **options: bool | float) -> Maker:
    """Epsilon 0.3, delta 0.05, Adam 0.5, 8 epochs."""
    return lambda: kind(clip_epsilon=0.3, kl_cutoff=0.05, epochs=8, learning_rate=0.5, hidden=[], **options)


def strong(kind: type, **options: bool | float) -> Maker:
    """Epsilon 1, delta 1, Adam 1, 8 epochs."""
    return lambda: kind(clip_epsilon=1.0, kl_cutoff=1.0, epochs=8, learning_rate=1.0, hidden=[], **options)


# Policies of both agents: the probability of action 0.
POLICIES = {"uniform": 0.5, "skewed 0.8": 0.8, "skewed 0.95": 0.95}
RANDOM = "random"  # both agents' probabilities uniform on [0, 1], drawn for every seed
GAME_SAMPLERS = {
    "on-policy": OnPolicy,
    "PROPS": strong(PROPS),
    "MA-PROPS": strong(MAPROPS),
    "greedy": Greedy,
}


def probabilities(policy: str) -> Tensor:
    """Probability of action 0, ``[seeds, agents]``."""
    if policy == RANDOM:
        draw = torch.Generator().manual_seed(RUN_SEED)
        return torch.rand(FIXED_SEEDS, 2, generator=draw)
    return torch.full((FIXED_SEEDS, 2), POLICIES[policy])


def fixed_policy_error(
    maker: Maker, prob: Tensor, n: int, envs: int = 1, run_seed: int = RUN_SEED
) -> NDArray[np.floating]:
    """Joint TV of n samples from a fixed 2x2 policy, m = ``envs``, for every seed; ``prob``: see ``probabilities``."""
    task, seeds = MatrixGame(), list(range(FIXED_SEEDS))
    behavior = maker()
    behavior.build(task, run_seed, seeds)
    behavior.reset(None)
    logits = torch.stack([prob, 1 - prob], -1).log().unsqueeze(1).expand(-1, envs, -1, -1)
    step = TensorDict(
        {
            keys.OBSERVATION: torch.ones(FIXED_SEEDS, envs, 2, 1),
            keys.STATE: torch.ones(FIXED_SEEDS, envs, 1),
            keys.STATE_INDEX: torch.zeros(FIXED_SEEDS, envs, 1, dtype=torch.int64),
            keys.PARAMETERS: logits,
        },
        [FIXED_SEEDS, envs],
    )
    rows: list[TensorDictBase] = []
    for _ in range(n // envs):
        if rows:
            behavior.extend(rows[-1])
            behavior.update()
        rows.append(step.clone().set(keys.ACTION, behavior.choose(step, logits).action))
    streams = SeedStreams(run_seed, seeds, "unused")
    return tabular_error(torch.cat(rows, 1), streams)["joint_tv"].numpy()


def solved_runs(*arguments: Any, **options: Any) -> tuple[int, float, float]:
    """How many of ``solved_seeds`` are solved, and their mean joint TV, own and on-policy."""
    solved, own, on_policy = solved_seeds(*arguments, **options)
    return int(solved.sum()), own, on_policy


def solved_seeds(
    maker: Maker,
    game: Callable[[], Task],
    n: int,
    seeds: int = GAME_SEEDS,
    learning_rate: float = 1.0,
    envs: int = 1,
    run_seed: int = RUN_SEED,
    logits: Tensor | None = None,
) -> tuple[Tensor, float, float]:
    """Which runs of 60 REINFORCE updates end with pi_theta(a best joint action) > 0.5; mean joint TV, own, on-policy.

    Args:
        maker: of the sampler.
        game: a one-step game.
        n: env steps per batch.
        seeds: R.
        learning_rate: of REINFORCE.
        envs: parallel environments, and env steps between behavior updates.
        run_seed: of the run.
        logits: of the policies at the start, ``[R, A, N]``; None: uniform ones.
    """
    model = LitMAPROPS(
        maker(),
        Reinforce(learning_rate),
        seeds,
        total_env_steps=60 * n,
        eval_interval=60,
        eval_episodes=1,
        sampling_error="tabular",
        run_seed=run_seed,
    )
    own, on_policy = [], []

    def note(model: LitMAPROPS) -> None:
        own.append(float(model.row["sampling_error/joint_tv"].mean()))
        on_policy.append(float(model.row["sampling_error/joint_tv_on_policy"].mean()))

    train(model, MultiAgentData(game(), envs, envs, n), note, None if logits is None else partial(_start_at, logits))
    joint = joint_log_probs(_log_probs(model)).exp()
    best = best_joint_actions(model.task)
    return joint[:, best].sum(1) > 0.5, float(np.mean(own)), float(np.mean(on_policy))


def _log_probs(model: LitMAPROPS) -> Tensor:
    """Of every agent's actions in the only state, ``[R, A, N]``."""
    ones = torch.ones(model.num_seeds, 1, model.task.n_agents, 1)
    return model.learner.policies.distribution_parameters(ones)[:, 0]


@torch.no_grad()
def _start_at(logits: Tensor, model: LitMAPROPS) -> None:
    """Let every agent's policy, a table, be the softmax of its logits ``[R, A, N]``."""
    net = model.learner.policies.net
    assert isinstance(net, StackedMLP)
    ((weight, _),) = net.layers()  # the only observation is 1, and there is no bias
    weight.copy_(logits.flatten(0, 1).unsqueeze(-1))
    torch.testing.assert_close(_log_probs(model), logits.log_softmax(-1))


def best_joint_actions(task: Task) -> Tensor:
    """Which joint actions succeed, ``[n_joint]`` bool: asked of the task itself."""
    n_joint = task.n_actions**task.n_agents
    noise = torch.zeros(n_joint, 64)  # more numbers than a one-shot game uses
    action = split_joint(torch.arange(n_joint), task.n_agents, task.n_actions)
    return task.transition(task.initial_state(noise), action, noise).success
