"""Several machines, started as Lightning and torchrun start them: here they are several processes of one."""

import contextlib
import os
import random
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from test_devices import ALL, SEEDS, assert_same, done

from lit_maprops.cli.main import main


def free_port() -> int:
    """A port that nobody uses now, below those that the kernel gives to whoever asks for any."""
    while True:
        port = random.SystemRandom().randrange(25_000, 32_000)
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port


def started(*words: str, within: tuple[str, ...] = (), **variables: str) -> subprocess.Popen[str]:
    """One machine's process; ``words`` follow ``python``, which is started by ``within``."""
    env = os.environ | {"OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled"} | variables
    return subprocess.Popen(
        [*within, sys.executable, *words], cwd=ROOT, env=env, text=True, stderr=subprocess.PIPE, stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process."""
    folder = tmp_path_factory.mktemp("runs")
    assert main(["fit", *SEEDS, *ALL, "--runs_dir", str(folder), "--wandb", "disabled", "--run_name", "whole"]) == 0
    return folder / "whole"


@pytest.mark.slow
def test_two_machines_with_two_ranks_each(whole: Path) -> None:
    words = ["-m", "lit_maprops", "fit", *SEEDS, *ALL, "--runs_dir", str(whole.parent), "--run_name", "four"]
    words += ["--trainer.num_nodes", "2", "--trainer.devices", "2"]
    at = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    machines = [started(*words, **at, NODE_RANK=str(number)) for number in range(2)]
    said = [done(machine) for machine in machines]
    assert said[0].count("run folder") == 1 and "run folder" not in said[1]  # the first machine speaks for all
    assert_same(whole.parent / "four", whole)


@pytest.mark.slow  # test_slurm.py has two machines, test_devices.py what torchrun says
def test_two_machines_under_torchrun(whole: Path) -> None:
    words = ["-m", "torch.distributed.run", "--nnodes", "2", "--nproc_per_node", "1", "--rdzv_backend", "c10d"]
    words += ["--rdzv_endpoint", f"127.0.0.1:{free_port()}", "--rdzv_id", "x", "-m", "lit_maprops", "fit"]
    words += [*SEEDS, *ALL, "--runs_dir", str(whole.parent), "--run_name", "torchrun"]
    words += ["--trainer.num_nodes", "2", "--trainer.devices", "1"]
    for machine in [started(*words) for _ in range(2)]:
        done(machine)
    assert_same(whole.parent / "torchrun", whole)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="containers need root")
def test_machines_of_one_name_that_do_not_see_each_others_processes(whole: Path) -> None:
    """Containers of one host with its network have its name and process ids of their own."""
    words = ["-m", "lit_maprops", "fit", *SEEDS, *ALL, "--runs_dir", str(whole.parent), "--run_name", "containers"]
    words += ["--trainer.num_nodes", "2", "--trainer.devices", "1"]
    at = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    container = ("unshare", "--pid", "--fork", "--mount-proc")
    for machine in [started(*words, within=container, **at, NODE_RANK=str(number)) for number in range(2)]:
        done(machine)
    assert_same(whole.parent / "containers", whole)


@pytest.mark.parametrize("number", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_machine_that_nobody_joins_says_so(tmp_path: Path, number: int) -> None:
    words = ["-m", "lit_maprops", "fit", *SEEDS, *ALL, "--runs_dir", str(tmp_path), "--run_name", "alone"]
    words += ["--trainer.num_nodes", "2", "--trainer.devices", "1", "--rank_timeout", "3"]
    at = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "NODE_RANK": str(number)}
    stderr = done(started(*words, **at), 1)
    assert "makes 2 ranks, which could not connect within --rank_timeout 3 seconds" in stderr.splitlines()[-1]
    assert "Traceback" not in stderr
