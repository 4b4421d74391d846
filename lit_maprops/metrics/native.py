"""Maximum-likelihood fits of pi_D by a compiled kernel, ``likelihood.cpp``."""

import ctypes

import torch
from torch import Tensor

from lit_maprops.native.arrays import AdamNumbers, address, shape_numbers
from lit_maprops.native.build import run
from lit_maprops.native.threads import worker_threads
from lit_maprops.stacked.nets import StackedMLP
from lit_maprops.stacked.optimizer import AdamSettings


class _Fit(ctypes.Structure):
    """``Fit`` of likelihood.cpp."""

    _fields_ = [
        *((name, ctypes.c_int32) for name in ["entries", "rows", "width", "actions", "layers", "steps", "threads"]),
        *((name, ctypes.c_void_p) for name in ["shapes", "flat", "features", "logits", "action", "held_out"]),
        ("adam", AdamNumbers),
        ("kl", ctypes.c_void_p),
    ]


@torch.no_grad()
def fitted_kl(
    net: StackedMLP, adam: AdamSettings, features: Tensor, logits: Tensor, action: Tensor, held_out: Tensor, steps: int
) -> Tensor:
    """As ``likelihood.fitted_kl`` from the initial ``net`` on, which stays as it is; on the CPU: ``[*S]`` (nats)."""
    stack, (rows, width), actions = net.stack, features.shape[-2:], logits.shape[-1]
    flat = net.flat.detach().flatten(0, -2).contiguous()
    features, logits = features.float().contiguous(), logits.float().contiguous()
    action, held_out = action.contiguous(), held_out.contiguous()
    kl = torch.empty(stack)
    layers = shape_numbers(net.shapes)
    fit = _Fit(
        *(len(flat), rows, width, actions, len(net.shapes), steps, worker_threads()),
        ctypes.addressof(layers),
        *(address(tensor, torch.float32) for tensor in (flat, features, logits)),
        address(action, torch.int64),
        address(held_out, torch.bool),
        AdamNumbers(*adam),
        kl.data_ptr(),
    )
    run("fitted_kl", fit)
    return kl
