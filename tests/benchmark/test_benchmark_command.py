"""The command: from nothing to a page, on and on, killed in between; bad input is one line and writes nothing."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml
from conftest import command
from forked import fork_runs

from lit_maprops.benchmark.benchmark_file import SHIPPED
from lit_maprops.cli.main import main


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """The shipped list with little to do in its first task."""
    content = yaml.safe_load(SHIPPED.read_text())
    content["name"] = "small"
    content["flags"] |= {"model.total_env_steps": 32, "model.eval_episodes": 2}
    content["tasks"]["figure1"] |= {"block": 2, "seconds": 1}
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def arguments(file: Path, *more: str) -> list[str]:
    args = ["benchmark", str(file), "--tasks", "figure1", "--samplers", "OnPolicy", "LowDiscrepancy"]
    return [*args, "--runs_dir", str(file.parent / "runs"), *more]


def test_from_nothing_to_a_page_and_on(
    small: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fork_runs(monkeypatch)
    assert main(arguments(small, "--seeds", "2")) == 0
    folder = small.parent / "runs/small"
    rows = json.loads((folder / "results.json").read_text())["rows"]
    assert [(row["sampler"], row["seeds"]) for row in rows] == [("OnPolicy", 2), ("LowDiscrepancy", 2)]
    runs = {path: path.stat().st_mtime_ns for path in folder.rglob("summary.json")}
    for row, path in zip(rows, sorted(runs), strict=True):
        summary = json.loads(path.read_text())
        assert row["solved"] == sum(rate >= 0.8 for rate in summary["success_rate"])
    assert "4 seeds in 2 rows" in capsys.readouterr().err
    # On with more seeds of one of them: what is there stays.
    assert main(arguments(small, "--seeds", "3", "--samplers", "OnPolicy")) == 0
    assert {path: path.stat().st_mtime_ns for path in runs} == runs
    assert [row["seeds"] for row in json.loads((folder / "results.json").read_text())["rows"]] == [3]
    # The list has changed: its runs are not those of another one.
    small.write_text(small.read_text().replace("run_seed: 2026", "run_seed: 1"))
    assert main(arguments(small, "--seeds", "3")) == 2
    assert "has changed since its runs" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.slow
def test_killed_it_goes_on(small: Path) -> None:
    args = arguments(small, "--seeds", "4", "--workers", "1")
    process = command(*args)
    folder = small.parent / "runs/small"
    while not list(folder.glob("000-*.log")):
        assert process.poll() is None
        time.sleep(0.05)
    children = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, signal.SIGKILL)
    for child in children:
        child.kill()
    process.wait()
    assert main(args) == 0
    rows = json.loads((folder / "results.json").read_text())["rows"]
    other = arguments(small, "--seeds", "4", "--workers", "1")
    other[other.index("--runs_dir") + 1] = str(small.parent / "once")
    assert main(other) == 0
    assert json.loads((small.parent / "once/small/results.json").read_text())["rows"] == rows


def test_without_time_nothing_is_run_and_nothing_is_zero(small: Path) -> None:
    content = yaml.safe_load(small.read_text())
    content["tasks"]["figure1"]["seconds"] = 1000
    small.write_text(yaml.safe_dump(content, sort_keys=False))
    assert main(arguments(small, "--minutes", "1")) == 2  # nothing to show
    assert not list((small.parent / "runs").rglob("leaderboard.html"))


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--tasks", "figur1"], "--tasks has figur1 (did you mean figure1?)"),
        (["--samplers", "MAPROP"], "--samplers has MAPROP (did you mean MAPROPS?)"),
        (["--learners", "PPO"], "--learners has PPO"),
        (["--minutes", "0"], "--minutes is 0"),
        (["--minutes", "nan"], "--minutes is nan"),
        (["--seeds", "0"], "--seeds is 0"),
        (["--workers", "0"], "--workers is 0"),
        (["--tasks", "figure1", "--samplers", "GaussianAdjustment"], "nothing to run: figure1: for continuous"),
        (["--rows", "nowhere"], "--rows is nowhere, no folder"),
        (["--page", "nowhere"], "--page is nowhere, no folder"),
        (["--page_only"], "has no runs: leave out --page_only"),
        (["--minuts", "3"], "--minuts"),
        (["nothing.yaml"], "nothing.yaml cannot be read"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    options: list[str], part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["benchmark", *options]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert part in line and not list(tmp_path.iterdir())


def test_it_imports_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from lit_maprops.cli.main import main; main(['benchmark', '--help']); main(['benchmark', "
        "'--page_only']); import lit_maprops.benchmark.course; print(sorted({'torch', 'lightning'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "[]"
