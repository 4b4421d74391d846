"""Networks with leading seed (and agent) dimensions.

All weights of a network are one tensor, ``[*stack, P]``: a row per independent network, so that a gradient step is a
handful of kernels however many layers, agents and seeds there are. Nothing is shared across the stack. ``stack`` is
``(R,)`` or ``(R, A)``; ``G`` below is ``prod(stack)``. The arithmetic is in ``lit_maprops.stacked.mlp``.
"""

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn
from typing_extensions import override

from lit_maprops.stacked import mlp
from lit_maprops.stacked.mlp import Layers, LayerShapes, size_of, split_layers
from lit_maprops.stacked.passes import MLPPasses, Passes

HIDDEN_GAIN = math.sqrt(2.0)
LARGEST_WEIGHT = 1e6  # below it, what tanh networks put out is finite
PART_NUMBERS = 2**23  # inputs that a forward pass without gradients takes at once


class StackedNet(nn.Module, ABC):
    """Independent networks of one form.

    Attributes:
        stack: leading dimensions of independence, ``(R,)`` or ``(R, A)``.
        flat: all weights, ``[*stack, P]``.
    """

    stack: tuple[int, ...]
    flat: nn.Parameter

    @abstractmethod
    def forward(self, inputs: Tensor) -> Tensor:
        """Map ``[*stack, B, in_dim]``, numbers of any type, to ``[*stack, B, out_dim]``."""

    def moderate(self) -> bool:
        """Whether no output for finite inputs can be NaN; False: who knows."""
        return False

    @torch.no_grad()
    def repeated(self, times: int) -> Self:
        """A copy in which every seed's networks stand ``times`` times in a row: stack ``(R * times, ...)``."""
        twin = copy.deepcopy(self)
        twin.stack = (self.stack[0] * times, *self.stack[1:])
        twin.flat = nn.Parameter(self.flat.repeat_interleave(times, 0))
        for name, buffer in self.named_buffers():
            setattr(twin, name, buffer.repeat_interleave(times, 0))
        return twin

    def of_agents(self, agent: Tensor) -> Self:
        """The networks of one agent of every seed, ``[R]`` int64: stack ``(R,)``. Gradients reach our weights."""
        place = torch.arange(len(agent), device=agent.device), agent
        twin = copy.copy(self)
        twin.stack = self.stack[:1]
        twin._parameters, twin._buffers = {}, {name: buffer[place] for name, buffer in self.named_buffers()}
        object.__setattr__(twin, "flat", self.flat[place])  # no parameter: nobody else is to train it
        return twin


class DeltaNet(StackedNet):
    """Independent networks that can be made to put out zero, as Delta_phi must."""

    @property
    @abstractmethod
    def passes(self) -> Passes:
        """Through weights ``[G, P]`` that are given."""

    @abstractmethod
    def zero_output(self, entries: Tensor | None = None) -> None:
        """Make the output exactly zero for every input, of the given entries ``[*stack]`` bool or of all."""


class LayeredNet(DeltaNet):
    """Independent networks that end in a linear layer, whose weights and biases are the last of ``flat``.

    Attributes:
        last: shape of that layer, as the only one.
    """

    last: LayerShapes

    @abstractmethod
    def features(self, inputs: Tensor) -> Tensor:
        """What the last layer sees: ``[*stack, B, in_dim] -> [G, B, width]``; no gradient."""

    @override
    @torch.no_grad()
    def zero_output(self, entries: Tensor | None = None) -> None:
        """By its last layer; the others stay as they are."""
        last = self.flat[..., -size_of(self.last) :]
        if entries is None:
            last.zero_()
        else:
            last.masked_fill_(entries.unsqueeze(-1), 0.0)


class StackedMLP(LayeredNet):
    """Independent tanh MLPs, one per entry of ``stack``.

    With ``hidden=[]`` this is a linear map without bias: on a one-hot or constant input, a table.

    Args:
        in_dim: input features.
        hidden: units of each hidden layer.
        out_dim: output features.
        stack: leading dimensions of independence, ``(R,)`` or ``(R, A)``.
        out_gain: orthogonal gain of the last layer; 0 makes the initial output exactly zero.
        generators: one per seed, ``stack[0]`` of them; they alone fix the initial weights.
        hidden_gain: orthogonal gain of the hidden layers.
    """

    def __init__(
        self,
        in_dim: int,
        hidden: Sequence[int],
        out_dim: int,
        stack: tuple[int, ...],
        out_gain: float,
        generators: Sequence[torch.Generator],
        hidden_gain: float = HIDDEN_GAIN,
    ) -> None:
        super().__init__()
        self.stack, self.out_dim = stack, out_dim
        widths = [in_dim, *hidden, out_dim]
        self.shapes: LayerShapes = tuple((widths[i + 1], widths[i], bool(hidden)) for i in range(len(widths) - 1))
        self.last = self.shapes[-1:]
        self.flat = nn.Parameter(torch.zeros(*stack, size_of(self.shapes)))
        gains = [hidden_gain] * len(hidden) + [out_gain]
        with torch.no_grad():
            for gain, (weight, _) in zip(gains, self.layers(), strict=True):
                orthogonal_(weight.unflatten(0, stack), gain, generators)

    @override
    def moderate(self) -> bool:
        """No weight is NaN or enormous."""
        lowest, highest = self.flat.detach().aminmax()
        return bool(torch.maximum(-lowest, highest) < LARGEST_WEIGHT)

    def layers(self) -> Layers:
        """Weights and biases of all layers, views of the parameters."""
        return split_layers(self.flat.flatten(0, -2), self.shapes)

    @property
    @override
    def passes(self) -> MLPPasses:
        return MLPPasses(self.shapes)

    @override
    @torch.no_grad()
    def features(self, inputs: Tensor) -> Tensor:
        """Output of the last hidden layer; the inputs if there is none."""
        x = inputs.flatten(0, len(self.stack) - 1).to(self.flat.dtype)
        return 1 - 2 * mlp.hidden_layers(self.layers(), x)[-1] if len(self.shapes) > 1 else x

    @override
    def forward(self, inputs: Tensor) -> Tensor:
        """No gradient for the inputs. Without gradients many rows go through in parts.

        So D as a whole never stands in memory as floats.
        """
        flat, x = self.flat.flatten(0, -2), inputs.flatten(0, len(self.stack) - 1)
        if not torch.is_grad_enabled() and x.numel() > PART_NUMBERS:
            rows = max(1, x.shape[1] // -(-x.numel() // PART_NUMBERS))
            output = torch.cat([mlp.apply(flat, part, self.shapes) for part in x.split(rows, 1)], 2)
        else:
            output = mlp.apply(flat, x, self.shapes)
        return output.mT.unflatten(0, self.stack)


def orthogonal_(weight: Tensor, gain: float, generators: Sequence[torch.Generator]) -> None:
    """Fill ``[*stack, out, in]``, seed by seed from its own generator: ``nn.init.orthogonal_`` of every matrix."""
    if not gain or not weight.numel():
        return
    n_out, n_in = weight.shape[-2:]
    # Of the transposed shape: the input dimension comes first in the draw.
    drawn = weight.new_empty(*weight.shape[:-2], n_in, n_out)
    for own, generator in zip(drawn, generators, strict=True):
        for matrix in own.reshape(-1, n_in, n_out):
            matrix.normal_(generator=generator)
    # One by one: in a batch a matrix could round by where in memory it lies, so by the seeds before it.
    factors = [torch.linalg.qr(matrix if n_in >= n_out else matrix.T) for matrix in drawn.reshape(-1, n_in, n_out)]
    q, diagonal = torch.stack([q for q, _ in factors]), torch.stack([r.diagonal() for _, r in factors])
    q *= diagonal.sign().unsqueeze(1) * gain
    weight.copy_((q.mT if n_in >= n_out else q).view_as(weight))
