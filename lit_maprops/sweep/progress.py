"""What the user sees while a sweep runs: a bar on a terminal, else a line per ended run; stderr, like the runs' own."""

import sys
import time

from tqdm import tqdm

from lit_maprops.sweep.journal import Entry
from lit_maprops.system.errors import printable


class Progress:
    """Counts ended runs.

    Args:
        done: runs that ended in earlier calls.
        total: runs in all.
        workers: runs at a time.
    """

    def __init__(self, done: int, total: int, workers: int) -> None:
        self._before, self._done, self._total, self._workers = done, done, total, workers
        self._started = time.monotonic()
        self._bar = tqdm(
            total=total,
            initial=done,
            unit=" runs",
            disable=not sys.stderr.isatty(),
            dynamic_ncols=True,
            file=sys.stderr,
        )

    def say(self, message: str) -> None:
        """Print a line, above the bar if there is one."""
        tqdm.write(printable(message), file=sys.stderr)

    def ended(self, entry: Entry, result: str) -> None:
        """Count a run and say what became of it."""
        self._done += 1
        self._bar.update()
        words = {"finished": "finished", "stopped": "stopped early"}.get(entry.state)
        if words is None:
            words = f"failed (exit code {entry.exit_code}): {entry.error}; see {entry.log}"
        self.say(f"{entry.id} {words}{result} [{self._done} of {self._total}{self._left()}]")

    def _left(self) -> str:
        left = self._total - self._done
        if left == 0:
            return ""
        seconds = (time.monotonic() - self._started) / (self._done - self._before) * left
        return f", about {tqdm.format_interval(seconds)} left"

    def close(self) -> None:
        """Leave the bar on the screen."""
        self._bar.close()
