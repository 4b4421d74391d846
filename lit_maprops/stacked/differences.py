"""Any torch module as an adjustment: what it has learned, the difference between what it puts out now and at first.

A module of somebody's own need not end in a layer that could be set to zero. With the weights phi_0 that it was drawn
with, Delta_phi(x) = f(x; phi) - f(x; phi_0) is 0 at phi = phi_0, for every module and every input, and there it has the
gradient of f.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from typing_extensions import override

from lit_maprops.stacked.modules import StackedModule
from lit_maprops.stacked.nets import DeltaNet
from lit_maprops.stacked.passes import ModulePasses


class StackedDifference(StackedModule, DeltaNet):
    """What modules put out, less what they put out with the weights that they were drawn with.

    A row of ``flat`` is a whole network, since what trains it takes rows: what the module keeps beside its weights, the
    weights as they were drawn, the weights, and a factor of the output. Only the weights have a gradient, so Adam
    leaves the rest as it is.

    Args:
        make: see ``StackedModule``; what a module keeps is the same after a way through float32.
        stack: see there.
        generators: see there.
    """

    def __init__(
        self, make: Callable[[], nn.Module], stack: tuple[int, ...], generators: Sequence[torch.Generator]
    ) -> None:
        super().__init__(make, stack, generators)
        depth, drawn, buffers = len(stack), self.flat.detach(), dict(self.named_buffers())
        self._forms = [(buffer.shape[depth:], buffer.dtype) for buffer in buffers.values()]
        kept = [buffer.reshape(*stack, -1).float() for buffer in buffers.values()]
        for name in buffers:
            delattr(self, name)
        size = drawn.shape[-1]
        self._sizes = [*(part.shape[-1] for part in kept), size, size, 1]
        self.flat = nn.Parameter(torch.cat([*kept, drawn, drawn, drawn.new_ones(*stack, 1)], -1))

    def _parts(self, flat: Tensor) -> tuple[list[Tensor], Tensor, Tensor, Tensor]:
        """What is kept, in its own form, the weights drawn, the weights and the factor: of one row ``[P]``."""
        *kept, drawn, learned, factor = flat.split(self._sizes, -1)
        own = [part.view(shape).to(dtype) for part, (shape, dtype) in zip(kept, self._forms, strict=True)]
        return own, drawn, learned, factor

    @override
    def _output(self, flat: Tensor, kept: list[Tensor], inputs: Tensor) -> Tensor:
        own, drawn, _, factor = self._parts(flat.detach())
        learned = self._parts(flat)[2]
        output, first = super()._output(learned, own, inputs), super()._output(drawn, own, inputs)
        # Equal weights need not give equal bits: products may be rounded by where in memory their factors lie.
        moved = (learned != drawn).any()
        return factor * (output - torch.where(moved, first, output.detach()))

    @override
    def entry(self, *place: int) -> nn.Module:
        """The module with the weights of one entry of ``stack``, copies; Delta is without what it put out at first."""
        own, _, learned, _ = self._parts(self.flat.detach()[place])
        return self._with(self._tensors(learned, own))

    @property
    @override
    def passes(self) -> ModulePasses:
        widest = max((width for shape in self._shapes.values() for width in shape), default=1)
        return ModulePasses(self._output, 1, widest)

    @override
    @torch.no_grad()
    def zero_output(self, entries: Tensor | None = None) -> None:
        """By the weights that were drawn, to which every network goes back, also one whose factor has become 0."""
        *_, drawn, learned, factor = self.flat.split(self._sizes, -1)
        if entries is None:
            learned.copy_(drawn)
            factor.fill_(1.0)
            return
        again = entries.unsqueeze(-1) | (factor == 0)
        learned.copy_(torch.where(again, drawn, learned))
        factor.masked_fill_(again, 1.0)
