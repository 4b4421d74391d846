"""Named payoff tensors of the matrix games.

A payoff tensor is ``[*n_actions_per_agent, n_agents]``: the reward of every agent at every joint action. The names:

- ``figure1``: both agents prefer (A, A), mismatches are punished. The source (arXiv 2508.01049, Figure 1) gives no
  numbers in our summary; [[1, -1], [-1, 0.8]] is decided here.
- ``stag``: [[1, 0], [0, 0.8]].
- ``climbing``, ``penalty_0`` ... ``penalty_100``: Claus & Boutilier 1998; the number is -k.
- ``no_conflict_1`` ... ``no_conflict_21``: Rapoport & Guyer's structurally distinct 2x2 ordinal games in which both
  agents have their best outcome in the same cell, generated from that definition.
"""

from itertools import permutations

import torch
from torch import Tensor

_SHARED = {
    "figure1": [[1.0, -1.0], [-1.0, 0.8]],
    "stag": [[1.0, 0.0], [0.0, 0.8]],
    "climbing": [[11.0, -30.0, 0.0], [-30.0, 7.0, 6.0], [0.0, 0.0, 5.0]],
    **{f"penalty_{k}": [[10.0, 0.0, -k], [0.0, 2.0, 0.0], [-k, 0.0, 10.0]] for k in (0, 25, 50, 75, 100)},
}

Cells = tuple[tuple[int, int], ...]  # (agent 0's payoff, agent 1's payoff) of cells 00, 01, 10, 11


def no_conflict_games() -> list[Cells]:
    """The 21 structurally distinct 2x2 no-conflict ordinal games, in lexicographic order of their first form.

    Payoffs are strict orderings 1 to 4 per agent. Two games are the same if swapping rows, columns or agents turns
    one into the other; each is given in its smallest form with the common best outcome in cell (0, 0).
    """
    distinct = set()
    for rows in permutations((1, 2, 3, 4)):
        for columns in permutations((1, 2, 3, 4)):
            cells = tuple(zip(rows, columns, strict=True))
            if (4, 4) in cells:
                distinct.add(min(f for f in _equivalent_forms(cells) if f[0] == (4, 4)))
    return sorted(distinct)


def _equivalent_forms(cells: Cells) -> list[Cells]:
    forms = []
    for order in ((0, 1, 2, 3), (2, 3, 0, 1), (1, 0, 3, 2), (3, 2, 1, 0)):
        form = tuple(cells[i] for i in order)
        swapped = tuple((form[i][1], form[i][0]) for i in (0, 2, 1, 3))
        forms += [form, swapped]
    return forms


def payoff_names() -> list[str]:
    """Every name that ``named_payoff`` knows."""
    return [*_SHARED, *(f"no_conflict_{k}" for k in range(1, 22))]


def named_payoff(name: str) -> Tensor:
    """The payoff tensor ``[N, N, 2]`` float32 of a named two-agent game.

    Raises:
        KeyError: no game has that name.
    """
    if name in _SHARED:
        return torch.tensor(_SHARED[name]).unsqueeze(-1).expand(-1, -1, 2).clone()
    games = {f"no_conflict_{k}": cells for k, cells in enumerate(no_conflict_games(), start=1)}
    return torch.tensor(games[name], dtype=torch.float32).reshape(2, 2, 2)
