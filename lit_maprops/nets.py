"""Networks with leading seed (and agent) dimensions.

All weights of a network are one tensor, ``[*stack, P]``: a row per independent network, so that a gradient step is a
handful of kernels however many layers, agents and seeds there are. Layers are batched matrix products; nothing is
shared across the stack. ``stack`` is ``(R,)`` or ``(R, A)``; ``G`` below is ``prod(stack)``.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

PART_NUMBERS = 2**23  # inputs that a forward pass without gradients takes at once

Layers = list[tuple[Tensor, Tensor | None]]  # (weight [G, out, in], bias [G, out]) of each layer
LayerShapes = tuple[tuple[int, int, bool], ...]  # (out, in, has a bias) of each layer


class StackedMLP(nn.Module):
    """Independent tanh MLPs, one per entry of ``stack``.

    With ``hidden=[]`` this is a linear map without bias: on a one-hot or constant input, a table.

    Args:
        in_dim: input features.
        hidden: units of each hidden layer.
        out_dim: output features.
        stack: leading dimensions of independence, ``(R,)`` or ``(R, A)``.
        out_gain: orthogonal gain of the last layer; 0 makes the initial output exactly zero.
        generators: one per seed, ``stack[0]`` of them; they alone fix the initial weights.
    """

    def __init__(
        self,
        in_dim: int,
        hidden: Sequence[int],
        out_dim: int,
        stack: tuple[int, ...],
        out_gain: float,
        generators: Sequence[torch.Generator],
    ) -> None:
        super().__init__()
        self.stack = stack
        widths = [in_dim, *hidden, out_dim]
        self.shapes: LayerShapes = tuple((widths[i + 1], widths[i], bool(hidden)) for i in range(len(widths) - 1))
        self.flat = nn.Parameter(torch.zeros(*stack, size_of(self.shapes)))
        gains = [math.sqrt(2.0)] * len(hidden) + [out_gain]
        with torch.no_grad():
            for gain, (weight, _) in zip(gains, self.layers(), strict=True):
                _orthogonal_(weight.unflatten(0, stack), gain, generators)

    def layers(self) -> Layers:
        """Weights and biases of all layers, views of the parameters."""
        return split_layers(self.flat.flatten(0, -2), self.shapes)

    def features(self, inputs: Tensor) -> Tensor:
        """Output of the last hidden layer: ``[*stack, B, in_dim] -> [G, B, width]``; the inputs if there is none."""
        x = inputs.flatten(0, len(self.stack) - 1).to(self.flat.dtype)
        for weight, bias in self.layers()[:-1]:
            assert bias is not None  # hidden layers have one
            x = tanh_layer(x, weight, bias)
        return x

    def forward(self, inputs: Tensor) -> Tensor:
        """Map ``[*stack, B, in_dim]``, numbers of any type, to ``[*stack, B, out_dim]``.

        Without gradients many rows go through in parts, so that D as a whole never stands in memory as floats.
        """
        if not torch.is_grad_enabled() and inputs.numel() > PART_NUMBERS:
            parts = -(-inputs.numel() // PART_NUMBERS)
            rows = max(1, inputs.shape[-2] // parts)
            return torch.cat([self._forward(part) for part in inputs.split(rows, -2)], -2)
        return self._forward(inputs)

    def _forward(self, inputs: Tensor) -> Tensor:
        return affine(self.features(inputs), *self.layers()[-1]).unflatten(0, self.stack)

    @torch.no_grad()
    def zero_last_layer(self, entries: Tensor | None = None) -> None:
        """Make the output exactly zero for every input, of the given entries ``[*stack]`` bool or of all."""
        last = self.flat[..., -size_of(self.shapes[-1:]) :]
        if entries is None:
            last.zero_()
        else:
            last.masked_fill_(entries.unsqueeze(-1), 0.0)


def size_of(shapes: LayerShapes) -> int:
    """Parameters of one network."""
    return sum(n_out * (n_in + has_bias) for n_out, n_in, has_bias in shapes)


def split_layers(flat: Tensor, shapes: LayerShapes) -> Layers:
    """View ``[G, P]`` as the weights and biases of ``shapes``, first layer first."""
    sizes = [size for n_out, n_in, has_bias in shapes for size in (n_out * n_in, n_out * has_bias)]
    parts = flat.split(sizes, 1)
    weights = [part.unflatten(1, shape[:2]) for part, shape in zip(parts[::2], shapes, strict=True)]
    return [(w, b if shape[2] else None) for w, b, shape in zip(weights, parts[1::2], shapes, strict=True)]


def affine(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """One layer of every network: ``[G, B, in]``, ``[G, out, in]``, ``[G, out]`` -> ``[G, B, out]``."""
    if bias is None:
        return torch.bmm(x, weight.mT)
    return torch.baddbmm(bias.unsqueeze(1), x, weight.mT)


def tanh_layer(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """tanh of ``affine``, with gradient and with one new tensor.

    On the CPU the hyperbolic tangent comes from the sigmoid, 1 - 2 sigmoid(-2 x), to 2e-7 of the exact value: torch
    2.13 computes that several times as fast as its tanh.
    """
    return _TanhLayer.apply(x, weight, bias)


class _TanhLayer(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        if x.device.type == "cpu":
            y = torch.baddbmm(bias.unsqueeze(1), x, weight.mT, beta=-2, alpha=-2).sigmoid_().mul_(-2.0).add_(1.0)
        else:
            y = torch.baddbmm(bias.unsqueeze(1), x, weight.mT).tanh_()
        ctx.save_for_backward(x, weight, y)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        x, weight, y = ctx.saved_tensors
        grad = torch.ops.aten.tanh_backward(grad, y)
        grad_x = torch.bmm(grad, weight) if ctx.needs_input_grad[0] else None
        # Few inputs: a product with a narrow result is slow, with a flat one it is not.
        return grad_x, torch.bmm(x.mT, grad).mT, grad.sum(1)


def _orthogonal_(weight: Tensor, gain: float, generators: Sequence[torch.Generator]) -> None:
    """Fill ``[*stack, out, in]``, seed by seed from its own generator."""
    if gain:
        for seed, generator in enumerate(generators):
            for matrix in weight[seed].reshape(-1, *weight.shape[-2:]):
                # Of the transposed shape: the input dimension comes first in the draw.
                drawn = nn.init.orthogonal_(matrix.new_empty(matrix.shape[::-1]), gain, generator=generator)
                matrix.copy_(drawn.T)
