"""Which part of a run is at work, and how long each part of a target iteration took."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

COLLECT, BUFFER, BEHAVIOR, TARGET = "collect", "buffer", "behavior", "target"
SAMPLING_ERROR, EVALUATION, CHECKPOINT = "sampling_error", "evaluation", "checkpoint"
TIMED = (COLLECT, BEHAVIOR, TARGET)  # columns of metrics.csv


class Phases:
    """Names the phase at work, and adds up its seconds.

    Attributes:
        current: the phase at work, or the one that an exception left; None between phases.
        seconds: of each phase since ``restart``; a phase inside another counts for both.
    """

    def __init__(self) -> None:
        self.current: str | None = None
        self.restart()

    def restart(self) -> None:
        """Count from zero."""
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """The block is phase ``name``."""
        outer, self.current, started = self.current, name, perf_counter()
        yield
        # Not in a finally: an exception leaves the name of the phase that it comes from.
        self.seconds[name] += perf_counter() - started
        self.current = outer
