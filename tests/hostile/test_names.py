"""One thing is wrong, and the line names it: its flag, or its file."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT
from hostile_helpers import one_parser, run

BASE = ["--config", str(ROOT / "conf/matrix_game.yaml"), "--run_name", "none"]
PPO = ["--model.learner", "IPPO"]
# Flags of the program and of its classes, and values that none of them takes.
NUMBERS = [
    *(f"model.{name}" for name in ("num_seeds", "first_seed", "total_env_steps", "eval_interval", "eval_episodes")),
    *(f"model.{name}" for name in ("solved_threshold", "sampling_error_interval", "checkpoint_interval")),
    *(f"data.{name}" for name in ("num_envs", "behavior_batch_size", "target_batch_size", "history_batches")),
    *(f"model.behavior.{name}" for name in ("kl_cutoff", "learning_rate", "epochs", "clip_epsilon")),
    *(f"model.learner.{name}" for name in ("learning_rate", "gamma", "epochs", "clip_epsilon", "clip_value")),
    *("keep", "rank_timeout", "seed_everything", "trainer.devices"),
]
TEXTS = ["model.sampling_error", "model.on_fault", "data.history", "data.env", "model.behavior", "model.learner",
         "data.env.payoff", "wandb", "trainer.accelerator"]  # fmt: skip
MISSPELT = ["model.num_seed", "data.num_env", "model.behavior.kl_cut", "model.learner.gama", "data.env.payofff",
            "data.env.payofff.x", "optimizer", "lr_scheduler", "run_nam", "trainer.device"]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def parser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("names"))
        one_parser(patch)
        yield


@pytest.mark.every(3)
@pytest.mark.parametrize(
    ("flag", "value"),
    [
        *((flag, "wrong") for flag in NUMBERS + TEXTS),
        *((flag, "-3") for flag in NUMBERS),
        *((flag, "1") for flag in MISSPELT),
    ],
)
def test_the_flag(flag: str, value: str) -> None:
    learner = PPO if flag.startswith("model.learner.") else []
    code, out, err = run(["fit", *BASE, *learner, f"--{flag}={value}"])
    assert (code, out) == (2, "") and err.count("\n") == 1, err
    assert f"--{flag.removesuffix('.x')}" in err, err
    assert not list(Path.cwd().iterdir())


@pytest.mark.parametrize("base", ["Task", "BehaviorPolicy", "AdjustedPolicy", "Learner", "PPO"])
def test_a_class_that_others_extend_is_no_choice(base: str) -> None:
    """PPO once ended in a traceback: it had no critic."""
    flag = {"Task": "data.env", "Learner": "model.learner", "PPO": "model.learner"}.get(base, "model.behavior")
    code, out, err = run(["fit", *BASE, f"--{flag}", base])
    assert (code, out) == (2, "") and err.count("\n") == 1, err
    assert f"--{flag} is {base}: choose one of " in err, err


@pytest.mark.parametrize(
    "args",
    [
        ["fit", "--config", "named.yaml"],
        ["fit", "--ckpt_path", "named.ckpt"],
        ["report", "named"],
        ["sweep", "named.yaml"],
        ["analyze", "--ckpt_path", "named.ckpt"],
        ["export", "--ckpt_path", "named.ckpt", "--output", "out"],
    ],
    ids=" ".join,
)
def test_the_file(args: list[str]) -> None:
    code, out, err = run(args)
    assert (code, out) == (2, "") and err.count("\n") == 1
    assert "named" in err
    assert not list(Path.cwd().iterdir())
