"""A clock that jumps: no negative duration, no lost row, no other result."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import ROOT, SMALL
from test_resume import differences, state_of, stop_after

from lit_maprops.cli.main import main
from lit_maprops.module import LitMAPROPS
from lit_maprops.sweep.progress import Progress
from lit_maprops.system.tables import read_table

DAY = 86_400.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """The wall clock of this process, Lightning's and W&B's calls too; called with the seconds it jumps."""
    offset, original = 0.0, time.time

    def jump(seconds: float) -> None:
        nonlocal offset
        offset += seconds

    monkeypatch.setattr(time, "time", lambda: original() + offset)
    monkeypatch.setattr(time, "time_ns", lambda: int((original() + offset) * 1e9))
    return jump


def test_a_run_does_not_notice(
    fit: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, clock: Callable[[float], None]
) -> None:
    whole = fit("whole")
    original = LitMAPROPS.training_step

    def step(self: LitMAPROPS, batch: int, batch_idx: int) -> None:
        original(self, batch, batch_idx)
        clock(-DAY if self.iteration % 2 else 2 * DAY)

    monkeypatch.setattr(LitMAPROPS, "training_step", step)
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        assert main(["fit", *SMALL["MatrixGame"], "--runs_dir", str(whole.parent), "--run_name", "x"]) == 143
    clock(-10 * DAY)
    run = whole.parent / "x"
    assert main(["fit", "--ckpt_path", str(run / "checkpoints" / "last.ckpt")]) == 0
    assert differences(state_of(whole), state_of(run)) == []
    table = read_table(run / "metrics.csv")
    for name in ("time/collect", "time/behavior", "time/target"):
        assert ((table[name] >= 0) & (table[name] < 3600)).all()
    passed = np.diff(table["wall_seconds"], prepend=0.0)
    assert ((passed > 0) & (passed < 3600)).all()


def test_a_sweep_does_not_notice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Callable[[float], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """Put back by a day after every run, forward by two after every second."""
    ended = Progress.ended

    def jumping(self: Progress, *args: Any) -> None:
        ended(self, *args)
        clock(-DAY if self._done % 2 else 2 * DAY)

    monkeypatch.setattr(Progress, "ended", jumping)
    words = ["${interpreter}", str(ROOT / "tests/sweeps/toy.py"), "${args}"]
    content = {"name": "toy", "method": "grid", "parameters": {"x": {"values": [1, 2, 3, 4]}}, "command": words}
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump(content))
    assert main(["sweep", str(path), "--runs_dir", str(tmp_path / "runs")]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if " left]" in line]
    assert len(lines) == 3
    for line in lines:
        left = line.rpartition("about ")[2].removesuffix(" left]").split(":")
        assert len(left) == 2 and all(part.isdigit() for part in left), line  # minutes and seconds
