"""Recurrent networks with leading seed (and agent) dimensions: layers, a cell that remembers, and a linear map.

Forward and backward pass through time are written out, as in ``lit_maprops.stacked.mlp``, and for the same reason: what
a step of a small cell costs is the calls. What depends on no earlier step (the layers before the cell, the derivatives
of its gates, the gradients of its weights) is computed for all steps at once. The
equations are those of ``torch.nn.GRU`` (Cho et al. 2014) and ``torch.nn.LSTM`` (Hochreiter & Schmidhuber 1997), and so
is the order of the gates, but for the GRU's own (``_GRU``).

``G`` networks, sequences of ``L`` steps, ``B`` of them side by side, ``H`` units, ``W`` gates of H numbers each.
"""

import copy
import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, Self

import torch
from torch import Tensor, nn
from typing_extensions import override

from lit_maprops.stacked.nets import LARGEST_WEIGHT, StackedNet, orthogonal_

CellKind = Literal["gru", "lstm"]


class Cell(NamedTuple):
    """What remembers."""

    kind: CellKind
    units: int  # H

    @property
    def gates(self) -> int:
        """Numbers that it is given at every step, W H."""
        return (3 if self.kind == "gru" else 4) * self.units

    @property
    def carried(self) -> int:
        """Numbers that it carries from step to step: the output, of LSTMs the cell state behind it."""
        return self.units if self.kind == "gru" else 2 * self.units


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
        parts = self.flat.flatten(0, -2).split([math.prod(shape) for shape in self._shapes], 1)
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
        given = gates.contiguous().unflatten(1, steps), inner, bias, start, keep
        hidden, after = (_GRU.apply(*given),) * 2 if self.cell.kind == "gru" else _LSTM.apply(*given)
        output = torch.baddbmm(last_bias.unsqueeze(2), last, hidden.flatten(1, 2).mT).mT
        return output.unflatten(1, steps).unflatten(0, self.stack), after.detach().unflatten(0, self.stack)

    @override
    def forward(self, inputs: Tensor) -> Tensor:
        """The first step of episodes, ``[*stack, B, in_dim] -> [*stack, B, out_dim]``: nothing is remembered yet."""
        return self.unroll(inputs.unsqueeze(-3), self.start(inputs.shape[-2]))[0].squeeze(-3)

    @override
    def moderate(self) -> bool:
        """No weight is NaN or enormous; gates keep what is remembered within bounds."""
        return self.encoder.moderate() and bool(self.flat.detach().abs().max() < LARGEST_WEIGHT)

    @override
    @torch.no_grad()
    def repeated(self, times: int) -> Self:
        twin = copy.deepcopy(self)
        twin.encoder = self.encoder.repeated(times)
        twin.stack = twin.encoder.stack
        twin.flat = nn.Parameter(self.flat.repeat_interleave(times, 0))
        return twin


class _GRU(torch.autograd.Function):
    """r, z = sigmoid(x + V h), n = tanh(x_n + r (V_n h)), h' = n + z (h - n); x the gates given, V h with its bias.

    The rows of V are those of n, r and z in turn: then what the gates given and what V h gets for a gradient lie beside
    each other, (r V_n h | r | z | n).
    """

    @staticmethod
    def forward(ctx: Any, gates: Tensor, weight: Tensor, bias: Tensor, start: Tensor, keep: Tensor | None) -> Tensor:
        units = weight.shape[2]
        shape = *gates.shape[:3], units
        hidden, n, inner_n = (gates.new_empty(shape) for _ in range(3))
        rz = gates.new_empty(*shape[:3], 2 * units)
        h, transposed, offset = start, weight.mT, bias.unsqueeze(1)
        for step in range(shape[1]):
            h = h if keep is None else h * keep[:, step]
            inner = torch.baddbmm(offset, h, transposed)
            given, opened = gates[:, step], rz[:, step]
            torch.add(given[..., : 2 * units], inner[..., units:], out=opened).sigmoid_()
            inner_n[:, step] = inner[..., :units]
            new = tanh_(torch.addcmul(given[..., 2 * units :], opened[..., :units], inner[..., :units], out=n[:, step]))
            h = torch.lerp(new, h, opened[..., units:], out=hidden[:, step])
        ctx.save_for_backward(weight, start, hidden, n, inner_n, rz, keep)
        return hidden

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        weight, start, hidden, n, inner_n, rz, keep = ctx.saved_tensors
        units = n.shape[3]
        r, z = rz.split(units, 3)
        before = torch.cat([start.unsqueeze(1), hidden[:, :-1]], 1)
        before = before if keep is None else before.mul_(keep)
        # What the derivative of h' is multiplied by, for all steps at once.
        to_n = (1 - z).mul_(1 - n.square())
        to_z, to_r = (before - n).mul_(z).mul_(1 - z), (1 - r).mul_(r).mul_(inner_n)
        found = n.new_empty(*n.shape[:3], 4 * units)
        carried = torch.zeros_like(n[:, 0])
        for step in range(n.shape[1] - 1, -1, -1):
            carried = carried + grad[:, step]
            own = found[:, step]
            d_n = torch.mul(carried, to_n[:, step], out=own[..., 3 * units :])
            torch.mul(d_n, r[:, step], out=own[..., :units])
            torch.mul(d_n, to_r[:, step], out=own[..., units : 2 * units])
            torch.mul(carried, to_z[:, step], out=own[..., 2 * units : 3 * units])
            carried = torch.baddbmm(carried * z[:, step], own[..., : 3 * units], weight)
            carried = carried if keep is None else carried * keep[:, step]
        return found[..., units:], *_of_weights(found[..., : 3 * units], before), None, None


def tanh_(a: Tensor) -> Tensor:
    """In place, by the sigmoid, which torch computes several times as fast on the CPU: 1 - 2 sigmoid(-2 a)."""
    return a.mul_(-2).sigmoid_().mul_(-2).add_(1)


class _LSTM(torch.autograd.Function):
    """i, f, g, o of a = x + V h: c' = sigmoid(f) c + sigmoid(i) tanh(g), h' = sigmoid(o) tanh(c')."""

    @staticmethod
    def forward(
        ctx: Any, gates: Tensor, weight: Tensor, bias: Tensor, start: Tensor, keep: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        units = weight.shape[2]
        shape = *gates.shape[:3], units
        after, before = gates.new_empty(*shape[:3], 2 * units), gates.new_empty(*shape[:3], 2 * units)
        opened = torch.empty_like(gates)
        transposed, offset = weight.mT, bias.unsqueeze(1)
        memory = start
        for step in range(shape[1]):
            memory = memory if keep is None else memory * keep[:, step]
            before[:, step] = memory
            h, c = memory.split(units, 2)
            own = torch.add(torch.baddbmm(offset, h, transposed), gates[:, step], out=opened[:, step])
            own[..., : 2 * units].sigmoid_()
            tanh_(own[..., 2 * units : 3 * units])
            own[..., 3 * units :].sigmoid_()
            i, f, g, o = own.split(units, 2)
            memory = after[:, step]
            torch.addcmul(f * c, i, g, out=memory[..., units:])
            torch.mul(o, tanh_(memory[..., units:].clone()), out=memory[..., :units])
        ctx.save_for_backward(weight, before, after, opened, keep)
        ctx.mark_non_differentiable(after)
        return after[..., :units].clone(), after

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        weight, before, after, opened, keep = ctx.saved_tensors
        units = weight.shape[2]
        (h, c), shown = before.split(units, 3), tanh_(after[..., units:].clone())
        i, f, g, o = opened.split(units, 3)
        # What the derivatives of c' and of h' are multiplied by, for all steps at once.
        to_c, to_o = o * (1 - shown.square()), shown * o * (1 - o)
        factors = torch.cat([g * i * (1 - i), c * f * (1 - f), i * (1 - g.square())], 3).unflatten(3, (3, units))
        of_gates = torch.empty_like(opened)
        carried, carried_c = torch.zeros_like(h[:, 0]), torch.zeros_like(h[:, 0])
        for step in range(h.shape[1] - 1, -1, -1):
            carried = carried + grad[:, step]
            d_c = torch.addcmul(carried_c, carried, to_c[:, step])
            own = of_gates[:, step]
            torch.mul(factors[:, step], d_c.unsqueeze(2), out=own[..., : 3 * units].unflatten(2, (3, units)))
            torch.mul(carried, to_o[:, step], out=own[..., 3 * units :])
            carried, carried_c = torch.bmm(own, weight), d_c * f[:, step]
            if keep is not None:
                carried, carried_c = carried * keep[:, step], carried_c * keep[:, step]
        return of_gates, *_of_weights(of_gates, h), None, None


def _of_weights(of_inner: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of the cell's weights ``[G, W H, H]`` and biases: of V h ``[G, L, B, W H]``, h being ``before``."""
    flat, ones = of_inner.flatten(1, 2), of_inner.new_ones(()).expand(len(before), 1, before.shape[1:3].numel())
    return torch.bmm(flat.mT, before.flatten(1, 2)), torch.bmm(ones, flat).squeeze(1)
