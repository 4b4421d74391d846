"""What a task says of itself before there is any state: refused where it does not fit together."""

import math

import torch
from torch import Tensor

from lit_maprops.envs.base import Task
from lit_maprops.system.entry_points import tried
from lit_maprops.system.errors import check


def check_declared(task: Task) -> None:
    """Look at ``action_mask`` and ``observation_shape``.

    Raises:
        ConfigError: the mask is none, an agent has no action, or a picture is larger than the observation it stands in.
    """
    named = f"<data.env> {type(task).__name__}"
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
