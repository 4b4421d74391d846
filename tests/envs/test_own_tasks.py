"""Tasks of one's own whose constructors, sizes or random numbers are wrong: one line, before anything is written."""

from pathlib import Path

import pytest
from conftest import SMALL

from lit_maprops.cli.main import main

SIZES = {
    ("max_steps", "0"): "max_steps is 0: give an integer of at least 1",
    ("max_steps", "-3"): "max_steps is -3: give an integer of at least 1",
    ("max_steps", "2.5"): "max_steps is 2.5: give an integer of at least 1",
    ("max_steps", "true"): "max_steps is True: give an integer of at least 1",
    ("n_agents", "0"): "n_agents is 0: give an integer of at least 1",
    ("start_noise", "-3"): "start_noise is -3: give an integer of at least 0",
}


def refused(runs: Path, capsys: pytest.CaptureFixture[str], name: str, *options: str) -> str:
    own = ["--data.env", f"broken_tasks.{name}", "--model.sampling_error", "null", *options]
    assert main(["fit", *SMALL["MatrixGame"], *own, "--runs_dir", str(runs), "--run_name", "x"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert not list(runs.iterdir()) and "Traceback" not in "".join(lines)
    return lines[-1].removeprefix(f"lit_maprops: error: --data.env {name}")


@pytest.mark.parametrize(("given", "words"), SIZES.items(), ids=map(str, SIZES))
def test_sizes_are_looked_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], given: tuple[str, str], words: str
) -> None:
    line = refused(tmp_path, capsys, "Sized", "--data.env.size", given[0], f"--data.env.value={given[1]}")
    assert line == f": {words}"


def test_a_size_that_is_missing_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(tmp_path, capsys, "Endless")
    assert line == " has no max_steps: set it in the class or in its __init__"


def test_a_constructor_that_raises_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(tmp_path, capsys, "Unlicensed")
    assert line.startswith(": RuntimeError: no licence in __init__ (broken_tasks.py:")
    assert line.endswith("): mend it, or its arguments")


@pytest.mark.parametrize("where", ["initial_state", "transition", "observe"])
@pytest.mark.parametrize("whose", ["torch", "NumPy"])
def test_global_random_numbers_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], where: str, whose: str
) -> None:
    line = refused(tmp_path, capsys, "Global", "--data.env.where", where, "--data.env.whose", whose)
    assert line.startswith(f" draws from the global random numbers of {whose}, which seeds share")
