"""How the C library's allocator treats the memory of temporary tensors."""

import ctypes
import sys

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
