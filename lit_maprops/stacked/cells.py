"""GRU and LSTM cells of many networks through time, forward and backward, written out.

As ``stacked.mlp``, and for the same reason: what a step of a small cell costs is the calls. What depends on no earlier
step (the gates' share of the inputs, the derivatives of the gates, the gradients of the weights) is for all steps at
once; of a step are left one product and what the next step waits for, in memory that is there already.
The equations are those of ``torch.nn.GRU`` (Cho et al. 2014) and ``torch.nn.LSTM`` (Hochreiter & Schmidhuber 1997).

``G`` networks, sequences of ``L`` steps, ``B`` of them side by side, ``H`` units, ``W`` gates of H numbers each, which
lie beside each other, x being what the layers below give:

    GRU   r | z | n      r, z = sigmoid(x + V h + b), n = tanh(x_n + r (V_n h + b_n)), h' = n + z (h - n)
    LSTM  i | f | g | o  i, f, o = sigmoid(a), g = tanh(a) of a = x + V h + b; c' = f c + i g, h' = o tanh(c')

The rows of V are those of i, f, g and o, of a GRU those of n, r and z: then what x and what V h get for a gradient lie
beside each other, too, (V_n h | r | z | n).
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch
from torch import Tensor

CellKind = Literal["gru", "lstm"]
ONE = torch.ones(())


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


class Steps(NamedTuple):
    """What a cell has made of sequences."""

    gates: Tensor  # [G, L, B, W H], behind their sigmoid or tanh
    before: Tensor  # [G, L, B, cell.carried], what was remembered before every step, where it was not forgotten
    after: Tensor  # [G, L, B, cell.carried], what is remembered after it, the output first
    inner_n: Tensor | None = None  # [G, L, B, H], V_n h + b_n of GRUs


class Slopes(NamedTuple):
    """Gradients of what a cell adds up before its sigmoids and tanh."""

    given: Tensor  # [G, L, B, W H], of x
    inner: Tensor  # [G, L, B, W H], of V h


def forward(cell: Cell, gates: Tensor, weight: Tensor, bias: Tensor, start: Tensor, keep: Tensor | None) -> Steps:
    """All steps.

    Args:
        cell: the cell.
        gates: x, ``[G, L, B, W H]``; is written to.
        weight: V, ``[G, W H, H]``.
        bias: b, ``[G, W H]``.
        start: what is remembered before the first step, ``[G, B, cell.carried]``.
        keep: ``[G, L, B, 1]``, 0 at steps before which everything is forgotten, else 1; None: none.
    """
    return (_gru if cell.kind == "gru" else _lstm)(gates, weight, bias, start, keep)


def backward(cell: Cell, steps: Steps, grad: Tensor, weight: Tensor, keep: Tensor | None) -> Slopes:
    """All steps, back through time; what is remembered before the first one gets no gradient.

    Args:
        cell: the cell.
        steps: of ``forward``.
        grad: of the output, ``[G, L, B, H]``.
        weight: as there.
        keep: as there.
    """
    return (_gru_backward if cell.kind == "gru" else _lstm_backward)(steps, grad, weight, keep)


def backward_of_weights(cell: Cell, steps: Steps, slopes: Slopes) -> tuple[Tensor, Tensor]:
    """Gradients of V ``[G, W H, H]`` and b ``[G, W H]``."""
    of_inner, h = slopes.inner.flatten(1, 2), steps.before[..., : cell.units].flatten(1, 2)
    return torch.bmm(of_inner.mT, h), of_inner.sum(1)


def tanh_(a: Tensor) -> Tensor:
    """In place, by the sigmoid, which torch computes several times as fast on the CPU: 1 - 2 sigmoid(-2 a)."""
    s = a.mul_(-2).sigmoid_()
    return torch.sub(ONE, s, alpha=2, out=s)


def _gru(gates: Tensor, weight: Tensor, bias: Tensor, h: Tensor, keep: Tensor | None) -> Steps:
    units, transposed = weight.shape[2], weight.mT
    opened = gates[..., : 2 * units]
    opened += bias[:, units:].unflatten(1, (1, 1, -1))
    steps = Steps(gates, *(gates.new_empty(*gates.shape[:3], units) for _ in range(3)))
    offset, summed = bias[:, :units].unsqueeze(1), gates.new_empty(*h.shape[:2], 3 * units)
    to_n, to_opened = summed[..., :units], summed[..., units:]
    for step, (rz, *own) in enumerate(_of_each(opened, *gates.split(units, 3), *steps[1:])):
        r, z, n, before, after, inner_n = own
        _remembered(h, keep, step, before)
        torch.bmm(before, transposed, out=summed)
        rz.add_(to_opened).sigmoid_()
        tanh_(n.addcmul_(r, torch.add(to_n, offset, out=inner_n)))
        h = torch.lerp(n, before, z, out=after)
    return steps


def _gru_backward(steps: Steps, grad: Tensor, weight: Tensor, keep: Tensor | None) -> Slopes:
    units = weight.shape[2]
    (r, z, n), before, inner_n = steps.gates.split(units, 3), steps.before, steps.inner_n
    assert inner_n is not None
    slope = n.new_empty(*n.shape[:3], 4 * units)
    of_inner, of_r, of_z, of_n = slope.split(units, 3)
    # What the gradient of h' is multiplied by, for all steps at once.
    torch.addcmul(1 - z, z - 1, n.square(), out=of_n)  # (1 - z) (1 - n^2)
    torch.mul(of_n, r, out=of_inner)
    torch.addcmul(of_inner, of_inner, r, value=-1, out=of_r).mul_(inner_n)
    torch.addcmul(z, z, z, value=-1, out=of_z).mul_(before - n)
    carried = grad[:, -1]
    every = list(_of_each(slope.unflatten(3, (4, units)), slope[..., : 3 * units], z))
    for step in range(len(every) - 1, -1, -1):
        own, inner, z = every[step]
        own.mul_(carried.unsqueeze(2))
        if step:
            carried = torch.mul(carried, z).baddbmm_(inner, weight)
            carried = (carried if keep is None else carried.mul_(keep[:, step])).add_(grad[:, step - 1])
    return Slopes(slope[..., units:], slope[..., : 3 * units])


def _lstm(gates: Tensor, weight: Tensor, bias: Tensor, memory: Tensor, keep: Tensor | None) -> Steps:
    units, transposed = weight.shape[2], weight.mT
    gates += bias.unflatten(1, (1, 1, -1))
    shape = *gates.shape[:3], 2 * units
    steps = Steps(gates, gates.new_empty(shape), gates.new_empty(shape))
    parts = (part for whole in steps[:3] for part in whole.split(units, 3))
    summed = gates.new_empty(*memory.shape[:2], 4 * units)
    for step, (own, before, after, *each) in enumerate(_of_each(*steps[:3], *parts)):
        i, f, g, o, h, c, new_h, new_c = each
        _remembered(memory, keep, step, before)
        own.add_(torch.bmm(h, transposed, out=summed))
        g.mul_(-2)
        own.sigmoid_()
        torch.sub(ONE, g, alpha=2, out=g)  # as ``tanh_``
        torch.mul(f, c, out=new_c).addcmul_(i, g)
        torch.mul(o, tanh_(new_c.clone()), out=new_h)
        memory = after
    return steps


def _lstm_backward(steps: Steps, grad: Tensor, weight: Tensor, keep: Tensor | None) -> Slopes:
    units = weight.shape[2]
    (i, f, g, o), (_, c) = steps.gates.split(units, 3), steps.before.split(units, 3)
    slope, shown = torch.empty_like(steps.gates), tanh_(steps.after[..., units:].clone())
    of_i, of_f, of_g, of_o = slope.split(units, 3)
    # What the gradients of c' and, of o, of h' are multiplied by, for all steps at once.
    torch.addcmul(i, i, i, value=-1, out=of_i).mul_(g)
    torch.addcmul(f, f, f, value=-1, out=of_f).mul_(c)
    torch.addcmul(i, i, g.square(), value=-1, out=of_g)
    torch.addcmul(o, o, o, value=-1, out=of_o).mul_(shown)
    to_c = torch.addcmul(o, o, shown.square_(), value=-1)
    carried, carried_c = grad[:, -1], torch.zeros_like(grad[:, -1])
    every = list(_of_each(slope[..., : 3 * units].unflatten(3, (3, units)), slope, of_o, to_c, f))
    for step in range(len(every) - 1, -1, -1):
        of_c, own, of_o, to_c, f = every[step]
        carried_c = torch.addcmul(carried_c, carried, to_c)
        of_c.mul_(carried_c.unsqueeze(2))
        of_o.mul_(carried)
        if step:
            carried, carried_c = torch.bmm(own, weight), carried_c * f
            if keep is not None:
                carried, carried_c = carried.mul_(keep[:, step]), carried_c.mul_(keep[:, step])
            carried = carried.add_(grad[:, step - 1])
    return Slopes(slope, slope)


def _of_each(*parts: Tensor | None) -> Iterator[tuple[Tensor, ...]]:
    """Step by step, tensors ``[G, L, ...]``."""
    return zip(*(part.unbind(1) for part in parts if part is not None), strict=True)


def _remembered(memory: Tensor, keep: Tensor | None, step: int, out: Tensor) -> None:
    """Leave in ``out`` what of ``memory`` is not forgotten before a step."""
    if keep is None:
        out.copy_(memory)
    else:
        torch.mul(memory, keep[:, step], out=out)
