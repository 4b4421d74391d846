"""Array-RQMC: parallel environments in different states share one randomized point set, in the order of a feature.

Environments of a vector step that are alike should not draw alike. L'Ecuyer, Lecot and Tuffin (2008) order the states
of parallel chains and hand out the points of a low-discrepancy set in that order, so that neighbors draw what balances,
and randomize the set anew at every step. Every draw is uniform and independent of all earlier steps. A single
environment has nobody to share with and samples independently.
"""

import math
from typing import Literal

import torch
from tensordict import TensorDictBase
from torch import Tensor
from typing_extensions import override

from lit_maprops.behavior.draws import Draws
from lit_maprops.behavior.low_discrepancy_draws import Scrambling, scrambled
from lit_maprops.stacked.sobol import PERIOD, sobol_points, to_bits, to_uniform

Order = Literal["value", "state", "policy"]
POWER_STEPS = 10


class OrderedDraws(Draws):
    """One point set for the environments of a seed in every vector step.

    Args:
        columns: see ``Draws``.
        scrambling: as of ``LowDiscrepancyDraws``.

    Attributes:
        feature: by which environments are ordered in the next vector step, ``[R, E]``.
    """

    feature: Tensor

    def __init__(self, columns: tuple[int, ...], scrambling: Scrambling = "shift") -> None:
        super().__init__(columns)
        self.points, self.nested = sobol_points(math.prod(columns)), scrambling == "owen"

    @override
    def arranged(self, fresh: Tensor, data: TensorDictBase) -> Tensor:
        shift = to_bits(fresh.reshape(*fresh.shape[:2], -1))[:, :1]  # [R, 1, W]
        rank = self.feature.argsort(dim=1, stable=True).argsort(1)
        point = scrambled(self.points[rank % PERIOD], shift.expand(*rank.shape, -1), self.nested)
        return to_uniform(point).reshape(*rank.shape, *self.columns)

    @override
    def move(self, device: torch.device) -> None:
        self.points = self.points.to(device)


def principal_component(vectors: Tensor) -> Tensor:
    """Scores on the direction in which the vectors of a seed differ most, by power iteration: ``[R, E, F] -> [R, E]``.

    Up to a sign, which reverses an order and changes no set of neighbors.
    """
    centered = vectors - vectors.mean(1, keepdim=True)
    # Deviations of features of one sign would be orthogonal to the answer where features make up for each other, as p
    # and 1 - p do. Cosines of different whole numbers are linearly independent over all algebraic ones (Lindemann and
    # Weierstrass), so nothing that comes of fractions is orthogonal to them; squares, so that neighbors are not alike.
    number = torch.arange(1, vectors.shape[2] + 1, dtype=torch.float64, device=vectors.device)
    direction = centered.square().sum(1).sqrt() * number.square().cos().to(vectors.dtype)  # [R, F]
    for _ in range(POWER_STEPS):
        direction = torch.einsum("ref,re->rf", centered, torch.einsum("ref,rf->re", centered, direction))
        direction = direction / direction.norm(dim=1, keepdim=True).clamp(min=1e-30)
    return torch.einsum("ref,rf->re", centered, direction)
