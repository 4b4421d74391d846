"""The command ``sweep`` with a toy program: what runs, what survives a kill, what is refused."""

import fcntl
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import ROOT, command

from lit_maprops.cli.main import main
from lit_maprops.sweep.processes import command_line
from lit_maprops.sweep.sweep_file import SweepFile
from lit_maprops.system.tables import read_table

TOY = str(ROOT / "tests" / "sweeps" / "toy.py")
GRID = {"x": {"values": [1, 2, 3]}, "y": {"values": [0.5, 0.25]}}
Sweep = Callable[..., Path]
SECONDS = 240  # on a busy machine


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    """Write a sweep file over the toy program."""

    def write(*flags: str, **content: Any) -> Path:
        content = {"name": "toy", "method": "grid", "parameters": GRID} | content
        words = ["${interpreter}", TOY, "${args}", *flags]
        path = tmp_path / "sweep.yaml"
        path.write_text(yaml.safe_dump({"command": words} | content))
        return path

    return write


def entries(tmp_path: Path, name: str = "toy") -> list[dict[str, Any]]:
    return json.loads((tmp_path / "runs" / name / "sweep.json").read_text())["runs"]


def run(path: Path, *options: str) -> int:
    return main(["sweep", str(path), "--runs_dir", str(path.parent / "runs"), *options])


def refused(path: Path, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    capsys.readouterr()
    assert run(path, *options) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.strip().splitlines()) == 1
    return captured.err


def test_a_grid_is_every_combination_once(sweep: Sweep, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metric = {"name": "score", "goal": "maximize"}
    assert run(sweep(metric=metric), "--workers", "2") == 0
    done = entries(tmp_path)
    assert {(e["parameters"]["x"], e["parameters"]["y"]) for e in done} == set(
        itertools.product([1, 2, 3], [0.5, 0.25])
    )
    assert len(done) == 6
    assert {e["state"] for e in done} == {"finished"}
    for entry in done:
        summary = json.loads((tmp_path / "runs" / "toy" / entry["id"] / "summary.json").read_text())
        assert summary["score"] == entry["parameters"]["x"] + entry["parameters"]["y"]
    err = capsys.readouterr().err
    assert "6 finished, 0 failed" in err
    assert "score 3.5 with --x=3 --y=0.5" in err


def test_finished_runs_are_skipped_and_a_larger_cap_adds_runs(sweep: Sweep, tmp_path: Path) -> None:
    path = sweep()
    assert run(path, "--max_runs", "2") == 0
    first = entries(tmp_path)
    assert len(first) == 2
    times = {e["id"]: (tmp_path / "runs" / "toy" / e["id"] / "summary.json").stat().st_mtime_ns for e in first}
    assert run(sweep(run_cap=4)) == 0
    assert [e["id"] for e in entries(tmp_path)][:2] == [e["id"] for e in first]
    assert len(entries(tmp_path)) == 4
    for run_id, written in times.items():
        assert (tmp_path / "runs" / "toy" / run_id / "summary.json").stat().st_mtime_ns == written


def test_a_failed_run_is_recorded_and_retried_only_on_request(
    sweep: Sweep, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = sweep("--fail=2", parameters={"x": {"values": [1, 2, 3]}})
    assert run(path) == 1
    states = [(e["state"], e["exit_code"], e["error"]) for e in entries(tmp_path)]
    failed = ("failed", 3, "boom: x is not to my taste")
    assert states == [("finished", None, None), failed, ("finished", None, None)]
    assert "first line" in Path(entries(tmp_path)[1]["log"]).read_text()
    assert "boom: x is not to my taste" in capsys.readouterr().err
    starts = Path(entries(tmp_path)[1]["log"]).read_text().count("first line")
    assert run(path) == 1
    assert Path(entries(tmp_path)[1]["log"]).read_text().count("first line") == starts
    assert run(path, "--retry_failed") == 1
    assert Path(entries(tmp_path)[1]["log"]).read_text().count("first line") == starts + 1


def test_a_command_that_cannot_start_is_a_failed_run(sweep: Sweep, tmp_path: Path) -> None:
    path = sweep(command=["/no/such/program", "${args}"], parameters={"x": {"values": [1]}})
    assert run(path) == 1
    assert "No such file" in entries(tmp_path)[0]["error"]


def test_killed_at_random_moments_it_ends_with_the_same_runs(sweep: Sweep, tmp_path: Path) -> None:
    """Runs outlive the sweep that started them; none may be written by two processes at once."""
    steps = 6
    path = sweep(f"--steps={steps}", "--pause=0.1")
    args = ["sweep", str(path), "--runs_dir", str(tmp_path / "runs"), "--workers", "2"]
    moments = random.Random(0)
    kills = 0
    for _ in range(4):
        process = command(*args)
        # From the first proposal on, however slow the machine.
        _wait_for(lambda: (tmp_path / "runs" / "toy" / "sweep.json").exists())
        time.sleep(moments.uniform(0.0, 0.6))
        kills += process.poll() is None
        process.kill()
        process.wait()
    assert kills == 4
    # One run is left as a kill in its middle leaves it: it has a checkpoint and goes on from there.
    killed = _interrupt_a_run(tmp_path)
    assert run(path, "--workers", "2") == 0
    done = entries(tmp_path)
    assert {e["state"] for e in done} == {"finished"}
    expected = itertools.product([1, 2, 3], [0.5, 0.25])
    assert sorted((e["parameters"]["x"], e["parameters"]["y"]) for e in done) == sorted(expected)
    for entry in done:
        table = read_table(tmp_path / "runs" / "toy" / entry["id"] / "metrics.csv")
        assert table["env_steps"].tolist() == list(range(steps))
    assert json.loads((tmp_path / "runs" / "toy" / killed / "summary.json").read_text())["first"] > 0


def _interrupt_a_run(tmp_path: Path) -> str:
    """Put the oldest unfinished run back to its second step; returns its id."""
    entry = next(e for e in entries(tmp_path) if e["state"] == "running")
    log = Path(entry["log"])
    with log.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # waits for the process that a killed sweep left
    folder = tmp_path / "runs" / "toy" / entry["id"]
    (folder / "summary.json").unlink(missing_ok=True)
    (folder / "checkpoints" / "last.ckpt").write_text("2")
    return entry["id"]


def test_a_run_that_outlives_its_sweep_is_not_started_twice(sweep: Sweep, tmp_path: Path) -> None:
    path = sweep("--steps=40", "--pause=0.05", parameters={"x": {"values": [1]}})
    process = command("sweep", str(path), "--runs_dir", str(tmp_path / "runs"))
    assert _wait_for(lambda: bool(list(tmp_path.glob("runs/toy/*/checkpoints/last.ckpt"))))
    process.kill()
    process.wait()
    assert run(path) == 0
    (entry,) = entries(tmp_path)
    assert entry["state"] == "finished"
    starts = [line for line in Path(entry["log"]).read_text().splitlines() if line.startswith("$ ")]
    assert len(starts) == 1
    table = read_table(tmp_path / "runs" / "toy" / entry["id"] / "metrics.csv")
    assert table["env_steps"].tolist() == list(range(40))


def test_leftovers_without_a_checkpoint_are_cleared(sweep: Sweep, tmp_path: Path) -> None:
    path = sweep(parameters={"x": {"values": [1]}})
    assert run(path) == 0
    journal = tmp_path / "runs" / "toy" / "sweep.json"
    content = json.loads(journal.read_text())
    content["runs"][0]["state"] = "running"
    journal.write_text(json.dumps(content))
    folder = tmp_path / "runs" / "toy" / content["runs"][0]["id"]
    (folder / "checkpoints" / "last.ckpt").unlink()
    (folder / "summary.json").unlink()
    assert run(path) == 0
    assert json.loads((folder / "summary.json").read_text())["first"] == 0


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGINT, 130),
        pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow),
        pytest.param(signal.SIGUSR1, 138, marks=pytest.mark.slow),
    ],
)
def test_a_signal_stops_the_runs_and_leaves_them_to_continue(
    sweep: Sweep, tmp_path: Path, number: int, code: int
) -> None:
    path = sweep("--steps=200", "--pause=0.05", parameters={"x": {"values": [1, 2]}})
    process = command("sweep", str(path), "--runs_dir", str(tmp_path / "runs"), "--workers", "2")
    checkpoints = _wait_for(lambda: len(list(tmp_path.glob("runs/toy/*/checkpoints/last.ckpt"))) == 2)
    assert checkpoints
    process.send_signal(number)
    _, err = process.communicate(timeout=SECONDS)
    assert process.returncode == code
    assert "continue with the same command" in err
    assert [e["state"] for e in entries(tmp_path)] == ["running", "running"]
    for entry in entries(tmp_path):
        with Path(entry["log"]).open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises if its process were still there


def _wait_for(condition: Callable[[], bool], seconds: float = SECONDS) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


def test_hyperband_stops_the_worst_run_and_leaves_the_best(sweep: Sweep, tmp_path: Path) -> None:
    path = sweep(
        "--steps=60",
        "--pause=0.05",
        parameters={"x": {"values": [1, 2, 3, 4]}},
        metric={"name": "score", "goal": "maximize"},
        early_terminate={"type": "hyperband", "min_iter": 2, "eta": 2},
    )
    assert run(path, "--workers", "4") == 0
    done = {e["parameters"]["x"]: e for e in entries(tmp_path)}
    assert done[1]["state"] == "stopped"
    assert done[4]["state"] == "finished"
    folder = tmp_path / "runs" / "toy"
    assert not (folder / done[1]["id"] / "summary.json").exists()
    steps = len(read_table(folder / done[1]["id"] / "metrics.csv")["score"])
    assert 2 <= steps < 60
    # What was stopped stays stopped.
    assert run(path, "--workers", "4") == 0
    assert len(read_table(folder / done[1]["id"] / "metrics.csv")["score"]) == steps


BOUNDED = {
    "x": {"distribution": "log_uniform_values", "min": 0.001, "max": 0.1},
    "y": {"distribution": "int_uniform", "min": 2, "max": 5},
}


@pytest.mark.parametrize("method", ["random", "bayes"])
def test_proposals_keep_their_bounds_and_do_not_depend_on_interruptions(
    sweep: Sweep, tmp_path: Path, method: str
) -> None:
    path = sweep(method=method, parameters=BOUNDED, metric={"name": "score", "goal": "maximize"})
    assert run(path, "--max_runs", "6") == 0
    parameters = [e["parameters"] for e in entries(tmp_path)]
    assert all(0.001 <= p["x"] <= 0.1 and p["y"] in (2, 3, 4, 5) for p in parameters)
    assert len({p["x"] for p in parameters}) == 6
    again = ["sweep", str(path), "--runs_dir", str(tmp_path / "again")]
    for count in ("2", "3", "6"):
        np.random.seed(int(count))
        assert main([*again, "--max_runs", count]) == 0
    journal = json.loads((tmp_path / "again" / "toy" / "sweep.json").read_text())
    assert [e["parameters"] for e in journal["runs"]] == parameters


def test_bayes_learns_from_results(sweep: Sweep, tmp_path: Path) -> None:
    """With the score rising in x, the later proposals lie higher than uniform draws would."""
    path = sweep(
        method="bayes", parameters={"x": {"min": 0.0, "max": 1.0}}, metric={"name": "score", "goal": "maximize"}
    )
    assert run(path, "--max_runs", "10", "--workers", "1") == 0
    xs = [e["parameters"]["x"] for e in entries(tmp_path)]
    assert np.mean(xs[5:]) > 0.8


def test_a_changed_file_is_refused_and_the_change_named(
    sweep: Sweep, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(sweep()) == 0
    before = (tmp_path / "runs" / "toy" / "sweep.json").read_bytes()
    line = refused(sweep(parameters=GRID | {"y": {"values": [1.0]}}), capsys)
    assert "parameters.y" in line
    assert "parameters.x" not in line
    assert "--runs_dir" in line
    assert (tmp_path / "runs" / "toy" / "sweep.json").read_bytes() == before


BAD = {
    "unknown method": ({"method": "magic"}, [], "grid, random, bayes"),
    "no parameters": ({"parameters": None}, [], "parameters is missing"),
    "no command": ({"command": []}, [], "command is missing"),
    "empty grid": ({"parameters": {"x": {"values": []}}}, [], "sweep.yaml"),
    "grid over a range": ({"parameters": {"x": {"min": 0.0, "max": 1.0}}}, [], "grid search"),
    "bayes without a metric": ({"method": "bayes", "run_cap": 3, "parameters": BOUNDED}, [], "metric is missing"),
    "hyperband without a metric": ({"early_terminate": {"type": "hyperband", "min_iter": 2}}, [], "metric is missing"),
    "unknown metric": (
        {"command": ["python", "-m", "lit_maprops", "fit", "${args}"], "metric": {"name": "acuracy"}},
        [],
        "mean_success_rate",
    ),
    "endless": ({"method": "random", "parameters": BOUNDED}, [], "--max_runs"),
    "unknown macro": ({"command": ["${magic}"]}, [], "${magic}"),
    "own run name": ({"command": ["toy", "--run_name=a", "${args}"]}, [], "run_name"),
    "name of a path": ({"name": "a/b"}, [], "name"),
    "no workers": ({}, ["--workers", "0"], "--workers"),
    "workers no number": ({}, ["--workers", "many"], "--workers"),
    "no runs": ({}, ["--max_runs", "0"], "--max_runs"),
    "nothing to take": ({}, ["--take", "0"], "--take"),
    "unknown launcher": ({}, ["--launcher", "slurn"], "--launcher is 'slurn': choose one of local, slurm, ray"),
    "options of another launcher": ({}, ["--launcher_options=--mem=1G"], "--launcher_options"),
    "no SLURM": ({}, ["--launcher", "slurm"], "no sbatch"),
    "take for a launcher": ({}, ["--launcher", "slurm", "--take", "1"], "--take"),
    "unknown option": ({}, ["--wokers", "2"], "--wokers"),
}


@pytest.mark.parametrize(("content", "options", "words"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line_and_writes_nothing(
    sweep: Sweep,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    content: dict[str, Any],
    options: list[str],
    words: str,
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")  # whether or not this machine has SLURM
    assert words in refused(sweep(**content), capsys, *options)
    assert [p.name for p in tmp_path.iterdir()] == ["sweep.yaml"]


@pytest.mark.parametrize("text", ["a: [", "- 1\n", "", None], ids=["yaml", "list", "empty", "missing"])
def test_a_file_that_is_no_sweep(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None) -> None:
    path = tmp_path / "sweep.yaml"
    if text is not None:
        path.write_text(text)
    assert "sweep.yaml" in refused(path, capsys)
    assert not (tmp_path / "runs").exists()


def test_without_the_package_the_extra_is_named(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "sweeps", None)
    assert "pip install 'sweeps<0.4,>=0.3'" in refused(sweep(), capsys)


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from lit_maprops.cli.main import main; assert main(['sweep', '--help']) == 0; "
        "print([m for m in ('torch', 'lightning', 'wandb', 'sweeps', 'sklearn') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert out.splitlines()[-1] == "[]"
    assert "--retry_failed" in out


def test_macros_are_replaced_as_the_agent_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against wandb's own code, for every macro it has."""
    from wandb.sdk.launch.sweeps import utils

    parameters = {"config": "c.yaml", "a": 1, "b": 0.5, "on": True, "off": False, "none": None, "list": [1, 2]}
    theirs = utils.create_sweep_command_args({"args": {k: {"value": v} for k, v in parameters.items()}})
    theirs.pop("args_dict")  # for code, not for a command line
    for macro, expected in theirs.items():
        file = SweepFile(Path("s.yaml"), {"command": ["go", f"${{{macro}}}"]})
        assert command_line(file, parameters) == ["go", *expected], macro
    monkeypatch.setenv("PLACE", "here")
    words = ["${envvar:PLACE}/x", "${envvar:NOWHERE}", "${program}", "${interpreter}", "${env}"]
    file = SweepFile(Path("s.yaml"), {"command": words, "program": "p.py"})
    assert command_line(file, {}) == [*utils.create_sweep_command(words)[:2], "p.py", sys.executable, "/usr/bin/env"]


def test_workers_share_the_cores(sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "from lit_maprops.system.threads import asked_threads; import os; "
    code += "print('threads', asked_threads(), os.environ['OMP_NUM_THREADS'])"
    words = ["${interpreter}", "-c", code]
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)))
    assert run(sweep(command=words, parameters={"x": {"values": [1]}}), "--workers", "3") == 0
    assert "threads 2 1" in Path(entries(tmp_path)[0]["log"]).read_text()
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert run(sweep(name="other", command=words, parameters={"x": {"values": [1]}}), "--workers", "3") == 0
    assert "threads 5 5" in Path(entries(tmp_path, "other")[0]["log"]).read_text()
