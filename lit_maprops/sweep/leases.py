"""Who does what, where several sweep commands share a folder: leases, which a dead owner loses and a live one never.

A lease is a file ``<name>.<generation>`` that only one process can make (``O_EXCL``, which NFS has since version 3).
The highest generation counts; who takes over makes the next one, so two that try at once do not both succeed, and an
owner that was away finds out. Nothing here compares the clocks of two machines: on the owner's machine its process is
asked for, elsewhere a lease is dead once a reader has itself watched its time of change stand still for
``TAKEOVER_SECONDS``. ``guard`` is the process that moves it.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from lit_maprops.system.errors import ConfigError, check
from lit_maprops.system.files import writing

FOLDER = ".leases"  # of a sweep's folder
BEAT_SECONDS = 5.0  # between signs of life
TAKEOVER_SECONDS = 60.0  # without one, as seen from another machine
HELD, FREE = b"+", b"-"  # the first byte of a lease; an empty one is about to be written
_HERE: set[str] = set()  # tokens of this process that are in use


@cache
def machine() -> list[str] | None:
    """What tells this machine, its start and its process ids from others; None where the system does not say."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return [socket.gethostname(), boot, os.readlink("/proc/self/ns/pid")]
    except OSError:
        return None


def started(pid: int) -> str | None:
    """When a process of this machine began, in the system's ticks; None if it is no more."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


class Lease:
    """One that is held.

    Args:
        path: of its file.
        following: path of the generation that takes it over.
    """

    def __init__(self, path: Path, following: Path) -> None:
        self.path, self._following = path, following

    def is_held(self) -> bool:
        """Whether nobody has taken it over."""
        return os.path.lexists(self.path) and not os.path.lexists(self._following)

    def release(self) -> None:
        """Let others take it at once."""
        with contextlib.suppress(OSError), self.path.open("r+b") as file:  # whatever is left of it ends by itself
            file.write(FREE)

    def remove(self) -> None:
        """Leave nothing of it: what it was for is over, and nobody asks for it any more."""
        with contextlib.suppress(OSError):
            self.path.unlink()


class Leases:
    """Those of one command in one sweep's folder.

    Args:
        folder: of the sweep.

    Raises:
        ConfigError: two processes can make the same file there, or the folder of leases leads elsewhere.
        WriteError: nothing can be written there.
    """

    def __init__(self, folder: Path) -> None:
        self._sweep, self._folder = folder, folder / FOLDER
        self.token = uuid.uuid4().hex  # a name, no draw: nothing of a result depends on it
        self._seen: dict[Path, tuple[int, float]] = {}  # a foreign lease's time of change, and since when we know it
        self._guard: subprocess.Popen[bytes] | None = None
        check(not self._folder.is_symlink(), f"<runs_dir>: {self._folder} is a link: remove it")
        with writing(self._folder):
            self._folder.mkdir(exist_ok=True)
            self._check_exclusive()
        _HERE.add(self.token)

    def _check_exclusive(self) -> None:
        path = self._folder / f"probe.{self.token}"
        try:
            self._make(path)
            self._make(path)
        except FileExistsError:
            return
        finally:
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self._folder.rmdir()
        raise ConfigError(
            f"<runs_dir>: the file system of {self._sweep} lets two processes make the same file, so that sweep "
            "commands cannot agree on who does which run: choose a folder elsewhere"
        )

    def __enter__(self) -> "Leases":
        self.keep_alive()
        return self

    def __exit__(self, *raised: object) -> None:
        """Stop keeping leases alive, but for those of runs that are left at work: the guard ends with the last."""
        _HERE.discard(self.token)
        if self._guard is not None and self._guard.stdin is not None:
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                self._guard.stdin.close()
                self._guard.wait(1)

    def keep_alive(self) -> None:
        """See to it that the guard is there: it shows that this process, or a run that it left behind, lives."""
        if self._guard is not None and self._guard.poll() is None:
            return
        words = [sys.executable, "-I", "-S", str(Path(__file__).with_name("guard.py"))]
        self._guard = subprocess.Popen(
            [*words, str(self._folder), self.token, str(BEAT_SECONDS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def take(self, name: str) -> Lease | None:
        """Take a lease that is free, new or dead; None if somebody else has it.

        Raises:
            WriteError: it could not be written.
        """
        with writing(self._folder):
            newest = max(self._generations(name), default=0)
            if newest and not self._may_take(self._path(name, newest)):
                return None
            path = self._path(name, newest + 1)
            try:
                self._make(path, HELD + json.dumps(self._owner()).encode())
            except FileExistsError:
                return None  # somebody was faster
            except OSError:
                path.unlink(missing_ok=True)
                raise
            generations = self._generations(name)
            if max(generations, default=0) != newest + 1:  # what we saw was long over
                path.unlink(missing_ok=True)
                return None
            for old in generations - {newest + 1}:
                self._path(name, old).unlink(missing_ok=True)
        return Lease(path, self._path(name, newest + 2))

    def _owner(self) -> dict[str, Any]:
        return {"token": self.token, "machine": machine(), "pid": os.getpid(), "started": started(os.getpid())}

    def _path(self, name: str, generation: int) -> Path:
        return self._folder / f"{name}.{generation:06d}"

    def _generations(self, name: str) -> set[int]:
        found = (entry.rpartition(".") for entry in os.listdir(self._folder))
        return {int(number) for stem, _, number in found if stem == name and number.isdecimal()}

    @staticmethod
    def _make(path: Path, content: bytes = b"") -> None:
        with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o666), "wb") as file:
            file.write(content)

    def _may_take(self, path: Path) -> bool:
        """Whether a lease is free, or its owner dead."""
        try:
            with path.open("rb") as file:  # opening is what makes NFS ask its server
                content, changed = file.read(), os.fstat(file.fileno()).st_mtime_ns
        except FileNotFoundError:
            return False  # it goes just now
        if content[:1] == FREE:
            return True
        alive = _alive(content[1:])
        if alive is not None:
            return not alive
        seen, since = self._seen.setdefault(path, (changed, time.monotonic()))
        if seen != changed:
            self._seen[path] = changed, time.monotonic()
            return False
        return time.monotonic() - since >= TAKEOVER_SECONDS


def _alive(owner: bytes) -> bool | None:
    """Whether a lease's owner is at work; None if it is for another machine to know, or half written."""
    try:
        found: Mapping[str, Any] = json.loads(owner)
        if machine() is None or found["machine"] != machine():
            return None
        pid, token = int(found["pid"]), str(found["token"])
        return started(pid) == found["started"] and (pid != os.getpid() or token in _HERE)
    except (ValueError, KeyError, TypeError):
        return None
