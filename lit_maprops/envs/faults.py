"""Faults of an environment in the middle of a run: named with seed and env step; they stop the run, or a seed.

A fault is an exception, a wrong shape, or NaN or an infinite number in a reward, an observation or the global state.
What a learner makes of sound numbers is no fault: a diverged seed is reported by ``callbacks`` and trains on.

A quarantined seed learns no more and its figures are NaN. Its environments repeat those of a sound seed from then on:
the task meets no broken state again, and its batch keeps size and places, so that the sound seeds' numbers stay what
they were, bit for bit. What the quarantined seed collects there is not used.
"""

from collections.abc import Mapping
from typing import Any, Final

import torch
from tensordict import TensorDictBase
from torch import Tensor

from lit_maprops import keys
from lit_maprops.system.errors import EnvironmentFault

STOP: Final = "stop"
QUARANTINE: Final = "quarantine"
CORRECT = "correct the environment"
# In the order in which a step brings them; the first two are what it started from.
CHECKED = {
    "observation": keys.OBSERVATION,
    "global state": keys.STATE,
    "reward": ("next", *keys.REWARD),
    "next observation": ("next", *keys.OBSERVATION),
    "next global state": ("next", keys.STATE),
}


class RowsFailed(Exception):
    """Raised by a task that steps its environments one after the other: some of them raised, the others went on.

    Args:
        errors: the exception of each row that raised, by its number in the flattened batch.
        outcome: what the task would have returned; in rows that raised, anything of the right shape.
    """

    def __init__(self, errors: Mapping[int, BaseException], outcome: Any) -> None:
        super().__init__(f"{len(errors)} rows raised")
        self.errors, self.outcome = errors, outcome


class Faults:
    """What went wrong in the environments of a run, and which seeds are quarantined for it.

    Args:
        task: its name, for messages.
        seed_ids: the seeds of this process.
        on_fault: ``stop`` or ``quarantine``.

    Attributes:
        env_steps: the clock: env steps per seed that the training environments have done.
        quarantined: ``seed``, ``env_step`` and ``reason`` of the quarantined seeds, by their place in the batch.
        learning: ``[R]`` bool, which seeds are not quarantined; None: all.
    """

    def __init__(self, task: str, seed_ids: list[int], on_fault: str = STOP) -> None:
        self.task, self.seed_ids, self.on_fault = task, seed_ids, on_fault
        self.env_steps = 0
        self.quarantined: dict[int, dict[str, Any]] = {}
        self.learning: Tensor | None = None
        self._rows: Tensor | None = None  # [R], whose environments each seed plays

    def found(self, what: str, seed: int, env: int, env_step: int, cause: BaseException | None = None) -> None:
        """Quarantine the seed with this place in the batch, or stop the run.

        Raises:
            EnvironmentFault: the run stops at faults, or no sound seed is left.
        """
        if seed in self.quarantined:
            return
        number, where = self.seed_ids[seed], f"environment {env}"
        named = f"{self.task}: {what}, seed {number}, {where}, at env step {env_step:,}"
        if self.on_fault == STOP:
            raise EnvironmentFault(
                f"{named}: {CORRECT}, or give <model.on_fault> quarantine to go on without the seed"
            ) from cause
        self.quarantined[seed] = {"seed": number, "env_step": env_step, "reason": f"{what}, {where}"}
        if len(self.quarantined) == len(self.seed_ids):
            raise EnvironmentFault(f"{named}: this process has no other seed to go on with: {CORRECT}") from cause
        self._leave_out()

    def unattributed(self, what: str) -> EnvironmentFault:
        """A fault that cannot be told to be one seed's, so that none can be quarantined."""
        return EnvironmentFault(f"{self.task}: {what}, at env step {self.env_steps + 1:,}: {CORRECT}")

    def _leave_out(self) -> None:
        self.learning = torch.tensor([seed not in self.quarantined for seed in range(len(self.seed_ids))])
        seeds = torch.arange(len(self.seed_ids))
        self._rows = torch.where(self.learning, seeds, seeds[self.learning][0])

    def substituted(self, value: Tensor) -> Tensor:
        """``[R, ...]`` with what a sound seed's environments have or do in the place of a quarantined seed's."""
        return value if self._rows is None else value[self._rows.to(value.device)]

    def substituted_state(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """``substituted`` for every part of a state."""
        return state if self._rows is None else {name: self.substituted(value) for name, value in state.items()}

    def figures(self, value: Tensor) -> Tensor:
        """``[R]`` with NaN for quarantined seeds."""
        if self.learning is None:
            return value
        return value.where(self.learning.to(value.device), torch.nan)

    @torch.no_grad()
    def check_finite(self, batch: TensorDictBase) -> None:
        """Search the newest env steps ``[R, T, E]`` for numbers that are not finite; one device sync if there are none.

        Raises:
            EnvironmentFault: see ``found``.
        """
        values = {name: batch.get(key) for name, key in CHECKED.items()}
        values = {name: value for name, value in values.items() if value.is_floating_point() and value.numel()}
        # A sum is finite only if all its terms are, and much cheaper; one that overflows costs a closer look.
        sums = torch.stack([value.flatten(1).sum(1, dtype=torch.float32) for value in values.values()])
        for seed in (~sums.isfinite().all(0)).nonzero().flatten().tolist():
            self._name_first(seed, {name: value[seed] for name, value in values.items()})

    def _name_first(self, seed: int, values: dict[str, Tensor]) -> None:
        """Name the first number of ``[T, E, ...]`` tensors that is not finite."""
        steps, envs = next(iter(values.values())).shape[:2]
        places = [(value.isfinite().logical_not().nonzero(), name) for name, value in values.items()]
        firsts = [(place[0].tolist(), name) for place, name in places if len(place)]
        if not firsts:
            return
        index, name = min(firsts, key=lambda first: first[0][0])
        number = float(values[name][tuple(index)])
        agent = f" of agent {index[2]}" if name != "global state" and name != "next global state" else ""
        env_step = self.env_steps + (index[0] - steps) * envs + index[1] + 1
        shown = "NaN" if number != number else str(number)
        self.found(f"{shown} in the {name.removeprefix('next ')}{agent}", seed, index[1], env_step)

    def state_dict(self) -> list[dict[str, Any]]:
        """The quarantined seeds, for a checkpoint."""
        return list(self.quarantined.values())

    def load_state_dict(self, saved: list[dict[str, Any]]) -> None:
        """Continue with the quarantine of a ``state_dict``."""
        own = [entry for entry in saved if entry["seed"] in self.seed_ids]  # the others are other ranks'
        self.quarantined = {self.seed_ids.index(entry["seed"]): dict(entry) for entry in own}
        if own:
            self._leave_out()
