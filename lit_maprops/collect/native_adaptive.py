"""Collecting D and updating pi_phi in turn by one compiled kernel, ``adaptive.cpp``."""

import ctypes
from time import perf_counter

import torch
from torch import Tensor
from typing_extensions import override

from lit_maprops.behavior import MAPROPS, BehaviorPolicy
from lit_maprops.behavior.update.native import Training, statistics
from lit_maprops.behavior.update.table_trainer import TableTrainer
from lit_maprops.collect.collection import BehaviorActor
from lit_maprops.collect.native import NativeCollection
from lit_maprops.collect.native_call import Rollout
from lit_maprops.envs import TaskEnv
from lit_maprops.native.arrays import address
from lit_maprops.native.build import run


class _Retained(ctypes.Structure):
    """``Retained`` of adaptive.cpp."""

    _fields_ = [
        *((name, ctypes.c_int32) for name in ("steps", "room", "width", "actions")),
        *((name, ctypes.c_void_p) for name in ("inputs", "target", "taken", "row")),
    ]


class _Adaptive(ctypes.Structure):
    """``Adaptive`` of adaptive.cpp."""

    _fields_ = [
        ("rollout", ctypes.POINTER(Rollout)),
        ("training", Training),
        ("retained", _Retained),
        *((name, ctypes.c_int32) for name in ("steps", "epochs", "warm_start", "reset_optimizer", "measure_every")),
        ("max_sample_passes", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("gradient_steps", "active", "kl", "ratio_clipped", "seconds")),
    ]


def trainer_between_steps(behavior: BehaviorPolicy) -> TableTrainer | None:
    """What trains a behavior policy, if its updates can run between the kernel's steps; None: they cannot.

    Args:
        behavior: built, and told to use kernels or not to.
    """
    if type(behavior) is not MAPROPS:
        return None
    trainer = behavior.delta_trainer
    return trainer if isinstance(trainer, TableTrainer) and trainer.native and trainer.needs_only_steps else None


class AdaptiveCollection(NativeCollection):
    """Whole target batches, with the behavior updates that belong between their steps.

    What ``NativeCollection`` and ``TableTrainer.update`` do in turn, seed after seed: a seed's networks and its D stay
    in the processor's cache from the first step to the last.

    Args:
        env: see ``NativeCollection``.
        actor: see there.
        behavior_batch_size: m, env steps per seed between updates; a multiple of E.
        target_batch_size: n, env steps per seed and batch; a multiple of m.
        measure_every: of so many updates the last one is measured.
        trainer: the behavior policy's, from ``trainer_between_steps``.
    """

    def __init__(
        self,
        env: TaskEnv,
        actor: BehaviorActor,
        behavior_batch_size: int,
        target_batch_size: int,
        measure_every: int,
        trainer: TableTrainer,
    ) -> None:
        super().__init__(env, actor, target_batch_size)
        self._trainer = trainer
        self._m, self._measure_every = behavior_batch_size, measure_every
        self._updates_between = target_batch_size // behavior_batch_size - 1

    @override
    def _run(self) -> None:
        trainer, options, store = self._trainer, self._trainer.options, self._trainer.store
        settings, count, seeds = trainer.settings, self._updates_between, self._call.seeds
        gradient_steps = torch.empty(count, seeds, dtype=torch.int64)
        active = torch.empty(count, seeds, dtype=torch.bool)
        kl, clipped = torch.empty(2, count // self._measure_every, seeds)
        seconds = torch.empty(seeds, 2, dtype=torch.float64)
        training = Training.of(
            *(trainer.net, trainer.optimizer, settings.clip_epsilon, settings.kl_cutoff),
            from_zero=not options.warm_start,
            systematic=settings.systematic,
        )
        retained, kept = _retained(*store.steps_and_rows()) if store.steps else (_Retained(), ())
        call = _Adaptive(
            *(ctypes.pointer(self._call), training, retained),
            *(self._m // self._call.envs, settings.epochs, options.warm_start, settings.reset_optimizer),
            *(self._measure_every, options.max_sample_passes or 0),
            *(tensor.data_ptr() for tensor in (gradient_steps, active, kl, clipped, seconds)),
        )
        started = perf_counter()
        run("adaptive", call)
        collecting, updating = seconds.sum(0).tolist()
        self.update_seconds = (perf_counter() - started) * updating / (collecting + updating)
        torch.autograd.graph.increment_version(trainer.net.flat)  # torch has not seen it change
        del kept, training
        stats = statistics(gradient_steps, active) | {"kl": kl, "ratio_clipped": clipped}
        stats["gradient_steps_allowed"] = self._allowed(store.steps).unsqueeze(1).expand_as(gradient_steps)
        self.updates = {name: list(value.unbind(0)) for name, value in stats.items()}

    def _allowed(self, retained: int) -> Tensor:
        """Gradient steps that each update may make at most, ``[updates]``."""
        epochs, passes = self._trainer.settings.epochs, self._trainer.options.max_sample_passes
        allowed = torch.full((self._updates_between,), epochs)
        if passes is not None:
            steps = retained + self._m * torch.arange(1, self._updates_between + 1)
            allowed = (passes // steps).clamp(1, epochs)
        return allowed


def _retained(inputs: Tensor, target: Tensor, taken: Tensor, row: Tensor) -> tuple[_Retained, tuple[Tensor, ...]]:
    """D so far for the kernel, and what has to stay alive during the call."""
    kept = tuple(tensor.contiguous() for tensor in (inputs, target, taken, row))
    types = torch.float32, torch.float32, torch.int64, torch.int64
    addresses = (address(tensor, dtype) for tensor, dtype in zip(kept, types, strict=True))
    return _Retained(taken.shape[1], inputs.shape[1], inputs.shape[2], target.shape[1], *addresses), kept
