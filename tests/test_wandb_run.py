"""How a W&B run starts and is continued: settings W&B refuses, and the run that a resumed one goes on with."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import wandb
from conftest import SMALL

from lit_maprops.cli.main import main
from lit_maprops.run.folder import RunFolder
from lit_maprops.run.wandb_run import wandb_logger

Start = Callable[[str], tuple[str | None, list[str]]]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Start a W&B run in the folder ``x`` and finish it; returns its id, None if there is none, and what was said."""
    wandb.teardown()  # of an earlier test: it remembers that test's settings
    monkeypatch.setattr(wandb, "run", None)
    monkeypatch.delenv("WANDB_MODE")  # `wandb.login` heeds it, whatever --wandb says
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    folder = RunFolder(tmp_path / "x")
    folder.path.mkdir()

    def run(mode: str) -> tuple[str | None, list[str]]:
        said: list[str] = []
        tracker = wandb_logger(mode, folder, {}, said.append)
        if tracker is None:
            return None, said
        found = tracker.experiment.id
        tracker.experiment.finish()
        return found, said

    return run


def test_a_run_without_it_does_not_wait_for_its_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)  # an import would fail
    assert wandb_logger("disabled", RunFolder(tmp_path / "run"), {}, print) is None
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert wandb_logger(None, RunFolder(tmp_path / "run"), {}, print) is None


def test_a_key_that_wandb_refuses_is_one_line_and_the_run_is_tracked_offline(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "abc")
    found, said = start("online")
    assert found is not None
    (line,) = said
    assert "WANDB_API_KEY" in line and line.endswith("tracking offline")


def test_a_run_that_fails_after_its_start_is_taken_back(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: wandb.Run, *args: object, **kwargs: object) -> None:
        raise wandb.Error("no metrics\n today")

    monkeypatch.setattr(wandb.Run, "define_metric", refuse)
    found, said = start("offline")
    assert found is None and wandb.run is None
    assert said == ["W&B: offline failed (no metrics today), the run is not tracked"]


@pytest.mark.parametrize(("name", "value"), [("WANDB_BASE_URL", "nonsense"), ("WANDB_CONSOLE", "loud")])
def test_settings_that_no_mode_takes_cost_the_tracking_but_not_the_run(
    tmp_path: Path,
    start: Start,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    value: str,
) -> None:
    monkeypatch.setenv(name, value)
    place = ["--runs_dir", str(tmp_path / "runs"), "--run_name", "x", "--wandb", "online"]
    assert main(["fit", *SMALL["MatrixGame"], *place]) == 0
    assert json.loads((tmp_path / "runs/x/summary.json").read_text())["env_steps"] == 64
    err = capsys.readouterr().err
    assert "Traceback" not in err
    lines = [line for line in err.splitlines() if "W&B" in line or "wandb" in line]
    assert [line.rpartition(", ")[2] for line in lines] == ["tracking offline", "the run is not tracked"]
    assert all(name.removeprefix("WANDB_").lower() in line for line in lines)


def test_a_resumed_run_continues_the_newest_wandb_run_whatever_its_id(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W&B itself names the folder of the run that is continued; an older run has the id that sorts last."""
    # Those of the same second failed online; the offline one took their place. Several, as folders list in any order.
    same = ["run-20200101_000001-a", "offline-run-20200101_000001-yyy", *(f"run-20200101_000001-z{i}" for i in "12345")]
    for name in ["run-20200101_000000-zzz", *same]:
        (tmp_path / "x" / "wandb" / name).mkdir(parents=True)
    monkeypatch.setenv("WANDB_RUN_ID", "mine")
    assert start("offline") == ("yyy", [])  # the folder's own run goes before the environment's
    for path in (tmp_path / "x" / "wandb").glob("*-yyy"):
        path.rename(path.with_name(path.name.replace("-yyy", "-team-a-7")))
    assert start("offline") == ("team-a-7", [])
