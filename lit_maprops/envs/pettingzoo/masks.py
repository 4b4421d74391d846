"""Which actions a PettingZoo package allows, by either of its conventions.

``action_mask``, a number or flag for each of an agent's actions in order (as Gymnasium's ``Discrete.sample(mask)``
takes it), stands in the agent's info, or beside its ``observation`` in a Dict.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from lit_maprops.system.errors import check

MASK, OBSERVATION = "action_mask", "observation"


def seen_space(space: Any) -> Any:
    """The space of what is observed: of a Dict with a mask that of the ``observation`` in it."""
    from gymnasium.spaces import Dict

    with_mask = isinstance(space, Dict) and set(space.spaces) == {MASK, OBSERVATION}
    return space.spaces[OBSERVATION] if with_mask else space


class Masks:
    """Reads the masks of an environment's agents.

    Args:
        names: of the agents.
        sizes: how many actions each has.
        spaces: of what each observes.
        infos: of a first reset.

    Attributes:
        given: there are any, by the spaces or the infos of the reset.
    """

    def __init__(self, names: Sequence[Any], sizes: Sequence[int], spaces: Sequence[Any], infos: Any) -> None:
        self._names, self._sizes = names, sizes
        self._in_dict = [seen_space(space) is not space for space in spaces]
        self.given = any(self._in_dict) or bool(_in_infos(infos))
        self._all = np.arange(max(sizes)) < np.array(sizes)[:, None]

    def check(self, named: str, continuous: bool) -> None:
        """Refuse masks of actions that are not numbered.

        Raises:
            ConfigError: the actions are boxes.
        """
        check(
            not (self.given and continuous),
            f"{named} gives an {MASK} and its actions are boxes: choose one with Discrete actions",
        )

    def observed(self, number: int, seen: Any) -> Any:
        """What an agent sees, without its mask."""
        return seen[OBSERVATION] if self._in_dict[number] else seen

    def legal(self, seen: dict[Any, Any], infos: Any) -> np.ndarray:
        """Which actions are legal next, ``[A, N]`` bool: all those of agents that no mask is given for.

        Raises:
            ValueError: a mask is not one flag per action, or there had been none at the reset.
        """
        found = _in_infos(infos)
        if found and not self.given:
            raise ValueError(f"its infos give an {MASK} and those of its reset had given none")
        if not self.given:
            return self._all
        legal = self._all.copy()
        for number, (name, size) in enumerate(zip(self._names, self._sizes, strict=True)):
            if self._in_dict[number] and name in seen:
                found[name] = seen[name][MASK]
            if name in found:
                legal[number, :size] = _flags(name, found[name], size)
        return legal


def _in_infos(infos: Any) -> dict[Any, Any]:
    each = infos.items() if isinstance(infos, dict) else ()
    return {name: info[MASK] for name, info in each if isinstance(info, dict) and MASK in info}


def _flags(name: Any, mask: Any, size: int) -> np.ndarray:
    try:
        flags = np.asarray(mask).reshape(-1)
        fits = flags.shape == (size,) and bool(np.isin(flags, (0, 1)).all())
    except (TypeError, ValueError):
        fits = False
    if not fits:
        raise ValueError(f"the {MASK} of agent {name} is {str(mask)[:60]}, expected {size} numbers, each 0 or 1")
    return flags.astype(bool)


def nth_legal(legal: Tensor, number: Tensor) -> Tensor:
    """An action of every agent that is legal, or its first one where none is: ``[*B, A, N]`` and ``[*B, A]`` int64."""
    order = legal.int().argsort(dim=-1, descending=True, stable=True)
    return order.gather(-1, (number % legal.sum(-1).clamp(min=1)).unsqueeze(-1)).squeeze(-1)
