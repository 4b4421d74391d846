"""Stratified draws: parallel environments of a seed that stand in the same state share the unit interval evenly.

In one vector step the environments of a seed are sampled from the same pi_phi, and nothing corrects them against each
other. Systematic resampling (Carpenter, Clifford & Fearnhead 1999, the low-variance resampling of particle filters)
does: of c environments in one state, the one with random rank k draws at (k + u) / c, with one u for all of them. Each
draw is still uniform on [0, 1), so every action still has its probability; together they hold each action as often
as c times its probability, up to one. Continuous actions: the noise of each component by itself, a Latin hypercube.
"""

import torch
from torch import Tensor


def stratify(same: Tensor, uniform: Tensor) -> Tensor:
    """Make independent draws systematic within groups.

    Args:
        same: ``[R, E, E]`` bool, an equivalence between environments.
        uniform: ``[2, R, E, *K]``, independent and uniform on [0, 1); the first orders the environments, the second
            places the strata. Each of the K columns is stratified by itself.

    Returns:
        ``[R, E, *K]``, each entry uniform on [0, 1).
    """
    order, place = uniform
    grouped = same.reshape(*same.shape, *[1] * (order.dim() - 2))
    # Ties go by the environment's number.
    number = torch.arange(same.shape[1], device=same.device).reshape(-1, *[1] * (order.dim() - 2))
    mine, other = order.unsqueeze(2), order.unsqueeze(1)
    before = (other < mine) | ((other == mine) & (number.unsqueeze(0) < number.unsqueeze(1)))
    rank = (grouped & before).sum(2)
    count = grouped.sum(2)
    first = same.int().argmax(2).reshape(*same.shape[:2], *[1] * (order.dim() - 2)).expand_as(place)
    drawn = (rank + place.gather(1, first)) / count
    return drawn.clamp(max=1 - 2**-24)  # rounding must not reach 1
