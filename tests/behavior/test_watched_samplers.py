"""Samplers of one's own that are wrong: one line, before anything is written where a trial can see it."""

from pathlib import Path

import broken_samplers
import pytest
from conftest import SMALL
from test_resume import state_of

from lit_maprops import module
from lit_maprops.cli.main import main

TRIAL = "on trial before the first env step"
MEND = f", {TRIAL}: correct the sampler"
NORMALIZE = f", {TRIAL}: give normalized ones, such as .log_softmax(-1)"
SEEN_ON_TRIAL = {
    "nan": f"NaN in behavior_log_prob of choose, seed 0, environment 0{MEND}",
    "power": "choose draws from probabilities that sum to 0.",
    "joint 3": "so its log-probabilities are not normalized" + NORMALIZE,
    "joint 0.5": "so its log-probabilities are not normalized" + NORMALIZE,
    "flat": "in choose (broken_samplers.py:",
    "raises": "RuntimeError: the dice are gone in choose (broken_samplers.py:",
    "none": f"choose returns NoneType, expected a Choice{MEND}",
    "tuple": f"choose returns tuple, expected a Choice{MEND}",
    "range": "choose gives action ",
    "dtype": f"action of choose is [3, 1, 2] int32, expected [3, 1, 2] int64{MEND}",
    "log_prob": f"behavior_log_prob of choose is [3, 1, 1] float32, expected [3, 1] float32{MEND}",
    "kl": f"kl of choose is [3, 1] float64, expected [3, 1] float32{MEND}",
    "update raises": "ZeroDivisionError: division by zero in update (broken_samplers.py:",
    "update none": "update returns NoneType, expected a dict: {}, or cutoff_hit, ",
    "my stat": "update returns the statistic 'my/stat': give {}, or cutoff_hit, ",
    "few": "update returns statistics without 'cutoff_hit': give {}, or cutoff_hit, ",
}


@pytest.fixture(autouse=True)
def _no_calls_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broken_samplers.Tempered, "calls", 0)


def fit(runs: Path, name: str, *options: str) -> int:
    own = ["--model.behavior", f"broken_samplers.{name}", "--model.sampling_error", "null", "--model.num_seeds", "3"]
    return main(["fit", *SMALL["MatrixGame"], *own, "--runs_dir", str(runs), "--run_name", "x", *options])


def error_line(capsys: pytest.CaptureFixture[str]) -> str:
    lines = capsys.readouterr().err.splitlines()
    assert "Traceback" not in "".join(lines) and lines[-1].startswith("lit_maprops: error: --model.behavior ")
    return lines[-1]


@pytest.mark.parametrize(("kind", "words"), SEEN_ON_TRIAL.items(), ids=SEEN_ON_TRIAL)
def test_a_trial_refuses_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, words: str
) -> None:
    assert fit(tmp_path, "Tempered", "--model.behavior.kind", kind) == 2
    assert words in error_line(capsys)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "words"),
    {
        "NumberInStatistics": "'kl' of update is float, expected a tensor [3]",
        "WithoutSuper": "__init__ does not call super().__init__(draws)",
        "WithoutBuild": "build does not call super().build(task, run_seed, seed_ids)",
    }.items(),
)
def test_so_it_does_with_what_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, words: str
) -> None:
    assert fit(tmp_path, name) == 2
    assert f"--model.behavior {name}: {words}" in error_line(capsys)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("engine", ["torch", "auto"])
def test_nan_in_the_middle_of_a_run_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    monkeypatch.setattr(module, "try_behavior", lambda *args: None)
    options = ["--model.behavior.kind", "nan", "--model.behavior.after", "13", "--model.engine", engine]
    assert fit(tmp_path, "Tempered", *options) == 1
    line = error_line(capsys)  # a collection draws once to see what comes
    assert "Tempered: NaN in behavior_log_prob of choose, seed 0, environment 0, at env step 13: correct the" in line
    assert state_of(tmp_path / "x")["lit_maprops"]["iteration"] == 1


def test_an_exception_in_the_middle_of_a_run_keeps_its_traceback_in_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "try_behavior", lambda *args: None)
    for engine in ("torch", "auto"):
        broken_samplers.Tempered.calls = 0
        options = ["--model.behavior.kind", "raises", "--model.behavior.after", "13", "--model.engine", engine]
        assert fit(tmp_path / engine, "Tempered", *options) == 1
        path, line = tmp_path / engine / "x" / "error.txt", error_line(capsys)
        assert "RuntimeError: the dice are gone in choose (broken_samplers.py:" in line
        assert line.endswith(f"), at env step 13: correct the sampler; its traceback is in {path}")
        assert 'raise RuntimeError("the dice' in path.read_text()


@pytest.mark.parametrize("name", ["Tempered", "AllStatistics"])
def test_a_trial_changes_no_number_of_a_sound_sampler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    assert fit(tmp_path / "tried", name) == 0
    monkeypatch.setattr(module, "watched", lambda *args: None)
    assert fit(tmp_path / "plain", name) == 0
    tables = [(tmp_path / run / "x" / "eval.csv").read_text() for run in ("tried", "plain")]
    assert tables[0] == tables[1]
