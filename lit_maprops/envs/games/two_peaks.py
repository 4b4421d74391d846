"""A stateless game of continuous actions, the counterpart of Figure 1's matrix game in arXiv 2508.01049."""

from typing import Literal

import torch
from torch import Tensor
from typing_extensions import override

from lit_maprops.envs.base import State, Transition
from lit_maprops.envs.games.matrix_game import OneStepGame
from lit_maprops.stacked.device_cache import DeviceCache
from lit_maprops.system.argument_types import ClosedUnitInterval, Count, PositiveFloat
from lit_maprops.system.errors import check

BEST, OTHER = 0.4, -0.6  # where the peaks are, in every component
OTHER_WIDTH = 0.4


class TwoPeaks(OneStepGame):
    """All agents earn the larger of two bell curves over their joint action a in [-1, 1]^J.

    reward = max_k height_k exp(-|a - c_k|^2 / (2 width_k^2)): a narrow peak of height 1 where every component is 0.4,
    and a wide one of ``other_reward`` at -0.6. With two agents and the defaults the expected gradient of policies of
    mean 0 and standard deviation 0.5 leads to the narrow peak, but few samples may miss it: REINFORCE at batches of 8
    ends at the wide one in a quarter of the runs. Success is a joint action with no component farther than ``radius``
    from the narrow peak.

    Args:
        n_agents: number of agents.
        components: components of each agent's action; default 1 each.
        width: standard deviation of the narrow peak.
        other_reward: height of the wide peak.
        radius: of success.
        squash: ``tanh`` or ``clip``, how policies' actions are bounded to [-1, 1].
    """

    continuous_actions = True
    n_actions = 0

    def __init__(
        self,
        n_agents: Count = 2,
        components: list[Count] | None = None,
        width: PositiveFloat = 0.2,
        other_reward: ClosedUnitInterval = 0.5,
        radius: PositiveFloat = 0.2,
        squash: Literal["tanh", "clip"] = "tanh",
    ) -> None:
        components = [1] * n_agents if components is None else components
        check(
            len(components) == n_agents,
            f"<env.components> has {len(components)} numbers: give one for each of the {n_agents} agents",
        )
        self.n_agents, self.action_dim, self.squash = n_agents, max(components), squash
        self.width, self.other_reward, self.radius = width, other_reward, radius
        self._exists = DeviceCache(torch.arange(self.action_dim) < torch.tensor(components).unsqueeze(1))  # [A, D]

    @override
    def action_mask(self) -> Tensor:
        return self._exists.value

    @override
    def transition(self, state: State, action: Tensor, noise: Tensor) -> Transition:
        """Every step ends its episode."""
        exists = self._exists.on(action.device)

        def bell(center: float, width: float) -> Tensor:
            distance = torch.where(exists, action - center, 0.0).square().sum((-1, -2))
            return torch.exp(-0.5 * distance / width**2)

        reward = torch.maximum(bell(BEST, self.width), self.other_reward * bell(OTHER, OTHER_WIDTH))
        success = (((action - BEST).abs() <= self.radius) | ~exists).all(-1).all(-1)
        every = reward.unsqueeze(-1).expand(*reward.shape, self.n_agents)
        return Transition(dict(state), every, torch.ones_like(success), success)
