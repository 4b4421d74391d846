"""Tensors that never change, at hand on every device that needs them."""

import torch
from torch import Tensor


def on_device(value: Tensor, device: torch.device) -> Tensor:
    """``value``, of the CPU, on a device, without waiting for it; nobody may write to ``value`` while it is copied."""
    # CUDA copies behind the host's back only what is in pinned memory.
    return (value.pin_memory() if device.type == "cuda" else value).to(device, non_blocking=True)


class DeviceCache:
    """A tensor and its copies, one per device, made when first asked for.

    Copying it at every step would make the host wait for the device every time.

    Args:
        value: on the CPU; nobody may write to it.
    """

    def __init__(self, value: Tensor) -> None:
        self.value = value
        self._copies = {value.device: value}

    def on(self, device: torch.device) -> Tensor:
        """The copy on ``device``."""
        if device not in self._copies:
            self._copies[device] = self.value.to(device)
        return self._copies[device]
