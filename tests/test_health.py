"""`python -m lit_maprops health`: says what is wrong with an installation, and trains if it is asked to."""

import re
import resource
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
import torch
from conftest import ROOT

from lit_maprops.cli import health
from lit_maprops.cli.main import main


def test_a_complete_installation_is_healthy(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["health"]) == 0
    assert capsys.readouterr().out.startswith("healthy: ")


@pytest.mark.parametrize("found", ["0.13.0", "0.15.0", None])
def test_wrong_packages_are_named(
    found: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def pretend(name: str) -> str:
        if name == "torchrl" and found is None:
            raise PackageNotFoundError
        return found if name == "torchrl" and found else version(name)

    monkeypatch.setattr(health, "version", pretend)
    assert main(["health"]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert f"torchrl is {found or 'missing'}: pip install 'torchrl" in line


def test_a_build_of_a_version_counts_as_that_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "requires", lambda name: ["torch<2.14,>=2.13", 'nowhere>=1; extra == "media"'])
    monkeypatch.setattr(health, "version", lambda name: "2.13.0+cpu")
    assert list(health.wrong_packages()) == []


def test_a_runs_folder_that_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    for runs_dir in (tmp_path / "file", tmp_path / "file" / "runs", Path("/proc/runs")):
        assert main(["health", "--runs_dir", str(runs_dir)]) == 1
        assert "--runs_dir: " in capsys.readouterr().err
    assert main(["health", "--runs_dir", str(tmp_path / "new" / "runs")]) == 0
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]  # asked, not made


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    """Where an empty file can still be made: the system lets no file of this process grow."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        found = list(health.unwritable(tmp_path))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len(found) == 1 and "cannot be written" in found[0]


def test_fit_trains_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["health", "--fit", "--model.num_seeds", "3"]) == 0
    written = capsys.readouterr()
    assert re.search(rf"16 env steps trained in [\d.]+ s; torch {re.escape(torch.__version__)}", written.out)
    assert "of 3 seeds" in written.err
    assert list(tmp_path.iterdir()) == []


def test_wrong_options_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["health", "--model.num_seeds", "3"]) == 2
    assert "need --fit" in capsys.readouterr().err
    assert main(["health", "--fit", "--model.nonsense", "3"]) == 2
    assert "--model.nonsense" in capsys.readouterr().err


def test_it_is_cheap_enough_to_be_asked_often() -> None:
    code = "import sys; from lit_maprops.cli.main import main; main(['health']); print(sorted(sys.modules))"
    output = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "lit_maprops.cli.health" in output
    assert not re.search(r"'(torch|numpy|lightning|wandb)'", output)
