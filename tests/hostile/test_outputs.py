"""What a command writes replaces no file of a run, no device, and nothing behind a link."""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import SMALL

from lit_maprops.cli.main import main
from lit_maprops.sweep.journal import Entry
from lit_maprops.sweep.leases import Lease
from lit_maprops.sweep.processes import Process
from lit_maprops.system.errors import ConfigError, WriteError
from lit_maprops.system.files import lock, write_atomically
from lit_maprops.system.outputs import check_output


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("runs")
    options = ["--runs_dir", str(place), "--run_name", "x", "--wandb", "disabled"]
    assert main(["fit", *SMALL["MatrixGame"], *options]) == 0
    return place / "x"


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "name",
    ["checkpoints/last.ckpt", "config.yaml", "metrics.csv", "success.png", "checkpoints/new.html", "changes.json"],
)
def test_a_report_replaces_nothing_of_a_run(run: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(run)
    assert main(["report", str(run), "-o", str(run / name)]) == 2
    line = capsys.readouterr().err
    assert (
        line.startswith(f"lit_maprops: error: --output is {run / name}, a file of the run {run}")
        and line.count("\n") == 1
    )
    assert contents(run) == before


@pytest.mark.parametrize("name", ["metrics.json", "metrics.csv", "metrics", "eval.json", "checkpoints/a.json"])
def test_an_analysis_replaces_nothing_of_a_run(run: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It writes two files: the one that is named and the same with another suffix."""
    before = contents(run)
    checkpoint = str(run / "checkpoints" / "last.ckpt")
    assert main(["analyze", "--ckpt_path", checkpoint, "--output", str(run / name)]) == 2
    line = capsys.readouterr().err
    assert "--output is" in line and "a file of the run" in line and line.count("\n") == 1
    assert contents(run) == before


@pytest.mark.parametrize("name", ["sweep.json", "sweep.lock", "000-abcdef.log"])
def test_a_report_replaces_nothing_of_a_sweep(run: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "sweep.json").write_text("{}")
    with pytest.raises(ConfigError, match=rf"output is .*{name}, a file of the sweep"):
        check_output("<output>", tmp_path / name)
    check_output("<output>", tmp_path / "report.html", run.parent / "sweep.json")


def test_a_log_of_a_sweep_is_no_way_elsewhere(tmp_path: Path) -> None:
    """A sweep's folder of somebody else: what a run prints is added to its log."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "000-abcdef.log").symlink_to(victim)
    lease = Lease(tmp_path / "000-abcdef.000001", tmp_path / "000-abcdef.000002")
    process = Process(Entry("000-abcdef", {}), tmp_path, lease)
    with pytest.raises(WriteError, match=r"abcdef[.]log could not be written"):
        process.start(Any, 1)
    assert victim.read_text() == "precious"


def test_beside_a_run_s_files_there_is_room(run: Path) -> None:
    for _ in range(2):  # the second replaces the first
        assert main(["report", str(run), "-o", str(run / "report.html")]) == 0
    check_output("<output>", run / "gradients.json", run.parent / "metrics.csv")


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))])
def test_a_device_or_pipe_stays_what_it_is(run: Path, tmp_path: Path, make: Callable[[Path], None]) -> None:
    try:
        make(tmp_path / "sink")
    except PermissionError:
        pytest.skip("only root makes devices")
    kind = (tmp_path / "sink").stat().st_mode
    assert main(["report", str(run), "-o", str(tmp_path / "sink")]) == 2
    assert (tmp_path / "sink").stat().st_mode == kind


def test_a_way_round_through_a_link_is_seen(run: Path, tmp_path: Path) -> None:
    (tmp_path / "page.html").symlink_to(run / "checkpoints" / "last.ckpt")
    with pytest.raises(ConfigError, match="a file of the run"):
        check_output("<output>", tmp_path / "page.html")


@pytest.mark.parametrize("name", ["config.yaml.tmp", "metrics.csv", "checkpoints/.lock", "checkpoints/last.ckpt.tmp"])
def test_links_in_a_run_s_folder_lead_no_write_elsewhere(tmp_path: Path, name: str) -> None:
    """A folder of somebody else is continued; or a run starts where a link waits."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    options = ["--runs_dir", str(tmp_path / "runs"), "--run_name", "x"]
    assert main(["fit", *SMALL["MatrixGame"], *options]) == 0
    link = tmp_path / "runs" / "x" / name
    link.unlink(missing_ok=True)
    link.symlink_to(victim)
    checkpoint = str(tmp_path / "runs" / "x" / "checkpoints" / "last.ckpt")
    code = main(["fit", "--ckpt_path", checkpoint, "--model.total_env_steps", "72"])
    assert victim.read_text() == "precious"
    assert code == (2 if name in ("checkpoints/.lock", "metrics.csv") else 0)


def test_an_old_temporary_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.tmp").write_text("of a program that was killed")
    write_atomically(tmp_path / "a", "new")
    assert (tmp_path / "a").read_text() == "new" and not (tmp_path / "a.tmp").exists()
    (tmp_path / "b.tmp").mkdir()
    with pytest.raises(WriteError, match="b could not be written"):
        write_atomically(tmp_path / "b", "new")


def test_a_lock_empties_no_file(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("kept")
    held = lock(tmp_path / "lock")
    assert held is not None and lock(tmp_path / "lock") is None
    held.close()
    assert (tmp_path / "lock").read_text() == "kept"
