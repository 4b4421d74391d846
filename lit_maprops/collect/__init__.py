"""Collecting D: with TorchRL's collector, which any task will do for, in plain tensors,
as CUDA graphs, or with a compiled kernel."""

from lit_maprops.collect.collection import BehaviorActor, Collection, saved_like, step_bytes, update_keys
from lit_maprops.collect.native import NativeCollection, unsupported
from lit_maprops.collect.native_adaptive import AdaptiveCollection, trainer_between_steps
from lit_maprops.collect.plain import PlainCollection, serves
from lit_maprops.collect.recorded import RecordedCollection, recordable

__all__ = [
    "AdaptiveCollection",
    "BehaviorActor",
    "Collection",
    "NativeCollection",
    "PlainCollection",
    "RecordedCollection",
    "recordable",
    "saved_like",
    "serves",
    "step_bytes",
    "trainer_between_steps",
    "unsupported",
    "update_keys",
]
