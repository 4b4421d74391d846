"""Attempts at a command, there to be killed: forked from one process that has imported everything, or started cold.

A fork saves the six seconds of CPU time that the imports of a new interpreter take; SIGKILL ends both alike.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import IO, Any

from conftest import ROOT

from lit_maprops.cli.main import main
from lit_maprops.system import checkpoint, files

LIMIT_SECONDS = 600  # for what should take seconds: machines are busy


class Attempt:
    """One process at work on ``python -m lit_maprops ARGS``.

    Args:
        args: the command and its options.
        log: gets what it prints.
        cold: a new interpreter instead of a fork.
        slow_saves: writing a checkpoint takes a while, so that kills find it at every stage (forks only).
    """

    def __init__(self, args: list[str], log: Path, cold: bool = False, slow_saves: bool = False) -> None:
        self.code: int | None = None
        with log.open("ab") as output:
            output.write(f"$ {' '.join(args)}\n".encode())
            output.flush()
            if cold:
                command = [sys.executable, "-m", "lit_maprops", *args]
                self.pid = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output, process_group=0).pid
                return
            self.pid = os.fork()
            if self.pid == 0:
                _work(args, output, slow_saves)

    def running(self) -> bool:
        """Whether it has not ended yet; its exit code is then in ``code``."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if pid else None
        return self.code is None

    def wait_for(self, condition: Callable[[], bool], poll_seconds: float = 0.01) -> bool:
        """Wait until the condition holds; False if the process ended before."""
        end = time.monotonic() + LIMIT_SECONDS
        while self.running():
            if condition():
                return True
            if time.monotonic() > end:
                raise TimeoutError(f"process {self.pid} waits for ever")
            time.sleep(poll_seconds)
        return False

    def kill(self) -> bool:
        """SIGKILL; False if the process had ended by itself."""
        if not self.running():
            return False
        os.kill(self.pid, signal.SIGKILL)
        self.finish()
        return self.code == -signal.SIGKILL

    def finish(self) -> int:
        """Wait for its end; returns the exit code."""
        self.wait_for(lambda: False)
        assert self.code is not None
        return self.code


def _work(args: list[str], output: IO[bytes], slow_saves: bool) -> None:
    """What the forked child does; never returns."""
    code = 70
    try:
        os.setpgid(0, 0)
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
        if slow_saves:
            _slow_down()
        code = main(args)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


class _Slow:
    """A file that takes its time."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, content: Any) -> None:
        size = len(content) // 5 + 1
        for start in range(0, len(content), size):
            self._file.write(content[start : start + size])
            self._file.flush()
            time.sleep(0.01)


def _slow_down() -> None:
    """Checkpoints are written in five pieces, and there is time before and after each step of what follows."""
    replacing = files.replacing

    @contextlib.contextmanager
    def slowly(path: Path) -> Any:
        with replacing(path) as file:
            yield _Slow(file)

    checkpoint.replacing = slowly  # type: ignore[assignment]
    _around(os, "fsync")
    _around(os, "replace")


def _around(module: ModuleType, name: str) -> None:
    original = getattr(module, name)

    def slowly(*args: Any, **kwargs: Any) -> None:
        time.sleep(0.01)
        original(*args, **kwargs)
        time.sleep(0.01)

    setattr(module, name, slowly)
