"""Ranks and runs as forks of the test's process: what they share is there already, nothing is imported again."""

import multiprocessing
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import pytest
import torch
from torch import distributed

from lit_maprops.cli.main import main


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


class Run:
    """What a sweep asks of the process that it starts for a run: ``python -m lit_maprops`` as a fork."""

    def __init__(self, args: list[str], env: dict[str, str], log: IO[bytes]) -> None:
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                os.setpgid(0, 0)
                for stream in (1, 2):
                    os.dup2(log.fileno(), stream)
                sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
                os.environ.clear()
                os.environ.update(env)
                code = main(args)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)  # nothing of pytest's may run in a fork

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)


def fork_runs(patch: pytest.MonkeyPatch) -> None:
    """Let sweeps of this process fork their runs; that they start as programs of their own is tested elsewhere."""

    def start(command: list[str], env: dict[str, str], stdout: IO[bytes], **others: Any) -> Any:
        own = command.index("-m") + 2 if "-m" in command else 0
        if own and command[own - 1] == "lit_maprops":
            return Run(command[own:], env, stdout)
        return subprocess.Popen(command, env=env, stdout=stdout, **others)

    others = {name: value for name, value in vars(subprocess).items() if name != "Popen"}
    patch.setattr("lit_maprops.sweep.processes.subprocess", SimpleNamespace(**others, Popen=start))
