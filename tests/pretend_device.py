"""A pretended accelerator: tensors of a device of their own, whose arithmetic the CPU does.

``torch.device("pretend")`` behaves as CUDA does where a program without a GPU at hand goes wrong unseen: operands of
two devices are refused, and what makes the host wait for the device is counted. The values are real, so control flow
takes its real course and results can be compared with the CPU's bit for bit.
"""

from collections import Counter
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

aten = torch.ops.aten


class Backend(_DummyBackendModule):
    """``torch.pretend``: what TensorDict asks of a device."""

    def synchronize(self) -> None:
        """TensorDict calls it for what is neither CPU nor CUDA."""


_setup_privateuseone_for_python_backend("pretend", Backend())
DEVICE = torch.device("pretend", 0)

INDEXING = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_, aten._unsafe_index}
COPIES = {aten._to_copy, aten.copy_}
# What Python, or the size of the result, needs a value for: the host has to wait until the device has computed it.
WAITS = {
    aten._local_scalar_dense, aten.equal, aten.is_nonzero, aten.nonzero, aten.argwhere, aten.masked_select,
    aten.bincount, aten._unique, aten._unique2, aten.unique_consecutive, aten.unique_dim, aten.repeat_interleave,
}  # fmt: skip


class PretendTensor(Tensor):
    """A tensor of the device; ``values`` is the CPU tensor with its numbers."""

    values: Tensor

    @staticmethod
    def __new__(cls, values: Tensor) -> "PretendTensor":
        wrapper = Tensor._make_wrapper_subclass(
            cls,
            values.size(),
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            device=DEVICE,
        )
        wrapper.values = values
        return wrapper

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{func} on {DEVICE} outside of Pretending")

    def tolist(self) -> Any:
        return self.cpu().tolist()


class Pretending(TorchDispatchMode):
    """While it is on, tensors can be made on the device; counts in ``waits`` why the host waited for it.

    A copy to the device makes the host wait, too, unless it is told not to; ``copies`` counts those of the latter kind.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()
        self.copies = 0

    def __enter__(self) -> "Pretending":
        torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device=...) lets modes see the move
        return super().__enter__()

    def __exit__(self, *exception: Any) -> None:
        torch._C._set_only_lift_cpu_tensors(False)
        super().__exit__(*exception)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        wrappers: dict[int, PretendTensor] = {}
        strangers: list[Tensor] = []

        def unwrapped(value: Any) -> Any:
            if isinstance(value, PretendTensor):
                wrappers[id(value.values)] = value
                return value.values
            if isinstance(value, Tensor):
                strangers.append(value)
            return value

        def wrapped(value: Any) -> Any:
            if id(value) in wrappers:  # in-place operations return what they were given
                return wrappers[id(value)]
            return PretendTensor(value) if isinstance(value, Tensor) else value

        args, kwargs = tree_map(unwrapped, args), tree_map(unwrapped, kwargs or {})
        device, kind = kwargs.get("device"), func.overloadpacket
        here = bool(wrappers)
        there = here if device is None else torch.device(device).type == DEVICE.type
        if device is not None:
            kwargs["device"] = torch.device("cpu")
        self._check(func, args, kwargs, here, there, strangers)
        result = func(*args, **kwargs)
        if here != there and kind is aten._to_copy and result is args[0]:
            result = result.clone()
        return tree_map(wrapped, result) if there else result

    def _check(
        self, func: Any, args: Any, kwargs: dict[str, Any], here: bool, there: bool, strangers: list[Tensor]
    ) -> None:
        """Refuse operands of two devices, count waits and copies."""
        kind = func.overloadpacket
        if kind in COPIES and (here != there or (here and strangers)):
            to_device = there if kind is aten._to_copy else args[0] is not strangers[0]
            may_go_on = to_device and (kwargs.get("non_blocking", False) or True in args[2:3])
            self.copies += may_go_on
            self.waits["copy to the device" if to_device else "copy to the CPU"] += not may_go_on
        elif here and any(tensor.dim() for tensor in strangers):
            if kind not in INDEXING:
                raise RuntimeError(f"{func}: operands of {DEVICE} and of the CPU")
            self.waits["index of the CPU"] += 1  # CUDA lets it through, and copies it every time
        if here and kind in INDEXING:
            self.waits["mask"] += any(isinstance(i, Tensor) and i.dtype == torch.bool for i in args[1])
        elif here and kind in WAITS and kwargs.get("output_size") is None:
            self.waits[kind.__name__] += 1
