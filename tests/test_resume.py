"""A run that is stopped and resumed ends bit for bit where an uninterrupted one does."""

import json
import shutil
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import SMALL, command

from lit_maprops.cli.main import main
from lit_maprops.report import load_runs
from lit_maprops.run.callbacks import Checkpoints, Recorder
from lit_maprops.run.folder import RunFolder
from lit_maprops.run.summary import Summary
from lit_maprops.sweep.results import is_complete
from lit_maprops.system.tables import read_table

CASES = {
    "ma_props": ("MatrixGame", []),
    "ma_props with history": ("MatrixGame", ["--data.history_batches", "3"]),
    "minibatches": ("MatrixGame", ["--model.behavior.minibatches", "3"]),
    "auto": ("MatrixGame", ["--model.behavior.kl_cutoff", "auto"]),
    "auto, closed form": ("MatrixGame", ["--model.behavior", "TabularMAPROPS", "--model.behavior.kl_cutoff", "auto"]),
    "auto, minibatches with history": (
        "BoulderPush",
        ["--model.behavior.kl_cutoff", "auto", "--model.behavior.minibatches", "2", "--data.history_batches", "2"],
    ),
    "battles": (
        "JaxMARL",
        [
            *("--data.env.scenario", "HeuristicEnemySMAX", "--data.env.map_name", "3m", "--data.env.max_steps", "100"),
            *("--data.env.agents_leave", "true", "--model.behavior", "MAPROPS"),
        ],
    ),
    "kept Adam moments": ("MatrixGame", ["--model.behavior.reset_optimizer", "false"]),
    "props": ("MatrixGame", ["--model.behavior", "PROPS", "--model.behavior.minibatches", "2"]),
    "stratified": ("BoulderPush", ["--model.behavior.draws", "stratified", "--data.num_envs", "4"]),
    "low discrepancy": ("BoulderPush", ["--model.behavior", "LowDiscrepancy", "--data.num_envs", "2"]),
    "low discrepancy with history": (
        "MatrixGame",
        ["--model.behavior", "LowDiscrepancy", "--data.history_batches", "3", "--model.behavior.scrambling", "owen"],
    ),
    "low discrepancy, growing history": (
        "BoulderPush",
        ["--model.behavior.draws", "low_discrepancy", "--data.history", "growing"],
    ),
    "ordered environments": (
        "BoulderPush",
        ["--model.behavior", "LowDiscrepancy", "--model.behavior.order", "value", "--data.num_envs", "4"],
    ),
    "greedy with history": ("MatrixGame", ["--model.behavior", "Greedy", "--data.history_batches", "2"]),
    "autoregressive": ("MatrixGame", ["--model.behavior", "Autoregressive", "--model.behavior.minibatches", "3"]),
    "coordination graph with history": (
        "MatrixGame",
        ["--model.behavior", "CoordinationGraph", "--data.history_batches", "2"],
    ),
    "gaussian with history": (
        "TwoPeaks",
        [
            "--model.behavior",
            "GaussianAdjustment",
            "--model.behavior.correlated",
            "true",
            "--data.history_batches",
            "2",
        ],
    ),
    "props on continuous actions": (
        "TwoPeaks",
        ["--model.behavior", "PROPS", "--model.behavior.minibatches", "2", "--model.behavior.draws", "low_discrepancy"],
    ),
    "boulder push": ("BoulderPush", []),
    "boulder push, half full of history": ("BoulderPush", ["--data.history_batches", "4"]),
    "growing history": ("MatrixGame", ["--data.history", "growing", "--model.behavior.minibatches", "2"]),
    "boulder push, growing history": ("BoulderPush", ["--data.history", "growing"]),
    "fixed start, ippo": ("BoulderPush", ["--data.env.fixed_start", "true", "--model.learner", "IPPO"]),
    "continuous actions, ippo": ("TwoPeaks", ["--model.learner", "IPPO"]),
    "gelu, layer norm": (
        "BoulderPush",
        [
            "--model.learner.activation",
            "gelu",
            "--model.learner.layer_norm",
            "true",
            "--model.learner.minibatches",
            "2",
        ],
    ),
    "convolutions": ("BoulderPush", ["--model.learner", "IPPO", "--model.learner.cnn", "[[4, 3, 2]]"]),
    "value normalization, huber": (
        "BoulderPush",
        ["--model.learner.value_norm", "true", "--model.learner.value_loss", "huber"],
    ),
    "kl stop": ("BoulderPush", ["--model.learner.kl_stop", "0.0001", "--model.behavior", "OnPolicy"]),
}


def stop_after(monkeypatch: pytest.MonkeyPatch, iterations: int) -> None:
    """Let a SIGTERM arrive during a target iteration."""
    original = Checkpoints.on_train_batch_end

    def wrapped(self: Checkpoints, trainer: Any, pl_module: Any, *args: Any) -> None:
        if pl_module.iteration == iterations:
            self.received = signal.SIGTERM
        original(self, trainer, pl_module, *args)

    monkeypatch.setattr(Checkpoints, "on_train_batch_end", wrapped)


def differences(a: Any, b: Any, path: str = "") -> list[str]:
    """Where two nested checkpoints differ in a single bit."""
    if isinstance(a, dict):
        assert a.keys() == b.keys(), path
        return [d for k in a for d in differences(a[k], b[k], f"{path}/{k}")]
    if isinstance(a, (list, tuple)):
        assert len(a) == len(b), path
        return [d for i, (x, y) in enumerate(zip(a, b, strict=True)) for d in differences(x, y, f"{path}/{i}")]
    if isinstance(a, torch.Tensor):
        same = a.shape == b.shape and a.dtype == b.dtype and ((a == b) | ((a != a) & (b != b))).all()
        return [] if same else [path]
    return [] if a == b or (a != a and b != b) else [path]


def state_of(folder: Path) -> dict:
    saved = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    # Lightning's own counters are not ours to compare: they count how often the program was started.
    return {k: saved[k] for k in ("state_dict", "optimizer_states", "lit_maprops")}


# Battles are compiled for longer than all others run; test_jaxmarl.py restores one bit for bit.
PARAMETERS = [
    pytest.param(*case, id=name, marks=[pytest.mark.slow] * (name == "battles")) for name, case in CASES.items()
]


@pytest.mark.every(4)
@pytest.mark.parametrize(("env", "options"), PARAMETERS)
def test_resumed_run_is_bit_identical(
    fit: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, env: str, options: list[str]
) -> None:
    whole = fit("whole", *options, env=env)
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        args = ["fit", *SMALL[env], "--runs_dir", str(whole.parent), "--run_name", "cut", *options]
        assert main(args) == 128 + signal.SIGTERM
    cut = whole.parent / "cut"
    assert not (cut / "summary.json").exists()
    assert main(["fit", "--ckpt_path", str(cut / "checkpoints" / "last.ckpt")]) == 0

    assert differences(state_of(whole), state_of(cut)) == []
    for name in ("metrics.csv", "eval.csv"):
        a, b = read_table(whole / name), read_table(cut / name)
        assert a.keys() == b.keys()
        for column in a:
            if "time/" not in column and column != "wall_seconds":
                np.testing.assert_array_equal(a[column], b[column], err_msg=f"{name} {column}")
    assert (cut / "summary.json").exists()


def test_the_comparison_can_fail(fit: Callable[..., Path]) -> None:
    """Another run seed ends elsewhere: otherwise the test above proves nothing."""
    a, b = fit("a"), fit("b", "--seed_everything", "1")
    assert any("state_dict" in path for path in differences(state_of(a), state_of(b)))


def test_rows_after_the_checkpoint_are_written_again(fit: Callable[..., Path], tmp_path: Path) -> None:
    """A kill between a row and the next checkpoint must not leave the row twice."""
    whole = fit("whole", "--model.checkpoint_interval", "3")
    early = tmp_path / "early"
    shutil.copytree(whole, early)
    stale = torch.load(whole / "checkpoints" / "last.ckpt", weights_only=True)
    assert stale["lit_maprops"]["iteration"] == 8
    longer = fit("longer", "--model.total_env_steps", "24")
    shutil.copy(whole / "metrics.csv", longer / "metrics.csv")
    later = [line for line in (whole / "eval.csv").read_text().splitlines(True)[1:] if int(line.split(",")[0]) > 24]
    for name, lines in (("metrics.csv", ["999,12"]), ("eval.csv", later)):  # half a line, as a kill leaves it
        with (longer / name).open("a") as file:
            file.writelines(lines)
    checkpoint = longer / "checkpoints" / "last.ckpt"
    assert main(["fit", "--ckpt_path", str(checkpoint), "--model.total_env_steps", "64"]) == 0
    assert read_table(longer / "metrics.csv")["env_steps"].tolist() == list(range(8, 65, 8))
    assert np.unique(read_table(longer / "eval.csv")["env_steps"]).tolist() == [16, 24, 32, 48, 64]


def test_a_finished_run_can_be_resumed_and_stays_as_it_is(
    fit: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fit("done")
    before = (folder / "metrics.csv").read_text()
    assert main(["fit", "--ckpt_path", str(folder / "checkpoints" / "last.ckpt")]) == 0
    assert (folder / "metrics.csv").read_text() == before
    summary = (folder / "summary.json").read_text()
    monkeypatch.setattr(Summary, "on_fit_end", lambda *args: None)  # killed before it writes the summary again
    assert main(["fit", "--ckpt_path", str(folder / "checkpoints" / "last.ckpt")]) == 0
    assert (folder / "summary.json").read_text() == summary


def test_a_run_given_more_env_steps_is_unfinished_until_it_reaches_them(
    fit: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the old end left must not make a run that was stopped later look like a finished one."""
    folder = fit("x")
    for kind in ("success", "failure"):
        (folder / f"{kind}.gif").touch()  # the game has no films
    longer = ["fit", "--ckpt_path", str(folder / "checkpoints" / "last.ckpt"), "--model.total_env_steps", "100"]
    with monkeypatch.context() as patch:
        stop_after(patch, 10)
        assert main(longer) == 128 + signal.SIGTERM
    left = {path.name for path in folder.iterdir() if path.suffix in (".json", ".png", ".gif")}
    assert left == {"changes.json"}
    (run,), _ = load_runs([folder])
    assert not run.finished and not is_complete(folder)
    assert main(longer) == 0
    (run,), _ = load_runs([folder])
    assert run.finished and is_complete(folder) and run.env_steps[-1] == 96


def test_seeds_of_non_finite_losses_outlive_a_kill_before_the_summary(fit: Callable[..., Path]) -> None:
    folder = fit("x", "--model.learner", "IPPO", "--model.learner.learning_rate", "1e29")
    summary = folder / "summary.json"
    before = json.loads(summary.read_text())["non_finite_seeds"]
    assert before
    summary.unlink()
    assert main(["fit", "--ckpt_path", str(folder / "checkpoints" / "last.ckpt")]) == 0
    assert json.loads(summary.read_text())["non_finite_seeds"] == before


@pytest.mark.parametrize("saved", [{}, {"non_finite": "12"}, {"non_finite": [[1], None, True]}])
def test_a_checkpoint_without_such_seeds_names_none(tmp_path: Path, saved: dict[str, Any]) -> None:
    recorder = Recorder(RunFolder(tmp_path), print)
    recorder.load_state_dict(saved)
    assert recorder.non_finite == []


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, *(pytest.param(n, marks=pytest.mark.slow) for n in (signal.SIGUSR1, signal.SIGHUP))]
)
def test_signals_save_and_set_the_exit_code(tmp_path: Path, number: signal.Signals) -> None:
    args = ["fit", *SMALL["MatrixGame"], "--runs_dir", str(tmp_path), "--run_name", "x"]
    heard = partial(signal.signal, number, signal.SIG_DFL)  # under nohup, which these tests may be, SIGHUP is ignored
    process = command(*args, "--model.total_env_steps", "80000", preexec_fn=heard)
    metrics = tmp_path / "x" / "metrics.csv"
    while process.poll() is None and not (metrics.exists() and metrics.read_text().count("\n") > 3):
        time.sleep(0.05)
    process.send_signal(number)
    try:
        _, stderr = process.communicate(timeout=240)
    finally:
        process.kill()
    assert process.returncode == 128 + number, stderr
    assert "Traceback" not in stderr
    saved = torch.load(tmp_path / "x" / "checkpoints" / "last.ckpt", weights_only=True)
    done = saved["lit_maprops"]["iteration"]
    assert read_table(metrics)["iteration"][-1] == done
    resumed = ["fit", "--ckpt_path", str(tmp_path / "x" / "checkpoints" / "last.ckpt")]
    assert main([*resumed, "--model.total_env_steps", str(8 * (done + 2))]) == 0
    assert read_table(metrics)["iteration"].tolist() == list(range(1, done + 3))
