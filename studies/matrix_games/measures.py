"""What the studies of one-state games measure: sampling error at a fixed policy, and solved runs."""

from collections.abc import Callable

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


def solved_runs(
    maker: Maker,
    game: Callable[[], Task],
    n: int,
    seeds: int = GAME_SEEDS,
    learning_rate: float = 1.0,
    envs: int = 1,
    run_seed: int = RUN_SEED,
) -> tuple[int, float, float]:
    """Runs of 60 REINFORCE updates that end with pi_theta(a best joint action) > 0.5; mean joint TV, own, on-policy."""
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

    train(model, MultiAgentData(game(), envs, envs, n), note)
    joint = joint_log_probs(
        model.learner.policies.distribution_parameters(torch.ones(seeds, 1, model.task.n_agents, 1))[:, 0]
    ).exp()
    best = best_joint_actions(model.task)
    return int((joint[:, best].sum(1) > 0.5).sum()), float(np.mean(own)), float(np.mean(on_policy))


def best_joint_actions(task: Task) -> Tensor:
    """Which joint actions succeed, ``[n_joint]`` bool: asked of the task itself."""
    n_joint = task.n_actions**task.n_agents
    noise = torch.zeros(n_joint, 64)  # more numbers than a one-shot game uses
    action = split_joint(torch.arange(n_joint), task.n_agents, task.n_actions)
    return task.transition(task.initial_state(noise), action, noise).success
