"""PettingZoo's time limit where the user gives none: the package's own, and a word where an episode was cut."""

from pathlib import Path

import pytest
import torch
import yaml

from lit_maprops.cli.main import main
from lit_maprops.envs import PettingZoo
from lit_maprops.envs.pettingzoo import task as module
from lit_maprops.envs.pettingzoo.packages import time_limit

pytest.importorskip("pettingzoo")


def whole_episode(task: PettingZoo) -> tuple[float, str]:
    """Return of the first agent, and how the episode ended: by the package or cut."""
    state, total = task.initial_state(torch.rand(1, task.start_noise)), 0.0
    for _ in range(task.max_steps):
        outcome = task.transition(state, torch.zeros(1, 2, dtype=torch.int64), torch.zeros(1, 0))
        state, total = outcome.state, total + float(outcome.reward[0, 0])
        assert outcome.truncated is not None
        if outcome.truncated or outcome.terminated:
            return total, "package"
    return total, "cut"


@pytest.mark.parametrize(
    ("name", "options", "length"),
    [("long", {}, 100), ("cycles", {}, 30), ("cycles", {"max_cycles": 7}, 7), ("plain", {}, 4)],
)
def test_an_episode_is_as_long_as_the_package_makes_it(name: str, options: dict[str, int], length: int) -> None:
    task = PettingZoo(f"pettingzoo_toys.{name}", options)
    assert whole_episode(task) == (length, "package")
    assert task.max_steps == (length if name == "cycles" else 1000) and task.remarks() == {}


def test_only_a_cut_that_nobody_asked_for_is_remarked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST", 20)
    task, asked = PettingZoo("pettingzoo_toys.long"), PettingZoo("pettingzoo_toys.long", max_steps=20)
    assert task.remarks() == {}  # whatever the constructor has tried
    assert whole_episode(task) == whole_episode(asked) == (20, "cut")
    assert "cut after 20 steps" in task.remarks()["cut"] and asked.remarks() == {}


def test_a_fit_says_once_that_episodes_were_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "_MOST", 6)
    options = {
        "env": "PettingZoo", "env.name": "pettingzoo_toys.endless", "num_envs": 1, "behavior_batch_size": 12,
        "target_batch_size": 12,
    }  # fmt: skip
    flags = [f"--data.{name}={value}" for name, value in options.items()]
    flags += ["--model.behavior=OnPolicy", "--model.learner=Reinforce", "--model.num_seeds=1"]
    flags += ["--model.total_env_steps=36", "--model.eval_episodes=1", f"--runs_dir={tmp_path}", "--run_name=x"]
    assert main(["fit", *flags]) == 0
    line = (
        "warning: --data.env.name pettingzoo_toys.endless: episodes were cut after 6 steps, before the package ended "
        "them: give --data.env.max_steps, the steps that an episode may take"
    )
    assert [each for each in capsys.readouterr().err.splitlines() if "were cut" in each] == [line]
    assert yaml.safe_load((tmp_path / "x/config.yaml").read_text())["data"]["env"]["init_args"]["max_steps"] is None


def test_what_says_no_number_of_steps_is_no_limit() -> None:
    from pettingzoo_toys import Toy

    class Odd(Toy):
        max_cycles, max_steps, horizon = None, True, -1

        @property
        def time_limit(self) -> float:
            raise RuntimeError("seconds")

    assert time_limit(Odd(), {"max_iter": 2.5}) is None
    assert time_limit(Odd(), {"max_iter": 9}) == 9
