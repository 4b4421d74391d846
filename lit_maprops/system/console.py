"""The program's standard streams: words that nobody can read any more cost nothing but the words."""

import errno
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TextIO, cast

STOPPED = "lit_maprops: stopped"


class Unfailing:
    """A text stream whose writes never raise.

    A reader that has left (``| tee`` after Ctrl-C, a closed terminal) and a full disk behind it are a matter of the
    words alone: the run goes on, is saved and ends with its own exit code.

    Args:
        stream: what to write to.

    Attributes:
        failed: the first error of a write other than a reader's leaving; None so far.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.failed: OSError | None = None
        self.before: Callable[[], None] | None = None  # done before the next write

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write as far as possible; returns the length of ``text``."""
        if self.before is not None:
            self.before()
        return self._put(text)

    def _put(self, text: str) -> int:
        try:
            self._stream.write(text)
        except (OSError, ValueError) as error:  # the latter: the stream is closed
            self._lost(error)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write each."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flush as far as possible."""
        try:
            self._stream.flush()
        except (OSError, ValueError) as error:
            self._lost(error)

    def settle(self) -> None:
        """Flush for the last time; what cannot be written is forgotten, so that Python's own last flush is quiet."""
        if self.before is not None:
            self.before()
        self.flush()
        if self.failed is not None:
            self._forget()

    def _lost(self, error: OSError | ValueError) -> None:
        if isinstance(error, OSError) and error.errno == errno.EPIPE:
            self._forget()
        elif isinstance(error, OSError) and self.failed is None:
            self.failed = error

    def _forget(self) -> None:
        """Let what waits in the buffer, and all that follows, go nowhere."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, self._stream.fileno())
            self._stream.flush()
        except (OSError, ValueError):
            pass  # it has no descriptor, or is closed
        finally:
            os.close(nowhere)


def guard_streams() -> tuple[Unfailing, Unfailing]:
    """Put ``Unfailing`` streams in place of stdout and stderr; returns the two.

    A descriptor that was closed (``2>&-``) leads nowhere from now on: else the next file that is opened gets its
    number, and what a library writes to stderr ends in that file.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free, which is this one
    out, err = (
        Unfailing(stream if stream is not None else open(descriptor, "w", encoding="utf-8", closefd=False))  # noqa: SIM115
        for descriptor, stream in ((1, cast(TextIO | None, sys.stdout)), (2, cast(TextIO | None, sys.stderr)))
    )
    sys.stdout, sys.stderr = cast(TextIO, out), cast(TextIO, err)
    return out, err


def say_for_now(text: str, out: Unfailing, err: Unfailing) -> None:
    """Show a few words on a terminal until something else is written there.

    Args:
        text: on stderr; nothing is said where that is no terminal.
        out: stdout, which may be the same terminal.
        err: stderr.
    """
    if not err.isatty():
        return

    def wipe() -> None:
        out.before = err.before = None
        err.write(f"\r{' ' * len(text)}\r")
        err.flush()

    out.before = err.before = wipe  # first: Ctrl-C may come as soon as the words are there
    err._put(text)
    err.flush()


@contextmanager
def stopped_at_once() -> Iterator[None]:
    """Ctrl-C ends the process, with one line, wherever the block is: in the middle of an import as anywhere.

    For work that leaves nothing behind. An exception may be caught, or printed, by whatever is being imported.
    """
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, _stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _stop(number: int, frame: FrameType | None) -> None:
    print(STOPPED, file=sys.stderr, flush=True)
    os._exit(128 + number)
