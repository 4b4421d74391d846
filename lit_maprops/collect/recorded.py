"""Collecting on a CUDA device: a vector step is recorded as one graph and replayed, see ``stacked.graphs``.

A vector step on small networks is some hundred kernels, and Python between them takes longer than they do. The steps
are those of ``TaskEnv`` and ``BehaviorActor``; what changes from step to step lies in memory that stays: the state, the
numbers drawn for a whole batch, the batch itself, and on the device the number of the step.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from typing_extensions import override

from lit_maprops import keys
from lit_maprops.behavior import MAPROPS, OnPolicy, TabularMAPROPS
from lit_maprops.collect.collection import BehaviorActor, Collection, carried
from lit_maprops.collect.plain import PURE
from lit_maprops.envs import TaskEnv
from lit_maprops.stacked.graphs import Graphed, can_record
from lit_maprops.stacked.streams import SeedStreams

# At a vector step they read what ``held_in_place`` names, and draw once.
LOW_DISCREPANCY = "low_discrepancy"  # draws that look at D
BEHAVIORS = OnPolicy, MAPROPS, TabularMAPROPS


def recordable(env: TaskEnv, actor: BehaviorActor) -> bool:
    """Whether vector steps can be recorded: tasks that neither ask the device nor remember anything themselves."""
    if actor.remembered:
        return False
    known = type(env.task) in PURE and type(actor.behavior) in BEHAVIORS and actor.behavior.draws != LOW_DISCREPANCY
    return known and can_record(env.device) and env.batch_size[1] == len(range(*env._own.indices(env.batch_size[1])))


class _Drawn:
    """In place of a ``SeedStreams``: the numbers that it gave for a whole batch, of the step at hand."""

    def __init__(self, numbers: Tensor, step: Tensor) -> None:
        self._numbers, self._step = numbers, step

    def uniform(self, *shape: int) -> Tensor:
        """``[R, *shape]``."""
        return self._numbers.index_select(1, self._step).reshape(len(self._numbers), *shape)


class _Noted:
    """A ``SeedStreams`` that notes the shapes of what is drawn."""

    def __init__(self, streams: SeedStreams) -> None:
        self._streams, self.shapes = streams, list[tuple[int, ...]]()

    def uniform(self, *shape: int) -> Tensor:
        """Likewise."""
        self.shapes.append(shape)
        return self._streams.uniform(*shape)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._streams, name)


class RecordedCollection(Collection):
    """As ``Collection``, with the same numbers; for what is ``recordable``. Its first batch is an ordinary one.

    A batch is overwritten by the next one.
    """

    def __init__(self, env: TaskEnv, actor: BehaviorActor, behavior_batch_size: int) -> None:
        super().__init__(env, actor, behavior_batch_size)
        self._actor, self._steps = actor, behavior_batch_size // env.batch_size[1]
        self._graphed = Graphed(self._vector_step, "vector steps")
        self._batch: TensorDictBase | None = None  # [R, T, E]
        self._next: TensorDictBase  # what the next vector step starts from, [R, E]

    @override
    def collect(self) -> TensorDictBase:
        if self._batch is None:
            return self._first_batch()
        env, behavior = self.env, self._actor.behavior
        for numbers, stream in zip(self._numbers, (env.streams, behavior.action_streams), strict=True):
            shape = numbers.shape[2:]  # of a single step the numbers are on the device already
            numbers.copy_(
                stream.several(self._steps, *shape) if self._steps > 1 else stream.uniform(*shape).unsqueeze(1)
            )
        self._step.zero_()
        held = [
            *self._numbers,
            self._step,
            *self._state.values(),
            *self._leaves(self._next),
            *self._leaves(self._batch),
        ]
        held += [*self._actor.policies.parameters(), *behavior.held_in_place(), env.fixed_start_noise]
        count = env.faults.env_steps + self._steps * env.batch_size[1]
        with self._drawing(*(_Drawn(numbers, self._step) for numbers in self._numbers)):
            for _ in range(self._steps):
                self._graphed([], held, len(env.faults.quarantined))
        env.faults.env_steps = count  # which no replay counts
        return self._batch

    def _first_batch(self) -> TensorDictBase:
        """Finds out what is drawn and what a batch holds."""
        env = self.env
        noted = _Noted(env.streams), _Noted(self._actor.behavior.action_streams)
        with self._drawing(*noted):
            batch = super().collect()
        # The environment's last draw is that of a step; the start of an episode drew before.
        shapes = [streams.shapes[-1] for streams in noted]
        self._numbers = [torch.empty(len(batch), self._steps, *shape, device=env.device) for shape in shapes]
        self._step = torch.zeros(1, dtype=torch.int64, device=env.device)
        self._batch = batch.clone()
        self._enter(env._state, carried(env, self._collector._carrier))
        return batch

    def _enter(self, state: dict[str, Tensor], start: dict[str, Tensor]) -> None:
        """Go on from here."""
        self._state = {name: value.clone() for name, value in state.items()}
        self.env._state = dict(self._state)
        started = {name: value.clone() for name, value in start.items()}
        self._next = TensorDict(started, batch_size=self.env.batch_size).unflatten_keys("/")

    def _vector_step(self, given: Sequence[Tensor], held: Sequence[Tensor], quarantined: int) -> tuple[Tensor, ...]:
        env, batch = self.env, self._batch
        assert batch is not None
        env._state = dict(self._state)
        step = self._actor(self._next.clone(recurse=False))
        step.set("next", env._step(step))
        for name, value in step.items(True, True):
            batch.get(name).index_copy_(1, self._step, value.unsqueeze(1))
        following = env.maybe_reset(step.get("next").exclude(keys.REWARD))
        for name in self._next.keys(True, True):
            self._next.get(name).copy_(following.get(name))
        for name, value in self._state.items():
            value.copy_(env._state[name])
        env._state = dict(self._state)
        self._step.add_(1)
        return ()

    @contextmanager
    def _drawing(self, noise: Any, uniform: Any) -> Iterator[None]:
        """The environment and the behavior policy draw from these."""
        behavior = self._actor.behavior
        streams = self.env.streams, behavior.action_streams
        self.env.streams, behavior.action_streams = noise, uniform
        try:
            yield
        finally:
            self.env.streams, behavior.action_streams = streams

    @staticmethod
    def _leaves(data: TensorDictBase) -> list[Tensor]:
        return list(data.values(True, True))

    @override
    def checkpoint_state(self) -> dict[str, Any]:
        saved = super().checkpoint_state()
        return saved if self._batch is None else saved | {"carried": carried(self.env, self._next)}

    @override
    def restore(self, saved: dict[str, Any]) -> None:
        super().restore(saved)
        self._batch = None  # the next batch is an ordinary one
