"""How torch's threads wait for each other; to be said before torch is imported."""

import os
from collections.abc import MutableMapping

# Whoever sets one of these has decided; OpenMP reads them once, when it is loaded.
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def set_threads(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let threads that wait sleep instead of spinning, unless the user has said how they wait.

    A thread that spins for another one keeps a core, and where programs compete for the cores it is the other one that
    it keeps from it. Nothing is calculated otherwise: the number of threads, which sums depend on, stays as it is.

    Args:
        environment: of this process and those that it starts.
    """
    if not any(environment.get(name) for name in WAITING):
        environment["OMP_WAIT_POLICY"] = "passive"
