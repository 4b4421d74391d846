"""A package such as a user would write: an environment here, a behavior policy and a learner in ``policies``."""

import torch
from torch import Tensor

from lit_maprops.envs import State, Task, Transition


class Meet(Task):
    """Agents on a line of ``width`` places; they succeed where all stand in one place.

    Args:
        width: places.
        max_steps: of an episode.
    """

    n_agents, n_actions, start_noise = 2, 3, 2

    def __init__(self, width: int = 3, max_steps: int = 6) -> None:
        self.width, self.max_steps = width, max_steps
        self.observation_dim, self.state_dim = width, 2 * width

    def initial_state(self, noise: Tensor) -> State:
        return {"place": (noise * self.width).long()}

    def transition(self, state: State, action: Tensor, noise: Tensor) -> Transition:
        place = (state["place"] + action - 1).clamp(0, self.width - 1)
        met = place[..., 0] == place[..., 1]
        reward = met.float().unsqueeze(-1).expand(*met.shape, 2)
        return Transition({"place": place}, reward, met, met)

    def observe(self, state: State) -> tuple[Tensor, Tensor]:
        seen = torch.nn.functional.one_hot(state["place"], self.width).float()
        return seen, seen.flatten(-2)
