"""Samplers of every registered behavior policy on every kind of actions it serves, and loops that feed them."""

import torch
from torch import Tensor

from lit_maprops.behavior import BEHAVIORS, BehaviorPolicy
from lit_maprops.behavior.adjusted import AdjustedPolicy
from lit_maprops.samplers import JointSampler

SERVED = [(name, kind) for kind in ("discrete", "continuous") for name, cls in BEHAVIORS.items() if getattr(cls, kind)]
SIZES = [3, 2, 3]  # actions, or components, of each agent
ENVS = 4


def policy_of(name: str, **arguments: object) -> BehaviorPolicy:
    trained = {"clip_epsilon": 1.0, "kl_cutoff": 0.5, "learning_rate": 0.05, "epochs": 3, "hidden": [8]}
    cls = BEHAVIORS[name]
    return cls(**(trained | arguments if issubclass(cls, AdjustedPolicy) else arguments))


def sampler_of(name: str, kind: str, seed: int = 0, **arguments: object) -> JointSampler:
    sizes = {"n_actions": SIZES} if kind == "discrete" else {"action_dims": SIZES}
    return JointSampler(policy_of(name, **arguments), **sizes, num_envs=ENVS, seed=seed)


def theta_of(kind: str, rows: int, seed: int = 0) -> Tensor:
    """Random target policies, padded: ``[rows, A, K]``."""
    generator = torch.Generator().manual_seed(seed)
    exists = torch.arange(max(SIZES)) < torch.tensor(SIZES).unsqueeze(1)
    if kind == "discrete":
        return torch.randn(rows, *exists.shape, generator=generator).masked_fill(~exists, -torch.inf).log_softmax(-1)
    drawn = 0.5 * torch.randn(rows, len(SIZES), 2, max(SIZES), generator=generator)
    return torch.where(exists.unsqueeze(1), drawn, 0.0).flatten(-2)


def states_of(step: int) -> tuple[Tensor, Tensor]:
    """Number of the state of every environment ``[E]``, one of three, and the states ``[E, 3]``."""
    number = (torch.arange(ENVS) * 7 + step) % 3
    return number, torch.nn.functional.one_hot(number, 3).float()


def run(sampler: JointSampler, kind: str, steps: range, theta_seed: int = 0) -> list[Tensor]:
    """Act and observe, update after every second step; returns the actions ``[E, A]`` or ``[E, A, D]``."""
    theta, actions = theta_of(kind, 3, theta_seed), []
    for step in steps:
        number, state = states_of(step)
        actions.append(sampler.act(state, theta[number]))
        sampler.observe()
        if step % 2:
            sampler.update()
    return actions
