"""Pictures in observations, for networks with convolutions."""

import math
from collections.abc import Sequence

from lit_maprops.envs.base import Task
from lit_maprops.stacked.layers import Picture, after
from lit_maprops.system.errors import check


def picture_of(task: Task) -> Picture | None:
    """Where in an agent's observation a picture stands; None: there is none."""
    shape = task.observation_shape
    return None if shape is None else Picture(task.observation_dim - math.prod(shape), shape)


def check_layers(argument: str, cnn: Sequence[Sequence[int]]) -> None:
    """Refuse convolutions that are not three numbers each.

    Args:
        argument: whose value they are, for messages, without brackets.
        cnn: the convolutions.

    Raises:
        ConfigError: names the argument.
    """
    for layer in cnn:
        check(len(layer) == 3, f"<{argument}> has {layer}: give [channels, kernel, stride] for each convolution")


def check_pictures(argument: str, cnn: Sequence[Sequence[int]], task: Task) -> None:
    """Refuse convolutions that do not fit the task.

    Args:
        argument: see ``check_layers``.
        cnn: see there.
        task: of the run.

    Raises:
        ConfigError: names the argument.
    """
    if not cnn:
        return
    shape = task.observation_shape
    check(
        shape is not None,
        f"<{argument}> looks at pictures, and the observations of {type(task).__name__} are none: leave it out",
    )
    assert shape is not None  # for mypy; checked above
    sides = list(shape[1:])
    for _, kernel, stride in cnn:
        told = f"<{argument}> has a kernel of {kernel} for what is {sides[0]} x {sides[1]}: give a smaller one"
        check(min(sides) >= kernel, told)
        sides = after(sides, kernel, stride)
