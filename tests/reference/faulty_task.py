"""A small task that breaks at a chosen vector step of training, by import path: ``--data.env faulty_task.Faulty``."""

import math

import torch
from torch import Tensor

from lit_maprops.envs.base import State, Task, Transition

R, E, SEED, ENV = 3, 2, 2, 1  # the batch that breaks, and where
KINDS = {
    "NaN in the reward of agent 1": ("reward", (SEED, ENV, 1), math.nan),
    "-inf in the reward of agent 0": ("reward", (SEED, ENV, 0), -math.inf),
    "inf in the observation of agent 1": ("observation", (SEED, ENV, 1, 0), math.inf),
    "NaN in the global state": ("global state", (SEED, ENV, 2), math.nan),
}


class Faulty(Task):
    """Two agents are rewarded for equal actions; from the ``at``-th training step on (0: never) it breaks.

    Args:
        kind: of ``KINDS``, or ``raise``, ``shape``, ``state``.
        at: vector step, from 1.
    """

    n_agents, n_actions, observation_dim, state_dim, max_steps, start_noise, step_noise = 2, 3, 2, 3, 5, 1, 1

    def __init__(self, kind: str = "raise", at: int = 0) -> None:
        self.kind, self.at, self.step = kind, at, 0

    def breaks(self, kind: str, rows: torch.Size) -> bool:
        return self.at > 0 and self.step >= self.at and kind == self.kind and rows == (R, E)

    def spoiled(self, name: str, value: Tensor) -> Tensor:
        for kind, (where, place, number) in KINDS.items():
            if where == name and self.breaks(kind, value.shape[:2]):
                value = value.clone()
                value[place] = number
        return value

    def initial_state(self, noise: Tensor) -> State:
        return {"x": noise[..., 0]}

    def transition(self, state: State, action: Tensor, noise: Tensor) -> Transition:
        rows = action.shape[:-1]
        self.step += rows == (R, E)
        if self.breaks("raise", rows):
            raise ValueError("the door\nis stuck")
        same = action[..., 0] == action[..., 1]
        reward = self.spoiled("reward", (same.unsqueeze(-1) + noise).expand(*rows, 2))
        if self.breaks("shape", rows):
            reward = reward[..., :1]
        following = {"y" if self.breaks("state", rows) else "x": noise[..., 0]}
        return Transition(following, reward, torch.zeros(rows, dtype=torch.bool), same)

    def observe(self, state: State) -> tuple[Tensor, Tensor]:
        x = state["x"]
        observation = torch.stack([x, 1 - x], -1).unsqueeze(-2).expand(*x.shape, 2, 2)
        everything = torch.stack([x, 1 - x, x * x], -1)
        return self.spoiled("observation", observation), self.spoiled("global state", everything)
