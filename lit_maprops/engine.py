"""Which engine runs each part of a run: torch, or a compiled kernel where one can."""

from typing import NamedTuple

import torch

from lit_maprops.behavior import BehaviorPolicy
from lit_maprops.collect.native import unsupported
from lit_maprops.envs import Task
from lit_maprops.native.build import why_none
from lit_maprops.system.errors import ConfigError
from lit_maprops.targets import Learner

AUTO, TORCH, NATIVE = "auto", "torch", "native"
NAMES = {"rollout": "rollout", "behavior": "behavior updates", "targets": "target updates"}


NOTHING = "nothing is trained"
HEARD = "a callback listens to the optimizer's steps, which a kernel does not make one by one"


class Engines(NamedTuple):
    """Of every part, why torch runs it, in words; None: a kernel does."""

    rollout: str | None
    behavior: str | None
    targets: str | None

    def native(self) -> list[str]:
        """The parts that kernels run, by ``NAMES``."""
        return [part for part, reason in self._asdict().items() if reason is None]

    def names(self) -> dict[str, str]:
        """The engine of every part."""
        return {part: TORCH if reason else NATIVE for part, reason in self._asdict().items() if reason != NOTHING}

    def line(self) -> str:
        """What a user is told at the start."""
        if not self.native():
            return f"engine: torch ({self.reasons()})"
        by_torch = "".join(f"; {NAMES[part]} in torch ({reason})" for part, reason in self._by_torch().items())
        return f"engine: native for {', '.join(NAMES[part] for part in self.native())}{by_torch}"

    def reasons(self) -> str:
        """Why torch runs what it runs; part by part, unless it is the same for all."""
        own = self._by_torch()
        if len({*own.values()}) == 1:
            return next(iter(own.values()))
        return "; ".join(f"{NAMES[part]}: {reason}" for part, reason in own.items())

    def _by_torch(self) -> dict[str, str]:
        return {part: reason for part, reason in self._asdict().items() if reason and reason != NOTHING}


def choose(
    engine: str,
    device: torch.device,
    task: Task,
    behavior: BehaviorPolicy,
    learner: Learner,
    team: int = 1,
    heard: bool = False,
) -> Engines:
    """What runs the parts of a run; behavior policy and learner are built, and set to it.

    Args:
        engine: ``auto``, ``torch`` or ``native``.
        device: of the run.
        task: of the run.
        behavior: the behavior policy.
        learner: the learner.
        team: ranks that share the rows of a seed.
        heard: somebody listens to the optimizers' steps.

    Raises:
        ConfigError: ``native`` is asked for and no kernel can run anything.
    """
    general = "asked for" if engine == TORCH else None
    if general is None and device.type != "cpu":
        general = f"kernels are for the CPU, the run is on {device.type}"
    general = general or why_none()
    parts = Engines(general, general, general)
    if general is None:
        parts = Engines(
            unsupported(task, learner.policies, behavior, device, team, learner.acting_critic()),
            NOTHING if behavior.optimizer is None else behavior.why_not_native(),
            HEARD if heard else learner.why_not_native(),
        )
    if engine == NATIVE and not parts.native():
        raise ConfigError(f"<model.engine> is native and no part has a kernel ({parts.reasons()}): use auto or torch")
    for part, reason in ((behavior, parts.behavior), (learner, parts.targets)):
        if reason is None:
            part.use_kernel()
    return parts
