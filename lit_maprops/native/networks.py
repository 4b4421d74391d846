"""Which networks the kernels know."""

from lit_maprops.stacked.nets import StackedMLP, StackedNet
from lit_maprops.stacked.recurrent import RecurrentNet

LANES = 8  # of vectors.hpp
KINDS = {"gru": 1, "lstm": 2}  # ``Remembers`` of cell.hpp


def below(net: StackedNet) -> StackedNet:
    """What of a network comes before its cell, if it has one."""
    return net.encoder if isinstance(net, RecurrentNet) else net


def unknown(net: StackedNet, named: str) -> str | None:
    """Why the kernels do not know a network, in words; None: they do.

    Args:
        net: any.
        named: such as "policies are".
    """
    if type(below(net)) is not StackedMLP or type(net) not in (StackedMLP, RecurrentNet):
        return f"the kernel knows plain tanh networks, and {named} of another kind"
    if isinstance(net, RecurrentNet) and net.cell.units % LANES:
        return f"<learner.memory_size> is {net.cell.units}, and the kernel knows multiples of {LANES}"
    return None
