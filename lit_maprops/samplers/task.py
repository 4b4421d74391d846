"""What a behavior policy must know of the user's environment: sizes, and which states are equal."""

from collections.abc import Sequence

import torch
from torch import Tensor
from typing_extensions import override

from lit_maprops.behavior.update.samples import fingerprint
from lit_maprops.envs import State, Task, Transition


class PlainTask(Task):
    """Sizes alone; the user's loop steps the environment.

    Args:
        state_dim: numbers in a state, S.
        observation_dim: numbers in one agent's observation, O.
        sizes: how many actions, or components of a continuous action, each agent has.
        continuous: which of the two.
    """

    max_steps = 1

    def __init__(self, state_dim: int, observation_dim: int, sizes: Sequence[int], continuous: bool) -> None:
        self.state_dim, self.observation_dim = state_dim, observation_dim
        self.sizes, self.continuous_actions = list(sizes), continuous
        self.n_agents = len(self.sizes)
        self.n_actions, self.action_dim = (0, max(sizes)) if continuous else (max(sizes), 0)

    @override
    def action_mask(self) -> Tensor:
        return torch.arange(max(self.sizes)) < torch.tensor(self.sizes).unsqueeze(1)

    @override
    def initial_state(self, noise: Tensor) -> State:
        """Any state will do."""
        return {"state": torch.zeros(*noise.shape[:-1], self.state_dim, device=noise.device)}

    @override
    def transition(self, state: State, action: Tensor, noise: Tensor) -> Transition:
        """The user's environment does that."""
        raise NotImplementedError

    @override
    def observe(self, state: State) -> tuple[Tensor, Tensor]:
        """The user's environment does that."""
        raise NotImplementedError

    @override
    def state_index(self, state: State) -> Tensor:
        """A hash of the state's float32 bits, equal for equal states, also across processes."""
        return fingerprint(state["state"] + 0.0)  # -0.0 becomes 0.0
