"""Ranks of a run end together: each watches the others in a thread of its own."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from torch import distributed

from lit_maprops.run.flags import with_flags
from lit_maprops.stacked.ranks import RanksLost, answered
from lit_maprops.system.errors import marked

POLL_SECONDS = 0.5
LAST_SECONDS = 10.0  # for ranks that know that they are to end: one may be writing why
LAUNCHER = "LIT_MAPROPS_LAUNCHER"  # environment variable: process id of the rank that started this one
ENDED = "lit_maprops/ended"  # key of the store: which rank ended first, and why
RANK_0_ENDED, STORE_ENDED = "rank 0 ended", "the process that connects the ranks ended"


class Watch:
    """A thread in every rank that ends it, with one line, soon after another rank has ended.

    A rank that fails says why in the process group's store. One that is killed says nothing: ranks of its machine miss
    its process, its starter knows the signal, others find what these write into the store.
    """

    def __init__(self) -> None:
        self._rank = 0
        self._children: dict[int, subprocess.Popen] = {}  # ranks that this one started
        self._peers: dict[int, int] = {}  # process ids of the ranks on this machine
        self._launcher = int(os.environ.get(LAUNCHER, 0))
        self._store: distributed.Store | None = None
        self._stopped = threading.Event()
        self._ending = threading.Lock()

    def begin(self, rank: int, children: Sequence[subprocess.Popen]) -> None:
        """Watch from now on.

        Args:
            rank: of this process.
            children: the ranks after this one, if it has started them.
        """
        self._rank = rank
        self._children = {rank + number: process for number, process in enumerate(children, 1)}
        threading.Thread(target=self._run, daemon=True, name="ranks").start()

    def connect(self) -> None:
        """Learn who the others are; the process group must exist."""
        here = _machine()
        everyone: list[tuple[str, int]] = [("", 0)] * distributed.get_world_size()
        with answered():
            distributed.all_gather_object(everyone, (here, os.getpid()))
        self._peers = {r: pid for r, (where, pid) in enumerate(everyone) if where == here and r != self._rank}
        # A connection of its own: the thread must not wait while this one is in use.
        self._store = distributed.distributed_c10d._get_default_store().clone()  # type: ignore[attr-defined]

    def stop(self) -> None:
        """Watch no more: the run is complete."""
        self._stopped.set()

    def failed(self, error: BaseException) -> None:
        """This rank ends by ``error``. Returns when the others know; ends the process if another rank is the cause."""
        time.sleep(2 * POLL_SECONDS)  # if another has ended before, the thread notices and ends this process
        if isinstance(error, RanksLost) and self._store is not None:
            self._end(f"rank {self._rank} waited in vain for the others: {marked(error)}")
        self._claim_the_end()
        reason = f"rank {self._rank} ended: {type(error).__name__}: {' '.join(marked(error).split())}"
        self.stop()
        self._publish(reason)
        self._leave()

    def _run(self) -> None:
        while not self._stopped.wait(POLL_SECONDS):
            reason = self._found()
            if reason and not self._stopped.is_set():
                self._end(reason)

    def _found(self) -> str | None:
        """What has become of another rank, if it has ended."""
        if self._first_has_ended():
            return RANK_0_ENDED
        codes = {rank: process.poll() for rank, process in self._children.items()}
        for rank, code in codes.items():
            if code is not None and code < 0:  # it could not say why
                return f"rank {rank} ended: killed by {signal.Signals(-code).name}"
        try:
            if self._store is not None and self._store.check([ENDED]):
                return self._store.get(ENDED).decode()
        except RuntimeError:
            time.sleep(POLL_SECONDS)  # a process that ends closes its connections first
            return RANK_0_ENDED if self._first_has_ended() else STORE_ENDED
        for rank, code in codes.items():
            if code is not None:
                return f"rank {rank} ended: exit code {code}"
        gone = [rank for rank, pid in self._peers.items() if not _exists(pid)]
        return f"rank {gone[0]} ended" if gone else None

    def _first_has_ended(self) -> bool:
        orphaned = self._launcher != 0 and os.getppid() != self._launcher
        return orphaned or not _exists(self._peers.get(0, os.getpid()))

    def _publish(self, reason: str) -> None:
        """Tell all ranks, unless another reason came first."""
        if self._store is not None:
            try:
                self._store.compare_set(ENDED, "", reason)
            except RuntimeError:
                return  # the store has ended with rank 0

    def _end(self, reason: str) -> None:
        """End this process, whatever it does; started ranks end after it has told them why."""
        self._claim_the_end()
        self._publish(reason)
        if self._rank == 0 or reason in (RANK_0_ENDED, STORE_ENDED):  # otherwise rank 0 says so
            print(
                f"lit_maprops: error: {with_flags(reason)}; the other ranks end too. --ckpt_path continues at a "
                "checkpoint, if any",
                file=sys.stderr,
                flush=True,
            )
        self._leave()
        os._exit(1)

    def _leave(self) -> None:
        """Rank 0, with which the store ends, goes after the others; those that it started are killed if they stay."""
        if self._rank == 0:
            time.sleep(3 * POLL_SECONDS)
        last = time.monotonic() + LAST_SECONDS
        while time.monotonic() < last and any(process.poll() is None for process in self._children.values()):
            time.sleep(POLL_SECONDS / 5)
        for process in self._children.values():
            process.kill()

    def _claim_the_end(self) -> None:
        """Only one thread ends the process; another that wants to waits for that."""
        if not self._ending.acquire(blocking=False):
            threading.Event().wait()


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's, so it exists
        return True
    return True


def _machine() -> str:
    """Equal for processes that can look for each other by process id; containers of one host need not."""
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # not Linux
        return socket.gethostname()
