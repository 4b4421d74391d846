"""Algorithm 2 by a compiled kernel, ``algorithm2.cpp``: what ``fused`` calculates, up to rounding."""

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lit_maprops.behavior.update.fused import statistics, trained_of
from lit_maprops.behavior.update.minibatches import Minibatch
from lit_maprops.behavior.update.samples import Samples
from lit_maprops.native.arrays import AdamNumbers, address, shape_numbers
from lit_maprops.native.build import run
from lit_maprops.native.threads import worker_threads
from lit_maprops.stacked.mlp import size_of
from lit_maprops.stacked.nets import DeltaNet, StackedMLP
from lit_maprops.stacked.optimizer import SeedAdam

_INTS = ["entries", "rows", "width", "actions", "minibatches", "measure", "moments", "threads", "steps"]
_STRIDES = ["inputs_entry", "inputs_row", "target_entry", "target_action", "share_entry", "share_action"]


class _Minibatch(ctypes.Structure):
    _fields_ = [("count", ctypes.c_int32), ("rows", ctypes.c_void_p), ("weight", ctypes.c_void_p)]


class Training(ctypes.Structure):
    """``Training`` of algorithm2.hpp."""

    _fields_ = [
        *((name, ctypes.c_int32) for name in ("layers", "from_zero", "systematic", "masked")),
        *((name, ctypes.c_void_p) for name in ("shapes", "flat", "exp_avg", "exp_avg_sq", "steps_taken")),
        *((name, ctypes.c_int64) for name in ("flat_stride", "moment_stride")),
        *((name, ctypes.c_float) for name in ("clip_epsilon", "kl_cutoff")),
        ("adam", AdamNumbers),
    ]
    _kept: Any  # alive as long as this

    @classmethod
    def of(
        cls,
        net: DeltaNet,
        optimizer: SeedAdam,
        clip_epsilon: float,
        kl_cutoff: float,
        last_layer: bool = False,
        from_zero: bool = False,
        systematic: bool = False,
        masked: bool = False,
    ) -> "Training":
        """Delta as it stands in memory, and how it is trained; see ``update_behavior``."""
        assert isinstance(net, StackedMLP)  # ``EnumeratedPolicy.why_not_native`` says so of others
        shapes = net.shapes[-1:] if last_layer else net.shapes
        arrays = trained_of(net, optimizer, size_of(shapes))
        layers, (flat, exp_avg, *_) = shape_numbers(shapes), arrays
        call = cls(
            *(len(shapes), from_zero, systematic, masked, ctypes.addressof(layers)),
            *(address(tensor, torch.float32) for tensor in arrays),
            *(flat.stride()[0], exp_avg.stride()[0]),
            *(clip_epsilon, kl_cutoff),
            AdamNumbers(*optimizer.settings),
        )
        call._kept = layers, arrays
        return call


class _Update(ctypes.Structure):
    """``Update`` of algorithm2.cpp."""

    _fields_ = [
        ("training", Training),
        *((name, ctypes.c_int32) for name in _INTS),
        *((name, ctypes.c_void_p) for name in ("inputs", "target", "share")),
        *((name, ctypes.c_int64) for name in _STRIDES),
        ("minibatch", ctypes.POINTER(_Minibatch)),
        *((name, ctypes.c_void_p) for name in ("gradient_steps", "active", "kl", "ratio_clipped")),
    ]


@torch.no_grad()
def update_behavior(
    net: DeltaNet,
    optimizer: SeedAdam,
    samples: Samples,
    minibatches: Sequence[Minibatch | None],
    clip_epsilon: float,
    kl_cutoff: float,
    last_layer: bool = False,
    from_zero: bool = False,
    measure: bool = True,
    keep_moments: bool = True,
    steps_of_data: int = 0,
    masked: bool = False,
) -> dict[str, Tensor]:
    """As ``fused.update_behavior``, on the CPU; entries are shared out to ``worker_threads``.

    Where every step takes all of D, rows that are equal to the bit are one, as with ``merge_states``.

    Args:
        net: see there.
        optimizer: see there.
        samples: see there.
        minibatches: see there.
        clip_epsilon: see there.
        kl_cutoff: see there.
        last_layer: see there.
        from_zero: see there.
        measure: see there.
        keep_moments: write Adam's moments back; not needed if the next update sets them to 0.
        steps_of_data: how many D has: the update stops where systematic sampling would, which the kernel works out by
            itself (every step has to take all of D); 0: it does not.
        masked: there states are equal only if the same actions are possible in them.
    """
    training = Training.of(net, optimizer, clip_epsilon, kl_cutoff, last_layer, from_zero, steps_of_data > 0, masked)
    inputs, target, share = (_inner_contiguous(tensor) for tensor in samples[:3])
    entries, rows, width = inputs.shape
    kept = [_contiguous(minibatch) for minibatch in minibatches]  # alive during the call
    parts = (_Minibatch * len(kept))(*(_Minibatch(*_numbers(minibatch)) for minibatch in kept))
    gradient_steps = torch.empty(entries, dtype=torch.int64)
    active = torch.empty(entries, dtype=torch.bool)
    kl, clipped = torch.empty(2, entries)
    call = _Update(
        training,
        *(entries, rows, width, target.shape[1], len(kept), measure, keep_moments, worker_threads(), steps_of_data),
        *(address(tensor, torch.float32) for tensor in (inputs, target, share)),
        *(step for tensor in (inputs, target, share) for step in tensor.stride()[:2]),
        parts,
        *(gradient_steps.data_ptr(), active.data_ptr(), kl.data_ptr(), clipped.data_ptr()),
    )
    run("algorithm2", call)
    torch.autograd.graph.increment_version(net.flat)  # torch has not seen it change
    stats = statistics(gradient_steps, active) | ({"kl": kl, "ratio_clipped": clipped} if measure else {})
    return {name: value.unflatten(0, net.stack) for name, value in stats.items()}


def _inner_contiguous(tensor: Tensor) -> Tensor:
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()


def _contiguous(minibatch: Minibatch | None) -> Minibatch | None:
    return minibatch and Minibatch(minibatch.rows.contiguous(), minibatch.weight.contiguous())


def _numbers(minibatch: Minibatch | None) -> tuple[int, int | None, int | None]:
    if minibatch is None:
        return 0, None, None
    rows, weight = minibatch
    return rows.shape[1], address(rows, torch.int64), address(weight, torch.float32)
