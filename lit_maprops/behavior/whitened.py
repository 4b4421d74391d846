"""Gaussian adjustments where pi_theta is standard normal: ratio, KL and gradient in closed form, and draws.

In whitened coordinates z (``lit_maprops.distributions.gaussian``) pi_theta is N(0, I), and pi_phi is
N(m, (P^T P)^-1) with P lower triangular. The network puts out m, d and what is below P's diagonal; the diagonal is
exp(-d), so that d is added to the log standard deviations and Delta = 0 is pi_theta. With w = P (z - m), which is
N(0, I) under pi_phi,

    log r = (|z|^2 - |w|^2) / 2 - sum d,
    KL(pi_theta || pi_phi) = (||P||_F^2 + |P m|^2 - J) / 2 + sum d.

``G`` and ``U`` are those of ``lit_maprops.behavior.update.rows``; J counts the components.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from lit_maprops.behavior.update.rows import Ratios

LARGEST = 3.0  # numbers of Delta beyond it count as this much, a KL of 2.5 and more in one component
LARGEST_LOG_RATIO = 20.0  # likewise; only actions that an older theta took can be so far out


class Adjustment(NamedTuple):
    """pi_phi in whitened coordinates."""

    mean: Tensor  # [G, J, U], m
    log_scale: Tensor  # [G, J, U], d: P has exp(-d) on its diagonal
    below: Tensor  # [G, L, U], the entries of P below its diagonal, row by row; L = J (J - 1) / 2, or 0

    @staticmethod
    def of(delta: Tensor, n_components: int) -> "Adjustment":
        """Of the network's outputs, ``[G, 2 J + L, U]``."""
        n = n_components
        return Adjustment(*delta.clamp(-LARGEST, LARGEST).split([n, n, delta.shape[1] - 2 * n], 1))

    def of_those(self, exists: Tensor) -> "Adjustment":
        """Of the components with ``exists`` 1, ``[G, J, U]``, alone; the others stay standard normal, by themselves."""
        row, column = self.ends()
        below = self.below * exists[:, row] * exists[:, column]
        return Adjustment(self.mean * exists, self.log_scale * exists, below)

    def ends(self) -> tuple[Tensor, Tensor]:
        """Row and column of P for every entry below its diagonal, ``[L]`` int64 each."""
        n = self.mean.shape[1] if self.below.shape[1] else 0
        row, column = torch.tril_indices(n, n, -1, device=self.mean.device)
        return row, column

    def times(self, vector: Tensor) -> Tensor:
        """P times ``[G, J, U]``."""
        row, column = self.ends()
        return ((-self.log_scale).exp() * vector).index_add(1, row, self.below * vector[:, column])

    def transposed_times(self, vector: Tensor) -> Tensor:
        """P^T times ``[G, J, U]``."""
        row, column = self.ends()
        return ((-self.log_scale).exp() * vector).index_add(1, column, self.below * vector[:, row])

    def log_ratio(self, z: Tensor) -> Tensor:
        """Log pi_phi(z) / pi_theta(z): ``[G, J, U] -> [G, U]`` (nats)."""
        w = self.times(z - self.mean)
        # (z - w)(z + w): the difference of the squares would lose what small adjustments change.
        return (0.5 * (z - w) * (z + w) - self.log_scale).sum(1)

    def kl(self) -> Tensor:
        """KL(pi_theta || pi_phi), exact, ``[G, U]`` (nats)."""
        squares = self.below.square().sum(1) + self.times(self.mean).square().sum(1)
        d = self.log_scale
        return 0.5 * ((torch.expm1(-2 * d) + 2 * d).sum(1) + squares)

    def ratios(self, z: Tensor, exists: Tensor | float = 1.0) -> Ratios:
        """What Algorithm 2 needs of actions ``[G, J, U]``.

        Args:
            z: whitened actions.
            exists: 0 for components that are padding, or of agents that are not there, whose m, d and entries of P must
                be 0 and get no gradient; ``[G, J, U]``.
        """

        def vjp(grad: Tensor) -> Tensor:
            grad, (row, column) = grad.unsqueeze(1), self.ends()
            away = z - self.mean
            w = self.times(away)
            of_log_scale = (w * away * (-self.log_scale).exp() - 1) * exists
            of_below = -w[:, row] * away[:, column]
            if isinstance(exists, Tensor):
                of_below = of_below * (exists[:, row] * exists[:, column])
            parts = [self.transposed_times(w) * exists, of_log_scale, of_below]
            return torch.cat(parts, 1) * grad

        return Ratios(self.log_ratio(z).clamp(max=LARGEST_LOG_RATIO), self.kl(), vjp)

    def draw(self, noise: Tensor) -> Tensor:
        """z for standard normal ``noise``: ``[G, J, U]``, likewise."""
        if not self.below.shape[1]:
            return self.mean + self.log_scale.exp() * noise
        row, column = self.ends()
        factor = torch.diag_embed((-self.log_scale).exp().mT)  # [G, U, J, J]
        factor[..., row, column] = self.below.mT
        away = torch.linalg.solve_triangular(factor, noise.mT.unsqueeze(-1), upper=False)
        return self.mean + away.squeeze(-1).mT
