"""An environment that carries what policies and critic remember from step to step, and forgets it where episodes begin.

Then it is stored, carried on and saved as an observation is: D holds what was remembered before every step, and under
``"next"`` after it, also where an episode ends there.
"""

from collections.abc import Mapping
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torchrl.data import Unbounded
from typing_extensions import override

from lit_maprops import keys
from lit_maprops.envs.task_env import TaskEnv


class RememberingEnv(TaskEnv):
    """As ``TaskEnv``, for actors that write what they remember after a step under ``"next"``.

    Args:
        *task_env: arguments of ``TaskEnv``.
        sizes: of ``keys.MEMORY`` and, where a critic acts with the policies, ``keys.CRITIC_MEMORY`` in every
            environment: ``[A, H]``, ``[C, H]``.
        **others: likewise.
    """

    def __init__(self, *task_env: Any, sizes: dict[Any, tuple[int, int]], **others: Any) -> None:
        self._sizes = sizes
        super().__init__(*task_env, **others)

    @override
    def _make_specs(self) -> None:
        super()._make_specs()
        for name, size in self._sizes.items():
            self.observation_spec[name] = Unbounded((*self.batch_size, *size), device=self.device)

    @override
    def _reset(self, tensordict: TensorDictBase | None = None, **kwargs: Any) -> TensorDict:
        fresh = super()._reset(tensordict, **kwargs)
        for name, size in self._sizes.items():
            fresh.set(name, torch.zeros(*self.batch_size, *size, device=self.device))
        return fresh

    @override
    def _step(self, tensordict: TensorDictBase) -> TensorDict:
        following = super()._step(tensordict)
        remembered = tensordict.get("next")
        for name in self._sizes:
            following.set(name, remembered.get(name))
        return following

    @override
    def maybe_reset(self, tensordict: TensorDictBase) -> TensorDictBase:
        over = tensordict.get(keys.DONE)
        if self.device.type == "cpu" and not over.any():
            return tensordict
        kept = {name: torch.where(over.unsqueeze(-1), 0.0, tensordict.get(name)) for name in self._sizes}
        begun = super().maybe_reset(tensordict)
        for name, value in kept.items():
            begun.set(name, value)
        return begun


def environment(remembered: Mapping[Any, tuple[int, int]], *task_env: Any, **others: Any) -> TaskEnv:
    """A ``TaskEnv``, or a ``RememberingEnv`` where anything is remembered.

    Args:
        remembered: its ``sizes``, such as ``BehaviorActor.remembered``.
        *task_env: arguments of ``TaskEnv``.
        **others: likewise.
    """
    if not remembered:
        return TaskEnv(*task_env, **others)
    return RememberingEnv(*task_env, sizes=dict(remembered), **others)
