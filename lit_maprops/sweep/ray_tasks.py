"""Ray as the launcher of a sweep: tasks of a Ray cluster, each a sweep command that takes some runs."""

import os
import re
import shlex
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

from lit_maprops.system.errors import ConfigError, check
from lit_maprops.system.extras import install

RESOURCES = ("num_cpus", "num_gpus", "memory")
CONNECT_SECONDS = 10.0
POLL_SECONDS = 0.2
RETRIES = 3  # of a task whose machine goes away


class Ray:
    """The Ray cluster that ``RAY_ADDRESS`` names or that runs on this machine, else one that is started for the sweep.

    Args:
        options: resources of a task as ``name=number``, in one text.

    Raises:
        ConfigError: Ray is not installed, its cluster cannot be reached, or the options are none.
    """

    name = "ray"
    ask_seconds = 1.0
    outlives_us = False

    def __init__(self, options: str = "") -> None:
        self.resources = _resources(options)
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody has asked for reports to its makers
        try:
            import ray
        except ImportError:
            raise ConfigError(f"<launcher> is ray, and the package is missing: {install('ray')}") from None
        self._ray: Any = ray
        self._tasks: list[Any] = []

    def check(self) -> None:
        """Reach the cluster, before anything is written.

        Raises:
            ConfigError: there is none at RAY_ADDRESS.
        """
        address = os.environ.get("RAY_ADDRESS", "")
        found = re.fullmatch(r"(?:ray://)?\[?(.+?)\]?:(\d+)", address)
        try:
            if found is not None:  # Ray itself asks for minutes where nobody answers
                socket.create_connection((found[1], int(found[2])), CONNECT_SECONDS).close()
            self._ray.init(log_to_driver=False, logging_level="error")
        except Exception as error:  # of several packages
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ConfigError(
                f"<launcher> is ray, and no cluster answers at {address or 'this machine'} ({reason}): start one, or "
                "change RAY_ADDRESS"
            ) from None

    def tasks_for(self, runs: int, at_a_time: int | None) -> int:
        """As many as may be at work at a time: Ray has no other limit than its resources."""
        return min(runs, at_a_time or runs)

    def submit(self, words: list[str], tasks: int, logs: Path, at_a_time: int | None) -> str:
        """Queue the tasks."""
        remote = self._ray.remote(max_retries=RETRIES, **self.resources)(_work)
        self._tasks = [remote.remote(words, os.getcwd(), str(logs / f"{number}.log")) for number in range(tasks)]
        return str(self._ray.get_runtime_context().get_job_id())

    def is_queued(self, job: str) -> bool:
        """Whether one of this process's tasks has not ended; those of others end with them."""
        return bool(self._tasks and self._ray.wait(self._tasks, num_returns=len(self._tasks), timeout=0)[1])

    def cancel(self, job: str) -> None:
        """Interrupt the tasks at work, and forget the others."""
        for task in self._tasks:
            self._ray.cancel(task)

    def close(self) -> None:
        """Leave the cluster; one that was started for the sweep ends."""
        self._ray.shutdown()


def _resources(options: str) -> dict[str, float]:
    try:
        given = dict(word.split("=", 1) for word in shlex.split(options))
        resources = {"num_cpus": 1.0} | {name: float(value) for name, value in given.items()}
    except ValueError:
        resources = {"": 0.0}
    check(
        resources.keys() <= {*RESOURCES} and all(0 <= value < float("inf") for value in resources.values()),
        f"<launcher_options> is {options!r}: give resources of a Ray task, such as 'num_cpus=2 num_gpus=0.5'; "
        f"there are {', '.join(RESOURCES)}",
    )
    return resources


def _work(words: list[str], folder: str, log: str) -> int:
    """What a task does, on whatever machine Ray has chosen: one command, told to save when the task is canceled."""
    with open(log, "ab") as output:
        process = subprocess.Popen(words, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            while process.poll() is None:
                time.sleep(POLL_SECONDS)  # what Ray cancels by interrupts no waiting for a process
            return process.returncode
        except BaseException:
            process.terminate()
            process.wait()
            raise
