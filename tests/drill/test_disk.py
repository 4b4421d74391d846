"""Full disks, folders that cannot be written, power cuts, half-written files: one line, nothing lost, on it goes."""

import json
import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import SMALL
from test_resume import differences, state_of, stop_after

from lit_maprops.cli.main import main
from lit_maprops.module import LitMAPROPS
from lit_maprops.run import figures, summary
from lit_maprops.run import options as run_cli
from lit_maprops.system.files import lock, replacing
from lit_maprops.system.tables import read_table

pytestmark = pytest.mark.usefixtures("curves")
Fit = Callable[..., Path]


def start(place: Path, *options: str, name: str = "x") -> int:
    return main(["fit", *SMALL["MatrixGame"], "--runs_dir", str(place), "--run_name", name, *options])


def resume(run: Path, *options: str) -> int:
    return main(["fit", "--ckpt_path", str(run / "checkpoints" / "last.ckpt"), *options])


def error_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that says what went wrong; no traceback beside it."""
    err = capsys.readouterr().err
    assert "Traceback" not in err, err
    (line,) = [line for line in err.splitlines() if "error:" in line.lower()]
    return line


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing happened to."""
    place = tmp_path_factory.mktemp("whole")
    assert start(place, "--wandb", "disabled") == 0
    return place / "x"


@pytest.fixture
def file_limit() -> Iterator[Callable[[int], None]]:
    """Limit the size of every file this process writes: what comes after it fails as on a full disk, half written."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def limit_before(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, action: Callable[..., None]) -> None:
    original = getattr(owner, name)

    def limited(*args: Any, **kwargs: Any) -> Any:
        action(*args)
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, limited)


@pytest.mark.every(2)
@pytest.mark.parametrize("full", ["metrics.csv", "last.ckpt", "summary.json", "success.png"])
def test_a_file_that_cannot_grow_ends_the_run_in_one_line_and_it_continues(
    tmp_path: Path,
    whole: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    file_limit: Callable[[int], None],
    full: str,
) -> None:
    run = tmp_path / "x"

    def in_iteration_5(module: LitMAPROPS, *_: Any) -> None:
        if module.iteration == 4:
            file_limit((run / "metrics.csv").stat().st_size + 10 if full == "metrics.csv" else 8000)

    with monkeypatch.context() as patch:
        if full == "summary.json":
            limit_before(patch, summary.Summary, "_summary", lambda *_: file_limit(100))
        elif full == "success.png":
            limit_before(patch, figures, "success_curve", lambda *_: file_limit(100))
        else:
            limit_before(patch, LitMAPROPS, "training_step", in_iteration_5)
        assert start(tmp_path) == 1
    line = error_line(capsys)
    assert f"{full} could not be written (File too large)" in line
    assert f"fit --ckpt_path {run / 'checkpoints' / 'last.ckpt'}" in line
    assert not list(run.rglob("*.tmp"))
    if full == "metrics.csv":
        assert not (run / "metrics.csv").read_bytes().endswith(b"\n"), "no half line was left to be dropped"
    file_limit(resource.getrlimit(resource.RLIMIT_FSIZE)[1])
    assert resume(run) == 0
    assert differences(state_of(whole), state_of(run)) == []
    assert (run / "eval.csv").read_text() == (whole / "eval.csv").read_text()
    assert read_table(run / "metrics.csv")["iteration"].tolist() == list(range(1, 9))
    assert (run / "summary.json").exists() and (run / "success.png").exists()


def test_before_its_first_checkpoint_the_same_command_starts_again(
    tmp_path: Path, whole: Path, capsys: pytest.CaptureFixture[str], file_limit: Callable[[int], None]
) -> None:
    file_limit(8000)
    assert start(tmp_path) == 1
    assert "start the run again" in error_line(capsys)
    file_limit(resource.getrlimit(resource.RLIMIT_FSIZE)[1])
    rows = (tmp_path / "x" / "metrics.csv").read_text()
    assert start(tmp_path, "--seed_everything", "1") == 2  # another run: what is there would be lost
    assert "already holds a run" in error_line(capsys)
    assert (tmp_path / "x" / "metrics.csv").read_text() == rows
    assert start(tmp_path) == 0
    assert differences(state_of(whole), state_of(tmp_path / "x")) == []
    assert read_table(tmp_path / "x" / "metrics.csv")["iteration"].tolist() == list(range(1, 9))
    assert start(tmp_path) == 2  # now there is something to lose
    assert "continue it with --ckpt_path" in error_line(capsys)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """A small disk of its own: called with mount options, again to change them."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = False

    def mount(options: str) -> Path:
        nonlocal mounted
        command = ["mount", "-t", "tmpfs", "-o", f"remount,{options}" if mounted else options, "none", str(place)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode and not mounted:
            pytest.skip(f"a disk cannot be mounted here: {done.stderr.strip()}")
        assert done.returncode == 0, done.stderr
        mounted = True
        return place

    if shutil.which("mount") is None:
        pytest.skip("there is no mount")
    yield mount
    if mounted:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.mark.parametrize("mode", ["disabled", "offline"])
def test_a_full_disk_ends_the_run_in_one_line_and_it_continues(
    disk: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    mode: str,
) -> None:
    """With W&B offline its own file is on the full disk, too; it is not waited for."""
    run = disk("size=4m") / "x"

    def fill(module: LitMAPROPS, *_: Any) -> None:
        if module.iteration == 4:
            with (run.parent / "filler").open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
                while True:
                    file.write(bytes(4096))

    with monkeypatch.context() as patch:
        limit_before(patch, LitMAPROPS, "training_step", fill)
        assert start(run.parent, "--wandb", mode) == 1
    line = error_line(capsys)
    assert "could not be written (No space left on device)" in line and "--ckpt_path" in line
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["lit_maprops"]["iteration"] == 4
    (run.parent / "filler").unlink()
    assert resume(run, "--wandb", mode) == 0
    assert read_table(run / "metrics.csv")["iteration"].tolist() == list(range(1, 9))


def test_a_disk_that_becomes_read_only(
    disk: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = disk("size=4m") / "x"
    with monkeypatch.context() as patch:
        stop_after(patch, 4)
        assert start(run.parent) == 143
    capsys.readouterr()
    disk("ro")
    before = sorted(run.rglob("*"))
    for code, command in ((1, "validate"), (2, "fit")):
        assert main([command, "--ckpt_path", str(run / "checkpoints" / "last.ckpt")]) == code
        assert "could not be written (Read-only file system)" in error_line(capsys)
    for options in ([], ["--run_name", "y"]):
        assert main(["fit", *SMALL["MatrixGame"], "--runs_dir", str(run.parent), *options]) == 2
        assert "--runs_dir" in error_line(capsys)
    assert sorted(run.rglob("*")) == before
    disk("rw")
    assert resume(run) == 0


def test_where_nobody_can_write_nothing_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not even root: below /proc, and below a file."""
    (tmp_path / "file").touch()
    for place in (Path("/proc/runs"), tmp_path / "file", tmp_path / "file" / "runs"):
        for options in ([], ["--run_name", "x"]):
            assert main(["fit", *SMALL["MatrixGame"], "--runs_dir", str(place), *options]) == 2
            line = error_line(capsys)
            assert "--runs_dir" in line and "choose another folder" in line


def test_one_run_has_one_process(tmp_path: Path, whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "x"
    shutil.copytree(whole, run)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with lock(run / "checkpoints" / ".lock") as held:
        assert held is not None
        assert resume(run) == 2
        assert "another process is at work" in error_line(capsys)
        assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    assert resume(run) == 0


def test_runs_of_one_second_have_folders_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stopped(run_cli.datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return cls(2026, 10, 25, 2, 30)

    monkeypatch.setattr(run_cli, "datetime", Stopped)
    for _ in range(3):
        assert main(["fit", *SMALL["MatrixGame"], "--model.total_env_steps", "8", "--runs_dir", str(tmp_path)]) == 0
    first = "matrixgame-maprops-reinforce-20261025-023000"
    assert sorted(path.name for path in tmp_path.iterdir()) == [first, f"{first}-2", f"{first}-3"]
    names = [json.loads((path / "summary.json").read_text())["config"]["run_name"] for path in tmp_path.iterdir()]
    assert len(set(names)) == 3


# What a power cut leaves is what was synced before it.


def test_a_file_is_on_the_disk_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = []
    replace = os.replace

    def fsync(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        events.append(("synced", path.name, path.read_bytes() if path.is_file() else None))

    def replaced(source: str, target: str, **folders: Any) -> None:
        events.append(("renamed", Path(target).name, None))
        replace(source, target, **folders)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replaced)
    with replacing(tmp_path / "a") as file:
        file.write(b"new")
    assert events == [("synced", "a.tmp", b"new"), ("renamed", "a", None), ("synced", tmp_path.name, None)]


def test_rows_are_on_the_disk_before_their_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: dict[str, int] = {}

    def fsync(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        synced[path.name] = path.read_bytes().count(b"\n") if path.is_file() else 0

    renamed = []
    replace = os.replace

    def replaced(source: str, target: str, **folders: Any) -> None:
        if target == "last.ckpt":
            assert source in synced
            path = Path(os.readlink(f"/proc/self/fd/{folders['src_dir_fd']}")) / source
            iteration = torch.load(path, weights_only=True)["lit_maprops"]["iteration"]
            renamed.append((iteration, synced["metrics.csv"] - 1, (synced.get("eval.csv", 1) - 1) // 3))
        replace(source, target, **folders)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replaced)
    assert start(tmp_path) == 0
    assert renamed == [(iteration, iteration, iteration // 2) for iteration in range(1, 9)]


@pytest.mark.parametrize(
    ("text", "columns", "rows"),
    [
        ("", [], 0),
        ("env_st", [], 0),
        ("env_steps,value", [], 0),
        ("env_steps,value\n", ["env_steps", "value"], 0),
        ("env_steps,value\n8,0.5\n16", ["env_steps", "value"], 1),
        ("env_steps,value\n8,0.5\n16,0.2", ["env_steps", "value"], 1),  # of 0.25
        ("env_steps,value\n8,0.5\n16,0.25\n", ["env_steps", "value"], 2),
    ],
)
def test_only_whole_lines_count(tmp_path: Path, text: str, columns: list[str], rows: int) -> None:
    (tmp_path / "metrics.csv").write_text(text)
    table = read_table(tmp_path / "metrics.csv")
    assert list(table) == columns
    assert all(values.tolist() == [[8.0, 16.0], [0.5, 0.25]][i][:rows] for i, values in enumerate(table.values()))


@pytest.mark.parametrize("left", ["", "env_steps,se"])
def test_a_table_without_a_whole_first_line_is_written_anew(
    fit: Fit, monkeypatch: pytest.MonkeyPatch, left: str
) -> None:
    """A kill while eval.csv is made, when there is a checkpoint already."""
    late = ["--model.eval_interval", "5"]
    whole = fit("whole", *late)
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        assert start(whole.parent, *late) == 143
    run = whole.parent / "x"
    (run / "eval.csv").write_text(left)
    assert resume(run) == 0
    assert (run / "eval.csv").read_text() == (whole / "eval.csv").read_text()


def test_warnings_outlive_a_stop(fit: Fit, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    idle = ["--model.behavior.kl_cutoff", "1.0e-6"]
    whole = fit("whole", *idle)
    warnings = json.loads((whole / "summary.json").read_text())["warnings"]
    assert warnings
    with monkeypatch.context() as patch:
        stop_after(patch, 6)
        assert start(whole.parent, *idle) == 143
    assert "warning: " in capsys.readouterr().err
    assert resume(whole.parent / "x") == 0
    assert "warning: " not in capsys.readouterr().err  # was said before
    assert json.loads((whole.parent / "x" / "summary.json").read_text())["warnings"] == warnings
