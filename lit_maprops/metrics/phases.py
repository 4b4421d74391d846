"""Which part of a run is at work, and how long each part of a target iteration took."""

from collections import defaultdict
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

    def move(self, seconds: float, from_: str, to: str) -> None:
        """Count what was one phase's time for another, which was at work within it."""
        self.seconds[from_] -= seconds
        self.seconds[to] += seconds

    def __call__(self, name: str) -> "Phase":
        """A block in which phase ``name`` is at work."""
        return Phase(self, name)


class Phase:
    """See ``Phases.__call__``. A class: a generator takes several times as long, and a small game's phases are short.

    Args:
        phases: that it belongs to.
        name: of it.
    """

    __slots__ = ("_name", "_outer", "_phases", "_started")

    def __init__(self, phases: Phases, name: str) -> None:
        self._phases, self._name = phases, name

    def __enter__(self) -> None:
        self._outer, self._phases.current, self._started = self._phases.current, self._name, perf_counter()

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if kind is None:  # an exception leaves the name of the phase that it comes from
            self._phases.seconds[self._name] += perf_counter() - self._started
            self._phases.current = self._outer
