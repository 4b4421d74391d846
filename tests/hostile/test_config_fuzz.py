"""Hostile configurations and command lines: each is refused in one line, or is a run that could start.

Everything up to the first training step is real; the parser, whose construction would be a third of the cost, is made
once. ``make fuzz`` draws new cases, 160 times as many.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import config_cases
import pytest
from conftest import ROOT
from hostile_helpers import cases, complaint, contents, limited_memory, one_parser, run
from hypothesis import given
from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningCLI

from lit_maprops.run.options import RunCLI

ENTRIES = {"conf", "case.yaml"}  # of the working directory


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working directory in which whatever a case leaves can be seen, and a program that stops before it trains."""

    def reached(self: Trainer, model: Any, datamodule: Any, **kwargs: Any) -> None:
        model.iteration = datamodule.iterations

    folder = tmp_path_factory.mktemp("workplace")
    (folder / "conf").symlink_to(ROOT / "conf")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("WANDB_MODE", "disabled")
        one_parser(patch)
        patch.setattr(Trainer, "fit", reached)
        patch.setattr("lit_maprops.run.training.wandb_logger", lambda *args: None)
        yield folder


def check_case(folder: Path, args: list[str]) -> None:
    """Run a case; what it may leave is a run's folder, and nothing at all if it was refused."""
    before = set(os.listdir(folder))
    with limited_memory():
        wrong = complaint(args, "case.yaml")
    left = set(os.listdir(folder)) - before
    tops = {name for name in left if any((folder / name).glob("*/config.yaml"))}
    for name in tops:
        for path in sorted((folder / name).rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        (folder / name).rmdir()
    assert wrong is None, f"{args}: {wrong}"
    assert left == tops, f"{args} left {left - tops}"


@cases(900)
@given(content=config_cases.edited_lines())
def test_files_with_edited_lines(workplace: Path, content: bytes) -> None:
    (workplace / "case.yaml").write_bytes(content)
    check_case(workplace, ["fit", "--config", "case.yaml"])


@cases(400)
@given(content=config_cases.edited_bytes())
def test_files_with_edited_bytes(workplace: Path, content: bytes) -> None:
    (workplace / "case.yaml").write_bytes(content)
    check_case(workplace, ["fit", "--config", "case.yaml"])


@cases(800)
@given(options=config_cases.flags())
def test_flags(workplace: Path, options: list[str]) -> None:
    check_case(workplace, ["fit", *options])


@cases(800)
@given(case=config_cases.one_flag())
def test_the_one_flag_that_is_wrong_is_named(workplace: Path, case: tuple[list[str], str]) -> None:
    options, field = case
    with limited_memory():
        code, _, err = run(["fit", "--run_name", "a", "--runs_dir", "b", *options])
    for path in sorted(workplace.rglob("*"), reverse=True):  # a run's folders, of a case that is none
        if path.relative_to(workplace).parts[0] not in ENTRIES:
            path.rmdir() if path.is_dir() else path.unlink()
    assert code == 0 or f"--{field}" in err, f"{options}: {err}"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: &a [" + "x," * 10 + "]\n" + "".join(f"a{i}: &a{i} [*a{i - 1 if i else ''}, *a]\n" for i in range(2000)),
        "aliases"),
        ("model: " + "[" * 5000 + "]" * 5000, "nest"),
        ("model: " + "[" * 300 + "]" * 300, "nested more than 100"),
        ("model: &a {num_seeds: *a}", "alias"),
        ("model: {num_seeds: " + "1" * 5000 + "}", "digits"),
        ("model: {num_seeds: !!python/object/apply:os.system [touch canary]}", "tag"),
        ("model: {num_seeds: !!timestamp x}", "tag"),
        ("model: {num_seeds: 1, num_seeds: [}", "line 1"),
        ('run_name: "\\e[31mred"', "--run_name"),
        ("runs_dir: null", "--runs_dir is None: give a folder"),
        ("keep: null", "--keep"),
        ("rank_timeout: null", "--rank_timeout"),
        ("seed_everything: null", "--seed_everything"),
        ('run_name: "a\\nb"', "--run_name"),
        ('runs_dir: "a\\0b"', "--runs_dir"),
        ('ckpt_path: "a\\0b"', "--ckpt_path"),
        ("", "holds no keys"),
        ("- a", "holds no keys"),
        (".model: 0", "--config: the key '.model'"),
    ],
)  # fmt: skip
def test_files_that_name_the_fault(workplace: Path, text: str, words: str) -> None:
    (workplace / "case.yaml").write_text(text)
    code, _, err = run(["fit", "--config", str(ROOT / "conf/matrix_game.yaml"), "--config", "case.yaml"])
    assert code == 2
    assert words in err
    assert set(os.listdir(workplace)) <= ENTRIES


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--data.num_envs", "null"], "--data.num_envs is None: give int"),
        (["--model.behavior.epochs", "null"], "--model.behavior.epochs is null: give a value"),
        (["--model.learner.initial_std=x"], "--model.learner.initial_std is x: give float or null"),
        (["--model.behavior={class_path: os.system}"],
        "--model.behavior is {class_path: os.system}: choose one of OnPolicy"),
        (["--wandb.x=3"], "--wandb.x is not an option"),
        (["--runs-dir=x"], "--runs-dir is not an option (did you mean runs_dir?)"),
        (["--model.num_seed=3"], "--model.num_seed is not an option (did you mean num_seeds?)"),
        (["--model.num_seeds=${a.b}"], "--model.num_seeds has an interpolation that cannot be resolved"),
        (["--model.num_seeds=!!timestamp x"], "tag"),
        (["--data.history_batches=!!bool x"], "tag"),
        (["--trainer.devices=abc"], "--trainer.devices: "),
        (["--seed_everything=true"], "--seed_everything is true: give a number"),
        (["--model.first_seed=99999999999999999999"], "--model.first_seed is"),
        (["--run_name=" + "x" * 5000], "File name too long"),
        (["stray"], "'stray' is no option"),
        (["--model.run_seed=-1"], "--model.run_seed cannot be given: it is --seed_everything"),
    ],
)  # fmt: skip
def test_lines_say_what_to_do(workplace: Path, options: list[str], line: str) -> None:
    args = ["fit", "--config", str(ROOT / "conf/matrix_game.yaml"), "--runs_dir", "none", *options]
    assert complaint(args) is None
    assert line in run(args)[2]


@pytest.mark.parametrize(
    "place", ["--data.env", "--model.behavior", "--model.learner", "--trainer.callbacks", "--trainer.logger"]
)
@pytest.mark.parametrize("target", ["os.system", "subprocess.Popen", "builtins.exec", "pathlib.Path", "torch.load"])
def test_no_foreign_class_is_built(workplace: Path, place: str, target: str) -> None:
    harm = {
        "class_path": target,
        "init_args": {"command": "touch canary", "args": ["touch", "canary"], "source": config_cases.HARMFUL},
    }
    for keys in ([], ["command"], ["args"], ["source"]):
        given = {"class_path": target} | ({"init_args": {k: harm["init_args"][k] for k in keys}} if keys else {})
        args = ["fit", "--config", str(ROOT / "conf/matrix_game.yaml"), place, str(given)]
        code, _, err = run(args)
        assert (code, place in err) == (2, True), err
    assert set(os.listdir(workplace)) <= ENTRIES


def test_the_cached_parser_says_the_same(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache is the tests' own: without it a sample of cases ends in the same lines."""
    samples = [
        ["--model.num_seeds=x"],
        ["--data.env=3"],
        ["--model.num_sed=1"],
        ["--model.behavior=OnPolicy", "--data.num_envs=null"],
    ]
    base = ["fit", "--config", str(ROOT / "conf/matrix_game.yaml")]
    cached = [run([*base, *options]) for options in samples]
    monkeypatch.setattr(RunCLI, "setup_parser", LightningCLI.setup_parser)
    assert [run([*base, *options]) for options in samples] == cached


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WANDB_MODE", "garbage"), ("WANDB_FINISH_TIMEOUT", "abc"), ("WANDB_FINISH_TIMEOUT", "inf"),
        ("WANDB_FINISH_TIMEOUT", "-1"),
        ("WANDB_PROJECT", "a/b"), ("WANDB_PROJECT", "x" * 200), ("WANDB_RUN_ID", "../../elsewhere"), ("WANDB_RUN_ID",
        "a\nb"),
    ],
)  # fmt: skip
def test_variables_of_wandb(workplace: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    before = contents(workplace)
    assert complaint(["fit", "--config", str(ROOT / "conf/matrix_game.yaml"), "--runs_dir", "none"], name) is None
    assert contents(workplace) == before
