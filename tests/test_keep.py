"""Older checkpoints that stay beside the newest, and what a run that goes back to one of them does with later ones."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from test_resume import differences, state_of

from lit_maprops.cli.main import main
from lit_maprops.run import folder as run_folder
from lit_maprops.system.tables import read_table

Fit = Callable[..., Path]
EVERY = ["--model.checkpoint_interval", "2"]


def kept(run: Path) -> list[int]:
    """Env steps of the checkpoints that are there, as they say themselves; last.ckpt is the last."""
    paths = sorted(run.glob("checkpoints/env_steps_*.ckpt"), key=lambda path: int(path.stem.rpartition("_")[2]))
    found = []
    for path in [*paths, run / "checkpoints" / "last.ckpt"]:
        found.append(8 * torch.load(path, weights_only=True)["lit_maprops"]["iteration"])
        assert path.stem in ("last", f"env_steps_{found[-1]}")
    return found


@pytest.mark.parametrize(
    ("keep", "expected"), [("0", [64]), ("1", [48, 64]), ("2", [32, 48, 64]), ("9", [16, 32, 48, 64])]
)
def test_the_newest_stay(fit: Fit, keep: str, expected: list[int]) -> None:
    assert kept(fit("x", *EVERY, "--keep", keep)) == expected


def test_a_run_that_goes_back_ends_as_if_it_had_never_left(fit: Fit) -> None:
    """Its later checkpoints are those of rows that are written again."""
    run, whole = fit("x", *EVERY, "--keep", "9"), fit("whole", *EVERY)
    for back in (32, 16):
        old = run / "checkpoints" / f"env_steps_{back}.ckpt"
        assert main(["validate", "--ckpt_path", str(old)]) == 0
        assert json.loads((run / "validate.json").read_text())["env_steps"] == back
        assert main(["fit", "--ckpt_path", str(old), "--model.total_env_steps", str(back + 8)]) == 0
        assert kept(run) == [*range(16, back + 1, 16), back + 8]
        last = str(run / "checkpoints" / "last.ckpt")
        assert main(["fit", "--ckpt_path", last, "--model.total_env_steps", "64"]) == 0
        assert read_table(run / "metrics.csv")["env_steps"].tolist() == list(range(8, 65, 8))
        assert differences(state_of(run)["state_dict"], state_of(whole)["state_dict"]) == []


def test_files_of_others_are_left_alone(fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    original = run_folder.RunFolder.hold

    def hold(self: run_folder.RunFolder) -> None:
        original(self)
        (self.checkpoint.parent / "env_steps_best.ckpt").write_text("mine")

    monkeypatch.setattr(run_folder.RunFolder, "hold", hold)
    run = fit("x", *EVERY, "--keep", "1")
    assert (run / "checkpoints" / "env_steps_best.ckpt").read_text() == "mine"
    assert (run / "checkpoints" / "env_steps_48.ckpt").exists() and not (
        run / "checkpoints" / "env_steps_32.ckpt"
    ).exists()


@pytest.mark.parametrize("keep", ["-1", "1.5", "null", "many"])
def test_numbers_that_are_none(tmp_path: Path, capsys: pytest.CaptureFixture[str], keep: str) -> None:
    assert main(["fit", "--config", "matrix_game", "--runs_dir", str(tmp_path / "r"), "--keep", keep]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "--keep is" in err and not (tmp_path / "r").exists()
