"""A network for every agent, or one that all agents of a seed share."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from lit_maprops.stacked.layers import Architecture, Picture
from lit_maprops.stacked.nets import StackedNet
from lit_maprops.stacked.recurrent import RecurrentNet


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


def unroll_agents(
    net: RecurrentNet, observation: Tensor, memory: Tensor, begins: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """As ``RecurrentNet.unroll``, of an ``agent_network``.

    Args:
        net: the network.
        observation: of L steps of B sequences, ``[R, L, B, A, O]``.
        memory: before the first step, ``[R, B, A, H]``.
        begins: ``[R, L, B]`` bool; None: none.

    Returns:
        ``[R, L, B, A, out_dim]`` and ``[R, L, B, A, H]``.
    """
    n_agents = observation.shape[3]
    if len(net.stack) == 2:
        begin = None if begins is None else begins.unsqueeze(1).expand(-1, n_agents, -1, -1)
        found = net.unroll(observation.permute(0, 3, 1, 2, 4), memory.transpose(1, 2), begin)
        return found[0].permute(0, 2, 3, 1, 4), found[1].permute(0, 2, 3, 1, 4)
    identity = one_hot(torch.arange(n_agents, device=observation.device), n_agents).float()
    seen = torch.cat([observation, identity.expand(*observation.shape[:-1], n_agents)], -1)
    begin = None if begins is None else begins.repeat_interleave(n_agents, 2)
    output, after = net.unroll(seen.flatten(2, 3), memory.flatten(1, 2), begin)
    return output.unflatten(2, (-1, n_agents)), after.unflatten(2, (-1, n_agents))
