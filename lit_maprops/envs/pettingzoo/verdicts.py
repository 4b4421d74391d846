"""Which episodes of a PettingZoo package succeed, by the infos it gives: PettingZoo itself has no place for it."""

from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch

from lit_maprops.envs.base import Task
from lit_maprops.envs.faults import RowsFailed
from lit_maprops.envs.pettingzoo.masks import nth_legal

NAMES = ("success", "is_success")  # the latter as Stable-Baselines3 and Gymnasium-Robotics have it
_COMMON = "all agents"


class Verdicts:
    """The newest verdicts of success of every environment's episode.

    A verdict is a number or a flag under one of ``NAMES``: in an agent's info (or in another entry of the infos that is
    a dict, which some packages have for all agents), or in the infos themselves, which then is the only one. An episode
    succeeds if the newest verdict of everyone who gave one is true when it ends.

    Attributes:
        told: whether any verdict was that an episode does not succeed (yet): so the package tells both. One that
            only ever says yes is not known to judge before its first success.
    """

    def __init__(self) -> None:
        self.told = False
        self._newest: WeakKeyDictionary[Any, dict[Any, bool]] = WeakKeyDictionary()

    def begin(self, env: Any) -> None:
        """Forget the last episode's."""
        self._newest[env] = {}

    def success(self, env: Any, infos: Any) -> bool:
        """Whether the episode would be a success if it ended with the step that gave ``infos``."""
        newest = self._newest[env]
        for who, verdict in _given(infos).items():
            newest[who] = verdict
            self.told |= not verdict
        counted = [newest[_COMMON]] if _COMMON in newest else list(newest.values())
        return bool(counted) and all(counted)


def _given(infos: Any) -> dict[Any, bool]:
    if not isinstance(infos, dict):
        return {}
    common = _verdict(infos)
    if common is not None:
        return {_COMMON: common}
    verdicts = {who: _verdict(info) for who, info in infos.items() if isinstance(info, dict)}
    return {who: verdict for who, verdict in verdicts.items() if verdict is not None}


def _verdict(info: dict[Any, Any]) -> bool | None:
    """The first that is one number; other things of that name are no verdict, nor is NaN."""
    for name in NAMES:
        try:
            value = np.asarray(info.get(name))
        except (TypeError, ValueError):  # rows of different lengths, say
            continue
        if value.dtype.kind in "biuf" and value.size == 1 and not np.isnan(value.item()):
            return bool(value.item())
    return None


def play_on_trial(task: Task) -> None:
    """Play an episode in which everybody takes the first legal action, or the middle of continuous ones, to its end.

    Args:
        task: whose states hold the actions that were taken, not yet taken ones as 0.
    """
    noise = torch.full((1, task.start_noise), 0.5)
    with suppress(RowsFailed):  # which a run would meet, too, and say
        state = task.initial_state(noise)
        for step in range(task.max_steps):
            action = state["actions"][:, step]
            if task.masks_actions:
                action = nth_legal(task.legal_actions(state), action)
            state = task.transition(state, action, noise[:, :0]).state
