"""Forward and backward pass of stacked tanh MLPs, written out.

``G`` networks of equal shape share nothing but the calls: layers are batched matrix products, and the weights of a
network are one row of a tensor ``[G, P]``. What is fast here, and why it looks as it does (docs/evidence/speed.md):

- tanh(a) = 1 - 2 s with s = sigmoid(-2 a), which torch computes several times as fast on the CPU. The hidden layers are
  kept as s; what turns s into the tanh is a matter of the next layer's weights: W tanh(a) + b = -2 W s + (W 1 + b);
- outputs come as ``[G, K, U]``, outputs before rows, since products with a narrow result are slow and sums over long
  rows are fast;
- on the CPU networks go through in groups whose activations stay in the cache.
"""

from typing import Any

import torch
from torch import Tensor

GROUP_NUMBERS = 2**18  # activations of one layer that a group of networks holds (float32 numbers)

Layers = list[tuple[Tensor, Tensor | None]]  # (weight [G, out, in], bias [G, out]) of each layer
LayerShapes = tuple[tuple[int, int, bool], ...]  # (out, in, has a bias) of each layer


def size_of(shapes: LayerShapes) -> int:
    """Parameters of one network."""
    return sum(n_out * (n_in + has_bias) for n_out, n_in, has_bias in shapes)


def split_layers(flat: Tensor, shapes: LayerShapes) -> Layers:
    """View ``[G, P]`` as the weights and biases of ``shapes``, first layer first."""
    sizes = [size for n_out, n_in, has_bias in shapes for size in (n_out * n_in, n_out * has_bias)]
    parts = flat.split(sizes, 1)
    weights = [part.unflatten(1, shape[:2]) for part, shape in zip(parts[::2], shapes, strict=True)]
    return [(w, b if shape[2] else None) for w, b, shape in zip(weights, parts[1::2], shapes, strict=True)]


def groups(entries: int, rows: int, shapes: LayerShapes, device: torch.device) -> list[slice]:
    """Ranges of networks that go through together, each with ``rows`` rows of input; all on an accelerator.

    There a launch costs more than a cache saves: thousands of seeds would be thousands of launches per layer.
    """
    if device.type != "cpu":
        return [slice(0, entries)]
    widest = max(max(n_out, n_in) for n_out, n_in, _ in shapes)
    size = max(1, GROUP_NUMBERS // max(1, rows * widest))
    return [slice(first, min(first + size, entries)) for first in range(0, entries, size)]


def hidden_layers(layers: Layers, inputs: Tensor) -> list[Tensor]:
    """The inputs ``[G, U, in]``, and s of every hidden layer ``[G, U, width]``."""
    x = [inputs]
    for weight, bias in layers[:-1]:
        assert bias is not None  # hidden layers have one
        if len(x) == 1:
            minus_twice = torch.baddbmm(bias.unsqueeze(1), inputs, weight.mT, beta=-2, alpha=-2)
        else:
            minus_twice = torch.baddbmm((weight.sum(2) + bias).unsqueeze(1), x[-1], weight.mT, beta=-2, alpha=4)
        x.append(minus_twice.sigmoid_())
    return x


def forward(layers: Layers, inputs: Tensor) -> tuple[list[Tensor], Tensor]:
    """Inputs of every layer, as ``hidden_layers`` gives them, and the output ``[G, K, U]``."""
    x = hidden_layers(layers, inputs)
    weight, bias = layers[-1]
    if len(x) > 1:
        offset = weight.sum(2, keepdim=True) if bias is None else (weight.sum(2) + bias).unsqueeze(2)
        return x, torch.baddbmm(offset, weight, x[-1].mT, alpha=-2)
    if bias is None:
        return x, torch.bmm(weight, inputs.mT)
    return x, torch.baddbmm(bias.unsqueeze(2), weight, inputs.mT)


def forward_rows(layers: Layers, inputs: Tensor) -> tuple[list[Tensor], Tensor]:
    """As ``forward``, with the output rows first, ``[G, U, K]``, for many outputs."""
    x = hidden_layers(layers, inputs)
    weight, bias = layers[-1]
    if bias is None:
        return x, torch.bmm(inputs, weight.mT)
    if len(x) > 1:
        return x, torch.baddbmm((weight.sum(2) + bias).unsqueeze(1), x[-1], weight.mT, alpha=-2)
    return x, torch.baddbmm(bias.unsqueeze(1), inputs, weight.mT)


def backward(
    layers: Layers, x: list[Tensor], grad: Tensor, only_last_layer: bool = False, out: Tensor | None = None
) -> Tensor:
    """Gradient of all parameters ``[G, P]`` from that of the output ``[G, K, U]``.

    Args:
        layers: as for ``forward``.
        x: what it returned.
        grad: of its output.
        only_last_layer: the others' gradient is known to be 0 (the last layer is) and left at that.
        out: where to leave it; None: in memory of its own.
    """
    weight, bias = layers[-1]
    pieces = _of_layer(grad, x, len(layers) - 1, bias is not None, 1)
    if only_last_layer:
        below = size_of(tuple((*w.shape[1:], b is not None) for w, b in layers[:-1]))
        return torch.cat([grad.new_zeros(len(grad), below), *pieces], 1, out=out)
    # d tanh(a) / da = 4 s (1 - s); the 4s are made up for where numbers are few.
    above, upper, scale = weight, grad.mT, 1  # upper: gradient / scale, [G, U, out]
    for layer in range(len(layers) - 2, -1, -1):
        upper, scale = torch.ops.aten.sigmoid_backward(torch.bmm(upper, above), x[layer + 1]), 4 * scale
        pieces = [*_of_layer(upper.mT, x, layer, True, scale), *pieces]
        above = layers[layer][0]
    return torch.cat(pieces, 1, out=out)


def _of_layer(grad: Tensor, x: list[Tensor], layer: int, has_bias: bool, scale: int) -> list[Tensor]:
    """Gradient of weights ``[G, out * in]`` and bias ``[G, out]``: the output's is scale * grad ``[G, out, U]``."""
    total = grad.sum(2)
    if layer:  # the layer below puts out 1 - 2 s
        weights = torch.baddbmm(total.unsqueeze(2), grad, x[layer], beta=scale, alpha=-2 * scale)
    elif grad.shape[1] < x[0].shape[2]:  # of the two ways to take the product, the one with the flat result
        weights = scale * torch.bmm(grad, x[0])
    else:
        weights = scale * torch.bmm(x[0].mT, grad.mT).mT
    return [weights.flatten(1), scale * total] if has_bias else [weights.flatten(1)]


def apply(flat: Tensor, inputs: Tensor, shapes: LayerShapes) -> Tensor:
    """Outputs ``[G, K, U]`` for inputs ``[G, U, in]`` of any type, with a gradient for ``flat`` ``[G, P]`` only."""
    if torch.is_grad_enabled() and flat.requires_grad:
        return _MLP.apply(flat, inputs, shapes)
    parts = groups(len(inputs), inputs.shape[1], shapes, inputs.device)
    outputs = [forward(split_layers(flat[part], shapes), inputs[part].to(flat.dtype))[1] for part in parts]
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs)


class _MLP(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, flat: Tensor, inputs: Tensor, shapes: LayerShapes) -> Tensor:
        ctx.shapes, ctx.parts = shapes, groups(len(inputs), inputs.shape[1], shapes, inputs.device)
        hidden, outputs = [], []
        for part in ctx.parts:
            x, output = forward(split_layers(flat[part], shapes), inputs[part].to(flat.dtype))
            hidden += x[1:]
            outputs.append(output)
        ctx.save_for_backward(flat, inputs, *hidden)
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        flat, inputs, *hidden = ctx.saved_tensors
        depth = len(ctx.shapes) - 1
        gradients = []
        for number, part in enumerate(ctx.parts):
            x = [inputs[part].to(flat.dtype), *hidden[number * depth : (number + 1) * depth]]
            gradients.append(backward(split_layers(flat[part], ctx.shapes), x, grad[part]))
        return gradients[0] if len(gradients) == 1 else torch.cat(gradients), None, None
