"""What a process needs to start: variables by which launchers tell ranks who they are, and room for packages."""

import os
import resource

from lit_maprops.system.errors import check

LEAST_BYTES = 1_500_000_000  # measured with torch 2.13 for CPUs; one with CUDA maps more
# What torchrun, SLURM and users tell ranks by the environment; Lightning reads them as numbers, some at its import.
LAUNCH_NUMBERS = [
    *("MASTER_PORT", "NODE_RANK", "GROUP_RANK", "LOCAL_RANK", "RANK", "WORLD_SIZE"),
    *("SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID"),
]


def check_launch() -> None:
    """Refuse variables that cannot be what ranks are told by.

    Raises:
        ConfigError: names the variable.
    """
    for name in LAUNCH_NUMBERS:
        value = os.environ.get(name, "0")
        check(value.isdecimal(), f"{name} is {value!r} in the environment: set it to a whole number, or unset it")
    port = int(os.environ.get("MASTER_PORT", "1"))
    check(0 < port < 2**16, f"MASTER_PORT is {port} in the environment: set it to a free port, from 1 to 65535")


def check_address_space() -> None:
    """Refuse a limit in which torch and the packages around it end in tracebacks, or never.

    Raises:
        ConfigError: names the limit.
    """
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    check(
        limit == resource.RLIM_INFINITY or limit >= LEAST_BYTES,
        f"the limit of this process's memory (ulimit -v) is {limit / 1e9:.1f} GB and the packages alone map "
        f"{LEAST_BYTES / 1e9:.1f} GB: raise it",
    )
