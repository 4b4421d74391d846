"""Forward and backward pass of networks whose weights are given with each call, as what trains Delta_phi makes them.

``G`` networks of one form share nothing but the calls; the weights of a network are one row of ``[G, P]``. Its output
is proportional to those at the end of the row: of a last, linear layer, or a factor.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from lit_maprops.stacked import mlp
from lit_maprops.stacked.mlp import Layers, LayerShapes


class Passes(Protocol):
    """Of networks of one form."""

    @property
    def written_out(self) -> bool:
        """They are tanh MLPs, whose passes are no autograd's: kernels know them, and torch.compile takes them."""

    @property
    def last_size(self) -> int:
        """How many weights at the end of a row the output is proportional to: those of the last layer."""

    def layers(self, flat: Tensor) -> Any:
        """The weights ``[G, P]`` as the passes take them, views."""

    def forward(self, layers: Any, inputs: Tensor) -> tuple[list[Tensor], Tensor]:
        """What ``backward`` needs, each ``[G, ...]`` and the inputs ``[G, U, in]`` first, and outputs ``[G, K, U]``."""

    def backward(self, layers: Any, x: list[Tensor], grad: Tensor, only_last_layer: bool = False) -> Tensor:
        """Gradient of the weights ``[G, P]``.

        Args:
            layers: as for ``forward``.
            x: what it returned.
            grad: of its output.
            only_last_layer: the others' gradient is known to be 0 (the last layer is).
        """

    def groups(self, entries: int, rows: int, device: torch.device) -> list[slice]:
        """Ranges of networks that go through together, each with ``rows`` rows of input."""


class MLPPasses(NamedTuple):
    """Of tanh MLPs, ``lit_maprops.stacked.mlp``."""

    shapes: LayerShapes

    @property
    def written_out(self) -> bool:
        """See ``Passes``."""
        return True

    @property
    def last_size(self) -> int:
        """See ``Passes``."""
        return mlp.size_of(self.shapes[-1:])

    def layers(self, flat: Tensor) -> Layers:
        """See ``Passes``."""
        return mlp.split_layers(flat, self.shapes)

    def forward(self, layers: Layers, inputs: Tensor) -> tuple[list[Tensor], Tensor]:
        """See ``Passes``."""
        return mlp.forward(layers, inputs)

    def backward(self, layers: Layers, x: list[Tensor], grad: Tensor, only_last_layer: bool = False) -> Tensor:
        """See ``Passes``."""
        return mlp.backward(layers, x, grad, only_last_layer)

    def groups(self, entries: int, rows: int, device: torch.device) -> list[slice]:
        """See ``Passes``."""
        return mlp.groups(entries, rows, self.shapes, device)


class ModulePasses(NamedTuple):
    """Of any torch modules, by autograd: the way back goes forward once more.

    What they keep beside their weights is a part of these, or there is none.
    """

    output: Callable[[Tensor, list[Tensor], Tensor], Tensor]  # of a row of weights, no buffers, and inputs
    last_size: int
    widest: int

    @property
    def written_out(self) -> bool:
        """See ``Passes``."""
        return False

    def layers(self, flat: Tensor) -> Tensor:
        """See ``Passes``."""
        return flat

    def forward(self, layers: Tensor, inputs: Tensor) -> tuple[list[Tensor], Tensor]:
        """See ``Passes``."""
        return [inputs], torch.vmap(self.output)(layers, [], inputs).mT

    def backward(self, layers: Tensor, x: list[Tensor], grad: Tensor, only_last_layer: bool = False) -> Tensor:
        """See ``Passes``."""
        with torch.enable_grad():
            flat = layers.detach().requires_grad_()
            output = torch.vmap(self.output)(flat, [], x[0])
        return torch.autograd.grad(output, flat, grad.mT)[0]

    def groups(self, entries: int, rows: int, device: torch.device) -> list[slice]:
        """See ``Passes``."""
        return mlp.groups(entries, rows, ((self.widest, self.widest, True),), device)
