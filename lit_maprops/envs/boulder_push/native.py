"""BoulderPush as ``step.hpp`` takes it."""

import ctypes

import torch

from lit_maprops.envs.boulder_push.task import BoulderPush
from lit_maprops.native.arrays import address

STATE = ("direction", "boulder", "agents")  # the parts of the state, in the order of step.hpp
_INTS = ["height", "width", "agents", "direction", "sensor_range", "fixed_cells"]


class Rules(ctypes.Structure):
    """``Rules`` of step.hpp."""

    _fields_ = [
        *((name, ctypes.c_int32) for name in _INTS),
        ("penalty", ctypes.c_float),
        ("incentive", ctypes.c_float),
        ("start", ctypes.c_void_p),
    ]


def rules(task: BoulderPush) -> Rules:
    """Of a task, which must outlive them."""
    start = None if task.start is None else task.start.value
    direction = -1 if task.direction is None else task.direction
    return Rules(
        *(task.height, task.width, task.n_agents, direction, task.sensor_range),
        *(start is not None, task.penalty, task.incentive),
        address(start, torch.int8),
    )
