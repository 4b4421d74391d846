"""What ``fit --help`` shows, and what a configuration holds that nobody gave."""

import json
import re
from argparse import SUPPRESS
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from conftest import command

from lit_maprops.behavior import BEHAVIORS
from lit_maprops.cli.main import main
from lit_maprops.envs import TASKS
from lit_maprops.report.settings import setting_key
from lit_maprops.run.changes import Change, continued_with
from lit_maprops.run.options import parsed
from lit_maprops.targets import LEARNERS

CLASSES = ["--data.env", "MatrixGame", "--model.behavior", "OnPolicy", "--model.learner", "Reinforce"]


def shown(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    with pytest.raises(SystemExit) as end:
        main(args)
    assert end.value.code == 0
    return capsys.readouterr().out


def test_ours_come_first_and_lightnings_have_a_help_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    ours, trainer = shown(capsys, "fit", "--help"), shown(capsys, "fit", "--help-trainer")
    assert "--trainer." not in ours and "--model.num_seeds" not in trainer
    assert [line.partition(" --model.behavior ")[1] for line in ours.splitlines()[:60]].count(" --model.behavior ") == 1
    for word in ("sampler", "D", "target iteration"):
        assert re.search(rf"^  {word}  ", ours, flags=re.MULTILINE), word
    for way in ("--model.behavior.help MAPROPS", "--help-trainer"):
        assert way in ours.partition("words:")[2]
    told = [set(re.findall(r"(?<!\S)--[\w.-]+", text.partition("\n")[2])) for text in (ours, trainer)]
    actions = [action for action in parsed(CLASSES).parser._actions if action.help != SUPPRESS]
    flags = {flag.rstrip("+") for action in actions for flag in action.option_strings if flag.startswith("--")}
    assert len(flags) > 60 and flags - told[0] - told[1] == set()


def test_no_class_is_offered_that_no_run_can_have() -> None:
    """A class that kernels once used among themselves was a choice, and gave another sampler than its own."""
    said, _ = command("fit", "--help").communicate(timeout=120)  # here other tests have imported other classes
    assert len(said.splitlines()) < 180
    offered = re.findall(r"lit_maprops(?:\.\w+)*\.([A-Z]\w+)", said)
    assert len(offered) > 15 and set(offered) == set(TASKS) | set(BEHAVIORS) | set(LEARNERS)


@pytest.mark.parametrize("command", ["validate", "test"])
def test_evaluations_ask_for_a_checkpoint(capsys: pytest.CaptureFixture[str], command: str) -> None:
    first = shown(capsys, command, "--help").splitlines()[0]
    assert first.startswith(f"usage: python -m lit_maprops {command} --ckpt_path ")


def test_a_configuration_has_the_trainers_options_that_were_given(fit: Callable[..., Path]) -> None:
    assert yaml.safe_load((fit("x") / "config.yaml").read_text())["trainer"] == {}
    run = fit("y", "--trainer.max_time", "00:01:00:00", "--trainer.max_epochs", "-1")
    assert yaml.safe_load((run / "config.yaml").read_text())["trainer"] == {"max_time": "00:01:00:00"}
    assert json.loads((run / "summary.json").read_text())["config"]["trainer"] == {"max_time": "00:01:00:00"}


def test_runs_of_before_with_all_of_them_go_on_as_they_were(fit: Callable[..., Path]) -> None:
    run = fit("x")
    path, checkpoint = run / "config.yaml", ["--ckpt_path", str(run / "checkpoints" / "last.ckpt")]
    config = yaml.safe_load(path.read_text())
    everything = dict(parsed(CLASSES).unset_trainer)
    assert len(everything) > 35
    path.write_text(yaml.safe_dump(config | {"trainer": everything}))
    assert main(["validate", *checkpoint]) == 0
    more = ["--model.total_env_steps", "72"]
    assert main(["fit", *checkpoint, *more, "--trainer.max_time", "00:02:00:00"]) == 0
    changes = json.loads((run / "changes.json").read_text())["changes"]
    assert {"env_steps": 64, "key": "trainer.max_time", "before": None, "after": "00:02:00:00"} in changes
    assert [change["key"] for change in changes] == ["model.total_env_steps", "trainer.max_time"]
    assert yaml.safe_load(path.read_text())["trainer"] == {"max_time": "00:02:00:00"}


def test_what_is_left_out_is_known_where_it_changes() -> None:
    unset = {"trainer": {"max_time": None, "devices": 1}}
    given = {"trainer": {"devices": 2}}
    assert continued_with([], {"trainer": {}}, given, 8, unset) == [Change(8, "trainer.devices", 1, 2)]
    assert continued_with([], given, {"trainer": {}}, 8, unset) == [Change(8, "trainer.devices", 2, 1)]
    assert continued_with([], {"trainer": {"devices": 1}}, {}, 8, unset) == []


def test_old_and_new_runs_of_one_setting_are_compared() -> None:
    new = {"data.env": "MatrixGame"}
    assert setting_key(new) == setting_key(new | {"trainer.precision": None, "trainer.devices": 1})
    assert setting_key(new) != setting_key(new | {"trainer.precision": "64-true"})


def test_a_finished_run_says_so_and_how_it_goes_on(
    fit: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run = fit("x")
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1] == f"next: python -m lit_maprops report {run.parent} -o report.html"
    assert not any(line.startswith("already finished") for line in lines)
    assert main(["fit", "--ckpt_path", str(run / "checkpoints" / "last.ckpt")]) == 0
    told = "already finished: all 64 env steps are trained; raise --model.total_env_steps to train on"
    assert told in capsys.readouterr().err.splitlines()
    assert main(["report", str(run.parent), "-o", str(run.parent / "report.html")]) == 0


def test_an_offline_run_says_how_it_is_sent(fit: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    run = fit("x", "--wandb", "offline")
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.endswith(f"; wandb sync {run}/wandb/offline-run-*")
    assert len(list(run.glob("wandb/offline-run-*"))) == 1
