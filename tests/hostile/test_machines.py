"""Machines and environments that cannot serve: one line that names what to change, and nothing written."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, SMALL
from hostile_helpers import run

from lit_maprops.cli.main import main
from lit_maprops.system.launch import LAUNCH_NUMBERS

FIT = ["fit", *SMALL["MatrixGame"], "--runs_dir", "runs", "--run_name", "x"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(args: list[str], words: str) -> None:
    code, out, err = run(args)
    assert code == 2 and out == "" and err.count("\n") == 1 and words in err, err
    assert not Path("runs").exists()


@pytest.mark.parametrize("flag", ["model.learner.learning_rate", "model.behavior.learning_rate", "rank_timeout"])
@pytest.mark.parametrize("value", ["1e308", ".inf", "0", "-1", "1e30"])
def test_numbers_that_no_tensor_or_clock_holds(place: Path, flag: str, value: str) -> None:
    refused([*FIT, f"--{flag}", value], f"--{flag} is ")


@pytest.mark.parametrize("name", LAUNCH_NUMBERS)
@pytest.mark.parametrize("value", ["abc", "", "-1", "1.5"])
def test_variables_that_launchers_set(place: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    refused(FIT, f"{name} is {value!r} in the environment")


@pytest.mark.parametrize("port", ["0", "65536", "99999999999"])
def test_ports_that_are_none(place: Path, monkeypatch: pytest.MonkeyPatch, port: str) -> None:
    monkeypatch.setenv("MASTER_PORT", port)
    refused(FIT, f"MASTER_PORT is {port} in the environment")


@pytest.mark.parametrize("args", [FIT, ["report", "runs"], ["sweep", "bayes"], ["health"]])
def test_a_working_directory_that_is_gone(place: Path, monkeypatch: pytest.MonkeyPatch, args: list[str]) -> None:
    (place / "gone").mkdir()
    monkeypatch.chdir(place / "gone")
    (place / "gone").rmdir()
    code, _, err = run(args)
    monkeypatch.chdir(place)
    assert code == 2 and err.count("\n") == 1 and "the working directory is no longer there" in err


def test_too_little_memory_for_the_packages(place: Path) -> None:
    """As ``ulimit -v`` of a shared machine leaves. Without a look at the limit some of these would never end."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (700 * 2**20, 700 * 2**20))

    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "lit_maprops", *FIT]
    done = subprocess.run(command, capture_output=True, text=True, env=env, preexec_fn=limit, timeout=240)
    assert done.returncode == 2 and "(ulimit -v) is 0.7 GB" in done.stderr, done.stderr
    assert done.stderr.count("\n") == 1 and not Path("runs").exists()


def test_a_disk_too_small_for_an_export(place: Path) -> None:
    """Writing by itself, torch would end the process with a trace of C++."""
    assert main(FIT) == 0
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        code, _, err = run(
            ["export", "--ckpt_path", "runs/x/checkpoints/last.ckpt", "--output", "o", "--format", "torch"]
        )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (code == 2 and "--output" in err and "could not be written" in err) or "cannot be written" in err, err
    assert not Path("o").exists()


@pytest.mark.parametrize("argument", ["runs_dir", "trainer.default_root_dir"])
def test_a_checkpoint_that_slurm_would_bring_in(place: Path, monkeypatch: pytest.MonkeyPatch, argument: str) -> None:
    """Lightning takes the newest hpc_ckpt_*.ckpt of its root folder for the start of a new fit, with no word of it."""
    root = place / ("runs" if argument == "runs_dir" else "root")
    root.mkdir()
    (root / "hpc_ckpt_1.ckpt").write_bytes(b"of another program")
    for name, value in {"SLURM_NTASKS": "1", "SLURM_JOB_NAME": "a", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}.items():
        monkeypatch.setenv(name, value)
    options = [*FIT, "--trainer.devices", "1", "--trainer.default_root_dir", str(root)]
    code, _, err = run(options if argument != "runs_dir" else options[:-2])
    assert code == 2 and err.count("\n") == 1 and f"--{argument} holds" in err and "hpc_ckpt_1.ckpt" in err, err
    assert not (place / "runs" / "x").exists()
