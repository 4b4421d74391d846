"""Random numbers for VMAS's worlds, each from a key of its own.

VMAS draws the starts of all worlds in one go from PyTorch's global generator. Here the same calls are answered row by
row: the numbers of a world depend on its key and on which call it is, not on the other worlds.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Uniform = Callable[[], Tensor]
Draw = Callable[[Uniform, tuple, dict], Tensor]

_SECTION = 2**20  # random numbers kept free for one search of a free place


class RowDraws:
    """While entered, tensors of random numbers that have a row per world are filled from the worlds' own keys.

    It stands in for PyTorch's functions themselves: a ``TorchFunctionMode`` would double the time of a reset.

    Args:
        key: one number per world, ``[P]`` int64, below 2**48.
    """

    def __init__(self, key: Tensor) -> None:
        self._key, self._drawn = _mixed(key), 0
        self._saved: list[tuple[Any, str, Any]] = []

    def __enter__(self) -> None:
        from vmas.simulator.utils import ScenarioUtils

        for owner, name, draw in _DRAWS:
            self._replace(owner, name, self._served(getattr(owner, name), draw))
        name = "find_random_pos_for_entity"
        self._replace(ScenarioUtils, name, staticmethod(self._searched(getattr(ScenarioUtils, name))))

    def __exit__(self, *_: object) -> None:
        for owner, name, saved in reversed(self._saved):
            if saved is None:
                delattr(owner, name)  # an inherited method
            else:
                setattr(owner, name, saved)

    def _replace(self, owner: Any, name: str, new: Any) -> None:
        self._saved.append((owner, name, vars(owner).get(name)))
        setattr(owner, name, new)

    def _served(self, original: Callable[..., Tensor], draw: Draw) -> Callable[..., Tensor]:
        def served(*args: Any, **kwargs: Any) -> Tensor:
            before = torch.get_rng_state()
            out = original(*args, **kwargs)
            if not out.dim() or len(out) != len(self._key):
                return out  # numbers that worlds share; the moved generator tells
            torch.set_rng_state(before)
            return out.copy_(draw(lambda: self._uniform(out), args, kwargs))

        return served

    def _searched(self, original: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def searched(*args: Any, **kwargs: Any) -> Tensor:
            # It draws for all worlds until the last of them has found a free place; the others must not notice.
            self._drawn = (self._drawn // _SECTION + 1) * _SECTION
            place = original(*args, **kwargs)
            self._drawn = (self._drawn // _SECTION + 1) * _SECTION
            return place

        return searched

    def _uniform(self, like: Tensor) -> Tensor:
        """Uniform numbers on [0, 1) of 24 bits."""
        count = like[0].numel()
        number = torch.arange(self._drawn, self._drawn + count)
        self._drawn += count
        bits = _mixed(self._key.unsqueeze(-1) + number * -7046029254386353131)
        return ((bits >> 40 & 2**24 - 1).float() / 2**24).reshape(like.shape)


def _mixed(number: Tensor) -> Tensor:
    """The mixing function of SplitMix64 (Steele, Lea and Flood 2014)."""
    number = (number ^ (number >> 30 & 2**34 - 1)) * -4658895280553007687
    number = (number ^ (number >> 27 & 2**37 - 1)) * -7723592293110705685
    return number ^ (number >> 31 & 2**33 - 1)


def _between(uniform: Uniform, args: tuple, kwargs: dict) -> Tensor:
    low = args[1] if len(args) > 1 else kwargs.get("from", 0.0)
    high = args[2] if len(args) > 2 else kwargs.get("to", 1.0)
    return low + (high - low) * uniform()


def _normal(uniform: Uniform, args: tuple, kwargs: dict) -> Tensor:
    radius = (-2 * torch.log1p(-uniform())).sqrt()
    return radius * torch.cos(2 * torch.pi * uniform())


def _integers(uniform: Uniform, args: tuple, kwargs: dict) -> Tensor:
    bounds = [a for a in args if isinstance(a, int)]
    high = kwargs.get("high", bounds[-1] if bounds else None)
    low = kwargs.get("low", bounds[0] if len(bounds) == 2 else 0)
    return low + (uniform().double() * (high - low)).long()


def _plain(uniform: Uniform, args: tuple, kwargs: dict) -> Tensor:
    return uniform()


_DRAWS: list[tuple[Any, str, Draw]] = [
    (torch.Tensor, "uniform_", _between),
    (torch, "rand", _plain),
    (torch, "rand_like", _plain),
    (torch, "randn", _normal),
    (torch, "randn_like", _normal),
    (torch, "randint", _integers),
]
