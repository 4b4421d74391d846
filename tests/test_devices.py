"""Several ranks give what one process gives, and end together. Real processes on gloo, a few steps of small tasks."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT, SMALL, command
from forked import in_ranks
from test_resume import differences, state_of

from lit_maprops.cli.main import main
from lit_maprops.stacked.ranks import Ranks, Team, merged, sliced
from lit_maprops.system.tables import read_table

SECONDS = 300  # on a busy machine; nothing here takes long by itself
# Five seeds on two ranks are three and two. Stops of both kinds matter, and come at different steps in different seeds.
SEEDS = [
    "--config", str(ROOT / "conf/matrix_game.yaml"), "--model.num_seeds", "5", "--model.eval_interval", "2",
    "--model.eval_episodes", "4", "--model.checkpoint_interval", "1", "--model.learner", "IPPO",
    "--model.learner.learning_rate", "0.2", "--model.learner.kl_stop", "0.02", "--model.behavior.kl_cutoff", "0.3",
    "--model.learner.hidden", "[]",
]  # fmt: skip
HALF, ALL = ["--model.total_env_steps", "32"], ["--model.total_env_steps", "64"]
TEAM = [
    *SMALL["BoulderPush"], "--model.num_seeds", "1", "--model.total_env_steps", "96", "--data.num_envs", "4",
    "--model.sampling_error_interval", "3", "--model.learner.kl_stop", "0.0002",
    "--model.behavior.draws", "low_discrepancy",
    "--model.behavior.adam_epsilon", "0.001",  # else Adam makes whole steps of gradients that are rounding errors
    "--model.engine", "torch",  # which is what several ranks of a seed have: bits of another engine are others
]  # fmt: skip
ENDLESS = ["--model.total_env_steps", "800000"]


def done(process: subprocess.Popen[str], code: int = 0) -> str:
    """What a program that must end with this code has written to stderr."""
    try:
        _, stderr = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
    assert process.returncode == code, stderr
    return stderr


def continued(checkpoint: Path, folder: Path, *options: str) -> tuple[Path, list[str]]:
    """A copy of a run, and the arguments that continue it."""
    shutil.copytree(checkpoint.parent.parent, folder)
    own = ["--ckpt_path", str(folder / "checkpoints" / "last.ckpt"), "--run_name", folder.name]
    return folder, ["fit", *own, *options]


def torchrun(ranks: int, *args: str) -> subprocess.Popen[str]:
    program = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(ranks)]
    env = os.environ | {"OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled"}
    return subprocess.Popen(
        [*program, "-m", "lit_maprops", *args], cwd=ROOT, env=env, text=True, stderr=subprocess.PIPE,
        stdout=subprocess.PIPE, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def assert_same(folder: Path, whole: Path) -> None:
    """Final state, tables and summary agree up to rounding."""
    close(state_of(folder), state_of(whole))
    for name in ("metrics.csv", "eval.csv"):
        own, expected = read_table(folder / name), read_table(whole / name)
        assert list(own) == list(expected)
        for column in own:
            if "time/" not in column and column != "wall_seconds":
                np.testing.assert_allclose(own[column], expected[column], 1e-3, 1e-5, err_msg=f"{name} {column}")
    own, expected = (json.loads((run / "summary.json").read_text()) for run in (folder, whole))
    assert own["warnings"] == expected["warnings"]
    for key in expected.keys() - {
        "wall_seconds",
        "env_steps_per_second",
        "machine",
        "config",
        "warnings",
        "changes",
        "engine",
    }:
        # A None is what the task does not have.
        if isinstance(expected[key], (dict, str)) or any(value is None for value in np.ravel(expected[key])):
            assert own[key] == expected[key], key
        else:
            assert own[key] == pytest.approx(expected[key], rel=1e-3, abs=1e-5, nan_ok=True), key


def close(own: Any, expected: Any, path: str = "") -> None:
    if isinstance(expected, dict):
        assert own.keys() == expected.keys(), path
        for key in expected:
            close(own[key], expected[key], f"{path}/{key}")
    elif isinstance(expected, (list, tuple)):
        assert len(own) == len(expected), path
        for number, (a, b) in enumerate(zip(own, expected, strict=True)):
            close(a, b, f"{path}/{number}")
    elif isinstance(expected, torch.Tensor):
        torch.testing.assert_close(own, expected, rtol=1e-3, atol=1e-5, equal_nan=True, msg=lambda m: f"{path}: {m}")
    else:
        assert own == expected or expected != expected, path


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """``whole``: all steps in one process; ``half``: half of them; ``two``: half on two ranks."""
    folder = tmp_path_factory.mktemp("runs")
    torch.set_num_threads(1)
    at = ["--runs_dir", str(folder), "--wandb", "disabled", "--run_name"]
    two = command("fit", *SEEDS, *HALF, *at, "two", "--trainer.devices", "2")
    assert main(["fit", *SEEDS, *ALL, *at, "whole"]) == 0
    assert main(["fit", *SEEDS, *HALF, *at, "half"]) == 0
    assert done(two).count("run folder") == 1  # rank 0 speaks for all
    yield folder


def test_split_seeds_give_what_one_process_gives(runs: Path) -> None:
    assert_same(runs / "two", runs / "half")
    steps = state_of(runs / "two")["optimizer_states"][0]["state"][0]["steps_taken"]
    assert steps[:3].tolist() != steps[:2].tolist() + steps[3:4].tolist()  # seeds stop at different steps,
    assert set(steps[:3].tolist()) != set(steps[3:].tolist())  # and so do ranks
    table = read_table(runs / "two" / "metrics.csv")
    assert (table["target/target_epochs"] < 4).any() and (table["behavior/cutoff_share"] % 1 > 0).any()


@pytest.mark.slow  # targets/test_learner_teams.py has a team's updates, a page runs one
def test_a_split_seed_gives_what_one_process_gives(tmp_path: Path) -> None:
    at = ["--runs_dir", str(tmp_path), "--wandb", "disabled", "--run_name"]
    process = command("fit", *TEAM, *at, "team", "--trainer.devices", "2")
    assert main(["fit", *TEAM, *at, "alone"]) == 0
    assert done(process).count("run folder") == 1
    assert_same(tmp_path / "team", tmp_path / "alone")
    epochs = read_table(tmp_path / "team" / "metrics.csv")["target/target_epochs"]
    assert (epochs < 4).any() and (read_table(tmp_path / "team" / "metrics.csv")["train/episodes"] > 0).any()


@pytest.mark.slow
def test_a_run_goes_on_with_other_numbers_of_ranks(runs: Path) -> None:
    """1 -> 2, 2 -> 1, 2 -> 2, and 2 -> 3 under torchrun: all end where one process does."""
    last = Path("checkpoints") / "last.ckpt"
    cases = {name: continued(runs / start / last, runs / name, *ALL) for name, start in
             {"1 to 2": "half", "2 to 1": "two", "2 to 2": "two", "2 to 3": "two"}.items()}  # fmt: skip
    more = command(*cases["1 to 2"][1], "--trainer.devices", "2")
    same = command(*cases["2 to 2"][1])  # its config.yaml says two devices
    most = torchrun(3, *cases["2 to 3"][1], "--trainer.devices", "3")
    assert main([*cases["2 to 1"][1], "--trainer.devices", "1"]) == 0
    done(more)
    done(same)
    done(most)
    for folder, _ in cases.values():
        assert_same(folder, runs / "whole")


@pytest.mark.slow
def test_validate_works_on_the_ranks_of_the_run(runs: Path) -> None:
    folder, args = continued(runs / "two" / "checkpoints" / "last.ckpt", runs / "validated")
    process = command("validate", *args[1:])  # its config.yaml says two devices
    found = []
    assert main(["validate", *args[1:], "--trainer.devices", "1"]) == 0
    found.append((folder / "validate.json").read_text())
    (folder / "validate.json").unlink()
    stderr = done(process)
    assert stderr.count("written to") == 1
    found.append((folder / "validate.json").read_text())
    assert found[0] == found[1]


# ends


class Started:
    """An endless run on several ranks that has written its first rows."""

    def __init__(self, folder: Path, ranks: int, *options: str) -> None:
        args = [*SEEDS, *ENDLESS, "--runs_dir", str(folder), "--run_name", "x", "--trainer.devices", str(ranks)]
        self.process = command("fit", *args, *options)
        self.metrics, self.checkpoint = folder / "x" / "metrics.csv", folder / "x" / "checkpoints" / "last.ckpt"
        until = time.monotonic() + SECONDS
        while not (self.metrics.exists() and self.metrics.read_text().count("\n") > 3):
            assert self.process.poll() is None and time.monotonic() < until
            time.sleep(0.1)
        pid = self.process.pid
        self.pids = [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
        self.ranks = {rank_of(pid): pid for pid in self.pids if rank_of(pid) is not None}

    def ended(self) -> bool:
        """Whether no rank is left, not even one whose starter has ended."""
        until = time.monotonic() + SECONDS
        while any(alive(pid) for pid in self.ranks.values()):
            if time.monotonic() > until:
                return False
            time.sleep(0.1)
        return True


def rank_of(pid: int) -> int | None:
    command_line = Path(f"/proc/{pid}/cmdline").read_bytes()
    variables = dict(pair.split(b"=", 1) for pair in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") if pair)
    return int(variables.get(b"LOCAL_RANK", 0)) if b"fit" in command_line.split(b"\0") else None


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def listening(pid: int) -> set[str]:
    """The addresses at which a process waits for connections, as the kernel writes them."""
    held = {str(os.readlink(file)) for file in Path(f"/proc/{pid}/fd").iterdir() if file.is_symlink()}
    rows = [
        line.split()
        for family in ("tcp", "tcp6")
        for line in Path(f"/proc/{pid}/net/{family}").read_text().splitlines()[1:]
    ]
    return {row[1].partition(":")[0] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in held}


def assert_on_loopback(run: Started) -> None:
    """Its ranks wait for connections of gloo, and of rank 0's store, at 127.0.0.1 alone."""
    assert [listening(pid) for pid in run.ranks.values()] == [{"0100007F"}] * len(run.ranks)


@pytest.mark.slow
def test_a_signal_to_the_first_rank_stops_all(tmp_path: Path) -> None:
    run = Started(tmp_path, 2)
    assert_on_loopback(run)
    os.kill(run.ranks[0], signal.SIGTERM)
    done(run.process, 128 + signal.SIGTERM)


@pytest.mark.slow
def test_a_port_that_is_taken_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        monkeypatch.setenv("MASTER_PORT", str(port))
        stderr = done(command("fit", *SEEDS, *HALF, "--runs_dir", str(tmp_path), "--trainer.devices", "2"), 1)
    assert f"cannot meet at this machine's port {port} (Address already in use): unset MASTER_PORT" in stderr
    assert "Traceback" not in stderr


@pytest.mark.slow
def test_a_killed_rank_ends_the_others(tmp_path: Path) -> None:
    run = Started(tmp_path, 2)
    os.kill(run.ranks[1], signal.SIGKILL)
    stderr = done(run.process, 1)
    assert re.findall("error: (.*)", stderr) == [
        "rank 1 ended: killed by SIGKILL; the other ranks end too. --ckpt_path continues at a checkpoint, if any"
    ]
    assert "Traceback" not in stderr
    assert run.ended()
    iteration = torch.load(run.checkpoint, weights_only=True)["lit_maprops"]["iteration"]
    assert read_table(run.metrics)["iteration"][-1] - iteration in (0, 1)


@pytest.mark.slow
def test_a_killed_first_rank_ends_the_others(tmp_path: Path) -> None:
    run = Started(tmp_path, 2)
    os.kill(run.ranks[0], signal.SIGKILL)
    stderr = done(run.process, -signal.SIGKILL)
    assert "error: rank 0 ended; the other ranks end too" in stderr
    assert "Traceback" not in stderr
    assert run.ended()


def test_a_rank_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{ROOT / 'tests'}")
    options = [*SEEDS, *ENDLESS, "--runs_dir", str(tmp_path), "--trainer.devices", "2"]
    stderr = done(command("fit", *options, "--data.env", "broken_game.BrokenGame"), 1)
    assert "rank 1 ended" in stderr and "the dice fell off the table" in stderr
    (folder,) = tmp_path.iterdir()  # named by rank 0
    assert "the dice fell off the table" in (folder / "error.txt").read_text()


def test_a_signal_to_one_rank_stops_all(tmp_path: Path) -> None:
    run = Started(tmp_path, 2)
    assert len(run.ranks) == 2
    assert_on_loopback(run)
    os.kill(run.ranks[1], signal.SIGTERM)
    stderr = done(run.process, 128 + signal.SIGTERM)
    assert "Traceback" not in stderr and "error" not in stderr
    assert stderr.count("stopped; continue with") == 1
    iteration = torch.load(run.checkpoint, weights_only=True)["lit_maprops"]["iteration"]
    assert read_table(run.metrics)["iteration"][-1] == iteration
    # On one rank it goes on, too; on two: among the slow tests.
    assert main(["fit", "--ckpt_path", str(run.checkpoint), "--model.total_env_steps", str(8 * (iteration + 2)),
                 "--trainer.devices", "1"]) == 0  # fmt: skip
    assert read_table(run.metrics)["iteration"][-1] == iteration + 2


# without a run


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model.num_seeds", "3", "--trainer.devices", "4"], "give at most 3, or a multiple of it, such as 6"),
        (
            ["--model.num_seeds", "1", "--trainer.devices", "2", "--data.num_envs", "1"],
            "--data.num_envs 1: make that a multiple of 2",
        ),
        (
            ["--trainer.devices", "2", "--model.behavior.merge_states", "true", "--model.behavior.max_states", "4"],
            "leave out --model.behavior.max_states",
        ),
        (["--trainer.devices", "2", "--trainer.strategy", "ddp_spawn"], "--trainer.strategy"),
        (["--trainer.devices", "2", "--rank_timeout", "0"], "--rank_timeout"),
    ],
)
def test_what_cannot_be_split_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert main(["fit", *SMALL["MatrixGame"], "--runs_dir", str(tmp_path / "runs"), *options]) == 2
    stderr = capsys.readouterr().err
    assert message in stderr and stderr.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_torchrun_with_another_number_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RANK", "LOCAL_RANK", "GROUP_RANK"):
        monkeypatch.setenv(name, "0")
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.setenv(name, "2")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    assert main(["fit", *SMALL["MatrixGame"], "--runs_dir", str(tmp_path / "runs")]) == 2
    assert "torchrun started 2 ranks" in capsys.readouterr().err


def test_srun_with_another_number_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the variable that SLURM's own test (tests/test_slurm.py) sets in earnest."""
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    args = ["fit", *SMALL["MatrixGame"], "--runs_dir", str(tmp_path / "runs"), "--trainer.devices", "1"]
    assert main(args) == 2
    stderr = capsys.readouterr().err
    assert "srun started 2 ranks, and --trainer.devices" in stderr and stderr.count("\n") == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("num_seeds", range(1, 9))
@pytest.mark.parametrize("size", range(1, 9))
def test_every_seed_has_its_ranks(num_seeds: int, size: int) -> None:
    """Without teams, by ``numpy.array_split``; with teams, G ranks in a row share each seed."""
    all_ranks = [Ranks(rank, size, num_seeds) for rank in range(size)]
    own = [list(range(num_seeds))[ranks.own] for ranks in all_ranks]
    if size <= num_seeds:
        assert own == [part.tolist() for part in np.array_split(np.arange(num_seeds), size)]
        assert {ranks.team.size for ranks in all_ranks} == {1}
    elif size % num_seeds == 0:
        assert own == [[seed] for seed in range(num_seeds) for _ in range(size // num_seeds)]
        assert [ranks.team.member for ranks in all_ranks] == [*range(size // num_seeds)] * num_seeds
        assert [ranks.team.first for ranks in all_ranks] == [r - r % (size // num_seeds) for r in range(size)]


@pytest.mark.every(3)
@pytest.mark.parametrize(
    ("env", "options"),
    [
        ("MatrixGame", ["--data.history_batches", "2"]),
        ("MatrixGame", ["--model.behavior", "TabularMAPROPS"]),
        ("BoulderPush", ["--model.behavior", "PROPS", "--data.history", "growing"]),
        ("TwoPeaks", ["--model.learner", "IPPO", "--model.learner.share_parameters", "true"]),
        ("PettingZoo", []),
        ("VMAS", []),
        ("JaxMARL", []),
    ],
)
def test_every_tensor_of_a_checkpoint_starts_with_the_seeds(
    fit: Callable[..., Path], env: str, options: list[str]
) -> None:
    """So parts of any size put together are the whole, to the bit."""
    saved = state_of(fit("x", *options, env=env))
    n_seeds = len(saved["lit_maprops"]["seed_ids"])
    assert {len(tensor) for tensor in tensors_of(saved) if tensor.dim()} == {n_seeds}
    parts = [sliced(saved, slice(0, n_seeds - 1)), sliced(saved, slice(n_seeds - 1, n_seeds))]
    assert differences(merged(parts), saved) == []
    parts[1]["lit_maprops"]["iteration"] += 1
    with pytest.raises(ValueError, match="ranks differ in /lit_maprops/iteration"):
        merged(parts)


def tensors_of(tree: Any) -> Iterator[torch.Tensor]:
    if isinstance(tree, torch.Tensor):
        yield tree
    elif isinstance(tree, (dict, list, tuple)):
        for item in tree.values() if isinstance(tree, dict) else tree:
            yield from tensors_of(item)


def test_what_ranks_tell_each_other(tmp_path: Path) -> None:
    """Three ranks: seven seeds' rows, and one seed's environments in tensors whose bytes do not line up."""
    whole = {
        "done": torch.rand(1, 6, 1, generator=torch.Generator().manual_seed(0)) < 0.5,
        "number": torch.arange(6).reshape(1, 6),
        "picture": torch.arange(18, dtype=torch.uint8).reshape(1, 6, 3),
        "reward": torch.rand(1, 6, generator=torch.Generator().manual_seed(1)),
    }
    rows = {"loss": torch.rand(7, generator=torch.Generator().manual_seed(2)), "list": [torch.arange(7), "same"]}

    def work(rank: int) -> dict[str, Any]:
        team, ranks = Ranks(rank, 3, 1).team, Ranks(rank, 3, 7)
        mine = team.environments(6)
        first, added = torch.full((2,), float(rank)), [torch.tensor([1.0, rank]), torch.tensor([[rank * 10.0]])]
        team.copy_first_([first])
        team.add_(added)
        return {
            "gathered": team.gather({name: value[:, mine] for name, value in whole.items()}),
            "rows": ranks.gathered(ranks.sliced(rows)),
            "on_first": ranks.gathered_on_first(ranks.sliced(rows)),
            "largest": ranks.largest(rank, 5 - rank),
            "listed": ranks.listed(rank),
            "first": first,
            "added": added,
        }

    for rank, told in enumerate(in_ranks(3, tmp_path, work)):
        assert differences(told["gathered"], whole) == []
        assert differences(told["rows"], rows) == []
        assert told["on_first"] is None if rank else differences(told["on_first"], rows) == []
        assert (told["largest"], told["listed"]) == ([2, 5], [0, 1, 2])
        assert told["first"].tolist() == [0, 0] and told["added"][0].tolist() == [3, 3]
        assert told["added"][1].tolist() == [[30]]


def test_a_team_of_one_does_nothing() -> None:
    team, value = Team(), torch.ones(2, 4)
    assert team.gather({"a": value})["a"] is value and value[:, team.every].shape == value.shape
    assert team.environments(4) == slice(0, 4)
