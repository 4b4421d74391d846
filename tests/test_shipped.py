"""Shipped configurations and sweep files: found by name, from any folder; files at a path come first."""

import os
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, SMALL

from lit_maprops.cli.main import main
from lit_maprops.run.options import RunCLI
from lit_maprops.system.shipped import locate, shipped

SMALLER = SMALL["MatrixGame"][2:]  # without --config


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def one_line(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    assert main(args) == 2
    [line] = capsys.readouterr().err.splitlines()
    return line


def test_they_are_the_files_of_the_top_folders() -> None:
    for kind in ("conf", "sweeps", "conf/presets"):
        files = shipped(kind)
        assert {path.resolve() for path in files.values()} == set((ROOT / kind).glob("*.yaml"))
    assert set((ROOT / "conf").iterdir()) - {ROOT / "conf/presets"} == set((ROOT / "conf").glob("*.yaml"))
    names = [name for kind in ("conf", "sweeps", "conf/presets") for name in shipped(kind)]
    assert len(names) == len(set(names))  # `conf NAME` prints each


@pytest.mark.parametrize("words", [["--config", "matrix_game"], ["--config=matrix_game"], ["-c", "matrix_game"]])
def test_config_takes_a_name(words: list[str]) -> None:
    by_name, by_path = RunCLI(words), RunCLI(["--config", str(ROOT / "conf/matrix_game.yaml")])
    assert by_name.resolved_config("x") == by_path.resolved_config("x")


def test_later_configs_and_settings_override_a_named_one() -> None:
    Path("more.yaml").write_text("model: {num_seeds: 5}")
    assert RunCLI(["--config", "matrix_game", "--config", "more.yaml"]).config.model.num_seeds == 5
    assert RunCLI(["--config", "matrix_game", "--config", "{model: {num_seeds: 6}}"]).config.model.num_seeds == 6


def test_a_file_comes_before_a_name_and_a_name_before_a_folder() -> None:
    Path("foraging").mkdir()
    assert locate("conf", "foraging") == shipped("conf")["foraging"]
    Path("matrix_game").write_text((ROOT / "conf/continuous_game.yaml").read_text())
    assert type(RunCLI(["--config", "matrix_game"]).datamodule.env).__name__ == "TwoPeaks"


def test_fit_and_its_resume_from_any_folder(tmp_path: Path) -> None:
    assert main(["fit", "--config", "matrix_game", *SMALLER, "--run_name", "a"]) == 0
    assert main(["fit", "--ckpt_path", "runs/a/checkpoints/last.ckpt", "--model.total_env_steps", "80"]) == 0


@pytest.mark.parametrize(
    ("given", "parts"),
    {
        "a typo": ("bolderpush", ["no file bolderpush", "did you mean boulderpush?", "lit-maprops conf"]),
        "a path of the repository": ("conf/boulderpush.yaml", ["did you mean boulderpush?"]),
        "nothing alike": ("zzz", ["no file zzz: ", "lit-maprops conf"]),
        "a number": ("3", ["no file 3: "]),
        "a null byte": ("a\0b", ["no file a"]),
        "longer than a path can be": ("x" * 5000, ["no file xxx", "lit-maprops conf"]),
        "settings longer than that": ("a: " + "x" * 5000, ["--a is not an option"]),
    }.values(),
)
def test_what_is_no_config_is_one_line(given: str, parts: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    line = one_line(capsys, "fit", "--config", given)
    assert "--config" in line or "--a" in line
    assert all(part in line for part in parts), line
    assert os.listdir() == []


def test_lines_that_give_an_example_give_one_that_works(capsys: pytest.CaptureFixture[str]) -> None:
    line = one_line(capsys, "fit")
    assert line.endswith("such as boulderpush")
    RunCLI(["--config", "boulderpush"])
    Path("list.yaml").write_text("- 1")
    assert one_line(capsys, "fit", "--config", "list.yaml").endswith("see the output of lit-maprops conf boulderpush")
    assert one_line(capsys, "sweep", "list.yaml").endswith("see the output of lit-maprops conf bayes")
    for name in ("boulderpush", "bayes"):
        assert main(["conf", name]) == 0
        assert isinstance(yaml.safe_load(capsys.readouterr().out), dict)


def test_sweep_takes_a_name(capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").touch()
    assert "--runs_dir" in one_line(capsys, "sweep", "no_conflict", "--runs_dir", "file")  # the sweep file was found
    line = one_line(capsys, "sweep", "no_conflic")
    assert "no file no_conflic (did you mean no_conflict?)" in line


def test_conf_lists_and_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conf"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 + sum(len(shipped(kind)) for kind in ("conf", "conf/presets", "sweeps"))
    assert all(len(line) <= 120 for line in lines)
    assert main(["conf", "foraging"]) == 0
    assert capsys.readouterr().out == (ROOT / "conf/foraging.yaml").read_text()
    assert main(["conf", "--help"]) == 0
    assert "did you mean foraging?" in one_line(capsys, "conf", "forging")
    assert "lit-maprops conf --help" in one_line(capsys, "conf", "--x")


def test_a_folder_is_refused_with_the_file_to_give(capsys: pytest.CaptureFixture[str]) -> None:
    Path("runs/x").mkdir(parents=True)
    Path("runs/x/config.yaml").touch()
    assert "--config: runs/x is a folder: give runs/x/config.yaml" in one_line(capsys, "fit", "--config", "runs/x")
    for words in (["fit", "--config", "runs"], ["sweep", "runs"]):
        assert ": runs is a folder: give a file; lit-maprops conf lists" in one_line(capsys, *words)
