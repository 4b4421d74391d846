"""Who gets where it heads for, when robots move all at once and none may share a cell with another."""

import torch
from torch import Tensor


def movers(here: Tensor, there: Tensor, lower: Tensor) -> Tensor:
    """Which agents leave their cells.

    Agents that wait for one another form chains. A chain moves if its head heads for a free cell, and where several
    meet, the longest goes first; of equally long ones, decided here, that of the lower agent (the package leaves it to
    the order of a set). A ring of three or more moves, two that want to swap do not, and nothing else that hangs on a
    ring or on one who stays.

    Args:
        here: a number for each agent's cell, ``[*B, A]``, all distinct.
        there: where it heads for; ``here`` for one who stays.
        lower: ``[A, A]`` bool, whether the second of two agents has the lower index.

    Returns:
        ``[*B, A]`` bool.
    """
    agents = here.shape[-1]
    waits = there.unsqueeze(-1) == here.unsqueeze(-2)  # [*B, A, A]: the first of two agents heads for the second's cell
    wait = waits.float()
    # The agents behind one another that wait for an agent, itself included; beyond A on rings.
    length = torch.ones_like(here, dtype=torch.float32)
    walk, ring = wait, torch.zeros_like(here, dtype=torch.bool)
    swaps = torch.zeros_like(ring)
    for steps in range(1, agents + 1):  # walk: who is reached from whom in as many steps
        back = walk.diagonal(dim1=-2, dim2=-1) > 0
        if steps <= 2:
            swaps = swaps | back  # stays, or swaps
        ring = ring | back
        length = 1 + (wait * length.unsqueeze(-1)).amax(-2)
        walk = walk @ wait
    rivals = there.unsqueeze(-1) == there.unsqueeze(-2)
    longer = length.unsqueeze(-2) > length.unsqueeze(-1)  # [*B, A, A]: the second of two agents leads more
    even = length.unsqueeze(-2) == length.unsqueeze(-1)
    first = ~(rivals & (longer | (even & lower))).any(-1)
    free = ~waits.any(-1)
    chain = first & free
    for _ in range(agents - 1):
        chain = first & (free | (waits & chain.unsqueeze(-2)).any(-1))
    return chain | (ring & ~swaps)
