"""What runs the parts of a run: said, chosen, refused; and both engines train what the other trains."""

import csv
import json
import re
import subprocess
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from lightning.pytorch import Callback

import lit_maprops as lm
from lit_maprops.cli.main import main
from lit_maprops.native import build

UNITS = {str(path) for path in build.sources() if path.suffix == ".cpp"}
needs_kernels = pytest.mark.skipif(build.why_none() is not None, reason="kernels need a C++ compiler")
CONFIG = ["--config", str(ROOT / "conf/boulderpush.yaml"), "--model.num_seeds", "3", "--model.total_env_steps", "1024"]
CONFIG += ["--model.eval_episodes", "2", "--model.sampling_error_interval", "2", "--wandb", "disabled"]


def fit(folder: Path, name: str, *flags: str) -> Path:
    assert main(["fit", *CONFIG, "--runs_dir", str(folder), "--run_name", name, *flags]) == 0
    return folder / name


def engine_of(run: lm.RunResult) -> dict[str, str]:
    return json.loads((run.folder / "summary.json").read_text())["engine"]


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


@needs_kernels
def test_both_engines_train_the_same_and_say_who_they_are(tmp_path, capsys):
    auto, by_torch = fit(tmp_path, "auto"), fit(tmp_path, "torch", "--model.engine", "torch")
    said = capsys.readouterr().err
    assert "engine: native for rollout, behavior updates, target updates" in said
    assert "engine: torch (asked for)" in said
    engines = [json.loads((run / "summary.json").read_text())["engine"] for run in (auto, by_torch)]
    assert engines == [dict.fromkeys(("rollout", "behavior", "targets"), name) for name in ("native", "torch")]
    first = [rows(run)[0] for run in (auto, by_torch)]
    assert first[0].keys() == first[1].keys()
    for name, value in first[0].items():
        if value and not name.startswith(("time/", "wall")):
            assert float(first[1][name]) == pytest.approx(float(value), rel=1e-3, abs=1e-4), name
    estimates = [float(rows(run)[1]["sampling_error/joint_kl_on_policy"]) for run in (auto, by_torch)]
    assert estimates[0] >= 0 and estimates[1] >= 0


@needs_kernels
def test_a_run_goes_on_with_the_other_engine(tmp_path):
    """Checkpoints do not tell which engine wrote them."""
    half = ["--model.total_env_steps", "512"]
    run = fit(tmp_path, "x", *half)
    checkpoint = str(run / "checkpoints" / "last.ckpt")
    assert main(["fit", *CONFIG, "--runs_dir", str(tmp_path), "--run_name", "x", "--ckpt_path", checkpoint,
                 "--model.engine", "torch"]) == 0  # fmt: skip
    whole = fit(tmp_path, "whole", "--model.engine", "torch")
    last = [rows(each)[-1] for each in (run, whole)]
    assert float(last[0]["target/critic_loss"]) == pytest.approx(float(last[1]["target/critic_loss"]), rel=0.1)


@needs_kernels
def test_a_seed_alone_and_threads_change_no_bit(tmp_path, monkeypatch):
    together = fit(tmp_path, "together")
    alone = fit(tmp_path, "alone", "--model.num_seeds", "1", "--model.first_seed", "2")
    with monkeypatch.context() as context:
        context.setattr(torch, "get_num_threads", lambda: 3)
        threads = fit(tmp_path, "threads")
    states = [torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
              for run in (together, alone, threads)]  # fmt: skip
    moved = False
    for name, value in states[0].items():
        assert torch.equal(value, states[2][name]), name
        if not value.dim():
            continue
        assert torch.equal(value[2:], states[1][name]), name
        moved |= bool((value[0] != value[2]).any())
    assert moved


def test_without_a_compiler_auto_is_torch_and_native_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CXX", "no-such-compiler")
    build.library.cache_clear()
    try:
        fit(tmp_path, "auto", "--model.total_env_steps", "512")
        assert "engine: torch (there is no C++ compiler: install g++ or name one in CXX)" in capsys.readouterr().err
        assert main(["fit", *CONFIG, "--runs_dir", str(tmp_path), "--run_name", "no", "--model.engine", "native"]) == 2
        (line,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
        told = "--model.engine is native and no part has a kernel (there is no C++ compiler: install g++"
        assert told in line and "auto or torch" in line
        assert not (tmp_path / "no").exists()
    finally:
        build.library.cache_clear()


@pytest.mark.parametrize("where", ["-o", "ppo.cpp", ".so"], ids=["every unit", "one unit", "the library"])
def test_a_compiler_that_fails_is_one_line(where, tmp_path, monkeypatch):
    bad = tmp_path / "bad++"
    fails = f"case \"$*\" in *{where}*) echo 'x.cpp:1: error: cannot do that' >&2; exit 1;; esac"
    bad.write_text(f'#!/bin/sh\n{fails}\nfor last; do :; done\ntouch "$last"\n')
    bad.chmod(0o755)
    monkeypatch.setenv("CXX", str(bad))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    build.library.cache_clear()
    try:
        assert re.fullmatch(
            r".*bad\+\+ did not compile the kernels \(x.cpp:1: error: cannot do that\)", build.why_none()
        )
        assert list((tmp_path / "cache" / "lit_maprops").iterdir()) == []
    finally:
        build.library.cache_clear()


@needs_kernels
def test_kernels_are_built_once_where_nobody_else_can_write(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    built = []
    monkeypatch.setattr(subprocess, "run", lambda command, **_: built.append(command) or _wrote(command))
    for _ in range(2):
        build.library.cache_clear()
        with pytest.raises(build.NoKernels, match="does not load"):  # what was built here is no library
            build.library()
    build.library.cache_clear()
    folder = tmp_path / "lit_maprops"
    of_one = len(built)
    assert of_one == len(UNITS) + 1 and len(list(folder.iterdir())) == 1 and folder.stat().st_mode & 0o777 == 0o700
    assert {name for command in built for name in command if name.endswith(".cpp")} == UNITS
    folder.chmod(0o777)
    with pytest.raises(build.NoKernels):
        build.library()
    build.library.cache_clear()
    assert len(built) == 2 * of_one
    assert not any(name.startswith(str(folder)) for command in built[of_one:] for name in command)


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path, monkeypatch):
    """A read-only home, whose folder for kernels is there from before."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CXX", "true")  # a compiler: any program that is there

    def refuse(*_, **options):
        raise OSError(30, "Read-only file system", options["dir"])

    monkeypatch.setattr(build.tempfile, "TemporaryDirectory", refuse)
    build.library.cache_clear()
    try:
        assert "did not compile the kernels ([Errno 30] Read-only file system" in build.why_none()
        monkeypatch.setattr(build, "_folder", lambda: refuse(dir=str(tmp_path)))
        assert build.why_none().startswith("there is no folder for kernels ([Errno 30]")
    finally:
        build.library.cache_clear()


def _wrote(command: list[str]) -> subprocess.CompletedProcess[str]:
    Path(command[command.index("-o") + 1]).write_bytes(b"no library")
    return subprocess.CompletedProcess(command, 0, "", "")


@needs_kernels
def test_who_listens_to_steps_hears_them(tmp_path, capsys):
    class Listener(Callback):
        heard = 0

        def on_before_optimizer_step(self, trainer, pl_module, optimizer):
            Listener.heard += 1

    run = lm.fit(
        config="boulderpush", num_seeds=1, total_env_steps=512, eval_episodes=1, sampling_error=None, wandb="disabled",
        runs_dir=str(tmp_path), callbacks=[Listener()],
    )  # fmt: skip
    assert engine_of(run) == {"rollout": "native", "behavior": "native", "targets": "torch"}
    assert Listener.heard == 80 + 15  # 10 epochs of 8 minibatches, and updates of the behavior policy


class Mine(lm.BoulderPush):
    """A user's."""


def test_a_subclass_has_its_own_rules(tmp_path):
    run = lm.fit(
        config="boulderpush", env=Mine(push_direction="north"), num_seeds=1, total_env_steps=512, eval_episodes=1,
        sampling_error=None, wandb="disabled", runs_dir=str(tmp_path),
    )  # fmt: skip
    assert engine_of(run)["rollout"] == "torch"
