"""Where the ranks of one machine meet: at its loopback, where no other machine can speak to them.

torch's own store for them listens on every address and takes orders from whoever connects.
"""

import os
import socket
from datetime import timedelta

import torch
from torch import distributed

LOOPBACK = "127.0.0.1"
INTERFACES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")  # through which gloo and NCCL connect the ranks


def stay_on_loopback() -> list[str]:
    """Have gloo and NCCL connect through the loopback, unless the user says otherwise.

    Returns:
        Names of the variables that were set; none where the loopback has no known name.
    """
    name = next((name for _, name in socket.if_nameindex() if name in ("lo", "lo0")), None)
    missing = [variable for variable in INTERFACES if variable not in os.environ] if name else []
    for variable in missing:
        os.environ[variable] = str(name)
    return missing


def connect_on_loopback(
    backend: str, rank: int, size: int, port: int, timeout: timedelta, device: torch.device | None
) -> None:
    """Make the process group of ranks that all run on this machine; rank 0 holds their store.

    Args:
        backend: of the group.
        rank: of this process.
        size: number of ranks.
        port: of the store.
        timeout: how long ranks wait for each other.
        device: the GPU of this rank, if it has one.

    Raises:
        OSError: rank 0 cannot have the port.
        DistError: the ranks did not all come.
    """
    # The store closes what it listens on.
    listener = socket.create_server((LOOPBACK, port), backlog=size).detach() if rank == 0 else None
    store = distributed.TCPStore(LOOPBACK, port, size, rank == 0, timeout, master_listen_fd=listener)
    distributed.init_process_group(backend, timeout=timeout, world_size=size, rank=rank, store=store, device_id=device)
