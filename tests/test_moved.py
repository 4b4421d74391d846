"""A run's folder may be renamed and moved: it is continued, evaluated and exported where it is."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from conftest import SMALL
from test_resume import differences, state_of

import lit_maprops as lm
from lit_maprops.cli.main import main


@pytest.fixture
def moved(fit: Callable[..., Path], tmp_path: Path) -> Path:
    """A run of 40 of 64 env steps, by another name elsewhere."""
    folder = fit("old", "--model.total_env_steps", "40")
    (tmp_path / "archive").mkdir()
    return folder.rename(tmp_path / "archive" / "new")


def test_a_moved_run_goes_on_where_it_is(
    moved: Path, fit: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = str(moved / "checkpoints" / "last.ckpt")
    assert main(["validate", "--ckpt_path", checkpoint]) == 0
    assert main(["fit", "--ckpt_path", checkpoint, "--model.total_env_steps", "64"]) == 0
    assert main(["test", "--ckpt_path", checkpoint]) == 0
    assert main(["export", "--ckpt_path", checkpoint, "--output", str(tmp_path / "out"), "--format", "torch"]) == 0
    small = ["--batches", "2", "--reference_batches", "2", "--samplers", "OnPolicy"]
    assert main(["analyze", "--ckpt_path", checkpoint, *small]) == 0
    assert main(["report", str(moved), "-o", str(tmp_path / "report.html")]) == 0
    config = yaml.safe_load((moved / "config.yaml").read_text())
    assert (config["run_name"], config["runs_dir"]) == ("new", str(moved.parent))
    assert {"validate.json", "test.json", "gradients.json", "summary.json"} <= {path.name for path in moved.iterdir()}
    assert json.loads((moved / "summary.json").read_text())["config"]["run_name"] == "new"
    assert not (tmp_path / "runs" / "old").exists()
    # Bit for bit the run that stayed, of the same two calls.
    stayed = fit("stayed", "--model.total_env_steps", "40")
    assert main(["fit", "--ckpt_path", f"{stayed}/checkpoints/last.ckpt", "--model.total_env_steps", "64"]) == 0
    assert not differences(state_of(stayed), state_of(moved))
    assert "leave" not in capsys.readouterr().err


def test_from_python_and_with_its_own_configuration(moved: Path) -> None:
    assert lm.resume(moved, total_env_steps=48).folder == moved
    checkpoint = moved / "checkpoints" / "last.ckpt"
    words = ["--config", str(moved / "config.yaml"), "--ckpt_path", str(checkpoint), "--model.total_env_steps", "56"]
    again = moved.rename(moved.with_name("newer"))
    words = [word.replace("/new/", "/newer/") for word in words]
    assert main(["fit", *words]) == 0
    assert json.loads((again / "summary.json").read_text())["env_steps"] == 56
    third = again.rename(again.with_name("third"))
    assert lm.fit(ckpt_path=third / "checkpoints" / "last.ckpt", total_env_steps=64).folder == third


@pytest.mark.parametrize(
    ("words", "flag"),
    [
        (["--run_name", "old"], "--run_name is old"),
        (["--run_name=old"], "--run_name is old"),
        (["--runs_dir", "runs"], "--runs_dir is runs"),
        (["--config", SMALL["MatrixGame"][1], "--config", "named.yaml"], "--run_name is other"),
    ],
)
def test_what_the_user_says_must_agree(
    moved: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    flag: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("named.yaml").write_text("run_name: other\n")
    before = (moved / "config.yaml").read_bytes()
    capsys.readouterr()
    assert main(["fit", "--ckpt_path", str(moved / "checkpoints" / "last.ckpt"), *words]) == 2
    assert f"lit_maprops: error: {flag}" in (err := capsys.readouterr().err) and err.count("\n") == 1
    assert (moved / "config.yaml").read_bytes() == before


def test_what_a_runs_length_leaves_out_is_said(fit: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    """12 env steps are one batch of 8; a sampling error that is never due is none."""
    options = ["--model.sampling_error_interval", "2", "--model.total_env_steps"]
    folder = fit("short", *options, "12")
    err = capsys.readouterr().err
    assert (
        "warning: --model.total_env_steps is 12 and no multiple of --data.target_batch_size 8: the run ends at 8" in err
    )
    assert "warning: --model.sampling_error_interval is 2 and the run has 1 target iterations" in err
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["env_steps"] == 8 and len(summary["warnings"]) == 2
    assert main(["fit", "--ckpt_path", str(folder / "checkpoints" / "last.ckpt"), "--model.total_env_steps", "16"]) == 0
    assert "warning" not in capsys.readouterr().err
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["env_steps"] == 16 and summary["warnings"] == []
