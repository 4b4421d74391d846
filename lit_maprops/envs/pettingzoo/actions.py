"""What the agents of a PettingZoo environment do: numbered actions, or numbers in [-1, 1], as Gymnasium's spaces."""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from lit_maprops.system.errors import check

MOST = 1024  # actions of one agent


class ActionSpaces:
    """What every agent does.

    ``MultiDiscrete`` and ``MultiBinary`` are numbered through, so that an agent's policy is over all combinations of
    its components: the last component counts fastest, as in ``numpy.unravel_index``. ``Discrete`` and
    ``MultiDiscrete`` that start elsewhere are shifted.

    Args:
        spaces: of the agents' actions.
        named: the argument that gave the environment, for messages.

    Attributes:
        continuous: they are boxes.
        sizes: components, or numbers of actions, of each agent.
        components: choices in each component of numbered actions, of each agent; of boxes none.

    Raises:
        ConfigError: agents differ in kind, or a space is not served.
    """

    def __init__(self, spaces: Sequence[Any], named: str) -> None:
        from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete

        self.spaces = spaces
        kinds = sorted({type(space).__name__ for space in spaces})
        self.continuous = all(isinstance(space, Box) for space in spaces)
        check(
            self.continuous or all(isinstance(space, Discrete | MultiBinary | MultiDiscrete) for space in spaces),
            f"{named} has actions of kind {' and '.join(kinds)}: choose one with Box actions for all agents, or with "
            "Discrete, MultiDiscrete or MultiBinary ones",
        )
        self.components: list[list[int]] = []
        if self.continuous:
            self._check_boxes(named)
            self.sizes = [int(np.prod(space.shape)) for space in spaces]
            self._middle = [(space.low.astype(np.float64) + space.high) / 2 for space in spaces]
            self._half = [(space.high.astype(np.float64) - space.low) / 2 for space in spaces]
            return
        self._single = [isinstance(space, Discrete) for space in spaces]
        self.components = [_components(space) for space in spaces]
        self.sizes = [prod(each) for each in self.components]
        combined = max((size, kind) for size, kind in zip(self.sizes, map(_kind, spaces), strict=True))
        check(
            all(single or size <= MOST for single, size in zip(self._single, self.sizes, strict=True)),
            f"{named} has {combined[1]} actions with {combined[0]:,} combinations for one agent, and a policy numbers "
            f"at most {MOST:,}: choose one with fewer, or with Discrete actions",
        )

    def _check_boxes(self, named: str) -> None:
        spaces = self.spaces
        whole = next((space.dtype for space in spaces if not np.issubdtype(space.dtype, np.floating)), None)
        check(
            whole is None,
            f"{named} has Box actions of whole numbers ({whole}), which real numbers would not reach in their "
            "proportions: choose one with Discrete actions, or with a Box of floats",
        )
        bounded = all(np.isfinite(space.low).all() and np.isfinite(space.high).all() for space in spaces)
        check(bounded, f"{named} has actions without bounds, which [-1, 1] cannot be scaled to: choose another")

    def given(self, number: int, action: np.ndarray) -> Any:
        """An agent's action as the package takes it, from its number, or from ``[D]`` in [-1, 1]."""
        space = self.spaces[number]
        if self.continuous:
            chosen = action[: self.sizes[number]].reshape(space.shape)
            scaled = self._middle[number] + self._half[number] * chosen
            return np.clip(scaled.astype(space.dtype), space.low, space.high)  # rounding may leave the box
        if self._single[number]:
            return int(action + space.start)
        return self._combination(number, int(action))

    def _combination(self, number: int, action: int) -> np.ndarray:
        space = self.spaces[number]
        chosen = np.array(np.unravel_index(action, self.components[number]), dtype=np.int64).reshape(space.shape)
        return np.asarray(chosen + getattr(space, "start", 0), dtype=space.dtype)

    def names(self, number: int) -> list[str]:
        """An agent's actions, or components, by the package's numbers."""
        if self.continuous:
            return [f"action[{component}]" for component in range(self.sizes[number])]
        if self._single[number]:
            first = int(self.spaces[number].start)
            return [f"action[{action}]" for action in range(first, first + self.sizes[number])]
        each = (self._combination(number, action).flatten().tolist() for action in range(self.sizes[number]))
        return [f"action[{', '.join(map(str, map(int, combination)))}]" for combination in each]

    def bounds(self, number: int) -> tuple[list[float], list[float]]:
        """What -1 and 1 stand for in each component of an agent's box; empty for numbered actions."""
        space = self.spaces[number]
        return (space.low.flatten().tolist(), space.high.flatten().tolist()) if self.continuous else ([], [])


def _components(space: Any) -> list[int]:
    from gymnasium.spaces import Discrete, MultiDiscrete

    if isinstance(space, Discrete):
        return [int(space.n)]
    return space.nvec.flatten().tolist() if isinstance(space, MultiDiscrete) else [2] * int(np.prod(space.shape))


def _kind(space: Any) -> str:
    return type(space).__name__
