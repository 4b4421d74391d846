"""What a sweep shows of its runs while they are at work, and which of them it calls best."""

import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from lit_maprops.cli.sweep import _print_best
from lit_maprops.sweep.journal import Entry
from lit_maprops.sweep.progress import Progress, settings, varied_of
from lit_maprops.sweep.results import share_done
from lit_maprops.sweep.sweep_file import SweepFile

PARAMETERS = {
    "model.behavior": {"values": ["OnPolicy", "MAPROPS"]},
    "model.num_seeds": {"value": 4},
    "model.learner.learning_rate": {"min": 0.1, "max": 1.0},
    "model.behavior.learning_rate": {"values": [0.1, 0.2]},
    "data.env.payoff": {"values": ["figure1"]},
}


def entry(number: int, **parameters: Any) -> Entry:
    return Entry(f"{number:03d}-abcdef", parameters, "finished")


def test_runs_are_named_by_what_varies() -> None:
    varied = varied_of(PARAMETERS)
    assert varied == ["model.behavior", "model.learner.learning_rate", "model.behavior.learning_rate"]
    run = Entry("000-abcdef", {"model.behavior": "MAPROPS", "model.num_seeds": 4, "model.behavior.learning_rate": 0.1})
    assert settings(run, varied) == "behavior=MAPROPS, model.behavior.learning_rate=0.1"
    assert settings(run, []) == "000-abcdef"


def test_the_share_that_is_done_is_that_of_the_last_whole_row(tmp_path: Path) -> None:
    assert share_done(tmp_path) == 0
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"model": {"total_env_steps": 1000}}))
    assert share_done(tmp_path) == 0
    table = tmp_path / "metrics.csv"
    for text, share in (
        ("", 0),
        ("x,env_steps\n", 0),
        ("x,env_steps\n1,250\n", 0.25),
        ("x,env_steps\n1,250\n1,50", 0.25),
    ):
        table.write_text(text)
        assert share_done(tmp_path) == share, text
    table.write_text("x,env_steps\n" + "".join(f"0.123456789,{step}\n" for step in range(0, 601)) + "0.1,9")
    assert share_done(tmp_path) == 0.6
    (tmp_path / "config.yaml").write_text("{")
    assert share_done(tmp_path) == 0


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return 2


def test_the_bar_moves_while_runs_are_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(os, "get_terminal_size", lambda *descriptor: os.terminal_size((80, 24)))
    progress = Progress(1, 4, ["behavior"])
    runs = [entry(1, behavior="OnPolicy"), entry(2, behavior="MAPROPS" * 20)]
    progress.at_work([(runs[0], 0.5), (runs[1], 0.25)])
    newest = terminal.getvalue().rpartition("\r")[2]
    assert newest.startswith(" 44%|") and "1/4 runs; behavior=OnPolicy 50%" in newest  # 1.75 of 4
    assert len(newest) <= 80 and newest.index("| ") - newest.index("|") > 8
    progress.started(runs[0])
    assert "started" not in terminal.getvalue()
    progress.ended(runs[0], "")
    assert "001-abcdef (behavior=OnPolicy) finished [2 of 4" in terminal.getvalue()
    progress.close()
    assert " 50%|" in terminal.getvalue().rstrip().rpartition("\r")[2]


def test_without_a_terminal_starts_are_lines(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(0, 2, ["behavior"])
    progress.started(entry(0, behavior="OnPolicy"))
    progress.at_work([(entry(0), 0.5)])
    progress.close()
    assert capsys.readouterr().err == "000-abcdef (behavior=OnPolicy) started [0 of 2 done]\n"


class Runs:
    def __init__(self, folder: Path, values: dict[str, float | None], *entries: Entry) -> None:
        self.entries = list(entries)
        for one in entries:
            (folder / one.id).mkdir()
            (folder / one.id / "summary.json").write_text(json.dumps({"solved_share": values[one.id]}))


def test_the_best_is_of_one_task(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = SweepFile(tmp_path / "s.yaml", {"metric": {"name": "solved_share", "goal": "maximize"}, "parameters": {}})
    games = [
        entry(k, **{"data.env.payoff": game, "model.behavior": sampler})
        for k, (game, sampler) in enumerate((g, s) for g in ("easy", "hard") for s in ("OnPolicy", "MAPROPS"))
    ]
    values: dict[str, float | None] = dict(zip([one.id for one in games], [0.9, 1.0, 0.3, 0.1], strict=True))
    journal: Any = Runs(tmp_path, values, *games)
    _print_best(file, tmp_path, journal, "solved_share")
    assert capsys.readouterr().err.splitlines() == [
        "best with --data.env.payoff=easy: 001-abcdef, solved_share 1 with --model.behavior=MAPROPS",
        "best with --data.env.payoff=hard: 002-abcdef, solved_share 0.3 with --model.behavior=OnPolicy",
    ]
    journal.entries = games[:2]
    _print_best(file, tmp_path, journal, "solved_share")
    assert capsys.readouterr().err.splitlines() == [
        "best: 001-abcdef, solved_share 1 with --data.env.payoff=easy --model.behavior=MAPROPS"
    ]


def test_a_metric_that_no_run_has_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where returns are judged without a threshold, summary.json has null for the share of solved seeds."""
    file = SweepFile(tmp_path / "s.yaml", {"metric": {"name": "solved_share", "goal": "maximize"}, "parameters": {}})
    one = entry(0, **{"model.behavior": "OnPolicy"})
    journal: Any = Runs(tmp_path, {one.id: None}, one)
    _print_best(file, tmp_path, journal, "solved_share")
    assert capsys.readouterr().err.splitlines() == [
        "no finished run has a number for the metric solved_share: in a task without success choose mean_return, or "
        "set model.solved_on and model.solved_threshold"
    ]
