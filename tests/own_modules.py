"""Modules that a user could have written, for tests: good ones, and ones that cannot be trained side by side."""

import numpy as np
import torch
from torch import Tensor, nn


class Residual(nn.Module):
    """Fixed random features, which differ by seed, and a block around them."""

    features: Tensor

    def __init__(self, n_in: int, n_out: int, width: int = 8) -> None:
        super().__init__()
        self.register_buffer("features", torch.randn(n_in, width))
        self.block = nn.Sequential(nn.Linear(width, width), nn.LayerNorm(width), nn.ReLU())
        self.head = nn.Linear(width, n_out)
        self.scale = nn.Parameter(torch.rand(n_out), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        x = (x @ self.features).tanh()
        return self.head(x + self.block(x)) * self.scale


class Plain(nn.Sequential):
    """What ``StackedMLP`` is, with one hidden layer."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__(nn.Linear(n_in, 8), nn.Tanh(), nn.Linear(8, n_out))


class Bounded(nn.Module):
    """Ends in no linear layer; a table of places, integers, and a mask are buffers."""

    places: Tensor
    mask: Tensor

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.register_buffer("places", torch.randperm(n_in))
        self.register_buffer("mask", torch.rand(n_in) < 0.7)
        self.first, self.last = nn.Linear(n_in, 8), nn.Linear(8, n_out)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.where(self.mask, x.index_select(1, self.places), 0.5)
        return 2 * self.last(self.first(x).relu()).tanh()


class Numbered(Plain):
    """A buffer that float32 does not hold."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__(n_in, n_out)
        self.register_buffer("number", torch.tensor(2**24 + 1))


class MixesRows(nn.Sequential):
    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__(nn.Linear(n_in, 8), nn.BatchNorm1d(8, track_running_stats=False), nn.Linear(8, n_out))


class Centers(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x - x.mean(0))


class LooksAtTheFirst(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 1e-3 * super().forward(x[:1])


class LooksAtTheLast(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 1e-3 * super().forward(x[-1:])


class Seeded(Plain):
    def __init__(self, n_in: int, n_out: int) -> None:
        torch.manual_seed(3)
        super().__init__(n_in, n_out)


class Drops(nn.Sequential):
    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__(nn.Linear(n_in, n_out), nn.Dropout(0.5))


class Counts(nn.Module):
    calls: Tensor

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.layer = nn.Linear(n_in, n_out)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.layer(x)


class CountsUnsaved(Plain):
    """What it changes is in no state_dict."""

    calls: Tensor

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__(n_in, n_out)
        self.register_buffer("calls", torch.zeros(()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(x)


class Clamps(Plain):
    """Writes to its inputs; rows in [0, 1) stay as they are."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.clamp_(-0.5, 2.0))


class ClampsUnseen(Plain):
    """Likewise, where torch counts no write."""

    def forward(self, x: Tensor) -> Tensor:
        x.data.clamp_(-500.0, 500.0)
        return super().forward(x)


class Embeds(nn.Module):
    """Fails outside of [0, 2), where the rows of many a task are."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(2, 4), nn.Linear(4 * n_in, n_out)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.table(x.long()).flatten(1))


class Noisy(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + torch.randn(1)


class Recalls(Plain):
    """What it puts out depends on the calls before, by a number that is no buffer."""

    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(x) + self.calls


class SharesWeights(nn.Module):
    """Whoever is made first draws the weights of all."""

    layer: nn.Linear | None = None

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        SharesWeights.layer = SharesWeights.layer or nn.Linear(n_in, n_out)
        self.own = SharesWeights.layer

    def forward(self, x: Tensor) -> Tensor:
        return self.own(x)


class ListsLayers(nn.Module):
    """A layer in a list is no parameter of the module."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.first, self.others = nn.Linear(n_in, n_out), [nn.Linear(n_out, n_out)]

    def forward(self, x: Tensor) -> Tensor:
        return self.others[0](self.first(x))


OUTSIDE = nn.Linear(8, 8)


class UsesALayerOutside(nn.Module):
    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(n_in, 8), nn.Linear(8, n_out)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(OUTSIDE(self.first(x)))


class CentersMany(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x - x.mean(0) if len(x) > 16 else x)


class Squeezes(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).squeeze(0)


class Lazy(nn.Sequential):
    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__(nn.LazyLinear(n_out))


class DrawsOnce(Plain):
    """Whoever is called first draws the numbers of all."""

    drawn: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if DrawsOnce.drawn is None:
            DrawsOnce.drawn = torch.randn(x.shape[-1])
        return super().forward(x * DrawsOnce.drawn)


class FromNumpy(Plain):
    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__(n_in, n_out)
        nn.init.constant_(self[0].weight, np.random.rand())


class Asks(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if x.sum() > -1e9 else super().forward(-x)


class Narrow(Plain):
    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__(n_in, n_out + 1)


class Alone(Plain):
    def forward(self, x: Tensor) -> Tensor | None:
        return super().forward(x) if len(x) > 1 else None


class Doubles(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).double()


class Frozen(Plain):
    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)


class Weightless(nn.Module):
    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.n_out = n_out

    def forward(self, x: Tensor) -> Tensor:
        return x[:, : self.n_out]


class Fails(nn.Module):
    def __init__(self, n_in: int) -> None:
        super().__init__()
