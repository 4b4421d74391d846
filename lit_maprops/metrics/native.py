"""Maximum-likelihood fits of pi_D by a compiled kernel, ``likelihood.cpp``."""

import ctypes

import torch
from torch import Tensor

from lit_maprops.native.arrays import AdamNumbers, address, shape_numbers
from lit_maprops.native.build import run
from lit_maprops.native.threads import worker_threads
from lit_maprops.stacked.nets import StackedMLP
from lit_maprops.stacked.optimizer import AdamSettings

TYPES = [torch.float32, torch.uint8, torch.int8]  # of features, by their number in the kernel


class _Numbers(ctypes.Structure):
    """``Numbers`` of likelihood.cpp."""

    _fields_ = [("first", ctypes.c_void_p), *((name, ctypes.c_int64) for name in ("seed", "agent", "row"))]

    @classmethod
    def of(cls, tensor: Tensor, dtype: torch.dtype, stack: int) -> "_Numbers":
        """Of a tensor ``[*S, B, ...]``, ``S`` of ``stack`` dimensions; it must outlive them."""
        seed, agent, row = (*tensor.stride()[:stack], 0)[:2] + tensor.stride()[stack : stack + 1]
        return cls(address(tensor, dtype), seed, agent, row)


class _Fit(ctypes.Structure):
    """``Fit`` of likelihood.cpp."""

    _INTS = ("seeds", "agents", "rows", "width", "actions", "layers", "steps", "threads")
    _fields_ = [
        *((name, ctypes.c_int32) for name in _INTS),
        *((name, ctypes.c_void_p) for name in ("shapes", "flat")),
        ("type", ctypes.c_int32),
        *((name, _Numbers) for name in ("features", "logits", "action", "held_out")),
        ("adam", AdamNumbers),
        ("kl", ctypes.c_void_p),
    ]


@torch.no_grad()
def fitted_kl(
    net: StackedMLP, adam: AdamSettings, features: Tensor, logits: Tensor, action: Tensor, held_out: Tensor, steps: int
) -> Tensor:
    """As ``likelihood.fitted_kl`` from the initial ``net`` on, which stays as it is; on the CPU: ``[*S]`` (nats)."""
    stack, (rows, width), actions = net.stack, features.shape[-2:], logits.shape[-1]
    seeds, agents = (*stack, 1)[:2]
    flat = net.flat.detach().contiguous()
    # D is read where it is: a batch of pictures as float32 would take four times its memory, and as long as many fits.
    features = _in_rows(features if features.dtype in TYPES else features.float())
    logits = _in_rows(logits.float())
    kl = torch.empty(stack)
    layers = shape_numbers(net.shapes)
    fit = _Fit(
        *(seeds, agents, rows, width, actions, len(net.shapes), steps, worker_threads()),
        *(ctypes.addressof(layers), address(flat, torch.float32), TYPES.index(features.dtype)),
        _Numbers.of(features, features.dtype, len(stack)),
        _Numbers.of(logits, torch.float32, len(stack)),
        _Numbers.of(action, torch.int64, len(stack)),
        _Numbers.of(held_out, torch.bool, len(stack)),
        AdamNumbers(*adam),
        kl.data_ptr(),
    )
    run("fitted_kl", fit)
    return kl


def _in_rows(tensor: Tensor) -> Tensor:
    """With the numbers of a row side by side, wherever the rows are."""
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()
