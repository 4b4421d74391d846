"""Python's garbage collector while a program loads its packages."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Import packages without the garbage collector, and keep it from looking at them later.

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
