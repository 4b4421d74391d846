"""Signals when training is over, and second ones: the exit code says what happened, and nothing else is printed."""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import SMALL
from processes import Attempt

from lit_maprops.run import figures
from lit_maprops.run.wandb_run import Tracker

pytestmark = pytest.mark.usefixtures("curves")
STOPS = [signal.SIGINT, signal.SIGTERM]


def fit(runs: Path, *options: str) -> list[str]:
    return ["fit", *SMALL["MatrixGame"], "--runs_dir", str(runs), "--run_name", "x", *options]


def end(runs: Path, *options: str, cold: bool = False) -> int:
    """Train in another process; returns its exit code."""
    return Attempt(fit(runs, *options), runs / "log", cold=cold).finish()


def strike(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, number: int, times: int) -> None:
    """Signals from within a function."""
    original: Callable[..., Any] = getattr(owner, name)

    def struck(*args: Any, **kwargs: Any) -> Any:
        for _ in range(times):
            os.kill(os.getpid(), number)
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, struck)


@pytest.mark.parametrize("number", STOPS)
def test_a_signal_while_figures_are_drawn_lets_them_be_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    strike(monkeypatch, figures, "success_curve", number, 1)
    assert end(tmp_path) == 0
    run = tmp_path / "x"
    assert json.loads((run / "summary.json").read_text())["env_steps"] == 64 and (run / "success.png").exists()
    assert "all is saved" in capfd.readouterr().err


@pytest.mark.parametrize("number", STOPS)
def test_a_second_one_leaves_them_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals) -> None:
    strike(monkeypatch, figures, "success_curve", number, 2)
    assert end(tmp_path) == 128 + number
    assert (tmp_path / "x" / "checkpoints" / "last.ckpt").exists() and not (tmp_path / "x" / "success.png").exists()


@pytest.mark.parametrize(
    ("times", "code"), [(2, 128 + signal.SIGTERM), pytest.param(1, 0, marks=pytest.mark.slow)], ids=["two", "one"]
)
def test_signals_while_wandb_says_good_bye(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int, code: int
) -> None:
    monkeypatch.delenv("WANDB_MODE")
    strike(monkeypatch, Tracker, "end", signal.SIGTERM, times)
    assert end(tmp_path, "--wandb", "offline") == code


def test_what_a_second_signal_interrupts_leaves_no_line_of_python(tmp_path: Path) -> None:
    """A process that dies of a signal cannot give semaphores back, and Python says so: better to have none."""
    run = tmp_path / "x"
    attempt = Attempt(fit(tmp_path, "--model.total_env_steps", "800000"), tmp_path / "log", cold=True)
    assert attempt.wait_for((run / "metrics.csv").exists)
    for _ in range(2):
        os.kill(attempt.pid, signal.SIGTERM)
    assert attempt.finish() in (-signal.SIGTERM, 128 + signal.SIGTERM)  # the latter: both came between two steps
    text = (tmp_path / "log").read_text()
    assert "semaphore" not in text and "Traceback" not in text and sys.executable not in text, text
