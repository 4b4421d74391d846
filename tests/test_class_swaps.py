"""A class that takes another's place on the command line: which of the values given for the other one stay."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT

from lit_maprops.cli.main import main
from lit_maprops.run.options import RunCLI

ASCENT = "{model: {learner: {class_path: Reinforce, init_args: {learning_rate: 0.3, hidden: [5], gamma: 0.7}}}}"
LEARNER, BEHAVIOR, ENV = "--model.learner", "--model.behavior", "--data.env"
Case = tuple[str, list[str], dict[str, Any]]  # a configuration, options after it, some of what the class then has
OTHERS: dict[str, Case] = {
    "learner": ("matrix_game", [LEARNER, "IPPO"], {"learning_rate": 1e-3, "hidden": [64, 64]}),
    "by its path": ("matrix_game", [f"{LEARNER}.class_path=lit_maprops.targets.MAPPO"], {"learning_rate": 1e-3}),
    "to ascent": ("boulderpush", [LEARNER, "Reinforce"], {"learning_rate": 1.0, "hidden": [], "gamma": 0.99}),
    "one is given": ("matrix_game", [f"{LEARNER}.hidden=[]", LEARNER, "IPPO"], {"learning_rate": 1e-3, "hidden": []}),
    "by a second file": (
        "matrix_game",
        ["--config", ASCENT, "--config", "{model: {learner: MAPPO}}"],
        {"learning_rate": 1e-3, "hidden": [64, 64], "gamma": 0.7},
    ),
    "environment": ("boulderpush", [ENV, "Foraging"], {"penalty": None, "n_agents": None, "max_steps": 50}),
    "its time limit": ("boulderpush", [ENV, "VMAS", f"{ENV}.n_agents", "3"], {"max_steps": 100, "n_agents": 3}),
}
SAME: dict[str, Case] = {
    "IPPO for MAPPO": ("boulderpush", [LEARNER, "IPPO"], {"learning_rate": 2.5e-3, "clip_value": None, "epochs": 10}),
    "all are given": (
        "matrix_game",
        [LEARNER, "IPPO", f"{LEARNER}.learning_rate", "0.2", f"{LEARNER}.init_args.hidden", "[3]"],
        {"learning_rate": 0.2, "hidden": [3]},
    ),
    "the class itself": ("matrix_game", [LEARNER, "lit_maprops.Reinforce"], {"learning_rate": 1.0, "hidden": []}),
    "another class and its values": ("boulderpush", ["--config", ASCENT], {"learning_rate": 0.3, "hidden": [5]}),
    "PROPS for MAPROPS": ("matrix_game", [BEHAVIOR, "PROPS"], {"learning_rate": 1.0, "kl_cutoff": 1.0, "hidden": []}),
    "a closed form": ("boulderpush", [BEHAVIOR, "TabularMAPROPS"], {"clip_epsilon": 0.3, "kl_cutoff": 0.05}),
    "the environment itself": ("boulderpush", [ENV, "BoulderPush"], {"penalty": 0.0, "incentive": 0.1}),
}


def taken(file: str, options: list[str], names: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """What the class that ``options`` speak of has under these names, and the notes."""
    cli = RunCLI(["--config", str(ROOT / f"conf/{file}.yaml"), *options])
    kind = next((flag for flag in (BEHAVIOR, ENV) if flag in options), LEARNER)
    arguments = cli.config[kind.removeprefix("--")].init_args
    return {name: arguments[name] for name in names}, cli.notes


@pytest.mark.parametrize(("file", "options", "expected"), OTHERS.values(), ids=OTHERS)
def test_a_value_that_means_something_else_is_left_out(file: str, options: list[str], expected: dict[str, Any]) -> None:
    found, notes = taken(file, options, expected)
    assert found == expected and len(notes) == 1


@pytest.mark.parametrize(("file", "options", "expected"), SAME.values(), ids=SAME)
def test_a_value_that_means_the_same_stays(file: str, options: list[str], expected: dict[str, Any]) -> None:
    assert taken(file, options, expected) == (expected, [])


def test_a_run_says_what_was_left_out_and_goes_on_with_what_it_has(
    fit: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = fit("x", LEARNER, "IPPO", f"{LEARNER}.learning_rate", "0.01")
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]
    assert lines == [
        "note: hidden [], given for Reinforce, is left out: --model.learner IPPO has [64, 64]; give "
        "--model.learner.hidden for others"
    ]
    learner = yaml.safe_load((folder / "config.yaml").read_text())["model"]["learner"]["init_args"]
    assert (learner["learning_rate"], learner["hidden"]) == (0.01, [64, 64])
    last = str(folder / "checkpoints/last.ckpt")
    assert main(["fit", "--ckpt_path", last, "--model.total_env_steps", "72"]) == 0
    assert "note: " not in capsys.readouterr().err
