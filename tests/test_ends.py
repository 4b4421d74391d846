"""The tests' own means: what they start ends with them, whatever it thinks of signals."""

import subprocess
import time

import psutil
from conftest import FIRST, ROOT, end


def test_what_does_not_end_is_killed_with_all_it_started() -> None:
    deaf = subprocess.Popen(["bash", "-c", "trap '' TERM; sleep 600 & echo; wait"], text=True, stdout=subprocess.PIPE)
    over = subprocess.Popen(["true"], text=True)
    over.wait()
    assert deaf.stdout is not None and deaf.stdout.readline() == "\n"  # it hears no SIGTERM from here on
    (child,) = psutil.Process(deaf.pid).children()
    began = time.monotonic()
    end(deaf, over, seconds=0.2)
    assert time.monotonic() - began < 60 and over.returncode == 0
    assert deaf.poll() is not None and not (child.is_running() and child.status() != psutil.STATUS_ZOMBIE)


def test_what_ends_by_itself_is_waited_for() -> None:
    process = subprocess.Popen(["sleep", "600"], text=True)
    end(process)
    assert process.poll() is not None


def test_the_files_that_are_begun_first_are_there() -> None:
    assert [name for name in FIRST if not (ROOT / "tests" / name).exists()] == []
