"""Importing the packages that a command needs, in less time."""

import gc
import importlib
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import Any

SIGNAL = "scipy.signal"
SELDOM = 50_000  # new objects from one look of the garbage collector to the next; Python has 700


@contextmanager
def loading() -> Iterator[None]:
    """A block of imports."""
    with ExitStack() as stack:
        stack.enter_context(_uncollected())
        stack.enter_context(_without_scipy_signal())
        yield


@contextmanager
def _uncollected() -> Iterator[None]:
    """Import without the garbage collector, and keep it from looking at what came later.

    torch and what stands on it make a million objects that all stay. The collector looks through them again and again
    while they come, a fifth of the loading's time, and would do so now and then while a run trains. A program that has
    switched it off by itself is left alone.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@contextmanager
def seldom_collected() -> Iterator[None]:
    """A block of work that makes many objects of which most stay: the garbage collector looks through them less often.

    What is there already, it does not look at any more. What comes and goes in circles, such as figures, still goes.
    """
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(SELDOM, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


@contextmanager
def _without_scipy_signal() -> Iterator[None]:
    """Spare a sixth of the loading: Lightning asks torchmetrics for its version, and that imports scipy.signal.

    All it wants there is to give back ``hamming``, which an old package for audio misses. Whoever wants more, in the
    block or afterwards, gets the real module.
    """
    if SIGNAL in sys.modules:
        yield
        return
    stand_in = sys.modules[SIGNAL] = _StandIn(SIGNAL)
    try:
        yield
    finally:
        stand_in.leave()


class _StandIn(ModuleType):
    """Has what torchmetrics looks for; for everything else the module itself is imported."""

    hamming = None

    def leave(self) -> None:
        if sys.modules.get(SIGNAL) is self:
            del sys.modules[SIGNAL]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__path__":  # who looks through all modules wants nothing of this one
            raise AttributeError(name)
        self.leave()
        return getattr(importlib.import_module(SIGNAL), name)
