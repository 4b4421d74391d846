"""Which actions a PettingZoo package allows, by either of its conventions.

``action_mask``, a number or flag for each of an agent's actions in order (as Gymnasium's ``Discrete.sample(mask)``
takes it), stands in the agent's info, or in a Dict of what it observes, such as beside its ``observation``.

Of ``MultiDiscrete`` it is such flags for each component: one array per component, as Gymnasium's
``MultiDiscrete.sample(mask)`` takes them, or all of them in a row. Of ``MultiBinary`` it is as Gymnasium's
``MultiBinary.sample(mask)`` takes it: 0 and 1 where only that is allowed, 2 where both are.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from torch import Tensor

from lit_maprops.envs.pettingzoo.actions import ActionSpaces
from lit_maprops.system.errors import check

MASK, OBSERVATION = "action_mask", "observation"


def seen_space(space: Any) -> Any:
    """The space of what is observed: of a Dict with a mask what else is in it."""
    from gymnasium.spaces import Dict

    if not isinstance(space, Dict) or MASK not in space.spaces:
        return space
    others = {key: part for key, part in space.spaces.items() if key != MASK}
    return others[OBSERVATION] if set(others) == {OBSERVATION} else Dict(others)


class Masks:
    """Reads the masks of an environment's agents.

    Args:
        names: of the agents.
        sizes: how many actions each has.
        spaces: of what each observes.
        infos: of a first reset.
        components: see ``ActionSpaces``; None: actions have no components.

    Attributes:
        given: there are any, by the spaces or the infos of the reset.
    """

    def __init__(
        self,
        names: Sequence[Any],
        sizes: Sequence[int],
        spaces: Sequence[Any],
        infos: Any,
        components: Sequence[Sequence[int]] | None = None,
    ) -> None:
        self._names, self._components = names, components or [[size] for size in sizes]
        inner = [seen_space(space) for space in spaces]
        self._in_dict = [seen is not space for seen, space in zip(inner, spaces, strict=True)]
        self._alone = [hidden and set(space.spaces) == {MASK, OBSERVATION}
                       for hidden, space in zip(self._in_dict, spaces, strict=True)]  # fmt: skip
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
        """What an agent sees, without its mask.

        Raises:
            ValueError: that is not in its Dict.
        """
        return _entry(self._names[number], seen, OBSERVATION) if self._alone[number] else seen

    def of(self, number: int, seen: Any, infos: Any) -> Any:
        """The mask of one agent as the package gives it; None: there is none."""
        name = self._names[number]
        given = seen.get(name) if self._in_dict[number] and isinstance(seen, Mapping) else None
        return given.get(MASK) if isinstance(given, Mapping) else _in_infos(infos).get(name)

    def legal(self, seen: dict[Any, Any], infos: Any) -> np.ndarray:
        """Which actions are legal next, ``[A, N]`` bool: all those of agents that no mask is given for.

        Raises:
            ValueError: a mask is not one flag per action, is not in a Dict whose space has it, or there had been none
                at the reset.
        """
        found = _in_infos(infos)
        if found and not self.given:
            raise ValueError(f"its infos give an {MASK} and those of its reset had given none")
        if not self.given:
            return self._all
        legal = self._all.copy()
        for number, (name, components) in enumerate(zip(self._names, self._components, strict=True)):
            if self._in_dict[number] and name in seen:
                found[name] = _entry(name, seen[name], MASK)
            if name in found:
                flags = _combined(name, found[name], components)
                legal[number, : len(flags)] = flags
        return legal


def idle_action(space: Any, mask: Any = None) -> Any:
    """What an agent does that has left: the first action that its newest mask allows, zeros of a box.

    Args:
        space: of its actions.
        mask: as packages give it; without one, or with one that cannot be read, all actions are legal.
    """
    does = ActionSpaces([space], "")
    if does.continuous:
        return np.zeros(space.shape, dtype=space.dtype)
    flags = np.zeros(1)
    with suppress(ValueError):
        flags = flags if mask is None else _combined("", mask, does.components[0])
    return does.given(0, np.asarray(flags.argmax()))


def _entry(name: Any, seen: Any, key: str) -> Any:
    """What is under a key of the Dict that an agent sees."""
    if not isinstance(seen, Mapping) or key not in seen:
        raise ValueError(f"what agent {name} sees has no {key}, which its space has")
    return seen[key]


def _in_infos(infos: Any) -> dict[Any, Any]:
    each = infos.items() if isinstance(infos, dict) else ()
    return {name: info[MASK] for name, info in each if isinstance(info, dict) and MASK in info}


def _combined(name: Any, mask: Any, components: Sequence[int]) -> np.ndarray:
    """Flags of an agent's actions, which combine those of its components."""
    if len(components) == 1:
        return _flags(name, mask, components[0])
    flags = np.ones(1, dtype=bool)
    for part in _of_components(name, mask, components):
        flags = np.logical_and.outer(flags, part).reshape(-1)
    return flags


def _of_components(name: Any, mask: Any, components: Sequence[int]) -> list[np.ndarray]:
    if isinstance(mask, tuple | list) and len(mask) == len(components) and not all(np.ndim(one) == 0 for one in mask):
        return [_flags(name, one, size) for one, size in zip(mask, components, strict=True)]
    if all(size == 2 for size in components) and np.size(mask) == len(components):  # MultiBinary's
        given = np.asarray(mask).reshape(-1)
        if not np.isin(given, (0, 1, 2)).all():
            raise ValueError(
                f"the {MASK} of agent {name} is {str(mask)[:60]}, expected {len(components)} of 0, 1 and 2"
            )
        return [np.array([value != 1, value != 0]) for value in given]
    return np.split(_flags(name, mask, sum(components)), np.cumsum(components)[:-1])


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
