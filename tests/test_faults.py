"""Environments that break, memory that runs out: one line, nothing lost, and what a quarantine leaves alone."""

import json
import math
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT, SMALL
from faulty_task import ENV, KINDS, SEED, E, Faulty
from tensordict import TensorDict
from test_resume import differences, state_of, stop_after

from lit_maprops import module
from lit_maprops.behavior import MAPROPS
from lit_maprops.cli.main import main
from lit_maprops.collect import Collection
from lit_maprops.envs.faults import CHECKED, Faults
from lit_maprops.system.errors import EnvironmentFault
from lit_maprops.system.tables import read_table
from lit_maprops.targets import Reinforce

# Three seeds, two environments each, eight iterations of four vector steps.
FAULTY = [*SMALL["MatrixGame"], "--data.env", "faulty_task.Faulty", "--model.sampling_error", "null",
          "--data.num_envs", "2", "--data.behavior_batch_size", "2"]  # fmt: skip
LEARNERS = {
    "Reinforce": [],
    "IPPO": ["--model.learner", "IPPO", "--model.behavior", "PROPS"],
    "history": ["--data.history_batches", "2", "--model.behavior", "Autoregressive"],
}
AT = 18  # vector step, in the fifth iteration
ENV_STEP = (AT - 1) * E + ENV + 1
QUARANTINE = ["--data.env.at", str(AT), "--model.on_fault", "quarantine"]


def fit(runs: Path, name: str, *options: str) -> tuple[int, Path]:
    return main(["fit", *FAULTY, "--runs_dir", str(runs), "--run_name", name, *options]), runs / name


def error_line(capsys: pytest.CaptureFixture[str]) -> str:
    lines = capsys.readouterr().err.splitlines()
    errors = [line for line in lines if "lit_maprops: error: " in line]
    assert len(errors) == 1 and errors[0] == lines[-1] and not any("Traceback" in line for line in lines)
    return errors[0]


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_that_are_not_finite_stop_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    code, folder = fit(tmp_path, "x", "--data.env.kind", kind, "--data.env.at", str(AT))
    line = error_line(capsys)
    assert code == 1
    assert f"Faulty: {kind}, seed {SEED}, environment {ENV}, at env step {ENV_STEP}: " in line
    assert "--model.on_fault quarantine" in line
    assert read_table(folder / "metrics.csv")["iteration"].tolist() == [1, 2, 3, 4]
    assert state_of(folder)["lit_maprops"]["iteration"] == 4  # and it can be read
    assert not (folder / "error.txt").exists() and not (folder / "summary.json").exists()


@pytest.mark.parametrize(
    ("kind", "words"),
    {
        "shape": "reward is [3, 2, 1] float32, expected [3, 2, 2] float32",
        "state": "state 'x' of transition is NoneType, expected [3, 2] float32",
    }.items(),
)
def test_wrong_shapes_say_what_was_expected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, words: str
) -> None:
    code, _ = fit(tmp_path, "x", "--data.env.kind", kind, "--data.env.at", "3", "--model.on_fault", "quarantine")
    assert code == 1 and f"Faulty: {words}, at env step {2 * E + 1}: " in error_line(capsys)


@pytest.mark.parametrize(
    ("index", "found"), [(lambda x: x, "[3, 2] float32"), (lambda x: x.long()[..., None], "[3, 2, 1] int64")]
)
def test_numbers_of_states_are_checked_too(tmp_path, monkeypatch, capsys, index, found) -> None:
    monkeypatch.setattr(Faulty, "state_index", lambda self, state: index(state["x"]))
    assert fit(tmp_path, "x")[0] == 1
    assert f"Faulty: state_index is {found}, expected [3, 2] int64" in error_line(capsys)


def test_an_exception_keeps_its_traceback_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert fit(tmp_path, "x", "--data.env.at", str(AT))[0] == 1
    err = capfd.readouterr().err
    assert "Traceback" not in err
    path = tmp_path / "x" / "error.txt"
    assert err.splitlines()[-1] == (
        "lit_maprops: error: Faulty: ValueError: the door is stuck in transition, which serves all seeds at once, at "
        f"env step {(AT - 1) * E + 1}: correct the environment; its traceback is in {path}"
    )
    assert 'raise ValueError("the door' in path.read_text()
    # The corrected environment continues where the last checkpoint was taken.
    monkeypatch.setattr(Faulty, "breaks", lambda *args: False)
    assert main(["fit", "--ckpt_path", str(tmp_path / "x/checkpoints/last.ckpt")]) == 0
    assert (tmp_path / "x" / "summary.json").exists() and not path.exists()


@pytest.mark.every(3)
@pytest.mark.parametrize(("options", "kind"), list(zip(LEARNERS.values(), [*KINDS][:3], strict=True)), ids=LEARNERS)
def test_quarantine_leaves_the_other_seeds_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], kind: str
) -> None:
    _, healthy = fit(tmp_path, "healthy", *options)
    _, until = fit(tmp_path, "until", *options, "--model.total_env_steps", "32")  # the iteration before
    code, sick = fit(tmp_path, "sick", *options, *QUARANTINE, "--data.env.kind", kind)
    assert code == 0
    whole, before, after = (state_of(folder)["state_dict"] for folder in (healthy, until, sick))
    learned = [name for name in after if name.startswith("learner") and after[name].dim()]
    assert learned
    for name in learned:
        assert torch.equal(after[name][:SEED], whole[name][:SEED])
        assert torch.equal(after[name][SEED], before[name][SEED]), "it learned from what a broken environment gave"
    assert any(not torch.equal(whole[name][SEED], before[name][SEED]) for name in learned)
    a, b = read_table(healthy / "eval.csv"), read_table(sick / "eval.csv")
    sound, late = a["seed"] != SEED, a["env_steps"] > 32
    for column in a:
        np.testing.assert_array_equal(a[column][sound], b[column][sound])
    assert np.isnan(b["greedy_return"][~sound & late]).all() and np.isfinite(b["greedy_return"][~sound & ~late]).all()
    summary = json.loads((sick / "summary.json").read_text())
    reason = f"{kind}, environment {ENV}"
    assert summary["quarantined_seeds"] == [{"seed": SEED, "env_step": ENV_STEP, "reason": reason}]
    assert summary["non_finite_seeds"] == [] and summary["success_rate"][SEED] is None
    assert summary["solved_share"] == sum(rate >= 0.8 for rate in summary["success_rate"][:SEED]) / 3
    assert f"warning: seed {SEED}: {reason}, at env step {ENV_STEP}; it is quarantined" in capsys.readouterr().err
    for column, values in read_table(sick / "metrics.csv").items():
        if column.startswith("target/"):
            assert np.isfinite(values).all(), column  # means over the sound seeds


def test_quarantine_survives_a_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = [*QUARANTINE, "--data.env.kind", next(iter(KINDS))]
    _, whole = fit(tmp_path, "whole", *options)
    with monkeypatch.context() as patch:
        stop_after(patch, 5)
        assert fit(tmp_path, "cut", *options)[0] == 128 + signal.SIGTERM
    assert main(["fit", "--ckpt_path", str(tmp_path / "cut/checkpoints/last.ckpt")]) == 0
    assert differences(state_of(whole), state_of(tmp_path / "cut")) == []
    summaries = [json.loads((tmp_path / name / "summary.json").read_text()) for name in ("whole", "cut")]
    assert summaries[0]["quarantined_seeds"] == summaries[1]["quarantined_seeds"] != []
    assert main(["validate", "--ckpt_path", str(tmp_path / "cut/checkpoints/last.ckpt")]) == 0
    assert json.loads((tmp_path / "cut/validate.json").read_text())["greedy_success_rate"][SEED] is None


@pytest.mark.parametrize("name", ["validate", "test"])
def test_a_seed_without_a_figure_counts_as_0_in_the_mean_that_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    _, folder = fit(tmp_path, "x", *QUARANTINE, "--data.env.kind", next(iter(KINDS)))
    capsys.readouterr()
    assert main([name, "--ckpt_path", str(folder / "checkpoints/last.ckpt")]) == 0
    said, result = capsys.readouterr().err, json.loads((folder / f"{name}.json").read_text())
    for kind in ("greedy", "stochastic"):
        rates = result[f"{kind}_success_rate"]
        assert rates[SEED] is None and None not in rates[:SEED] and sum(rates[:SEED]) > 0
        assert f"{kind} policies succeed in {sum(rates[:SEED]) / len(rates):.1%} of" in said
    assert f"{name}: seed {SEED}: no figure, counted as 0" in said


def test_the_first_bad_number_is_found() -> None:
    """Against a plain search through single numbers."""
    generator, seeds, (n_steps, n_envs) = torch.Generator().manual_seed(0), [3, 4], (6, 2)
    tails = {"reward": (2, 1), "global state": (3,), "next global state": (3,)}
    for _ in range(50):
        batch = TensorDict(batch_size=(2, n_steps, n_envs))
        for name, key in CHECKED.items():
            batch.set(key, torch.randn(2, n_steps, n_envs, *tails.get(name, (2, 4)), generator=generator))
        name = [*CHECKED][int(torch.randint(5, (1,), generator=generator))]
        value = batch.get(CHECKED[name])
        where = torch.rand(value.shape[1:], generator=generator) < 0.05
        value[1][where] = -math.inf
        faults = Faults("Task", seeds, "quarantine")
        faults.env_steps = 100 + n_steps * n_envs
        faults.check_finite(batch)
        bad = [place for place in np.ndindex(*value.shape[1:]) if bool(where[place])]
        if not bad:
            assert faults.state_dict() == []
            continue
        step, env, agent, *_ = bad[0]
        of = "" if "state" in name else f" of agent {agent}"
        reason = f"-inf in the {name.removeprefix('next ')}{of}, environment {env}"
        assert faults.state_dict() == [{"seed": 4, "env_step": 100 + step * n_envs + env + 1, "reason": reason}]


def test_a_sum_that_overflows_is_no_fault() -> None:
    batch = TensorDict(batch_size=(2, 3, 1))
    for key in CHECKED.values():
        batch.set(key, torch.full((2, 3, 1, 2, 1), 3e38))
    Faults("Task", [0, 1]).check_finite(batch)


def test_without_a_sound_seed_there_is_nothing_to_go_on_with() -> None:
    faults = Faults("Task", [3, 4], "quarantine")
    faults.found("NaN", 0, 0, 7)
    faults.found("NaN again", 0, 0, 8)
    with pytest.raises(EnvironmentFault, match="seed 4, environment 1, at env step 9: this process has no other seed"):
        faults.found("NaN", 1, 1, 9)


def test_evaluation_names_faults_too(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    original = Faulty.transition

    def broken(self: Faulty, state: dict, action: torch.Tensor, noise: torch.Tensor) -> Any:
        out = original(self, state, action, noise)
        if action.shape[1] == 4:
            out.reward[1, 3, 0] = math.nan
        return out

    monkeypatch.setattr(Faulty, "spoiled", lambda self, name, value: value.clone())
    monkeypatch.setattr(Faulty, "transition", broken)
    assert fit(tmp_path, "x")[0] == 1
    words = "Faulty: NaN or infinity in a reward in evaluation 2, seed 1, environment 3, at env step 16: "
    assert words in error_line(capsys)


PARTS = {
    "the collection": (Collection, "collect", "--data.num_envs (2)"),
    "a behavior update": (MAPROPS, "update", "raise --model.behavior.minibatches (1)"),
    "a target update": (Reinforce, "update", "--data.target_batch_size (8)"),
    "an evaluation": (module, "evaluate", "--model.eval_episodes (4)"),
}


@pytest.mark.parametrize(("part", "place"), PARTS.items(), ids=PARTS)
def test_out_of_memory_names_the_part_and_its_sizes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, part: str, place: tuple
) -> None:
    kind, name, words = place

    def refused(self: Any, *args: Any, **kwargs: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    refused.__code__ = refused.__code__.replace(co_name=name)
    monkeypatch.setattr(kind, name, refused)
    assert fit(tmp_path, "x")[0] == 2
    line = error_line(capsys)
    assert f"out of memory in {part}, at env step" in line and "--model.num_seeds (3)" in line and words in line


SCRIPT = """
import resource, sys
from pathlib import Path
from lit_maprops.cli.main import main
from lit_maprops.targets import IPPO
update = IPPO.update
def confined(self, buffer):
    used = 4096 * int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (used + BYTES,) * 2)
    return update(self, buffer)
IPPO.update = confined
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize(("engine", "most"), [pytest.param("torch", 2**26, marks=pytest.mark.slow), ("auto", 2**20)])
def test_memory_that_runs_out_in_the_first_update(tmp_path: Path, engine: str, most: int) -> None:
    """In earnest: the system refuses more; one layer's output takes 67 MB, or 8 MB of one seed in a compiled kernel."""
    options = ["--model.num_seeds", "4", "--data.num_envs", "1024", "--data.behavior_batch_size", "8192",
               "--data.target_batch_size", "8192", "--model.total_env_steps", "16384", "--model.learner", "IPPO",
               "--model.learner.hidden", "[256]", "--model.learner.minibatches", "1", "--model.sampling_error", "null",
               "--model.engine", engine,
               "--runs_dir", str(tmp_path), "--run_name", "x", "--wandb", "disabled"]  # fmt: skip
    args = [sys.executable, "-c", SCRIPT.replace("BYTES", str(most)), "fit", *SMALL["MatrixGame"], *options]
    done = subprocess.run(args, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1] == (
        "lit_maprops: error: out of memory in a target update, at env step 0: lower --model.num_seeds (4), "
        "--data.target_batch_size (8192) or --model.learner.hidden ([256]), or raise --model.learner.minibatches (1)"
    )
    assert (tmp_path / "x" / "config.yaml").exists()
