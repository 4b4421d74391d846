"""What a task says of itself before there is any state: refused where it does not fit together."""

import math
from functools import partial
from numbers import Integral

import torch
from torch import Tensor

from lit_maprops.envs.base import Task
from lit_maprops.system.entry_points import tried
from lit_maprops.system.errors import check


def check_declared(task: Task) -> None:
    """Look at the sizes, ``action_mask`` and ``observation_shape``.

    Raises:
        ConfigError: a size is missing or none, the mask is none, an agent has no action, or a picture is larger than
            the observation it stands in.
    """
    named = f"<data.env> {type(task).__name__}"
    _check_sizes(named, task)
    mask, reason = tried(task.action_mask)
    told = f"{named}: action_mask() says what agents have at all and takes no state, and it fails ({reason})"
    check(not reason, f"{told}: mend it, and say in legal_actions(state) what they may do in a state")
    shape = (task.n_agents, task.action_dim if task.continuous_actions else task.n_actions)
    fits = isinstance(mask, Tensor) and mask.shape == shape and mask.dtype == torch.bool
    found = f"{list(mask.shape)} {mask.dtype}" if isinstance(mask, Tensor) else type(mask).__name__
    found = found.removeprefix("torch.").replace("torch.", "")
    check(fits, f"{named}: action_mask() gives {found}, expected {list(shape)} bool: mend it")
    without = (~mask.any(1)).nonzero().flatten().tolist()
    check(not without, f"{named}: action_mask() leaves agent {(*without, '')[0]} without any action: give it one")
    picture, numbers = task.observation_shape, task.observation_dim
    check(
        picture is None or math.prod(picture) <= numbers,
        f"{named}: observation_shape {picture} is a picture of {math.prod(picture or ())} numbers, and an observation "
        f"has {numbers} (observation_dim): mend either",
    )


def _check_sizes(named: str, task: Task) -> None:
    actions = "action_dim" if task.continuous_actions else "n_actions"
    least = {"n_agents": 1, actions: 1, "max_steps": 1}
    least |= dict.fromkeys(("observation_dim", "state_dim", "start_noise", "step_noise"), 0)
    for name, smallest in least.items():
        value, reason = tried(partial(getattr, task, name))
        unset = not hasattr(type(task), name) and name not in vars(task)
        check(not unset, f"{named} has no {name}: set it in the class or in its __init__")
        check(not reason, f"{named}: {name} cannot be read ({reason}): mend it")
        whole = isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= smallest
        check(whole, f"{named}: {name} is {value!r}: give an integer of at least {smallest}")
