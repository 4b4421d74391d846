"""Collecting D: with TorchRL's collector, which any task will do for, or with a compiled kernel."""

from lit_maprops.collect.collection import BehaviorActor, Collection, saved_like, step_bytes, update_keys
from lit_maprops.collect.native import NativeCollection, unsupported
from lit_maprops.collect.native_adaptive import AdaptiveCollection, trainer_between_steps

__all__ = [
    "AdaptiveCollection",
    "BehaviorActor",
    "Collection",
    "NativeCollection",
    "saved_like",
    "step_bytes",
    "trainer_between_steps",
    "unsupported",
    "update_keys",
]
