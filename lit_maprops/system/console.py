"""The program's standard streams: words that nobody can read any more cost nothing but the words."""

import errno
import os
import sys
from collections.abc import Iterable
from typing import Any, TextIO, cast


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

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write as far as possible; returns the length of ``text``."""
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
