"""What networks are made of, and the stacked network that follows from it."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from typing_extensions import override

from lit_maprops.stacked import mlp
from lit_maprops.stacked.cells import Cell
from lit_maprops.stacked.differences import StackedDifference
from lit_maprops.stacked.modules import StackedModule
from lit_maprops.stacked.nets import HIDDEN_GAIN, DeltaNet, LayeredNet, StackedMLP, StackedNet
from lit_maprops.stacked.passes import ModulePasses
from lit_maprops.stacked.recurrent import RecurrentNet

Activation = Literal["tanh", "relu", "leaky_relu", "elu", "silu", "gelu"]
_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
}


class Picture(NamedTuple):
    """Where in a flat input a picture stands."""

    first: int  # its first number
    shape: tuple[int, int, int]  # channels, rows, columns

    @property
    def end(self) -> int:
        """The number behind its last one."""
        return self.first + math.prod(self.shape)


class Architecture(NamedTuple):
    """What a network is made of, whatever it takes in and puts out."""

    hidden: Sequence[int]  # units of each hidden layer
    activation: Activation = "tanh"  # behind every hidden layer and convolution
    layer_norm: bool = False  # before the activation of every hidden layer
    hidden_gain: float = HIDDEN_GAIN  # orthogonal, of convolutions and hidden layers
    last_gain: float | None = None  # orthogonal, of the last layer; None: what its owner takes
    cnn: Sequence[Sequence[int]] = ()  # (channels, kernel, stride) of each convolution, without padding
    own: Callable[[int, int], nn.Module] | None = None  # makes it from the sizes in and out, instead of all this
    cell: Cell | None = None  # behind the hidden layers; None: nothing is remembered

    @property
    def table(self) -> bool:
        """A linear map without bias, which starts at 0."""
        return not self.hidden and not self.cnn and self.own is None and self.cell is None

    def stacked(
        self,
        in_dim: int,
        out_dim: int,
        stack: tuple[int, ...],
        out_gain: float,
        generators: Sequence[torch.Generator],
        picture: Picture | None = None,
    ) -> StackedNet:
        """Networks made of this; arguments as ``StackedMLP``, and

        Args:
            in_dim: see there.
            out_dim: see there.
            stack: see there.
            out_gain: of the last layer, if this does not say.
            generators: see there.
            picture: in the inputs; None: there is none, and ``cnn`` is left out.
        """
        own, gain = self.own, out_gain if self.last_gain is None else self.last_gain
        if self.cell is not None:
            before = self._replace(cell=None, last_gain=None)
            encoder = before.stacked(in_dim, self.cell.gates, stack, 1.0, generators, picture)
            return RecurrentNet(encoder, self.cell, out_dim, gain, generators)
        if own is not None:
            return StackedModule(lambda: own(in_dim, out_dim), stack, generators)
        return self.layered(in_dim, out_dim, stack, gain, generators, picture)

    def adjustment(
        self,
        in_dim: int,
        out_dim: int,
        stack: tuple[int, ...],
        generators: Sequence[torch.Generator],
        picture: Picture | None = None,
    ) -> DeltaNet:
        """``stacked`` networks that put out 0 until they are trained; nothing of them remembers."""
        own = self.own
        if own is not None:
            return StackedDifference(lambda: own(in_dim, out_dim), stack, generators)
        return self.layered(in_dim, out_dim, stack, 0.0, generators, picture)

    def layered(
        self,
        in_dim: int,
        out_dim: int,
        stack: tuple[int, ...],
        gain: float,
        generators: Sequence[torch.Generator],
        picture: Picture | None = None,
    ) -> LayeredNet:
        """``stacked`` of what is neither somebody's own nor remembers; ``gain`` is of the last layer in any case."""
        made = self if picture is not None else self._replace(cnn=())
        if made.cnn or (made.hidden and (made.layer_norm or made.activation != "tanh")):
            layers = made._layers(in_dim, out_dim, gain, picture)
            return StackedLayers(lambda: nn.Sequential(*layers()), stack, generators, max(in_dim, *self.hidden, 1))
        return StackedMLP(in_dim, self.hidden, out_dim, stack, gain, generators, self.hidden_gain)

    def _layers(
        self, in_dim: int, out_dim: int, gain: float, picture: Picture | None
    ) -> Callable[[], Iterator[nn.Module]]:
        def layers() -> Iterator[nn.Module]:
            width = in_dim
            if picture is not None and self.cnn:
                yield (seen := Convolutions(in_dim, picture, self.cnn, self.activation, self.hidden_gain))
                width = seen.width
            for units in self.hidden:
                yield _orthogonal(nn.Linear(width, units), self.hidden_gain)
                if self.layer_norm:
                    yield nn.LayerNorm(units)
                yield _ACTIVATIONS[self.activation]()
                width = units
            yield _orthogonal(nn.Linear(width, out_dim), gain)

        return layers


class StackedLayers(StackedModule, LayeredNet):
    """Layers of torch in a row, the last one linear with biases; arguments as ``StackedModule``, and

    Args:
        make: makes an ``nn.Sequential``.
        stack: see there.
        generators: see there.
        widest: most numbers between layers, about; how many networks go through together follows from it.
    """

    def __init__(
        self,
        make: Callable[[], nn.Sequential],
        stack: tuple[int, ...],
        generators: Sequence[torch.Generator],
        widest: int,
    ) -> None:
        super().__init__(make, stack, generators)
        self.widest = widest
        *before, last = self._one[0].children()
        self._before = (nn.Sequential(*before),)  # in a tuple: its weights are not ours
        assert isinstance(last, nn.Linear)  # ``Architecture`` ends in one
        self.last = ((last.out_features, last.in_features, True),)

    @property
    @override
    def passes(self) -> ModulePasses:
        return ModulePasses(self._output, mlp.size_of(self.last), self.widest)

    @override
    @torch.no_grad()
    def features(self, inputs: Tensor) -> Tensor:
        return self._of_each(self._features, inputs)

    def _features(self, flat: Tensor, kept: list[Tensor], inputs: Tensor) -> Tensor:
        (before,), tensors = self._before, self._tensors(flat, kept)
        return functional_call(before, {name: tensors[name] for name, _ in before.named_parameters()}, (inputs,))


class Convolutions(nn.Module):
    """Convolutions of the picture in a flat input, whose other numbers stand before what they put out.

    Args:
        in_dim: numbers of an input.
        picture: in it.
        cnn: see ``Architecture``.
        activation: see ``Architecture``.
        gain: orthogonal, of each convolution.

    Attributes:
        width: numbers of an output.
    """

    def __init__(
        self, in_dim: int, picture: Picture, cnn: Sequence[Sequence[int]], activation: Activation, gain: float
    ) -> None:
        super().__init__()
        self.picture = picture
        channels, *sides = picture.shape
        layers: list[nn.Module] = []
        for out_channels, kernel, stride in cnn:
            layers += [_orthogonal(nn.Conv2d(channels, out_channels, kernel, stride), gain), _ACTIVATIONS[activation]()]
            channels, sides = out_channels, after(sides, kernel, stride)
        self.layers = nn.Sequential(*layers)
        self.width = in_dim - math.prod(picture.shape) + channels * math.prod(sides)

    def forward(self, inputs: Tensor) -> Tensor:
        """``[B, in_dim] -> [B, width]``."""
        first, end = self.picture.first, self.picture.end
        seen = self.layers(inputs[:, first:end].unflatten(1, self.picture.shape)).flatten(1)
        return torch.cat([inputs[:, :first], inputs[:, end:], seen], 1)


def after(sides: Sequence[int], kernel: int, stride: int) -> list[int]:
    """Rows and columns behind a convolution without padding; below 1 where the kernel is larger than the picture."""
    return [(side - kernel) // stride + 1 for side in sides]


def _orthogonal(layer: nn.Linear | nn.Conv2d, gain: float) -> nn.Module:
    nn.init.orthogonal_(layer.weight, gain)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer
