"""Shows that a sweep command lives, or a run that it left behind: ``guard.py FOLDER TOKEN SECONDS``.

A program of its own, which imports nothing of the package: it outlives a command that is killed, and keeps the leases
of the runs that go on without it. It reads from the command, which notices a death however it comes about.
"""

import contextlib
import fcntl
import os
import select
import signal
import sys


def at_work(log: str) -> bool:
    """Whether a run, or a child of it, holds the lock on its log; see ``Process``."""
    try:
        descriptor = os.open(log, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def beat(folder: str, token: bytes, command_lives: bool) -> int:
    """Move the time of change of every lease that stands for something alive; returns how many do."""
    alive = 0
    for name in os.listdir(folder):
        path, (stem, _, number) = os.path.join(folder, name), name.rpartition(".")
        if not number.isdecimal() or os.path.exists(os.path.join(folder, f"{stem}.{int(number) + 1:06d}")):
            continue  # no lease, or somebody has taken it over
        with contextlib.suppress(OSError), open(path, "rb") as file:
            content = file.read()
            log = os.path.join(os.path.dirname(folder), f"{stem}.log")
            if content[:1] == b"+" and token in content and (command_lives or at_work(log)):
                os.utime(path)
                alive += 1
    return alive


def main(folder: str, token: str, seconds: str) -> None:
    """Beat until the command is no more and its last run has ended, or the folder is gone."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)  # meant for the command, whose end ends this
    command_lives = True
    while beat(folder, token.encode(), command_lives) or command_lives:
        waiting = [0] if command_lives else []
        if select.select(waiting, [], [], float(seconds))[0]:  # the command says that it ends, or has died
            command_lives = False


if __name__ == "__main__":
    with contextlib.suppress(OSError):  # the folder is gone, or its file system is
        main(*sys.argv[1:])
