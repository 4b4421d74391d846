"""Presets: parts of a configuration that come with the package and are laid over a whole one."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT

import lit_maprops as lm
from lit_maprops.api.settings import laid_over, read_configuration
from lit_maprops.cli.main import main
from lit_maprops.run.options import RunCLI
from lit_maprops.system.shipped import shipped

PRESETS = shipped("conf/presets")
PAPER = yaml.safe_load(PRESETS["mappo_paper"].read_text())["model"]["learner"]["init_args"]
# Defaults of onpolicy/config.py in the paper's code (github.com/marlbenchmark/on-policy), of share_policy on; its value
# coefficient of 1 weighs half the squared error, and its one hidden layer comes after a first one.
PUBLISHED = {
    "learning_rate": 5e-4, "gamma": 0.99, "gae_lambda": 0.95, "clip_epsilon": 0.2, "clip_value": 0.2,
    "entropy_coeff": 0.01, "critic_coeff": 1 / 2, "value_norm": True, "value_loss": "huber", "huber_delta": 10.0,
    "minibatches": 1, "max_grad_norm": 10.0, "hidden": [64, 64], "activation": "relu", "layer_norm": True,
    "policy_gain": 0.01, "share_parameters": True,
}  # fmt: skip


def learner_of(*words: str) -> dict[str, Any]:
    return vars(RunCLI(list(words)).config.model.learner.init_args)


def test_the_papers_values_are_published_ones() -> None:
    assert {name: PAPER[name] for name in PUBLISHED} == PUBLISHED
    assert set(PAPER) - set(PUBLISHED) == {"critic_input", "epochs", "anneal_learning_rate", "kl_stop"}
    assert 5 <= PAPER["epochs"] <= 15


@pytest.mark.every(5)
@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("config", shipped("conf"))
def test_a_preset_goes_over_every_configuration(config: str, preset: str) -> None:
    cli = RunCLI(["--config", config, "--config", preset])
    cli.model.prepare(cli.datamodule)
    content = yaml.safe_load(PRESETS[preset].read_text())["model"]["learner"]
    assert type(cli.model.learner).__name__ == content["class_path"]
    saved = cli.resolved_config("x")["model"]["learner"]["init_args"]
    assert {name: saved[name] for name in content["init_args"]} == content["init_args"]


def test_flags_win_over_a_preset_wherever_they_stand_and_other_learners_take_what_they_know() -> None:
    before = learner_of("--model.learner.epochs", "5", "--config", "foraging", "--config", "mappo_paper")
    behind = learner_of("--config", "foraging", "--config", "mappo_paper", "--model.learner.value_norm", "popart")
    assert {name: before[name] for name in PAPER} == PAPER | {"epochs": 5}
    assert behind["value_norm"] == "popart" and before["value_norm"] is True and behind["epochs"] == PAPER["epochs"]
    words = ["--model.learner", "HAPPO", "--model.learner.share_parameters", "false"]
    happo = learner_of("--config", "boulderpush", "--config", "mappo_paper", *words)
    assert happo["value_loss"] == "huber" and "critic_input" not in happo


def test_in_python_a_list_is_what_two_flags_are() -> None:
    config = laid_over(*(read_configuration("<config>", name) for name in ("foraging", "mappo_paper")))
    words = ["--config", "foraging", "--config", "mappo_paper"]
    assert RunCLI(config).resolved_config("x") == RunCLI(words).resolved_config("x")
    other = laid_over(read_configuration("<config>", "matrix_game"), read_configuration("<config>", "mappo_paper"))
    assert other["model"]["learner"]["init_args"] == PAPER and other["data"]["env"]["class_path"] == "MatrixGame"


def test_a_fit_of_both_in_python_and_one_line_for_a_typo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small: dict[str, Any] = {"num_seeds": 2, "total_env_steps": 16, "wandb": "disabled", "runs_dir": str(tmp_path)}
    lm.fit(["matrix_game", "mappo_paper"], behavior=lm.OnPolicy(), run_name="a", **small)
    saved = yaml.safe_load((tmp_path / "a" / "config.yaml").read_text())["model"]["learner"]
    assert saved["init_args"]["critic_input"] == "agent_specific_state"
    with pytest.raises(lm.ConfigError, match=r"no file mapo_paper .did you mean mappo_paper"):
        lm.fit(["matrix_game", "mapo_paper"], **small)
    capsys.readouterr()
    assert main(["fit", "--config", "matrix_game", "--config", "mapo_paper"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "--config: there is no file mapo_paper (did you mean mappo_paper?)" in line


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["preset", "mappo_paper"], "is not an option: give the preset as another --config, behind the first"),
        (["value_norm", "art"], "is 'art': choose one of true, false, popart"),
        (["value_norm", "1"], "choose one of true, false, popart"),
        (["critic_input", "all"], "is 'all': choose one of state, agent_specific_state"),
    ],
)
def test_a_wrong_word_is_one_line(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--config", "boulderpush", f"--model.learner.{words[0]}", words[1]]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert told in line and f"--model.learner.{words[0]}" in line


@pytest.mark.parametrize("preset", PRESETS)
def test_every_value_is_commented(preset: str) -> None:
    lines = (ROOT / "conf/presets" / f"{preset}.yaml").read_text().splitlines()
    values = [line for line in lines if line.startswith("      ")]
    assert values and all("#" in line for line in values)
