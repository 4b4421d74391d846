"""Ranks as forks of the test's process: what they share is there already, nothing is imported again."""

import multiprocessing
import os
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import distributed


def in_ranks(size: int, folder: Path, work: Callable[[int], Any]) -> list[Any]:
    """What ``work(rank)`` gives in each of ``size`` connected ranks: nested tensors and numbers."""

    def rank_of(rank: int) -> None:
        code = 1
        try:
            distributed.init_process_group(
                "gloo", f"file://{folder}/store", timedelta(seconds=120), rank=rank, world_size=size
            )
            torch.save(work(rank), folder / f"{rank}.pt")
            distributed.barrier()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)  # nothing of pytest's may run in a fork

    processes = [multiprocessing.get_context("fork").Process(target=rank_of, args=(rank,)) for rank in range(size)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(240)
    assert [process.exitcode for process in processes] == [0] * size
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(size)]
