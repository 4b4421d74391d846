"""A small game whose state removes actions, by import path: ``--data.env masked_game.Doors``; illegal actions raise."""

import itertools

import torch
from torch import Tensor

from lit_maprops.envs.base import State, Task, Transition

# Of every room, agent and action.
LEGAL = torch.tensor([
    [[True, True, True], [True, True, True]],
    [[True, False, True], [False, True, True]],
    [[False, True, False], [True, True, False]],
    [[False, False, True], [True, False, False]],  # nothing to choose
])  # fmt: skip
ROOMS, AGENTS, ACTIONS = LEGAL.shape
# Of every room and joint action, for each agent; eighths, so that sums are exact.
REWARD = torch.randint(-8, 9, (ROOMS, ACTIONS, ACTIONS, AGENTS), generator=torch.Generator().manual_seed(3)) / 8


def legal_joint(room: int) -> list[tuple[int, ...]]:
    """The joint actions that a room allows."""
    rows = [[k for k in range(ACTIONS) if LEGAL[room, agent, k]] for agent in range(AGENTS)]
    return list(itertools.product(*rows))


class Doors(Task):
    """Two agents go from room to room; every room has its own doors.

    Args:
        max_steps: of an episode.
        stuck: vector step of training from which on ``stuck_seed``'s second agent finds no door (0: never).
        stuck_seed: its place in the batch.
        starts: rooms that episodes start in, from the first one on.
    """

    n_agents, n_actions, observation_dim, state_dim, start_noise = AGENTS, ACTIONS, ROOMS, ROOMS, 1
    tells_success = False

    def __init__(self, max_steps: int = 3, stuck: int = 0, stuck_seed: int = 1, starts: int = ROOMS) -> None:
        self.max_steps, self.stuck, self.stuck_seed, self.starts, self.steps = max_steps, stuck, stuck_seed, starts, 0

    def initial_state(self, noise: Tensor) -> State:
        return {"room": (noise[..., 0] * self.starts).long()}

    def transition(self, state: State, action: Tensor, noise: Tensor) -> Transition:
        room, self.steps = state["room"], self.steps + 1
        if not LEGAL[room].gather(-1, action.unsqueeze(-1)).all():
            raise ValueError("an illegal action")
        following = (room + action[..., 0] + 2 * action[..., 1] + 1) % ROOMS
        reward = REWARD[room, action[..., 0], action[..., 1]]
        never = torch.zeros_like(room, dtype=torch.bool)
        return Transition({"room": following}, reward, never, never)

    def observe(self, state: State) -> tuple[Tensor, Tensor]:
        room = torch.nn.functional.one_hot(state["room"], ROOMS).float()
        return room.unsqueeze(-2).expand(*room.shape[:-1], AGENTS, ROOMS), room

    def legal_actions(self, state: State) -> Tensor:
        legal = LEGAL[state["room"]]
        if self.stuck and self.steps >= self.stuck and legal.dim() == 4:
            legal = legal.clone()
            legal[self.stuck_seed, -1, 1] = False
        return legal

    def state_index(self, state: State) -> Tensor:
        return state["room"]
