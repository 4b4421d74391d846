"""A sweep that Ray's tasks do, on a cluster that is started here and ends with the command.

Ray is not beside the other packages: TorchRL imports it wherever it finds it. ``make peers`` installs it by itself.
"""

import json
import os
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from test_nodes import free_port

from lit_maprops.cli.main import main

PEER = ROOT / "build/peers/ray"
SITE = PEER / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
pytestmark = pytest.mark.skipif(not (PEER / "installed").exists(), reason="`make peers` installs Ray")
SECONDS = 240  # on a busy machine
TOY = str(ROOT / "tests" / "sweeps" / "toy.py")


def sweep(folder: Path, *flags: str) -> list[str]:
    content = {"name": "toy", "method": "grid", "command": ["${interpreter}", TOY, "${args}", "--pause=0.1", *flags]}
    (folder / "sweep.yaml").write_text(yaml.safe_dump(content | {"parameters": {"x": {"values": [1, 2]}}}))
    return ["sweep", str(folder / "sweep.yaml"), "--runs_dir", str(folder / "runs"), "--launcher", "ray"]


def start(args: list[str]) -> subprocess.Popen[str]:
    """The command, where there is Ray beside our packages."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), sysconfig.get_paths()["purelib"]])}
    words = [str(PEER / "bin/python"), "-m", "lit_maprops", *args]
    return subprocess.Popen(words, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def ray_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process finds Ray, too."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(SITE)])


def wait_until(condition: Callable[[], object]) -> None:
    until = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.1)


@pytest.mark.slow
def test_a_canceled_sweep_goes_on_where_it_was(tmp_path: Path) -> None:
    args, folder = sweep(tmp_path, "--steps=100"), tmp_path / "runs" / "toy"
    first = start([*args, "--workers", "2", "--launcher_options", "num_cpus=0.5"])
    wait_until(lambda: len(list(folder.glob("*/checkpoints/last.ckpt"))) == 2)
    first.send_signal(signal.SIGINT)
    _, err = first.communicate(timeout=SECONDS)
    assert first.returncode == 130 and "2 tasks for 2 runs" in err and "continue with the same command" in err, err
    assert "Traceback" not in err
    runs = json.loads((folder / "sweep.json").read_text())["runs"]
    assert [run["state"] for run in runs] == ["running"] * 2
    assert main([*args[:-2]]) == 0  # the same sweep without Ray
    for run in json.loads((folder / "sweep.json").read_text())["runs"]:
        assert json.loads((folder / run["id"] / "summary.json").read_text())["first"] > 0
        assert Path(run["log"]).read_text().count("$ ") == 2


def test_a_sweep_to_its_end(tmp_path: Path) -> None:
    second = start(sweep(tmp_path))
    _, err = second.communicate(timeout=SECONDS)
    assert second.returncode == 0, err
    assert "toy: 2 finished, 0 failed" in err and "Traceback" not in err


@pytest.mark.usefixtures("ray_here")
@pytest.mark.parametrize(
    "options", ["num_cpus", "num_cpus=many", "num_cpu=1", "num_gpus=-1", "num_gpus=nan", "memory=inf", "'"]
)
def test_resources_that_are_none(tmp_path: Path, capsys: pytest.CaptureFixture[str], options: str) -> None:
    assert main([*sweep(tmp_path), "--launcher_options", options]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "--launcher_options is" in err and not (tmp_path / "runs").exists()


@pytest.mark.usefixtures("ray_here")
def test_no_cluster_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{free_port()}")
    assert main(sweep(tmp_path)) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "no cluster answers at 127.0.0.1" in err and not (tmp_path / "runs").exists()


def test_without_ray_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(sweep(tmp_path)) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "--launcher is ray" in err and "pip install" in err
