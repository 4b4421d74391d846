"""A network for every agent, or one that all agents of a seed share."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from lit_maprops.stacked.layers import Architecture, Picture
from lit_maprops.stacked.nets import StackedNet


def agent_network(
    n_agents: int,
    observation_dim: int,
    architecture: Architecture,
    out_dim: int,
    share_parameters: bool,
    out_gain: float,
    generators: Sequence[torch.Generator],
    picture: Picture | None = None,
) -> StackedNet:
    """A network per (seed, agent), or with ``share_parameters`` one per seed that also sees the agent's index."""
    n_seeds = len(generators)
    in_dim = observation_dim + (n_agents if share_parameters else 0)
    stack = (n_seeds,) if share_parameters else (n_seeds, n_agents)
    return architecture.stacked(in_dim, out_dim, stack, out_gain, generators, picture)


def per_agent(net: StackedNet, observation: Tensor) -> Tensor:
    """Apply an ``agent_network``: ``[R, *B, A, O] -> [R, *B, A, out_dim]``."""
    batch = observation.shape[1:-2]
    n_seeds, n_agents = observation.shape[0], observation.shape[-2]
    if len(net.stack) == 2:
        x = observation.reshape(n_seeds, -1, n_agents, observation.shape[-1]).transpose(1, 2)
        return net(x).transpose(1, 2).reshape(n_seeds, *batch, n_agents, -1)
    identity = one_hot(torch.arange(n_agents, device=observation.device), n_agents).float()
    x = torch.cat([observation, identity.expand(*observation.shape[:-1], n_agents)], -1)
    return net(x.reshape(n_seeds, -1, x.shape[-1])).reshape(n_seeds, *batch, n_agents, -1)
