"""CUDA graphs: the kernels of a whole function recorded once, then launched together.

A launch takes the host some microseconds, a kernel on small networks the device less: without graphs the device waits
for Python. A recorded function must be one of tensors alone: what it draws, asks or decides in Python is recorded as
it was, and a question to the device (``item``, a mask as index) cannot be recorded at all.
"""

import sys
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

MOST_GRAPHS = 64  # of one function; with one more all are recorded anew
FAILED: dict[str, str] = {}  # why functions of this process could not be recorded, by their names

Function = Callable[..., tuple[Tensor, ...]]


def can_record(device: torch.device) -> bool:
    """Whether functions of tensors on ``device`` can be recorded."""
    return device.type == "cuda"


class _Recorded(NamedTuple):
    graph: Any
    given: list[Tensor]  # where the graph reads
    results: tuple[Tensor, ...]  # where it writes


class Graphed:
    """A function that a CUDA device replays; elsewhere, and where recording fails, it is simply called.

    The first call with new shapes is an ordinary one, in which libraries make themselves ready; the second is recorded
    and replayed, later ones are replayed.

    Args:
        function: called with ``given``, ``held`` and ``settings``; returns tensors. It may write to ``held`` only.
        name: what it does, for the line that says that recording failed.
    """

    def __init__(self, function: Function, name: str) -> None:
        self._function, self._name = function, name
        self._recorded: dict[Hashable, _Recorded | None] = {}  # None: called once
        self._pool: Any = None
        self._stream: Any = None
        self.why_not: str | None = None  # recording failed

    def __reduce__(self) -> tuple[Any, ...]:
        return Graphed, (self._function, self._name)  # copies record anew: a graph is bound to its memory

    def __call__(self, given: Sequence[Tensor], held: Sequence[Tensor], *settings: Hashable) -> tuple[Tensor, ...]:
        """Call, record or replay.

        Args:
            given: tensors that may be others in every call; they are copied to where the graph reads.
            held: tensors that stay where they are and are read or written in place; elsewhere, a new graph is recorded.
            settings: what else the function depends on.

        Returns:
            What the function returns, in memory of its own.
        """
        if self.why_not is not None or not can_record((*given, *held)[0].device):
            return self._function(given, held, *settings)
        key = tuple(map(_form, given)), tuple((*_form(tensor), _place(tensor)) for tensor in held), settings
        if key not in self._recorded:
            if len(self._recorded) >= MOST_GRAPHS:
                self._forget()
            self._recorded[key] = None
            return self._function(given, held, *settings)
        recorded = self._recorded[key]
        if recorded is None:
            try:
                recorded = self._recorded[key] = self._record(given, held, settings)
            except Exception as error:  # nothing has run: a recording executes nothing; a mistake is raised below
                self._give_up(error)
                return self._function(given, held, *settings)
        for buffer, tensor in zip(recorded.given, given, strict=True):
            buffer.copy_(tensor, non_blocking=True)
        recorded.graph.replay()
        return tuple(result.clone() for result in recorded.results)

    def _record(self, given: Sequence[Tensor], held: Sequence[Tensor], settings: tuple[Hashable, ...]) -> _Recorded:
        if self._pool is None:  # one for all graphs of this function, which never run at the same time
            self._pool, self._stream = torch.cuda.graph_pool_handle(), torch.cuda.Stream((*given, *held)[0].device)
        buffers = [tensor.clone() for tensor in given]
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
            results = self._function(buffers, held, *settings)
        return _Recorded(graph, buffers, results)

    def _forget(self) -> None:
        """All graphs at once: those of a stream share cuBLAS's workspace, which torch frees with the first of them.

        So no other function's graphs may be of that stream (github.com/pytorch/pytorch/issues/193402).
        """
        self._recorded.clear()
        self._pool = self._stream = None

    def _give_up(self, error: Exception) -> None:
        self._forget()
        self.why_not = FAILED[self._name] = next(iter(str(error).splitlines()), "") or type(error).__name__
        print(f"{self._name}: no CUDA graph, kernels are launched one by one ({self.why_not})", file=sys.stderr)


def _form(tensor: Tensor) -> tuple[Hashable, ...]:
    return tensor.shape, tensor.stride(), tensor.dtype


def _place(tensor: Tensor) -> int:
    return tensor.data_ptr()
