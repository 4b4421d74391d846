"""Fixtures shared by all tests: small runs through the real command line."""

import os
import subprocess
import sys
from collections.abc import Callable
from inspect import signature
from pathlib import Path

import pytest
import torch
import yaml

from lit_maprops.cli.main import main
from lit_maprops.envs import TASKS

ROOT = Path(__file__).parent.parent

# A run that touches everything and takes about a second.
SMALL = {
    "MatrixGame": [
        "--config", str(ROOT / "conf/matrix_game.yaml"), "--model.num_seeds", "3", "--model.total_env_steps", "64",
        "--model.eval_interval", "2", "--model.eval_episodes", "4", "--model.checkpoint_interval", "1",
    ],
    "BoulderPush": [
        "--config", str(ROOT / "conf/boulderpush.yaml"), "--model.num_seeds", "2", "--model.total_env_steps", "192",
        "--model.eval_interval", "2", "--model.eval_episodes", "3", "--model.checkpoint_interval", "1",
        "--model.sampling_error_interval", "2", "--data.num_envs", "2", "--data.behavior_batch_size", "8",
        "--data.target_batch_size", "32", "--data.env.max_steps", "10",
    ],
    "Foraging": [
        "--config", str(ROOT / "conf/foraging.yaml"), "--model.num_seeds", "2", "--model.total_env_steps", "96",
        "--model.eval_interval", "2", "--model.eval_episodes", "3", "--model.checkpoint_interval", "1",
        "--data.num_envs", "2", "--data.behavior_batch_size", "8", "--data.target_batch_size", "32",
        "--data.env.max_steps", "10",
    ],
    "PettingZoo": [
        "--config", str(ROOT / "conf/reacher_sparse.yaml"), "--data.env", "PettingZoo",
        "--data.env.options", "{continuous_actions: true}", "--model.num_seeds", "2",
        "--model.total_env_steps", "64", "--model.eval_interval", "2", "--model.eval_episodes", "3",
        "--model.checkpoint_interval", "1", "--data.num_envs", "2", "--data.behavior_batch_size", "8",
        "--data.target_batch_size", "32", "--data.env.max_steps", "10",
    ],
    "SparseReacher": [
        "--config", str(ROOT / "conf/reacher_sparse.yaml"), "--model.num_seeds", "2",
        "--model.total_env_steps", "64", "--model.eval_interval", "2", "--model.eval_episodes", "3",
        "--model.checkpoint_interval", "1", "--data.num_envs", "2", "--data.behavior_batch_size", "8",
        "--data.target_batch_size", "32", "--data.env.max_steps", "10",
    ],
    "TwoPeaks": [
        "--config", str(ROOT / "conf/continuous_game.yaml"), "--model.num_seeds", "3", "--model.total_env_steps", "64",
        "--model.eval_interval", "2", "--model.eval_episodes", "4", "--model.checkpoint_interval", "1",
    ],
    "VMAS": [
        "--config", str(ROOT / "conf/vmas_balance.yaml"), "--model.num_seeds", "2", "--model.total_env_steps", "96",
        "--model.eval_interval", "2", "--model.eval_episodes", "3", "--model.checkpoint_interval", "1",
        "--model.behavior", "PROPS", "--data.num_envs", "2", "--data.behavior_batch_size", "8",
        "--data.target_batch_size", "32", "--data.env.max_steps", "10", "--data.env.n_agents", "2",
    ],
}  # fmt: skip


def derived(name: str) -> list[str]:
    """A small run of a registered environment with no entry of its own: by its file in conf/, or by defaults."""
    files = sorted((ROOT / "conf").glob("*.yaml"))
    of_task = (f for f in files if yaml.safe_load(f.read_text())["data"]["env"]["class_path"] == name)
    file = next(of_task, None)
    classes = ["--data.env", name, "--model.behavior", "OnPolicy", "--model.learner", "IPPO"]
    short = ["--data.env.max_steps", "10"] if "max_steps" in signature(TASKS[name]).parameters else []
    return [
        *(classes if file is None else ["--config", str(file)]), *short, "--model.num_seeds", "2",
        "--model.total_env_steps", "64", "--model.eval_interval", "2", "--model.eval_episodes", "3",
        "--model.checkpoint_interval", "1", "--data.num_envs", "2", "--data.behavior_batch_size", "8",
        "--data.target_batch_size", "32",
    ]  # fmt: skip


SMALL |= {name: derived(name) for name in TASKS if name not in SMALL}


@pytest.fixture(autouse=True)
def _one_thread_no_tracking(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # no power cut is expected, and disks are slow


@pytest.fixture
def fit(tmp_path: Path) -> Callable[..., Path]:
    """Train a small run and return its folder."""

    def run(name: str, *options: str, env: str = "MatrixGame") -> Path:
        args = ["fit", *SMALL[env], "--runs_dir", str(tmp_path / "runs"), "--run_name", name, *options]
        assert main(args) == 0
        return tmp_path / "runs" / name

    return run


def command(*args: str, **kwargs: object) -> subprocess.Popen[str]:
    """Start the program as a user would, without a terminal."""
    env = os.environ | {"OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled"}
    return subprocess.Popen(
        [sys.executable, "-m", "lit_maprops", *args],
        cwd=ROOT,
        env=env,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **kwargs,  # type: ignore[call-overload]
    )
