"""The command line as a user meets it: help, commands, and one line for every mistake."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import ROOT, SMALL, command

from lit_maprops.cli.main import main

MATRIX = ["--config", str(ROOT / "conf/matrix_game.yaml")]
FORAGING = ["--config", str(ROOT / "conf/foraging.yaml")]
PEAKS = ["--config", str(ROOT / "conf/continuous_game.yaml")]
BOULDER = ["--config", str(ROOT / "conf/boulderpush.yaml")]

# options, what the one line must name: the flag, and a word of the fix
BAD_INPUT = {
    "misspelt flag": ([*MATRIX, "--model.num_sedes", "3"], ["--model.num_sedes", "num_seeds"]),
    "misspelt field of the environment": ([*BOULDER, "--data.env.penlty", "1"], ["--data.env.penlty", "penalty"]),
    "misspelt field of the behavior": ([*MATRIX, "--model.behavior.kl_cutof", "1"], ["kl_cutof", "kl_cutoff"]),
    "misspelt field that samplers share": (
        [*MATRIX, "--model.behavior.reset_optimiser", "true"],
        ["--model.behavior.reset_optimiser is not an option (did you mean reset_optimizer?)"],
    ),
    **{
        f"tables' field for {sampler}": (
            [*MATRIX, "--model.behavior", sampler, "--model.behavior.merge_states", "true"],
            ["--model.behavior.merge_states is not an option of the chosen class"],
        )
        for sampler in ("Autoregressive", "CoordinationGraph", "GaussianAdjustment")
    },
    "unknown behavior": ([*MATRIX, "--model.behavior", "MAPRPS"], ["--model.behavior", "MAPROPS"]),
    "unknown learner": ([*MATRIX, "--model.learner", "SAC"], ["--model.learner", "IPPO"]),
    "unknown environment": ([*MATRIX, "--data.env", "Chess"], ["--data.env", "BoulderPush"]),
    "not a number": ([*MATRIX, "--model.num_seeds", "many"], ["--model.num_seeds", "int"]),
    "field of another behavior": (
        [*MATRIX, "--model.behavior", "OnPolicy", "--model.behavior.kl_cutoff", "1"],
        ["--model.behavior.kl_cutoff"],
    ),
    "kl_cutoff 0": ([*MATRIX, "--model.behavior.kl_cutoff", "0"], ["--model.behavior.kl_cutoff", "above 0"]),
    "kl_cutoff -1": ([*MATRIX, "--model.behavior.kl_cutoff", "-1"], ["--model.behavior.kl_cutoff", "above 0"]),
    "kl_cutoff NaN": ([*MATRIX, "--model.behavior.kl_cutoff", ".nan"], ["--model.behavior.kl_cutoff", "above 0"]),
    "no seeds": ([*MATRIX, "--model.num_seeds", "0"], ["--model.num_seeds", "from 1 to"]),
    "negative run seed": ([*MATRIX, "--seed_everything", "-3"], ["--seed_everything"]),
    "n not a multiple of m": (
        [*MATRIX, "--data.behavior_batch_size", "3"],
        ["--data.target_batch_size", "multiple of --data.behavior_batch_size"],
    ),
    "m not a multiple of num_envs": (
        [*MATRIX, "--data.num_envs", "2"],
        ["--data.behavior_batch_size", "multiple of --data.num_envs"],
    ),
    "too many joint actions": (
        [*MATRIX, "--data.env", "Coordination", "--data.env.n_agents", "10", "--data.env.n_actions", "5"],
        ["9,765,625", "--model.behavior.max_joint_actions", "PROPS"],
    ),
    "payoff of the wrong rank": ([*MATRIX, "--data.env.payoff", "[1, 2]"], ["--data.env.payoff", "n_agents"]),
    "unknown payoff": ([*MATRIX, "--data.env.payoff", "chicken"], ["--data.env.payoff", "figure1"]),
    "less than one batch": ([*MATRIX, "--model.total_env_steps", "7"], ["--model.total_env_steps", "at least"]),
    "boulder does not fit": ([*BOULDER, "--data.env.n_agents", "9"], ["--data.env.n_agents", "height"]),
    "bad push direction": ([*BOULDER, "--data.env.push_direction", "up"], ["--data.env.push_direction", "north"]),
    "start inside the boulder": ([*BOULDER, "--data.env.start", "[[1,3],[1,3],[3,4]]"], ["--data.env.start"]),
    "a name and another size": (
        [*FORAGING, "--data.env.size", "8"],
        ["--data.env.size", "--data.env.name", "leave out"],
    ),
    "no such name": ([*FORAGING, "--data.env.name", "Foraging-8x8"], ["--data.env.name", "Foraging-8x8-2p-2f-coop"]),
    "ranks that cannot share the seeds": (
        [*MATRIX, "--model.num_seeds", "2", "--trainer.devices", "3", "--trainer.accelerator", "cpu"],
        ["--trainer.devices", "--model.num_seeds 2"],
    ),
    "bad wandb mode": ([*MATRIX, "--wandb", "maybe"], ["--wandb", "offline"]),
    "run name with a slash": ([*MATRIX, "--run_name", "a/b"], ["--run_name"]),
    "payoff beyond single precision": (
        [*MATRIX, "--data.env", "Coordination", "--data.env.rewards", "[1.0e39, 0]"],
        ["--data.env.rewards", "finite"],
    ),
    "infinite penalty": ([*BOULDER, "--data.env.penalty", ".inf"], ["--data.env.penalty", "from 0 to 1e+30"]),
    "clip_epsilon NaN": ([*MATRIX, "--model.behavior.clip_epsilon", "nan"], ["--model.behavior.clip_epsilon", "nan"]),
    "no behavior": ([*MATRIX, "--model.behavior", "null"], ["--model.behavior", "MAPROPS"]),
    "no layers": ([*MATRIX, "--model.behavior.hidden", "null"], ["--model.behavior.hidden", "[]"]),
    "endless epochs": ([*MATRIX, "--model.behavior.epochs", "100000000000"], ["--model.behavior.epochs", "from 1 to"]),
    "too many seeds": ([*MATRIX, "--model.num_seeds", "100000000000"], ["--model.num_seeds", "from 1 to"]),
    "endless training": (
        [*MATRIX, "--model.total_env_steps", "1" + "0" * 21],
        ["--model.total_env_steps", "from 1 to"],
    ),
    "crowd": (
        [
            *MATRIX,
            "--data.env",
            "Coordination",
            "--data.env.n_agents",
            "20000",
            "--data.env.rewards",
            "[1, 0]",
            "--model.sampling_error",
            "null",
        ],
        ["2**20000", "--model.behavior.max_joint_actions"],
    ),
    "counts of continuous actions": (
        [*PEAKS, "--model.sampling_error", "tabular"],
        ["--model.sampling_error", "TwoPeaks", "energy"],
    ),
    "fitted continuous actions": (
        [*PEAKS, "--model.sampling_error", "likelihood"],
        ["--model.sampling_error", "TwoPeaks", "energy"],
    ),
    "energy of discrete actions": (
        [*MATRIX, "--model.sampling_error", "energy"],
        ["--model.sampling_error", "MatrixGame", "tabular"],
    ),
    "initial_std of discrete actions": (
        [*MATRIX, "--model.learner.initial_std", "0.5"],
        ["--model.learner.initial_std", "MatrixGame", "leave it out"],
    ),
    "initial_std beyond its limits": (
        [*PEAKS, "--model.learner.initial_std", "2.5"],
        ["--model.learner.initial_std", "between 0.05 and 2"],
    ),
    "squashed by what": ([*PEAKS, "--data.env.squash", "sigmoid"], ["--data.env.squash", "tanh, clip"]),
    "components of the wrong number": ([*PEAKS, "--data.env.components", "[1, 1, 1]"], ["--data.env.components"]),
    "a Gaussian over discrete actions": (
        [*MATRIX, "--model.behavior", "GaussianAdjustment"],
        ["--model.behavior GaussianAdjustment", "MatrixGame", "MAPROPS"],
    ),
    "several passes": ([*MATRIX, "--trainer.min_epochs", "3"], ["--trainer.min_epochs", "--model.total_env_steps"]),
    "half the batches": ([*MATRIX, "--trainer.limit_train_batches", "0.5"], ["--trainer.limit_train_batches"]),
    "an optimizer": ([*MATRIX, "--optimizer", "torch.optim.Adam"], ["--optimizer"]),
    "a schedule": ([*MATRIX, "--lr_scheduler", "ExponentialLR"], ["--lr_scheduler"]),
    "half precision": ([*MATRIX, "--trainer.precision", "16-true"], ["--trainer.precision"]),
    "no such accelerator": ([*MATRIX, "--trainer.accelerator", "mps"], ["MPS"]),
    "no config after --config": (["--config"], ["--config"]),
    "no checkpoint after --ckpt_path": (["--ckpt_path"], ["ckpt_path"]),
    "no such config": (["--config", "conf/none.yaml"], ["--config", "conf/none.yaml"]),
    "no environment": ([], ["--data.env"]),
    "no such checkpoint": (["--ckpt_path", "runs/none/checkpoints/last.ckpt"], ["--ckpt_path", "no file"]),
}


def one_line_error(capsys: pytest.CaptureFixture[str], args: list[str]) -> str:
    """Run, expecting exit code 2 and a single line; returns it."""
    assert main(args) == 2
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert captured.out == ""
    assert len(lines) == 1, captured.err
    assert lines[0].startswith("lit_maprops: error: ")
    return lines[0]


@pytest.mark.every(2)
@pytest.mark.parametrize(("options", "words"), BAD_INPUT.values(), ids=BAD_INPUT)
def test_bad_input_is_one_line_and_writes_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, options: list[str], words: list[str]
) -> None:
    line = one_line_error(capsys, ["fit", *options, "--runs_dir", str(tmp_path / "runs")])
    for word in words:
        assert word in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "text",
    ["model: [", "model: {num_seeds: ${nowhere}}", "- a\n- b\n", "modle: {}\n", "model: 3\n", "\x00"],
    ids=["yaml", "interpolation", "list", "key", "type", "binary"],
)
def test_broken_config_file_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(text)
    one_line_error(capsys, ["fit", "--config", str(config), "--runs_dir", str(tmp_path / "runs")])
    assert not (tmp_path / "runs").exists()


def test_a_tab_in_a_config_file_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("model:\n\tnum_seeds: 3\n")
    line = one_line_error(capsys, ["fit", "--config", str(config), "--runs_dir", str(tmp_path / "runs")])
    assert "line 2, column 1: put spaces for the tab" in line


@pytest.mark.parametrize("behavior", ["MAPROPS", "TabularMAPROPS", "Greedy", "Autoregressive", "CoordinationGraph"])
def test_enumerating_behavior_policies_refuse_continuous_actions(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, behavior: str
) -> None:
    args = ["fit", *PEAKS, "--model.behavior", behavior, "--runs_dir", str(tmp_path / "runs")]
    line = one_line_error(capsys, args)
    assert f"--model.behavior {behavior}" in line
    assert "GaussianAdjustment" in line
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("runs_dir", ["", "null"])
def test_runs_dir_that_is_no_folder(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runs_dir: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "--runs_dir" in one_line_error(capsys, ["fit", *MATRIX, "--runs_dir", runs_dir])
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_outside_a_run_is_refused(game: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Otherwise its run's files would be written beside it, wherever that is."""
    stray = tmp_path / "a" / "best.ckpt"
    stray.parent.mkdir()
    shutil.copy(game / "checkpoints" / "last.ckpt", stray)
    capsys.readouterr()
    for name in ("fit", "validate", "test"):
        line = one_line_error(capsys, [name, *SMALL["MatrixGame"], "--ckpt_path", str(stray)])
        assert "not in a run folder" in line
    assert [path.name for path in stray.parent.iterdir()] == ["best.ckpt"]


def test_settings_of_optimizers_given_on_resume_hold(fit: Callable[..., Path]) -> None:
    checkpoint = fit("x") / "checkpoints" / "last.ckpt"
    options = ["--model.learner.learning_rate", "0.25", "--model.behavior.learning_rate", "0.125"]
    options += ["--model.behavior.adam_epsilon", "1e-3"]
    assert main(["fit", "--ckpt_path", str(checkpoint), "--model.total_env_steps", "80", *options]) == 0
    saved = torch.load(checkpoint, weights_only=True)["optimizer_states"]
    assert [state["param_groups"][0]["lr"] for state in saved] == [0.25, 0.125]
    assert saved[1]["param_groups"][0]["eps"] == 1e-3


def test_unwritable_runs_dir(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A file where the folder should be: permissions would not stop root."""
    (tmp_path / "runs").write_text("mine")
    line = one_line_error(capsys, ["fit", *MATRIX, "--runs_dir", str(tmp_path / "runs")])
    assert "--runs_dir" in line
    assert (tmp_path / "runs").read_text() == "mine"


def test_a_run_is_never_overwritten(game: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {p: p.read_bytes() for p in game.rglob("*") if p.is_file()}
    capsys.readouterr()
    args = ["fit", *SMALL["MatrixGame"], "--runs_dir", str(game.parent), "--run_name", "x"]
    line = one_line_error(capsys, args)
    assert "--run_name" in line
    assert "--ckpt_path" in line
    assert before == {p: p.read_bytes() for p in game.rglob("*") if p.is_file()}


def damage(kind: str, path: Path) -> None:
    content = path.read_bytes()
    if kind == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("not a checkpoint")
    elif kind == "foreign":
        torch.save({"state_dict": {}}, path)
    elif kind == "pickle":
        torch.save({"lit_maprops": Path}, path)


@pytest.mark.parametrize("kind", ["truncated", "empty", "text", "foreign", "pickle"])
def test_damaged_checkpoint_is_refused(game: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    checkpoint = game / "checkpoints" / "last.ckpt"
    damage(kind, checkpoint)
    rows = (game / "metrics.csv").read_text()
    capsys.readouterr()
    for name in ("fit", "validate", "test"):
        assert "--ckpt_path" in one_line_error(capsys, [name, "--ckpt_path", str(checkpoint)])
    assert (game / "metrics.csv").read_text() == rows


@pytest.mark.every(2)
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--model.num_seeds", "4"], "seeds"),
        (["--seed_everything", "9"], "seeds"),
        (["--model.behavior.hidden", "[8]"], "behavior.net"),
        (["--model.behavior", "OnPolicy"], "--model.behavior"),
        (["--data.env.payoff", "stag"], "--data.env"),
        (["--data.target_batch_size", "16"], "--data.target_batch_size"),
        (["--run_name", "y"], "--run_name"),
    ],
)
def test_checkpoint_of_other_settings_is_refused(
    game: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    before = {p: p.read_bytes() for p in game.rglob("*") if p.is_file()}
    capsys.readouterr()
    line = one_line_error(capsys, ["fit", "--ckpt_path", str(game / "checkpoints/last.ckpt"), *options])
    assert words in line
    assert before == {p: p.read_bytes() for p in game.rglob("*") if p.is_file()}


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "fit" in capsys.readouterr().out
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == "0.1.0"
    assert main([]) == 2
    assert "usage" in capsys.readouterr().out
    assert "choose one of fit" in one_line_error(capsys, ["train"])


def test_help_imports_nothing_heavy() -> None:
    import subprocess
    import sys

    code = "import sys; from lit_maprops.cli.main import main; main(['--help']); print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip().endswith("False")


@pytest.mark.parametrize("name", ["validate", "test"])
def test_evaluation_commands(game: Path, name: str) -> None:
    args = [name, "--ckpt_path", str(game / "checkpoints" / "last.ckpt")]
    assert main([*args, "--model.eval_episodes", "50"]) == 0
    result = json.loads((game / f"{name}.json").read_text())
    assert result["episodes"] == 50
    assert result["env_steps"] == 64
    # One-step episodes of one game: greedy policies always do the same, so a share is 0 or 1.
    assert set(result["greedy_success_rate"]) <= {0.0, 1.0}
    assert len(result["stochastic_success_rate"]) == 3


def test_evaluation_needs_a_checkpoint(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--ckpt_path" in one_line_error(capsys, ["validate", *MATRIX])


def test_a_checkpoint_can_be_evaluated_after_its_folder_moved(fit: Callable[..., Path], tmp_path: Path) -> None:
    folder = fit("x")
    moved = tmp_path / "elsewhere"
    shutil.move(folder, moved)
    assert main(["test", "--ckpt_path", str(moved / "checkpoints" / "last.ckpt")]) == 0
    assert (moved / "test.json").exists()


def test_without_a_terminal_nothing_is_drawn_and_stdout_stays_empty(tmp_path: Path) -> None:
    process = command("fit", *SMALL["MatrixGame"], "--runs_dir", str(tmp_path), "--run_name", "x")
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert out == ""
    lines = err.strip().splitlines()
    assert lines[0].startswith("engine: ") and lines[1].startswith("run folder: ")
    assert lines[-2].startswith("solved ") and lines[-1].startswith("next: ")
    said = ("engine: ", "run folder", "warning: ", "success of each seed", "solved", "next: ")
    assert all(line.startswith(said) for line in lines)
