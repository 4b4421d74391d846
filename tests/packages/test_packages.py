"""Environments, behavior policies and learners of another package: by short name, by import path, and not by a file."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT

# Runs commands one after the other, and says of each how it ended and what it printed.
RUNNER = """
import contextlib, io, json, sys
from lit_maprops.cli.main import main
for args in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(args)
    print(json.dumps([code, out.getvalue(), err.getvalue()]))
"""
SMALL = [
    "--data.target_batch_size", "8", "--data.behavior_batch_size", "4", "--model.num_seeds", "2",
    "--model.total_env_steps", "32", "--model.eval_interval", "2", "--model.eval_episodes", "2",
    "--model.checkpoint_interval", "1",
]  # fmt: skip
CLASSES = {"--data.env": "Meet", "--model.behavior": "Curious", "--model.learner": "Slow"}
PATHS = {
    "--data.env": "meeting.Meet",
    "--model.behavior": "meeting.policies.Curious",
    "--model.learner": "meeting.policies.Slow",
}
LAST = "--ckpt_path=runs/{}/checkpoints/last.ckpt"
FEW = ["--batches", "2", "--reference_batches", "2"]
LONGER = ["--model.total_env_steps", "48"]


def outcomes(place: Path, packages: Path, *commands: Sequence[str]) -> list[tuple[int, str, str]]:
    """How commands end in a process of their own, in which Python finds what is in ``packages``."""
    env = os.environ | {"PYTHONPATH": f"{ROOT}:{packages}", "OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled"}
    runner = [sys.executable, "-c", RUNNER, json.dumps([list(words) for words in commands])]
    done = subprocess.run(runner, cwd=place, env=env, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]  # type: ignore[misc]


def words(classes: dict[str, str]) -> list[str]:
    return [word for pair in classes.items() for word in pair]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which pip has installed the package."""
    place = tmp_path_factory.mktemp("installed")
    shutil.copytree(Path(__file__).parent / "meeting", place / "source")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(place / "site"), str(place / "source")], check=True, capture_output=True)
    return place / "site"


@pytest.fixture(scope="module")
def bare(installed: Path) -> Path:
    """The same package where Python finds it, without entry points."""
    shutil.copytree(installed / "meeting", installed.parent / "bare" / "meeting")
    return installed.parent / "bare"


@pytest.fixture(scope="module")
def runs(installed: Path) -> tuple[Path, list[tuple[int, str, str]]]:
    """Every command on runs of the installed package, and the place they ran in."""
    place = installed.parent / "work"
    place.mkdir()
    commands = [
        ["fit", *words(CLASSES), "--data.env.width", "4", *SMALL, "--run_name", "short"],
        ["fit", *words(PATHS), "--data.env.width", "4", *SMALL, "--run_name", "path"],
        ["fit", LAST.format("short"), *LONGER],
        ["test", LAST.format("short")],
        ["analyze", LAST.format("short"), *FEW, "--samplers", "Curious", "meeting.policies.Eager"],
        ["export", LAST.format("short"), "--output", "exported", "--format", "torch"],
        ["report", "runs"],
        ["health", "--fit"],
        ["fit", "--data.env", "Met", "--model.behavior", "OnPolicy", "--model.learner", "IPPO"],
        ["fit", *words(CLASSES), "--data.env.widht", "4"],
        ["fit", *words(CLASSES | {"--data.env": "meeting.Met"})],
        ["analyze", LAST.format("short"), "--samplers", "Curios"],
        ["analyze", LAST.format("short"), "--samplers", "meeting.policies.Curios"],
    ]
    return place, outcomes(place, installed, *commands)


def test_every_command_serves_classes_of_an_installed_package(runs: Any) -> None:
    place, results = runs
    for result in results[:8]:
        assert result[0] == 0, result
    config, other = (yaml.safe_load((place / "runs" / name / "config.yaml").read_text()) for name in ("short", "path"))
    found = [part["class_path"] for part in (config["data"]["env"], config["model"]["behavior"])]
    assert found == [PATHS["--data.env"], PATHS["--model.behavior"]]
    assert config["data"]["env"]["init_args"] == {"width": 4, "max_steps": 6}
    config["model"]["total_env_steps"], config["run_name"] = 32, "path"  # of the run that was not made longer
    assert config == other
    assert json.loads((place / "runs" / "short" / "summary.json").read_text())["env_steps"] == 48
    figures = json.loads((place / "runs" / "short" / "gradients.json").read_text())
    assert figures["behavior"] == "Curious" and set(figures["samplers"]) == {
        "OnPolicy",
        "own",
        "Curious",
        "meeting.policies.Eager",
    }
    policy = json.loads((place / "exported" / "policy.json").read_text())
    assert policy["task"]["class"] == "Meet" and policy["task"]["options"]["width"] == 4
    page = (place / "report.html").read_text()
    assert "Curious" in page and "Meet" in page and "Slow" in page


def test_health_names_what_is_registered(runs: Any) -> None:
    assert (
        "registered by other packages: Meet (meeting 1.2), Curious (meeting 1.2), Slow (meeting 1.2)" in runs[1][7][1]
    )


def test_lines_about_mistakes_know_of_the_package(runs: Any) -> None:
    lines = [err for code, _, err in runs[1][8:] if code == 2]
    for line, expected in zip(
        lines,
        [
            "--data.env is Met: choose one of BoulderPush, ",
            "--data.env.widht is not an option (did you mean width?)",
            "--data.env is meeting.Met, which cannot be imported (module 'meeting' has no attribute 'Met'): choose",
            "--samplers is 'Curios': choose one of OnPolicy, ",
            "--samplers is meeting.policies.Curios: meeting.policies has no Curios (did you mean Curious?)",
        ],
        strict=True,
    ):
        assert expected in line and line.count("\n") == 1, line
    assert "VMAS, Meet" in lines[0] and "Greedy, Curious, or an import path" in lines[3]


def test_without_entry_points_a_run_names_its_package_again(runs: Any, bare: Path) -> None:
    place = runs[0]
    named = ["--data.env", "meeting.Meet"]
    results = outcomes(
        place,
        bare,
        ["fit", LAST.format("path"), *LONGER],
        ["analyze", LAST.format("path"), *FEW],
        ["fit", LAST.format("path"), *LONGER, *named],
        ["analyze", LAST.format("path"), *FEW, *named],
        ["export", LAST.format("path"), "--output", "again", "--format", "torch", "--trust", "meeting"],
    )
    assert [code for code, _, _ in results] == [2, 2, 0, 0, 0], results
    for _, _, line in results[:2]:
        assert "only that file names is not imported" in line and "meeting." in line and line.count("\n") == 1, line


@pytest.mark.parametrize(
    "place_of_class",
    [
        "data.env",
        "model.behavior",
        "model.learner",
        "trainer.callbacks",
        "trainer.logger",
        "PettingZoo",
        "text",
        "file",
    ],
)
def test_a_hostile_configuration_imports_nothing(place_of_class: str, tmp_path: Path, monkeypatch: Any) -> None:
    """A run folder of somebody else: its configuration names a module beside it, whose import leaves a trace."""
    from lit_maprops.analyze.subject import load
    from lit_maprops.run.options import parsed
    from lit_maprops.system.errors import ConfigError

    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    trace = tmp_path / "trace"
    (tmp_path / "hostile_code.py").write_text(f"open({str(trace)!r}, 'w')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    config = yaml.safe_load((ROOT / "conf" / "matrix_game.yaml").read_text())
    evil: Any = {"class_path": "hostile_code.Evil", "init_args": {}}
    (tmp_path / "more").write_text(yaml.safe_dump(evil))
    group, _, name = place_of_class.partition(".")
    if place_of_class == "PettingZoo":
        config["data"]["env"] = {"class_path": "PettingZoo", "init_args": {"name": "hostile_code"}}
    elif place_of_class == "text":
        config["data"]["env"] = json.dumps(evil)
    elif place_of_class == "file":
        config["data"]["env"] = "more"
    else:
        config.setdefault(group, {})[name] = [evil] if name == "callbacks" else evil
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    checkpoint = folder / "checkpoints" / "last.ckpt"
    checkpoint.touch()
    with pytest.raises(ConfigError, match="env is more: choose" if place_of_class == "file" else "hostile_code"):
        parsed(["--ckpt_path", str(checkpoint)])
    monkeypatch.setattr("lit_maprops.analyze.subject.read_checkpoint", lambda path: {})
    with pytest.raises((ConfigError, KeyError)):  # the latter: of the empty checkpoint
        load(checkpoint)
    assert not trace.exists() and "hostile_code" not in sys.modules
    if place_of_class == "file":  # no class is read from a further file, trusted or not
        return
    # What shows that the trap works: the user's own words are followed.
    with pytest.raises(ConfigError):
        parsed(["--ckpt_path", str(checkpoint), "--data.env", "hostile_code.Evil"])
    assert trace.exists()
    del sys.modules["hostile_code"]


def test_the_policy_of_a_file_ends_with_it() -> None:
    from jsonargparse import _common

    from lit_maprops.system.errors import ConfigError
    from lit_maprops.system.named_code import check_named, only_of

    before = dict(_common.parsing_settings)
    with only_of({"lit_maprops"}):
        assert _common.parsing_settings["import_path_verdicts"]["*"] is False
        with pytest.raises(ConfigError, match=r"name is a\.b in the run's config\.yaml"):
            check_named("<env.name>", "a.b")
        check_named("<env.name>", "mpe2.x", also={"mpe2"})
    check_named("<env.name>", "a.b")
    assert _common.parsing_settings == before


def metadata(site: Path, package: str, group: str, *entries: str) -> None:
    folder = site / f"{package}-1.0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("\n".join([f"[{group}]", *entries, ""]))


REFUSED = {
    "Twice": "--model.behavior is Twice, which first 1.0 and second 1.0 register: give the import path",
    "Broken": "first 1.0 registers and cannot be imported (ModuleNotFoundError: No module named 'no_such_package')",
    "Other": "first 1.0 registers and is the class OnPolicy: register it under that name",
    "Function": "first 1.0 registers and is no BehaviorPolicy: mend its entry point os:getcwd",
    "Malformed": "first 1.0 registers and cannot be imported (",
}


def test_what_cannot_be_used_is_one_line_that_names_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from lit_maprops.cli.main import main
    from lit_maprops.system.entry_points import registered

    ours = "lit_maprops.behavior:OnPolicy"
    values = {"Twice": ours, "Broken": "no_such_package:X", "Other": ours, "Function": "os:getcwd", "Malformed": "(x)"}
    group = "lit_maprops.behaviors"
    metadata(tmp_path, "first", group, *(f"{name} = {value}" for name, value in values.items()), "OnPolicy = nowhere:X")
    metadata(tmp_path, "second", group, "Twice = nowhere:X")
    monkeypatch.syspath_prepend(tmp_path)
    assert set(registered("model.behavior")) == {*values, "OnPolicy"}
    base = ["fit", "--config", "matrix_game", "--runs_dir", str(tmp_path / "runs")]
    for name, expected in REFUSED.items():
        assert main([*base, "--model.behavior", name]) == 2
        line = capsys.readouterr().err
        assert expected in line and line.count("\n") == 1, line
    assert main(["health"]) == 1
    written = capsys.readouterr().err
    assert "--model.behavior Broken: first 1.0 has no package no_such_package" in written and "Twice" in written
    assert not (tmp_path / "runs").exists()
    # Our own name wins: what first registers as OnPolicy is never asked for.
    assert main([*base, "--model.behavior", "OnPolicy", "--model.num_seeds", "0"]) == 2
    assert "num_seeds is 0" in capsys.readouterr().err
