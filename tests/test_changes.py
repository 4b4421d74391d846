"""A run that is continued with other settings says from which step on each of them held."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import SMALL
from hypothesis import given
from hypothesis import settings as drawn
from hypothesis import strategies as st

from lit_maprops.cli.main import main
from lit_maprops.report import load
from lit_maprops.report.page import make_report
from lit_maprops.run import training
from lit_maprops.run.changes import Change, continued_with, parse, until

KL = "model.behavior.kl_cutoff"


def fit(runs: Path, *options: str) -> int:
    return main(["fit", *SMALL["MatrixGame"], "--runs_dir", str(runs), *options])


def resumed(run: Path, *options: str) -> int:
    return main(["fit", "--ckpt_path", str(run / "checkpoints" / "last.ckpt"), *options])


def steps(number: int) -> list[str]:
    return ["--model.total_env_steps", str(number)]


def test_a_run_of_two_settings_is_told_apart_from_runs_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []
    monkeypatch.setattr(training, "wandb_logger", lambda mode, folder, config, say: shown.append(config))
    assert fit(tmp_path, "--run_name", "x", f"--{KL}", "1.0", *steps(24)) == 0
    assert fit(tmp_path, "--run_name", "y", f"--{KL}", "0.001", *steps(32)) == 0
    assert "changes" not in shown[-1] and not (tmp_path / "y" / "changes.json").exists()
    run = tmp_path / "x"
    assert resumed(run, f"--{KL}", "0.001", *steps(32)) == 0
    told = [
        {"env_steps": 24, "key": KL, "before": 1.0, "after": 0.001},
        {"env_steps": 24, "key": "model.total_env_steps", "before": 24, "after": 32},
    ]

    def by_key(changes: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return sorted(changes, key=lambda change: change["key"])

    assert by_key(json.loads((run / "changes.json").read_text())["changes"]) == told
    summaries = [json.loads((tmp_path / name / "summary.json").read_text()) for name in ("x", "y")]
    assert by_key(summaries[0]["changes"]) == told and summaries[1]["changes"] == []
    assert by_key(shown[-1]["changes"]) == told
    assert yaml.safe_load((run / "config.yaml").read_text())["model"]["behavior"]["init_args"]["kl_cutoff"] == 0.001
    found = load.read_run(run)
    assert found.config[KL] == "1.0 until 24, then 0.001" and found.config["model.total_env_steps"] == 32
    assert found.sampler != load.read_run(tmp_path / "y").sampler
    assert "1.0 until 24, then 0.001" in make_report([tmp_path]).html
    # Continued as it is, nothing changes, and the earlier change is remembered.
    assert resumed(run, *steps(40)) == 0
    assert parse((run / "changes.json").read_text())[-1] == (32, "model.total_env_steps", 32, 40)
    assert load.read_run(run).config[KL] == "1.0 until 24, then 0.001"


def test_a_run_is_not_continued_to_less_than_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(tmp_path, "--run_name", "x", *steps(24)) == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    capsys.readouterr()
    assert resumed(tmp_path / "x", *steps(16)) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "--model.total_env_steps makes 16 env steps and the run has done 24" in err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.every(2)
@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"changes": [{"key": "a"}]}', '{"changes": [3]}', "[" * 100_000])
def test_a_damaged_history_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    assert fit(tmp_path, "--run_name", "x", *steps(16)) == 0
    (tmp_path / "x" / "changes.json").write_text(text)
    capsys.readouterr()
    assert resumed(tmp_path / "x", *steps(24)) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "changes.json" in err
    with pytest.raises(load.Unreadable, match=r"changes\.json"):
        load.read_run(tmp_path / "x")


@drawn(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 3)), max_size=8), st.integers(0, 2**32))
def test_the_history_is_what_each_step_was_trained_with(resumes: list[tuple[int, int]], seed: int) -> None:
    """Against bookkeeping of the plainest kind: a list with the setting of every step, cut where a run goes on."""
    draw = random.Random(seed)
    newest = 0
    trained = [newest] * draw.randint(1, 6)
    changes: list[Change] = []
    for place, value in resumes:
        place = min(place, len(trained))
        changes = continued_with(changes, {"a": newest, "gone": 1}, {"a": value, "new": 2}, place)
        newest = value
        trained = trained[:place] + [value] * draw.randint(0, 6)
        told, held = [], changes[0].before if changes else newest
        for step in range(len(trained)):
            for change in changes:
                held = change.after if change.env_steps == step else held
            told.append(held)
        assert told == trained
        assert [change.env_steps for change in changes] == sorted({change.env_steps for change in changes})


def test_words_for_settings() -> None:
    changes = [Change(8, "a", 1.0, 2.0), Change(8, "b", True, False), Change(16, "a", 2.0, 3.0)]
    words = until(changes, {"a": 3.0, "b": False})
    assert words == {"a": "1.0 until 8, then 2.0 until 16, then 3.0", "b": "True until 8, then False"}
