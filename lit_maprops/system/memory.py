"""How much memory there is, and how the C library's allocator treats that of temporary tensors."""

import ctypes
import os
import sys
from pathlib import Path

from lit_maprops.system.errors import OneLineError

# Parameters of mallopt, from glibc's malloc.h, and its own upper limit for the second.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT_BYTES, LARGEST_REUSED_BYTES = 2**30, 2**25


def keep_freed_memory() -> bool:
    """Have glibc keep up to 1 GiB of freed memory for the next tensor instead of giving it back at once.

    A training step frees some megabytes that the next one asks for again. By default every round trip goes to the
    kernel, which then clears each page anew: a fifth to a third of a behavior update at 32 seeds.

    Returns:
        Whether it took effect; without glibc (macOS, musl) nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return bool(mallopt(M_TRIM_THRESHOLD, KEPT_BYTES) and mallopt(M_MMAP_THRESHOLD, LARGEST_REUSED_BYTES))


class OutOfMemory(OneLineError, MemoryError):
    """Memory ran out; one line that says where and which settings to change."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this is what Python, NumPy, torch or CUDA raise when they are refused memory."""
    if isinstance(error, MemoryError):  # NumPy's, too
        return True
    signs = ("allocate", "bad_alloc", "ALLOC_FAILED", "out of memory", "not enough memory")
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in signs)  # torch.OutOfMemoryError, too


def available_bytes(proc: Path = Path("/proc/meminfo"), cgroup: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Main memory that this process may still take; None where the system does not say.

    Args:
        proc: Linux's table of the machine's memory; without it, all of the machine's memory counts as available.
        cgroup: folder of the control group (version 2), whose limit counts if it is lower, as in a container.
    """
    try:
        lines = proc.read_text().splitlines()
        available = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        try:
            return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        except (ValueError, OSError, AttributeError):
            return None
    try:
        limit, used = ((cgroup / name).read_text().strip() for name in ("memory.max", "memory.current"))
        return available if limit == "max" else min(available, max(0, int(limit) - int(used)))
    except (OSError, ValueError):
        return available
