"""TorchRL's losses as ``ppo`` takes them."""

import torch
from torch import Tensor
from torch.distributions import Distribution
from torchrl.objectives.multiagent import IPPOLoss, MAPPOLoss


class _SkipEntropyCheck:
    """Skips a check of TorchRL's losses: they stop the host at every batch to ask the device if entropies are finite.

    Ours always are (see ``distributions``). tests/test_device.py counts what still waits.
    """

    def _get_entropy(self, dist: Distribution, adv_shape: torch.Size) -> Tensor:
        return dist.entropy().unsqueeze(-1)


class UncheckedIPPOLoss(_SkipEntropyCheck, IPPOLoss):
    """TorchRL's."""


class UncheckedMAPPOLoss(_SkipEntropyCheck, MAPPOLoss):
    """TorchRL's."""
