"""Under SLURM itself: a cluster of two nodes, whose daemons run here for the length of these tests."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, STARTED, end
from kills import compare
from sweep_kills import REAL
from test_devices import ALL, SEEDS, assert_same
from test_nodes import free_port

from lit_maprops.cli.main import main

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not all(map(shutil.which, ("slurmctld", "slurmd", "srun"))), reason="needs SLURM, and root"
)
SECONDS = 200  # on a busy machine
# Nobody else talks to these daemons: they need neither keys nor users.
CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/none
CredType=cred/none
AuthInfo=cred_expire=5
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SlurmctldPort={port}
FirstJobId={first}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmdSpoolDir={folder}/%n
StateSaveLocation={folder}/state
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
NodeName=one NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[0]} CPUs=1
NodeName=two NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=1
PartitionName=all Nodes=one,two Default=YES State=UP
"""
Slurm = Callable[..., subprocess.CompletedProcess[str]]


def wait_until(condition: Callable[[], object], said: Callable[[], str] = str) -> None:
    """Return when it holds; fail if it never does."""
    until = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < until, said()
        time.sleep(0.2)


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    """Runs one of SLURM's commands on the cluster."""
    folder = tmp_path_factory.mktemp("slurm")
    for name in ("state", "one", "two"):
        (folder / name).mkdir()
    host = subprocess.run(["hostname", "-s"], text=True, capture_output=True, check=True).stdout.strip()
    ports = [free_port(), free_port()]
    own = {"host": host, "folder": folder, "port": free_port(), "ports": ports}
    # Lightning makes the ranks' port of the job's number: another cluster on this machine must not have the same.
    (folder / "slurm.conf").write_text(CONFIG.format(**own, first=free_port()))
    env = os.environ | {"SLURM_CONF": str(folder / "slurm.conf"), "OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled"}
    env |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    env |= {"MASTER_ADDR": "127.0.0.1"}  # on a cluster SLURM's names of the nodes are known to the network

    def call(*words: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
        return subprocess.run(words, cwd=cwd, env=env, text=True, capture_output=True, timeout=SECONDS)

    daemons = [["slurmctld", "-D"], *(["slurmd", "-D", "-N", name] for name in ("one", "two"))]
    started = [subprocess.Popen(words, env=env, stderr=subprocess.DEVNULL) for words in daemons]
    try:
        until = time.monotonic() + SECONDS
        while call("sinfo", "-h", "-t", "idle", "-o", "%D").stdout.strip() != "2":
            if time.monotonic() > until or any(process.poll() is not None for process in started):
                pytest.skip("SLURM's daemons do not start here")  # nothing of ours has run yet
            time.sleep(0.2)
        yield call
    finally:
        end(*started)


def test_srun_gives_what_one_process_gives(slurm: Slurm, tmp_path: Path) -> None:
    own = ["fit", *SEEDS, *ALL, "--runs_dir", str(tmp_path), "--wandb", "disabled", "--run_name"]
    nodes = ["srun", "--nodes", "2", "--ntasks-per-node", "1", "python", "-m", "lit_maprops"]
    result = slurm(*nodes, *own, "two", "--trainer.num_nodes", "2", "--trainer.devices", "1")
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("run folder") == 1
    assert main([*own, "one"]) == 0
    assert_same(tmp_path / "two", tmp_path / "one")


@pytest.mark.slow  # test_devices.py has the line without SLURM
def test_another_number_of_tasks_is_one_line(slurm: Slurm, tmp_path: Path) -> None:
    nodes = ["srun", "--nodes", "2", "--ntasks-per-node", "1", "python", "-m", "lit_maprops"]
    result = slurm(*nodes, "fit", *SEEDS, "--runs_dir", str(tmp_path / "runs"), "--trainer.devices", "1")
    assert result.returncode == 2
    lines = [line for line in result.stderr.splitlines() if line.startswith("lit_maprops: error")]
    assert len(lines) == 2 and "srun started 2 ranks, and --trainer.devices" in lines[0]  # each task says it
    assert "Traceback" not in result.stderr and not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_the_documented_script_goes_on_when_it_is_requeued(slurm: Slurm, tmp_path: Path) -> None:
    """In the folder of another project, whose checkpoint Lightning would take for this job's."""
    found = re.search(r"```bash\n(#!/bin/bash\n.*?)```", (ROOT / "docs" / "clusters.md").read_text(), re.DOTALL)
    assert found
    own = ["--model.num_seeds", "2", "--model.total_env_steps", "1600", "--model.checkpoint_interval", "5"]
    script = tmp_path / "job.sh"
    script.write_text(found[1].replace("--run_name $name", f"--run_name $name {' '.join(own)}"))
    (tmp_path / "conf").symlink_to(ROOT / "conf")
    (tmp_path / "hpc_ckpt_1.ckpt").write_bytes(b"nothing of ours")
    run, output = tmp_path / "runs" / "first", tmp_path / "output"
    result = slurm("sbatch", "--parsable", "--output", str(output), str(script), cwd=tmp_path)
    job = result.stdout.strip()
    assert result.returncode == 0 and job.isdigit(), result.stderr
    wait_until((run / "checkpoints" / "last.ckpt").exists, lambda: output.read_text() if output.exists() else "")
    assert slurm("scontrol", "requeue", job).returncode == 0
    wait_until((run / "summary.json").exists, output.read_text)
    wait_until(lambda: job not in slurm("squeue", "-h", "-o", "%i").stdout.split())
    assert output.read_text().count("stopped; continue with") == 1  # by the SIGTERM that comes with requeueing
    config = ["--config", str(ROOT / "conf/matrix_game.yaml"), *own]
    assert main(["fit", *config, "--runs_dir", str(run.parent), "--wandb", "disabled", "--run_name", "whole"]) == 0
    assert_same(run, run.parent / "whole")


TOY = {
    "name": "toy",
    "method": "grid",
    "parameters": {"x": {"values": [1, 2, 3]}},
    "command": ["${interpreter}", str(ROOT / "tests/sweeps/toy.py"), "${args}", "--pause=0.1"],
}


def sweep(folder: Path, content: dict[str, Any], *options: str) -> list[str]:
    """The command line of a sweep that SLURM does."""
    (folder / "sweep.yaml").write_text(yaml.safe_dump(content))
    words = [
        sys.executable,
        "-m",
        "lit_maprops",
        "sweep",
        str(folder / "sweep.yaml"),
        "--runs_dir",
        str(folder / "runs"),
    ]
    return [*words, "--launcher", "slurm", *options]


def start(slurm: Slurm, words: list[str]) -> subprocess.Popen[str]:
    variables = (line.partition("=") for line in slurm("env", "-0").stdout.split("\0"))
    env = {name: value for name, _, value in variables if name}
    process = subprocess.Popen(words, cwd=ROOT, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    STARTED.append(process)
    return process


def entries(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "sweep.json").read_text())["runs"]


def starts(entry: dict[str, Any]) -> int:
    return sum(line.startswith("$ ") for line in Path(entry["log"]).read_text().splitlines())


def job_of(folder: Path) -> str:
    return json.loads((folder / "launched.json").read_text())["job"]


def queue(slurm: Slurm) -> str:
    return slurm("squeue", "--noheader").stdout


def test_the_documented_sweep_ends_in_the_same_bits_as_here(slurm: Slurm, tmp_path: Path) -> None:
    found = re.search(r"```\n(python -m lit_maprops sweep .*)\n```", (ROOT / "docs" / "clusters.md").read_text())
    assert found
    words = shlex.split(found[1])
    file = tmp_path / words[4]
    file.parent.mkdir()
    file.write_text(yaml.safe_dump(REAL | {"command": [*REAL["command"], "--model.total_env_steps=480"]}))
    result = slurm(*words, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "2 tasks for 2 runs" in result.stderr and "real: 2 finished, 0 failed" in result.stderr
    assert main(["sweep", str(file), "--runs_dir", str(tmp_path / "here")]) == 0
    runs = [path.parent for path in sorted((tmp_path / "here" / "real").glob("*/checkpoints"))]
    assert len(runs) == 2
    for run in runs:
        assert compare(run, tmp_path / "runs" / "real" / run.name) == []
    # Again: all is done, and nothing is queued.
    result = slurm(*words, cwd=tmp_path)
    assert result.returncode == 0 and "slurm job" not in result.stderr, result.stderr


@pytest.mark.slow  # as long as the documented sweep below, which is run in every test
def test_a_sweep_that_is_stopped_leaves_the_queue_clean_and_goes_on(slurm: Slurm, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "toy"
    words = sweep(tmp_path, TOY | {"command": [*TOY["command"], "--steps=70"]})
    first = start(slurm, words)
    wait_until(lambda: list(folder.glob("*/summary.json")) and list(folder.glob("002-*/checkpoints/last.ckpt")))
    first.send_signal(signal.SIGINT)
    _, err = first.communicate(timeout=SECONDS)
    assert first.returncode == 130 and "canceling slurm job" in err and "continue with the same command" in err
    assert queue(slurm) == ""
    assert entries(folder)[2]["state"] == "running"
    done = {entry["id"]: starts(entry) for entry in entries(folder) if entry["state"] == "finished"}

    second = start(slurm, words)  # killed itself: its jobs stay, and the next command waits for them
    wait_until(lambda: queue(slurm) and slurm("squeue", "--noheader", f"--jobs={job_of(folder)}").stdout)
    job = job_of(folder)
    second.kill()
    second.communicate(timeout=SECONDS)
    result = slurm(*words)
    assert result.returncode == 0, result.stderr
    assert f"slurm job {job} is in the queue already" in result.stderr and "3 finished" in result.stderr
    found = entries(folder)
    assert [entry["state"] for entry in found] == ["finished"] * 3
    assert done and all(starts(entry) == done[entry["id"]] for entry in found if entry["id"] in done)
    assert starts(found[2]) >= 2
    assert json.loads((folder / found[2]["id"] / "summary.json").read_text())["first"] > 0


@pytest.mark.slow  # SLURM takes its time over requeueing
def test_a_run_whose_time_is_up_saves_and_comes_back(slurm: Slurm, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "toy"
    words = sweep(tmp_path, TOY | {"parameters": {"x": {"values": [1]}}, "command": [*TOY["command"], "--steps=80"]})
    command = start(slurm, words)
    wait_until(lambda: list(folder.glob("000-*/checkpoints/last.ckpt")))
    job = job_of(folder)
    assert slurm("scancel", "--signal=USR1", "--batch", job).returncode == 0  # as SLURM warns the script
    _, err = command.communicate(timeout=SECONDS)
    assert command.returncode == 0, err
    (entry,) = entries(folder)
    assert (entry["state"], starts(entry)) == ("finished", 2)
    assert json.loads((folder / entry["id"] / "summary.json").read_text())["first"] > 0
    (log,) = (folder / "slurm").iterdir()
    assert "continue with the same command" in log.read_text() and "1 finished" in log.read_text()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--partition=nowhere", "Invalid partition name specified"),
        pytest.param("--mem='8G", "No closing quotation", marks=pytest.mark.slow),
        pytest.param("--tme=1", "--launcher_options", marks=pytest.mark.slow),
    ],
)
def test_what_slurm_refuses_is_one_line(slurm: Slurm, tmp_path: Path, options: str, words: str) -> None:
    result = slurm(*sweep(tmp_path, TOY, f"--launcher_options={options}"))
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1 and words in result.stderr and not (tmp_path / "runs").exists()
