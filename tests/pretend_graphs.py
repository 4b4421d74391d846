"""Pretended CUDA graphs: what a function does to tensors is noted down, undone, and done again at every replay.

As with real graphs a recording executes nothing, Python runs once, operations work on the tensors that they were
recorded with, wherever those numbers came from then, and whatever makes the host wait cannot be recorded. What a
replay reads beside its own inputs is read where it lay.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from lit_maprops.stacked import graphs

counts: Counter[str] = Counter()  # of recordings and replays
places: list[tuple[object, object]] = []  # memory and stream of every recording


def mutated(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    """The tensors that an operation writes to."""
    written = []
    for place, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = kwargs.get(argument.name, args[place] if place < len(args) else None)
            written += [leaf for leaf in tree_flatten(value)[0] if isinstance(leaf, Tensor)]
    return written


class Graph(TorchDispatchMode):
    """In place of ``torch.cuda.CUDAGraph``."""

    def __init__(self) -> None:
        super().__init__()
        self._done: list[tuple[Any, tuple[Any, ...], dict[str, Any], list[Tensor]]] = []
        self._before: list[tuple[Tensor, Tensor]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        written = mutated(func, args, kwargs)
        self._before += [(tensor, tensor.detach().clone()) for tensor in written]
        result = func(*args, **kwargs)
        results = [leaf for leaf in tree_flatten(result)[0] if isinstance(leaf, Tensor)]
        alias = any(returned.alias_info is not None for returned in func._schema.returns)
        if written or not alias:  # a view needs no doing again
            self._done.append((func, args, kwargs, [] if written else results))
        return result

    @torch.no_grad()
    def undo(self) -> None:
        for tensor, before in reversed(self._before):
            tensor.copy_(before)
        self._before.clear()

    @torch.no_grad()
    def replay(self) -> None:
        counts["replays"] += 1
        for func, args, kwargs, results in self._done:
            again = tree_flatten(func(*args, **kwargs))[0]
            for place, value in zip(results, (leaf for leaf in again if isinstance(leaf, Tensor)), strict=False):
                place.copy_(value)


class Pretended:
    """Graphs on the pretended device, or on the CPU where there is no ``mode``."""

    def __init__(self, mode: Any = None) -> None:
        self.mode = mode

    @contextmanager
    def recording(self, graph: Graph, pool: object = None, stream: object = None) -> Iterator[None]:
        def asked() -> Counter[str]:
            return Counter() if self.mode is None else self.mode.waits + Counter(copies=self.mode.copies)

        before = asked()
        try:
            with graph:
                yield
        finally:
            graph.undo()
        if asked() != before:
            raise RuntimeError(f"operation not permitted when stream is capturing: {asked() - before}")
        counts["recordings"] += 1
        places.append((pool, stream))


def use(monkeypatch: pytest.MonkeyPatch, mode: Any = None) -> Counter[str]:
    """Record on the pretended device, or on the CPU; returns the counts of recordings and replays."""
    counts.clear()
    places.clear()
    monkeypatch.setattr(graphs, "can_record", lambda device: True)
    monkeypatch.setattr(graphs, "_place", lambda tensor: (tensor if mode is None else tensor.values).data_ptr())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", Pretended(mode).recording)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", object)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: object())
    rooms = "targets.ppo", "behavior.update.table_trainer", "collect.recorded"
    for module in (f"lit_maprops.{room}" for room in rooms):
        monkeypatch.setattr(f"{module}.can_record", lambda device: device.type != "cpu", raising=False)
    return counts


@contextmanager
def nothing_waits(mode: Any) -> Iterator[None]:
    """The host waits for the pretended device nowhere in this block."""
    mode.waits.clear()
    yield
    assert +mode.waits == {}
