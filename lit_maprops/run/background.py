"""Work beside the training, which never waits for it: one thread, a queue of bounded length, and an end."""

import queue
import threading
import time
from collections.abc import Callable
from typing import Any

Action = Callable[[], None]
GLANCE_SECONDS = 0.05


class Background:
    """Does actions one after the other in a thread of its own, which ends with the program.

    Args:
        name: of the thread.
        most_waiting: actions that may wait; one more is refused.
        patience_seconds: an action that has been at work for longer makes the next be refused.
    """

    def __init__(self, name: str, most_waiting: int, patience_seconds: float) -> None:
        self._patience = patience_seconds
        self._waiting: queue.Queue[Action] = queue.Queue(most_waiting)
        self._since: float | None = None  # of the action at work, in seconds of the monotonic clock
        self._stopped = threading.Event()
        self._done = 0
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def _work(self) -> None:
        while not self._stopped.is_set():
            try:
                action = self._waiting.get(timeout=1.0)
            except queue.Empty:
                continue
            self._since = time.monotonic()
            try:
                action()
            finally:
                self._since = None
                self._done += 1
                self._waiting.task_done()

    def do(self, action: Action) -> bool:
        """Take on an action, which must not raise; returns whether it was taken. Never waits."""
        since = self._since
        if since is not None and time.monotonic() - since > self._patience:
            return False
        try:
            self._waiting.put_nowait(action)
        except queue.Full:
            return False
        return True

    def finish(self, most_seconds: float, progress: Callable[[], Any] = lambda: None) -> bool:
        """Wait until everything is done; returns whether it is.

        Args:
            most_seconds: to wait in all.
            progress: a number, or anything else, that changes while an action makes headway: without any, and without
                an action that ends, the wait is over after ``patience_seconds``.
        """
        started = moved = time.monotonic()
        before = None
        while self._waiting.unfinished_tasks:
            now, seen = time.monotonic(), (self._done, progress())
            if seen != before:
                before, moved = seen, now
            if now - moved > self._patience or now - started > most_seconds:
                return False
            time.sleep(GLANCE_SECONDS)
        return True

    def stop(self) -> None:
        """Take on nothing more, and drop what waits."""
        self._stopped.set()
