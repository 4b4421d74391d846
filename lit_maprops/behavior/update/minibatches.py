"""Minibatches of D: which rows of it a gradient step takes."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from lit_maprops.stacked.streams import SeedStreams


class Minibatch(NamedTuple):
    """Rows ``[G, b]`` of every entry and what their shares are multiplied by ``[1, b]``: 0 for rows that fill up."""

    rows: Tensor
    weight: Tensor

    def of(self, entries: "Tensor | slice") -> "Minibatch":
        """Of some of the entries."""
        return Minibatch(self.rows[entries], self.weight)


def minibatches_of(
    streams: SeedStreams, rows: int, epochs: int, parts: int, copies: int = 1, size: int = 0
) -> list[Minibatch | None]:
    """``epochs`` shuffled passes over ``rows`` rows in ``parts`` minibatches.

    All are drawn beforehand: how many numbers a seed uses must not depend on when the others stop. A single part is
    given as None (all rows, no shuffle). With fewer rows than parts every row is its own part.

    Args:
        streams: random numbers of the R seeds.
        rows: of D.
        epochs: passes.
        parts: minibatches per pass.
        copies: entries of a seed (the agents of PROPS), which share its order.
        size: rows that a minibatch is filled up to, with weight 0.
    """
    if parts == 1 or rows == 1:
        return [None] * epochs
    minibatches: list[Minibatch | None] = []
    for _ in range(epochs):
        order = streams.permutation(rows).repeat_interleave(copies, 0)
        for part in order.tensor_split(min(parts, rows), dim=1):
            missing = max(0, size - part.shape[1])
            weight = torch.full((1, part.shape[1]), rows / part.shape[1], device=part.device)
            minibatches.append(Minibatch(pad(part, (0, missing)), pad(weight, (0, missing))))
    return minibatches
