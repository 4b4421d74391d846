"""Stratified draws: parallel environments of a seed that stand in the same state share the unit interval evenly.

In one vector step the environments of a seed are sampled from the same pi_phi, and nothing corrects them against each
other. Systematic resampling (Carpenter, Clifford & Fearnhead 1999, the low-variance resampling of particle filters)
does: of c environments in one state, the one with random rank k draws at (k + u) / c, with one u for all of them. Each
draw is still uniform on [0, 1), so every action still has its probability; together they hold each action as often
as c times its probability, up to one. Continuous actions: the noise of each component by itself, a Latin hypercube.
"""

import torch
from torch import Tensor

from lit_maprops.behavior.same_state import ranks


def stratify(leader: Tensor, uniform: Tensor) -> Tensor:
    """Make independent draws systematic within groups.

    Args:
        leader: the first environment of each one's group, ``[R, E]`` int64.
        uniform: ``[2, R, E, *K]``, independent and uniform on [0, 1); the first orders the environments, the second
            places the strata. Each of the K columns is stratified by itself.

    Returns:
        ``[R, E, *K]``, each entry uniform on [0, 1).
    """
    order, place = uniform.reshape(*uniform.shape[:3], -1).mT.contiguous()  # [R, columns, E]
    first = leader.unsqueeze(1).expand_as(order)
    rank = ranks(first, order.argsort(dim=2, stable=True).argsort(2))  # ties go by the environment's number
    count = torch.zeros_like(leader).scatter_add_(1, leader, torch.ones_like(leader)).gather(1, leader)
    drawn = (rank + place.gather(2, first)) / count.unsqueeze(1)
    return drawn.clamp(max=1 - 2**-24).mT.reshape(uniform.shape[1:])  # rounding must not reach 1
