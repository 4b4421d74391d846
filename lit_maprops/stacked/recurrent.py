"""Recurrent networks with leading seed (and agent) dimensions: layers, a cell that remembers, and a linear map.

``G`` networks, sequences of ``L`` steps, ``B`` of them side by side, ``H`` units, ``W`` gates of H numbers each, as in
``stacked.cells``, which steps them.
"""

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from typing_extensions import override

from lit_maprops.stacked import cells, mlp
from lit_maprops.stacked.cells import Cell, Steps
from lit_maprops.stacked.nets import LARGEST_WEIGHT, StackedMLP, StackedNet, orthogonal_

Loss = Callable[[Tensor, slice], tuple[dict[str, Tensor], Tensor]]


class RecurrentNet(StackedNet):
    """Independent recurrent networks, one per entry of ``stack``.

    Args:
        encoder: from the inputs to the cell's gates, its last layer the cell's input weights.
        cell: remembers.
        out_dim: output features.
        out_gain: orthogonal gain of the last layer.
        generators: one per seed, ``stack[0]`` of them; they fix the initial weights, orthogonal as in MAPPO's code.

    Attributes:
        flat: weights of the cell and of the last layer, ``[*stack, P]``; the encoder has its own.
    """

    def __init__(
        self, encoder: StackedNet, cell: Cell, out_dim: int, out_gain: float, generators: Sequence[torch.Generator]
    ) -> None:
        super().__init__()
        self.stack, self.encoder, self.cell, self.out_dim = encoder.stack, encoder, cell, out_dim
        self._shapes = [(cell.gates, cell.units), (cell.gates,), (out_dim, cell.units), (out_dim,)]
        self.flat = nn.Parameter(torch.zeros(*self.stack, sum(math.prod(shape) for shape in self._shapes)))
        with torch.no_grad():
            inner, _, last, _ = self._weights()
            orthogonal_(inner.unflatten(0, self.stack), 1.0, generators)
            orthogonal_(last.unflatten(0, self.stack), out_gain, generators)

    def _weights(self) -> list[Tensor]:
        """Of the cell ``[G, W H, H]``, ``[G, W H]``, of the last layer ``[G, K, H]``, ``[G, K]``: views."""
        return self._split(self.flat)

    def _split(self, flat: Tensor) -> list[Tensor]:
        """Likewise of any ``[*stack, P]``."""
        parts = flat.flatten(0, -2).split([math.prod(shape) for shape in self._shapes], 1)
        return [part.unflatten(1, shape) for part, shape in zip(parts, self._shapes, strict=True)]

    def weights_of(self, *place: int) -> list[Tensor]:
        """Likewise of one entry of ``stack``, without G, and with the gates in torch's order."""
        number = place[0] if len(place) == 1 else place[0] * self.stack[1] + place[1]
        inner, bias, last, last_bias = (part[number] for part in self._weights())
        shift = -self.cell.units if self.cell.kind == "gru" else 0
        return [inner.roll(shift, 0), bias.roll(shift, 0), last, last_bias]

    def start(self, rows: int) -> Tensor:
        """What is remembered before the first step, ``[*stack, rows, cell.carried]``: zeros."""
        return self.flat.new_zeros(*self.stack, rows, self.cell.carried)

    def unroll(self, inputs: Tensor, memory: Tensor, begins: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Outputs of all steps of sequences, and what is remembered after each.

        Args:
            inputs: ``[*stack, L, B, in_dim]``, numbers of any type.
            memory: before the first step, ``[*stack, B, cell.carried]``; it gets no gradient.
            begins: ``[*stack, L, B]`` bool, steps before which everything is forgotten; None: none.

        Returns:
            ``[*stack, L, B, out_dim]`` and ``[*stack, L, B, cell.carried]``.
        """
        depth, steps = len(self.stack), inputs.shape[-3:-1]
        gates = self.encoder(inputs.flatten(depth, depth + 1)).flatten(0, depth - 1)
        inner, bias, last, last_bias = self._weights()
        keep = None if begins is None else (~begins).to(gates.dtype).flatten(0, depth - 1).unsqueeze(-1)
        start = memory.flatten(0, depth - 1).detach()
        hidden, after = _Unrolled.apply(gates.unflatten(1, steps), inner, bias, start, keep, self.cell)
        output = torch.baddbmm(last_bias.unsqueeze(2), last, hidden.flatten(1, 2).mT).mT
        return output.unflatten(1, steps).unflatten(0, self.stack), after.unflatten(0, self.stack)

    def groups(self, rows: int) -> list[slice]:
        """Ranges of the G networks that go through ``backpropagate`` together, each with ``rows`` steps."""
        widest = (2 * self.cell.units, self.cell.units, True)  # less than it is: calls of every step count, too
        return mlp.groups(math.prod(self.stack), rows, (widest,), self.flat.device)

    @torch.no_grad()
    def backpropagate(self, inputs: Tensor, start: Tensor, begins: Tensor, loss: Loss) -> dict[str, Tensor]:
        """Leave the gradient of a loss in the ``.grad`` of all weights: what autograd makes of ``unroll``, without it.

        Args:
            inputs: ``[G, L, B, in_dim]``, numbers of any type; the encoder is a ``StackedMLP``.
            start: ``[G, B, cell.carried]``.
            begins: ``[G, L, B]`` bool, steps before which everything is forgotten.
            loss: of outputs ``[G', out_dim, L B]`` of a range of networks, which it may overwrite: losses of each and
                the derivative of their sum.

        Returns:
            The losses of all networks.
        """
        encoder = self.encoder
        assert isinstance(encoder, StackedMLP)
        out = []
        for net in (self, encoder):
            if net.flat.grad is None:
                net.flat.grad = torch.empty_like(net.flat)
            out.append(net.flat.grad.flatten(0, -2))
        found, keep = [], (~begins).to(start.dtype).unsqueeze(3)
        for part in self.groups(inputs.shape[1:3].numel()):
            given = inputs[part], start[part], keep[part], loss
            found.append(self._backpropagate(encoder, part, *given, [whole[part] for whole in out]))
        return {name: torch.cat([losses[name] for losses in found]) for name in found[0]}

    def _backpropagate(
        self,
        encoder: StackedMLP,
        part: slice,
        inputs: Tensor,
        start: Tensor,
        keep: Tensor,
        loss: Loss,
        out: Sequence[Tensor],
    ) -> dict[str, Tensor]:
        cell, flat, steps = self.cell, encoder.flat.flatten(0, -2), inputs.shape[1:3]
        layers = mlp.split_layers(flat[part], encoder.shapes)
        inner, bias, last, last_bias = (weight[part] for weight in self._weights())
        x, gates = mlp.forward_rows(layers, inputs.flatten(1, 2).to(flat.dtype))
        made = cells.forward(cell, gates.unflatten(1, steps), inner, bias, start, keep)
        hidden = made.after[..., : cell.units].flatten(1, 2)
        losses, slope = loss(torch.baddbmm(last_bias.unsqueeze(2), last, hidden.mT), part)
        slopes = cells.backward(cell, made, torch.bmm(slope.mT, last).unflatten(1, steps), inner, keep)
        gradients = *cells.backward_of_weights(cell, made, slopes), torch.bmm(slope, hidden), slope.sum(2)
        torch.cat([gradient.flatten(1) for gradient in gradients], 1, out=out[0])
        mlp.backward(layers, x, slopes.given.flatten(1, 2).mT, out=out[1])
        return losses

    @override
    def forward(self, inputs: Tensor) -> Tensor:
        """The first step of episodes, ``[*stack, B, in_dim] -> [*stack, B, out_dim]``: nothing is remembered yet."""
        return self.unroll(inputs.unsqueeze(-3), self.start(inputs.shape[-2]))[0].squeeze(-3)

    @override
    def moderate(self) -> bool:
        """No weight is NaN or enormous; gates keep what is remembered within bounds."""
        return self.encoder.moderate() and bool(self.flat.detach().abs().max() < LARGEST_WEIGHT)

    @override
    def of_agents(self, agent: Tensor) -> Self:
        twin = super().of_agents(agent)
        twin._modules = {}
        object.__setattr__(twin, "encoder", self.encoder.of_agents(agent))  # as its weights
        return twin

    @override
    @torch.no_grad()
    def repeated(self, times: int) -> Self:
        twin = copy.deepcopy(self)
        twin.encoder = self.encoder.repeated(times)
        twin.stack = twin.encoder.stack
        twin.flat = nn.Parameter(self.flat.repeat_interleave(times, 0))
        return twin


class _Unrolled(torch.autograd.Function):
    """A cell given what the layers below put out, ``[G, L, B, W H]``: its output and what is remembered."""

    @staticmethod
    def forward(
        ctx: Any, gates: Tensor, weight: Tensor, bias: Tensor, start: Tensor, keep: Tensor | None, cell: Cell
    ) -> tuple[Tensor, Tensor]:
        steps = cells.forward(cell, gates.clone(memory_format=torch.contiguous_format), weight, bias, start, keep)
        ctx.cell = cell
        ctx.save_for_backward(weight, keep, *steps)
        ctx.mark_non_differentiable(steps.after)
        return steps.after[..., : cell.units].clone(), steps.after

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        weight, keep, *saved = ctx.saved_tensors
        steps = Steps(*saved)
        slopes = cells.backward(ctx.cell, steps, grad, weight, keep)
        return slopes.given, *cells.backward_of_weights(ctx.cell, steps, slopes), None, None, None
