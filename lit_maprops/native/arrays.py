"""Tensors as the kernels see them: addresses and steps."""

import ctypes

import torch
from torch import Tensor

from lit_maprops.stacked.mlp import LayerShapes


class AdamNumbers(ctypes.Structure):
    """``AdamSettings`` of adam.hpp."""

    _fields_ = [(name, ctypes.c_double) for name in ("lr", "beta1", "beta2", "eps")]


def address(tensor: Tensor | None, dtype: torch.dtype) -> int | None:
    """Where a tensor's first number lies; its type is what the kernel takes it for.

    Raises:
        TypeError: it is of another type, or not on the CPU.
    """
    if tensor is None:
        return None
    if tensor.dtype != dtype or tensor.device.type != "cpu":
        raise TypeError(f"the kernel takes {dtype} on the CPU, not {tensor.dtype} on {tensor.device}")
    return tensor.data_ptr()


def shape_numbers(shapes: LayerShapes) -> "ctypes.Array[ctypes.c_int32]":
    """Layers as the kernels read them: out, in and whether there is a bias, layer by layer."""
    numbers = [int(number) for shape in shapes for number in shape]
    return (ctypes.c_int32 * len(numbers))(*numbers)
