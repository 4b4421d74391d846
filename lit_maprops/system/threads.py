"""How many threads torch takes, and how they wait for each other; to be said before torch is imported."""

import os
from collections.abc import MutableMapping

# Whoever sets one of these has decided; OpenMP reads them once, when it is loaded.
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
NUMBER, OF_PRODUCTS = "OMP_NUM_THREADS", "MKL_NUM_THREADS"
# Stands beside a number of threads that is ours: the cores that are this process's share, 0 if it has them all.
SHARE = "LIT_MAPROPS_CORES"


def set_threads(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let torch take one thread, and threads that wait sleep instead of spinning, unless the user has said otherwise.

    Sums as short as those of a run gain little from a second thread, whose turns wait for each other thousands of times
    an iteration: where other programs want the cores every one of those waits takes as long as they are let run.
    Sums depend on the number of threads in their last bits, so results are those of ``OMP_NUM_THREADS=1``.

    Args:
        environment: of this process and those that it starts.
    """
    if not any(environment.get(name) for name in WAITING):
        environment["OMP_WAIT_POLICY"] = "passive"
    if environment.get(NUMBER):
        return
    if environment.get(OF_PRODUCTS):  # whose user means all of them
        environment[NUMBER] = environment[OF_PRODUCTS]
    else:
        environment.update({NUMBER: "1", SHARE: "0"})


def chosen_by_us(environment: MutableMapping[str, str] = os.environ) -> bool:
    """Whether the number of threads is ``set_threads``'s, here or in a program that started this one."""
    return SHARE in environment and environment.get(NUMBER) == "1"


def asked_threads(environment: MutableMapping[str, str] = os.environ) -> int | None:
    """The threads that the user asked for, or that are this process's share of the cores; None: nobody has said."""
    text = environment[SHARE] if chosen_by_us(environment) else environment.get(NUMBER, "").partition(",")[0].strip()
    return int(text) or None if text.isdecimal() else None


def share_cores(environment: MutableMapping[str, str], programs: int) -> None:
    """Divide the cores among programs that start with an environment, unless the user has given a number of threads.

    Args:
        environment: of all of them.
        programs: that run side by side.
    """
    if chosen_by_us(environment) or not any(environment.get(name) for name in (NUMBER, OF_PRODUCTS)):
        environment.update({NUMBER: "1", SHARE: str(max(1, cores() // programs))})


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
