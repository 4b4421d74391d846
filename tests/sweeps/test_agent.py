"""The real ``wandb sweep`` and ``wandb agent`` drive our program against a stand-in server on loopback."""

import json
import math
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT
from wandb_server import ENTITY, PROJECT, SWEEP, Run, StandIn

from lit_maprops.sweep.results import best_value, read_summary
from lit_maprops.system.tables import read_table

BIN = Path(sys.executable).parent
# A run of a second or two; eval at every second of 8 iterations.
CHEAP = ["--model.num_seeds=3", "--model.total_env_steps=64", "--model.eval_interval=2", "--model.eval_episodes=2"]


def wandb_environment(tmp_path: Path, url: str) -> dict[str, str]:
    """No account, no network, nothing from the user's home."""
    for name in ("home", "wandb"):
        (tmp_path / name).mkdir(exist_ok=True)
    own = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_")}
    return own | {
        "HOME": str(tmp_path / "home"),
        # But for caches: compiled kernels and the list of fonts take long to make anew.
        "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache"),
        "NETRC": str(tmp_path / "home" / "netrc"),
        "WANDB_DIR": str(tmp_path / "wandb"),
        "WANDB_BASE_URL": url,
        "WANDB_API_KEY": "0" * 40,
        "WANDB_ERROR_REPORTING": "false",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }


def run_agent(tmp_path: Path, server: StandIn, content: dict[str, Any]) -> str:
    """``wandb sweep FILE`` and ``wandb agent ID`` to the end; returns what the agent printed."""
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump(content))
    env = wandb_environment(tmp_path, server.url)
    options: dict[str, Any] = {"cwd": tmp_path, "env": env, "text": True, "timeout": 400, "stdin": subprocess.DEVNULL}
    created = subprocess.run([BIN / "wandb", "sweep", path], capture_output=True, **options)
    assert SWEEP in created.stderr, created.stderr
    agent = [BIN / "wandb", "agent", f"{ENTITY}/{PROJECT}/{SWEEP}"]
    done = subprocess.run(agent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)
    assert done.returncode == 0, done.stdout
    return done.stdout


def command(*flags: str) -> list[str]:
    words = ["${env}", "${interpreter}", "-m", "lit_maprops", "fit", f"--config={ROOT / 'conf/matrix_game.yaml'}"]
    return [*words, *CHEAP, "${args}", *flags]


def folder_of(tmp_path: Path, run_id: str) -> Path:
    """The run's folder; there must be exactly one, named after the W&B run."""
    (folder,) = (tmp_path / "runs").glob(f"*-{run_id}")
    return folder


def assert_received(run: Run, folder: Path) -> None:
    """The server has the run's summary and every row of its metrics.csv."""
    ours = read_summary(folder)
    for name in ("solved_share", "mean_success_rate", "joint_tv", "env_steps"):
        assert run.summary[name] == pytest.approx(ours[name]), name
    steps = [row["env_steps"] for row in run.history if "iteration" in row]
    assert steps == read_table(folder / "metrics.csv")["env_steps"].tolist()
    assert run.exit_code == 0


METRIC = "eval/greedy_success_rate"
GRID = {
    "name": "grid",
    "method": "grid",
    # Null, which the agent spells None.
    "parameters": {"model.behavior": {"values": ["OnPolicy", "MAPROPS"]}, "wandb": {"value": None}},
    "command": command(),
}
BAYES = {
    "name": "bayes",
    "method": "bayes",
    "metric": {"name": METRIC, "goal": "maximize"},
    "parameters": {"model.behavior.kl_cutoff": {"distribution": "log_uniform_values", "min": 0.01, "max": 1.0}},
    "command": command(),
}


@dataclass
class Swept:
    """A sweep the agent has run: what the server got, what the agent printed, where the runs are."""

    server: StandIn
    printed: str
    place: Path


def swept(place: Path, content: dict[str, Any]) -> Swept:
    with StandIn(max_runs=2) as server:
        return Swept(server, run_agent(place, server, content), place)


def assert_same_optimized(run: Run, folder: Path) -> None:
    """The number a search optimizes is the one the local command takes from the run's files."""
    seen = [row[METRIC] for row in run.history if math.isfinite(row.get(METRIC, math.nan))]
    assert max(seen) == best_value(folder, METRIC, maximize=True)
    assert math.isfinite(run.summary[METRIC])


def test_the_real_agent_runs_a_grid_to_its_end(tmp_path: Path) -> None:
    sweep = swept(tmp_path, GRID)
    server, place = sweep.server, sweep.place
    assert "Traceback" not in sweep.printed
    assert {"Viewer", "UpsertSweep", "SweepWithRuns", "CreateAgent", "Heartbeat", "UpsertBucket"} <= server.asked
    assert [run.args["model.behavior"]["value"] for run in server.runs.values()] == ["OnPolicy", "MAPROPS"]
    for run_id, run in server.runs.items():
        folder = folder_of(place, run_id)
        config = yaml.safe_load((folder / "config.yaml").read_text())
        assert config["model"]["behavior"]["class_path"].endswith("." + run.args["model.behavior"]["value"])
        assert run.args["wandb"]["value"] is None and config["wandb"] is None
        assert_received(run, folder)
        assert_same_optimized(run, folder)
        assert run.config["data"]["value"] == config["data"]
    assert server.artifacts and set(server.artifacts) == {"run_table"}  # of every seed
    errors = {run.args["model.behavior"]["value"]: run.summary["joint_tv"] for run in server.runs.values()}
    assert errors["MAPROPS"] < errors["OnPolicy"]


@pytest.mark.slow
def test_the_real_agent_runs_a_bayesian_search(tmp_path: Path) -> None:
    sweep = swept(tmp_path, BAYES)
    server, place = sweep.server, sweep.place
    values = [run.args["model.behavior.kl_cutoff"]["value"] for run in server.runs.values()]
    assert len(set(values)) == 2
    for (run_id, run), value in zip(server.runs.items(), values, strict=True):
        assert 0.01 <= value <= 1.0
        folder = folder_of(place, run_id)
        config = yaml.safe_load((folder / "config.yaml").read_text())
        assert config["model"]["behavior"]["init_args"]["kl_cutoff"] == pytest.approx(value)
        assert_received(run, folder)
        assert_same_optimized(run, folder)


@pytest.mark.slow
def test_a_server_that_dies_costs_no_local_data(tmp_path: Path) -> None:
    """The run ends by itself, within the bound on uploads, with all its files and W&B's to sync later."""
    bound = 6.0
    with StandIn() as server:
        env = wandb_environment(tmp_path, server.url) | {"WANDB_SWEEP_ID": SWEEP, "WANDB_RUN_ID": "lonely"}
        env["WANDB_FINISH_TIMEOUT"] = str(bound)
        words = [sys.executable, "-m", "lit_maprops", "fit", "--config", str(ROOT / "conf/matrix_game.yaml"), *CHEAP]
        words += ["--model.total_env_steps=2048", "--model.num_seeds=50"]
        with (tmp_path / "printed").open("w") as log:
            process = subprocess.Popen(words, cwd=tmp_path, env=env, stdout=log, stderr=log)
        end = time.monotonic() + 240
        while not list(tmp_path.glob("runs/*-lonely/metrics.csv")) and process.poll() is None:
            assert time.monotonic() < end
            time.sleep(0.02)
        assert process.poll() is None, "the run was over before the server could die"
        server.die()
    died = time.monotonic()
    assert process.wait(timeout=bound + 240) == 0, (tmp_path / "printed").read_text()
    folder = folder_of(tmp_path, "lonely")
    trained = json.loads((folder / "summary.json").read_text())["wall_seconds"]
    assert time.monotonic() - died < trained + bound + 10
    steps = read_table(folder / "metrics.csv")["env_steps"].tolist()
    assert steps == list(range(8, 2049, 8))
    assert server.runs["lonely"].exit_code is None, "the server got all of the run before it died"
    assert len(server.runs["lonely"].history) < len(steps)
    (left,) = (folder / "wandb").glob("run-*-lonely/run-lonely.wandb")
    assert left.stat().st_size > 10_000


def test_default_run_names_tell_agents_runs_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lit_maprops.cli.main import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_RUN_ID", "abc123")
    assert main(["fit", "--config", str(ROOT / "conf/matrix_game.yaml"), *CHEAP]) == 0
    (folder,) = (tmp_path / "runs").iterdir()
    assert re.fullmatch(r"matrixgame-maprops-reinforce-\d{8}-\d{6}-abc123", folder.name)
