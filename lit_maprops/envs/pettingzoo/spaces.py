"""What the agents of a PettingZoo environment see, as rows of numbers: Gymnasium's spaces, flattened.

The numbers are those of ``gymnasium.spaces.utils.flatten``, in its order: boxes number by number, ``Discrete`` and
``MultiDiscrete`` one-hot, ``MultiBinary`` as it is, ``Dict`` and ``Tuple`` part by part. Only a picture that all agents
see is moved: behind everything else, channels before rows before columns, as convolutions take it.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any, Literal

import numpy as np

from lit_maprops.system.errors import check

Pictures = Literal["auto", "hwc", "chw", "none"]
WHITE = 255  # a pixel's largest number


class Leaf:
    """A part of an observation that has no parts.

    Args:
        space: a ``Box``, ``Discrete``, ``MultiDiscrete`` or ``MultiBinary``.
        way: keys and places that lead to it.

    Attributes:
        name: of it, for messages and for users of exported policies.
        size: its numbers.
        picture: channels, rows and columns; None: it is no picture.
        turned: its last dimension holds the channels.
        divisor: of its numbers.
    """

    def __init__(self, space: Any, way: tuple[Any, ...]) -> None:
        from gymnasium.spaces import Discrete, MultiBinary, MultiDiscrete

        self._way, self.name = way, ".".join(["observation", *map(str, way)])
        self._counts: list[int] | None = None
        self._flags = isinstance(space, MultiBinary)
        self._start: np.ndarray = np.zeros(0, dtype=np.int64)
        self.shape: tuple[int, ...] = tuple(space.shape)
        if isinstance(space, Discrete | MultiDiscrete):
            self._counts = np.atleast_1d(space.n if isinstance(space, Discrete) else space.nvec).flatten().tolist()
            self._start = np.atleast_1d(space.start).flatten().astype(np.int64)
            self._first = np.cumsum([0, *self._counts[:-1]])
        self.size = int(np.prod(self.shape)) if self._counts is None else sum(self._counts)
        self.picture: tuple[int, int, int] | None = None
        self.turned, self.divisor = False, 1

    def see_as_picture(self, space: Any, pictures: Pictures) -> None:
        """Take it for a picture if it is one; see ``PettingZoo``'s ``pictures``."""
        from gymnasium.spaces import Box

        pixels = isinstance(space, Box) and space.dtype == np.uint8 and _all(space.low, 0) and _all(space.high, WHITE)
        flat, deep = len(self.shape) == 2 and pixels, len(self.shape) == 3 and isinstance(space, Box)
        if pictures == "none" or not (flat or (deep and (pixels or pictures != "auto"))):
            return
        self.divisor = WHITE if pixels else 1
        if flat:
            self.picture = (1, self.shape[0], self.shape[1])
            return
        first, middle, last = self.shape
        self.turned = pictures == "hwc" or (pictures == "auto" and last <= first)
        self.picture = (last, first, middle) if self.turned else (first, middle, last)

    def names(self, as_picture: bool) -> Iterator[str]:
        """What each number is, in order."""
        if as_picture and self.picture is not None:
            unit = "" if self.divisor == 1 else f" / {self.divisor}"
            for place in product(*map(range, self.picture)):
                yield f"{self.name}[{', '.join(map(str, place))}]{unit}"
        else:
            yield from (f"{self.name}[{number}]" for number in range(self.size))

    def read(self, agent: Any, seen: Any, as_picture: bool) -> np.ndarray:
        """Its numbers in an observation, in the order of ``names``: ``[size]``.

        Raises:
            ValueError: the observation is not of its space.
        """
        for step in self._way:
            try:
                seen = seen[step]
            except (KeyError, IndexError, TypeError):
                raise ValueError(f"what agent {agent} sees has no {self.name}") from None
        if self._counts is not None:
            return self._one_hot(agent, seen)
        numbers = seen if isinstance(seen, np.ndarray) else np.asarray(seen)
        if numbers.shape != self.shape and _filled(numbers.shape) != _filled(self.shape):
            raise ValueError(f"the {self.name} of agent {agent} has the shape {numbers.shape}, expected {self.shape}")
        if self._flags and not np.isin(numbers, (0, 1)).all():
            raise ValueError(f"the {self.name} of agent {agent} is {str(seen)[:60]}, which is not of its space")
        if as_picture and self.turned:
            numbers = np.moveaxis(numbers.reshape(self.shape), -1, 0)
        row = numbers.reshape(-1)
        return row if self.divisor == 1 else row.astype(np.float32) / np.float32(self.divisor)

    def _one_hot(self, agent: Any, seen: Any) -> np.ndarray:
        counts = np.array(self._counts)
        try:
            given = np.asarray(seen).reshape(-1)
            number = given.astype(np.int64) - self._start
            fits = number.shape == counts.shape and bool((given == number + self._start).all())
            fits = fits and bool(((number >= 0) & (number < counts)).all())
        except (TypeError, ValueError, OverflowError):
            fits = False
        if not fits:
            raise ValueError(f"the {self.name} of agent {agent} is {str(seen)[:60]}, which is not of its space")
        out = np.zeros(self.size, dtype=np.float32)
        out[self._first + number] = 1
        return out


class ObservationSpaces:
    """What every agent sees, as rows of one width.

    Args:
        names: of the agents.
        spaces: of what each observes, without its mask.
        named: the argument that gave the environment, for messages.
        pictures: see ``PettingZoo``.

    Attributes:
        sizes: numbers each agent sees.
        width: numbers in a row, O.
        picture: channels, rows and columns of the picture that stands last in every row; None: there is none.
        own: which numbers of its row an agent sees, ``[A, O]`` bool; the others are padding.

    Raises:
        ConfigError: a space has no fixed number of numbers, or there is no picture where ``pictures`` says how it lies.
    """

    def __init__(self, names: Sequence[Any], spaces: Sequence[Any], named: str, pictures: Pictures = "auto") -> None:
        self._names = names
        refused = sorted({kind for space in spaces for kind in _refused(space)})
        check(
            not refused,
            f"{named} has observations of kind {' and '.join(refused)}, which have no fixed number of numbers: choose "
            "one with Box, Discrete, MultiDiscrete, MultiBinary, Dict or Tuple observations",
        )
        self._leaves = [list(_leaves(space, pictures)) for space in spaces]
        self.sizes = [sum(leaf.size for leaf in leaves) for leaves in self._leaves]
        check(max(self.sizes) > 0, f"{named} has agents that see nothing but what they may do: choose another")
        self.picture = self._common_picture()
        check(
            self.picture is not None or pictures in ("auto", "none"),
            f"<env.pictures> is {pictures} and agents of {named} do not all see one picture of one shape: leave it out",
        )
        behind = int(np.prod(self.picture)) if self.picture is not None else 0
        self.width = max(self.sizes)
        self.own = np.zeros((len(names), self.width), dtype=bool)
        for row, size in zip(self.own, self.sizes, strict=True):
            row[: size - behind] = True
            row[self.width - behind :] = True
        for leaves in self._leaves:  # in the order of rows
            leaves.sort(key=lambda leaf: behind > 0 and leaf.picture is not None)

    def _common_picture(self) -> tuple[int, int, int] | None:
        """The one that every agent sees, of one shape."""
        each = [[leaf.picture for leaf in leaves if leaf.picture is not None] for leaves in self._leaves]
        alike = all(len(found) == 1 for found in each) and len({found[0] for found in each}) == 1
        return each[0][0] if alike else None

    def rows(self, seen: Mapping[Any, Any]) -> np.ndarray:
        """Observations by agents' names as ``[A, O]`` float32; 0 for agents that are not there.

        Raises:
            ValueError: an observation is not of its space.
        """
        out = np.zeros(self.own.shape, dtype=np.float32)
        for number, name in enumerate(self._names):
            if name in seen:
                self._fill(out[number], number, seen[name])
        return out

    def _fill(self, row: np.ndarray, number: int, seen: Any) -> None:
        first, as_picture = 0, self.picture is not None
        for leaf in self._leaves[number]:
            start = self.width - leaf.size if as_picture and leaf.picture is not None else first
            with np.errstate(over="ignore"):  # what no float32 can hold is infinite, which runs look for
                row[start : start + leaf.size] = leaf.read(self._names[number], seen, as_picture)
            first += leaf.size

    def together(self, rows: np.ndarray) -> np.ndarray:
        """All that agents see in ``[A, O]``, one after the other."""
        return rows[self.own]

    def interface(self, number: int) -> list[str]:
        """What each number of an agent's row is, in order; padding only where it is followed by a picture."""
        as_picture = self.picture is not None
        each = [list(leaf.names(as_picture)) for leaf in self._leaves[number]]
        if not as_picture:
            return [name for names in each for name in names]
        padding = ["padding"] * (self.width - self.sizes[number])
        return [name for names in each[:-1] for name in names] + padding + each[-1]


def _leaves(space: Any, pictures: Pictures, way: tuple[Any, ...] = ()) -> Iterator[Leaf]:
    """In Gymnasium's order."""
    parts = _parts(space)
    if parts is None:
        leaf = Leaf(space, way)
        leaf.see_as_picture(space, pictures)
        yield leaf
        return
    for key, part in parts:
        yield from _leaves(part, pictures, (*way, key))


def _parts(space: Any) -> list[tuple[Any, Any]] | None:
    from gymnasium.spaces import Dict, Tuple

    if isinstance(space, Dict):
        return list(space.spaces.items())
    return list(enumerate(space.spaces)) if isinstance(space, Tuple) else None


def _refused(space: Any) -> Iterator[str]:
    """Kinds of spaces in a space that are no rows of numbers."""
    from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete

    parts = _parts(space)
    if parts is not None:
        for _, part in parts:
            yield from _refused(part)
    elif not isinstance(space, Box | Discrete | MultiBinary | MultiDiscrete):
        yield type(space).__name__


def _filled(shape: Sequence[int]) -> list[int]:
    """Without dimensions of 1, in which packages differ from their own spaces."""
    return [size for size in shape if size != 1]


def _all(bounds: np.ndarray, value: int) -> bool:
    return bool((bounds == value).all())
