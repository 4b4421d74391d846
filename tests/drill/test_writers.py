"""Two processes and one folder: the lock is that of the folder which is there, and is taken before anything is read."""

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from conftest import SMALL
from processes import Attempt

from lit_maprops.cli.main import main
from lit_maprops.run import training
from lit_maprops.run.folder import RunFolder
from lit_maprops.system.checkpoint import read_checkpoint
from lit_maprops.system.errors import ConfigError
from lit_maprops.system.files import lock
from lit_maprops.system.tables import read_table

ENDLESS = ["--model.total_env_steps", "800000"]


def fit(runs: Path, *options: str) -> list[str]:
    return ["fit", *SMALL["MatrixGame"], "--runs_dir", str(runs), "--run_name", "x", *options]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("then", ["another run", "nothing"])
def test_a_run_that_slept_leaves_the_folder_to_the_one_that_is_there(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], then: str
) -> None:
    """Ctrl-Z, rm -r, the same name again, fg."""
    run, log = tmp_path / "x", tmp_path / "log"
    sleeper = Attempt(fit(tmp_path, *ENDLESS), log)
    assert sleeper.wait_for((run / "checkpoints" / "last.ckpt").exists)
    os.kill(sleeper.pid, signal.SIGSTOP)
    shutil.rmtree(run)
    if then == "another run":
        other = Attempt(fit(tmp_path, "--seed_everything", "9"), log)
        other.wait_for(lambda: False)
        assert other.code == 0
    before = contents(run)
    os.kill(sleeper.pid, signal.SIGCONT)
    sleeper.wait_for(lambda: False)
    assert sleeper.code == 1
    assert contents(run) == before and run.exists() == (then == "another run")
    (line,) = [line for line in capfd.readouterr().err.splitlines() if "error" in line]
    assert line.startswith("lit_maprops: error: ") and "was removed or made anew" in line and "continue" not in line


def test_the_checkpoint_is_read_with_the_lock_in_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(fit(tmp_path, "--model.total_env_steps", "16")) == 0
    free: list[bool] = []

    def reading(path: Path) -> dict[str, Any]:
        free.append(lock(path.with_name(".lock")) is not None)
        return read_checkpoint(path)

    monkeypatch.setattr(training, "read_checkpoint", reading)
    resume = ["fit", "--ckpt_path", str(tmp_path / "x" / "checkpoints" / "last.ckpt"), "--model.total_env_steps", "24"]
    assert main(resume) == 0
    assert free == [False]
    assert read_table(tmp_path / "x" / "metrics.csv")["env_steps"].tolist() == [8, 16, 24]


@pytest.mark.parametrize("fault", ["a setting that cannot change", "a damaged history", "a broken environment"])
def test_whatever_ends_a_run_others_may_work_in_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """Also when the process lives on, as a notebook's does."""
    run = tmp_path / "x"
    assert main(fit(tmp_path, "--model.total_env_steps", "16")) == 0
    options = ["--model.behavior", "TabularMAPROPS"] if fault == "a setting that cannot change" else []
    if fault == "a damaged history":
        (run / "changes.json").write_text("{")
    if fault == "a broken environment":
        monkeypatch.setattr(training, "_fit", lambda *args: (_ for _ in ()).throw(ConfigError("broken")))
    assert main(["fit", "--ckpt_path", str(run / "checkpoints" / "last.ckpt"), *options]) == 2
    held = lock(run / "checkpoints" / ".lock")
    assert held is not None
    held.close()


def test_a_sweep_that_slept_leaves_the_folder_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy.py").write_text("import os, time\nwhile not os.path.exists('go'):\n    time.sleep(0.1)\n")
    content = {"name": "s", "method": "grid", "command": ["${interpreter}", "toy.py", "${args}"]}
    (tmp_path / "s.yaml").write_text(json.dumps(content | {"parameters": {"a": {"values": [1, 2]}}}))
    sweep, log = tmp_path / "runs" / "s", tmp_path / "log"
    sleeper = Attempt(["sweep", "s.yaml", "--runs_dir", "runs"], log)
    assert sleeper.wait_for(lambda: bool(list(sweep.glob("*.log"))))
    os.kill(sleeper.pid, signal.SIGSTOP)
    shutil.rmtree(sweep)
    sweep.mkdir()
    (sweep / "sweep.json").write_text("of another")
    (sweep / "sweep.lock").touch()
    (tmp_path / "go").touch()
    os.kill(sleeper.pid, signal.SIGCONT)
    sleeper.wait_for(lambda: False)
    assert sleeper.code == 1
    assert (sweep / "sweep.json").read_text() == "of another"
    assert {path.name for path in sweep.iterdir()} == {"sweep.json", "sweep.lock"}
    assert "was removed or made anew while this sweep" in capfd.readouterr().err


@pytest.mark.parametrize("command", ["fit", "sweep"])
def test_a_folder_that_goes_in_the_middle_of_a_write_is_said_to_be_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    """Not that a disk failed, or that a checkpoint was never there."""
    monkeypatch.chdir(tmp_path)
    content = {"name": "x", "method": "grid", "command": ["true"], "parameters": {"a": {"values": [1]}}}
    (tmp_path / "x.yaml").write_text(json.dumps(content))
    given = fit(tmp_path) if command == "fit" else ["sweep", "x.yaml", "--runs_dir", str(tmp_path)]
    place, name, part = {"fit": ("checkpoints", "last.ckpt", b""), "sweep": ("", "sweep.json", b'"finished"')}[command]
    replace = os.replace

    def remove_before(source: str, target: str, **folders: Any) -> None:
        if target == name and part in (tmp_path / "x" / place / source).read_bytes():
            shutil.rmtree(tmp_path / "x")
        replace(source, target, **folders)

    monkeypatch.setattr(os, "replace", remove_before)
    assert main(given) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert "was removed or made anew while this" in line and "could not be written" not in line
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("then", ["another run", "nothing"])
@pytest.mark.parametrize("checks", range(6))
def test_a_run_that_slept_between_looking_and_writing_writes_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], checks: int, then: str
) -> None:
    """Its folder is made anew right after it was found to be its own: before a row, a checkpoint, the summary."""
    run, looked = tmp_path / "x", RunFolder.check_held
    calls, others = [0], dict[str, bytes]()

    def look(folder: RunFolder) -> None:
        looked(folder)
        calls[0] += 1
        if calls[0] == checks + 1:
            shutil.rmtree(run)
            if then == "another run":
                (run / "checkpoints").mkdir(parents=True)
                for name in ("config.yaml", "metrics.csv", "eval.csv", "summary.json", "checkpoints/last.ckpt"):
                    (run / name).write_text("of another")
                (run / "checkpoints" / ".lock").touch()
            others.update(contents(run))

    monkeypatch.setattr(RunFolder, "check_held", look)
    assert main(fit(tmp_path, "--model.total_env_steps", "16")) == 1
    assert calls[0] > checks and "was removed or made anew while this run" in capsys.readouterr().err
    assert contents(run) == others and run.exists() == bool(others)
