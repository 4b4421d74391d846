"""The layers of a ``StackedMLP`` with the stack dimensions unfolded."""

from torch import Tensor

from lit_maprops.stacked.nets import StackedMLP


def weights(net: StackedMLP) -> list[Tensor]:
    """Views ``[*stack, in, out]``."""
    return [weight.unflatten(0, net.stack).mT for weight, _ in net.layers()]


def biases(net: StackedMLP) -> list[Tensor]:
    """Views ``[*stack, out]``; empty without hidden layers."""
    return [bias.unflatten(0, net.stack) for _, bias in net.layers() if bias is not None]
