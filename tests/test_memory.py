"""What ``keep_freed_memory`` is for: freed memory is not fetched from the kernel again."""

import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
import numpy as np
from lit_maprops.system.memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def faults():
    arrays = [np.ones(2**18) for _ in range(8)]  # 2 MiB each, freed together
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    faults()
before = faults()
for _ in range(8):
    after = faults()
print(after - before)
"""


def page_faults(mode: str) -> int:
    done = subprocess.run([sys.executable, "-c", SCRIPT, mode], check=True, capture_output=True, text=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_freed_memory_is_used_again():
    pages = 8 * 8 * 2**21 // 4096
    assert page_faults("keep") < pages / 50
    assert page_faults("default") > pages / 2, "glibc keeps it by itself now: the room is not needed any more"
