"""``~`` in a path is the home folder wherever a path is read, and a place in the command line changes nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, SMALL

import lit_maprops as lm
from lit_maprops.cli.main import main
from lit_maprops.run.options import RunCLI
from lit_maprops.system.home import FOLDERS, spare_home


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "home").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "home"


def test_every_command_knows_it(home: Path) -> None:
    config = yaml.safe_load((ROOT / "conf/matrix_game.yaml").read_text()) | {"runs_dir": "~/runs"}
    (home / "mine.yaml").write_text(yaml.safe_dump(config))
    small = SMALL["MatrixGame"][2:]
    assert main(["fit", "--config", "~/mine.yaml", *small, "--run_name", "a"]) == 0
    assert main(["fit", "--config=~/mine.yaml", *small, "--runs_dir=~/runs", "--run_name", "b"]) == 0
    checkpoint = "~/runs/a/checkpoints/last.ckpt"
    assert main(["fit", "--ckpt_path", checkpoint, "--model.total_env_steps", "72"]) == 0
    assert main(["validate", f"--ckpt_path={checkpoint}"]) == 0
    assert main(["export", "--ckpt_path", checkpoint, "--output", "~/exported", "--format", "torch"]) == 0
    assert (
        main(["analyze", "--ckpt_path", checkpoint, "--batches", "2", "--reference_batches", "2", "-o", "~/g.json"])
        == 0
    )
    assert main(["report", "~/runs", "-o", "~/report.html"]) == 0
    assert {path.name for path in home.iterdir()} == {"mine.yaml", "runs", "exported", "g.json", "g.csv", "report.html"}
    assert {path.name for path in (home / "runs").iterdir()} == {"a", "b"}
    assert yaml.safe_load((home / "runs" / "a" / "config.yaml").read_text())["runs_dir"] == str(home / "runs")
    assert lm.load_run("~/runs/a").folder == home / "runs" / "a"
    assert not list(Path.cwd().iterdir())


def test_flags_before_the_configuration_win_too() -> None:
    config = ["--config", str(ROOT / "conf/matrix_game.yaml")]
    flags = [
        "--model.num_seeds",
        "7",
        "--runs_dir",
        "elsewhere",
        "--run_name",
        "a",
        "--model.behavior.kl_cutoff",
        "0.7",
    ]
    before, after = RunCLI([*flags, *config]), RunCLI([*config, *flags])
    assert before.resolved_config("a") == after.resolved_config("a")
    assert (after.config.model.num_seeds, after.config.runs_dir) == (7, "elsewhere")


def test_of_two_configurations_the_second_wins(tmp_path: Path) -> None:
    (tmp_path / "seeds.yaml").write_text("model: {num_seeds: 9}\n")
    given = [
        "--model.eval_episodes",
        "5",
        "--config",
        "matrix_game",
        "--run_name",
        "a",
        "-c",
        str(tmp_path / "seeds.yaml"),
    ]
    found = RunCLI(given).config.model
    assert (found.num_seeds, found.eval_episodes) == (9, 5)


@pytest.mark.every(3)
@pytest.mark.parametrize("home", ["/proc", "/no/such/home", None])
def test_without_a_home_nothing_foreign_is_said(tmp_path: Path, home: str | None) -> None:
    """Packages that a fit imports, and W&B's own process, find a place for their files."""
    # What the packages ask for: matplotlib's and W&B's folders, and a line of the latter's process if it has no log.
    program = """
import os, pathlib, sys
sys.argv = ["lit_maprops", "--version"]
from lit_maprops.cli.program import program
assert program() == 0
import matplotlib
from wandb.env import get_cache_dir
print(matplotlib.get_cachedir(), get_cache_dir(), os.environ["XDG_CACHE_HOME"], sep="\\n")
"""
    env = {k: v for k, v in os.environ.items() if k not in FOLDERS and k != "HOME"} | {"TMPDIR": str(tmp_path)}
    if home is not None:
        env["HOME"] = home
    else:  # a user without an entry in the list of users
        program = f"import os; os.path.expanduser = lambda path: path\n{program}"
    done = subprocess.run([sys.executable, "-c", program], env=env, text=True, capture_output=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(line.startswith(str(tmp_path)) for line in done.stdout.splitlines()[1:])
    assert not list(tmp_path.iterdir())  # it is gone


def test_a_home_that_can_be_written_is_left_alone(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in FOLDERS:
        monkeypatch.delenv(name, raising=False)
    spare_home()
    assert not set(FOLDERS) & set(os.environ) and not list(home.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("home", ["/proc", "/no/such/home"])
def test_a_fit_without_a_home_says_its_own_lines_alone(tmp_path: Path, home: str) -> None:
    words = [sys.executable, "-m", "lit_maprops", "fit", *SMALL["MatrixGame"], "--run_name", "a"]
    env = {k: v for k, v in os.environ.items() if k not in FOLDERS and k != "WANDB_MODE"}
    env |= {"HOME": home, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, env=env, text=True, capture_output=True, cwd=tmp_path)
    lines = done.stderr.splitlines()
    assert done.returncode == 0, done.stderr
    own = ("engine: ", "run folder: ", "success of each seed", "solved ", "next: ")
    assert len(lines) == len(own) and all(map(str.startswith, lines, own)), done.stderr
