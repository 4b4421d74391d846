"""A run goes on with the tables that its checkpoint counts on, and with no others."""

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import SMALL

from lit_maprops.cli.main import main
from lit_maprops.run.callbacks import Recorder
from lit_maprops.system.tables import read_table


@pytest.fixture
def run(tmp_path: Path) -> Path:
    args = ["fit", *SMALL["MatrixGame"], "--model.total_env_steps", "48", "--runs_dir", str(tmp_path)]
    assert main([*args, "--run_name", "x"]) == 0
    return tmp_path / "x"


def resumed(run: Path) -> int:
    return main(["fit", "--ckpt_path", str(run / "checkpoints" / "last.ckpt"), "--model.total_env_steps", "64"])


def replaced_by(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        path.unlink()
        make(path)

    return change


def lines(choose: Callable[[list[str]], list[str]]) -> Callable[[Path], None]:
    return lambda path: Path.write_text(path, "".join(choose(path.read_text().splitlines(keepends=True)))) and None


FAULTS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "binary": ("is no table", lambda path: Path.write_bytes(path, random.Random(0).randbytes(4000)) and None),
    "null bytes": ("has 0|is no table|is missing", lambda path: Path.write_bytes(path, b"\0" * 4000) and None),
    "of another program": ("is no table of a run", lambda path: Path.write_text(path, "a,b\n1,2\n") and None),
    "a pipe": ("is no file", replaced_by(os.mkfifo)),
    "a folder": ("is no file", replaced_by(os.mkdir)),
    "missing": ("is missing", Path.unlink),
    "empty": ("is missing", lambda path: Path.write_text(path, "") and None),
    "cut at the front": ("rows up to the checkpoint", lines(lambda rows: [rows[0], *rows[3:]])),
    "cut at the end": ("rows up to the checkpoint", lines(lambda rows: rows[:3])),
    "with rows twice": ("rows up to the checkpoint", lines(lambda rows: [*rows, rows[-1]])),
    "with a damaged row": ("rows up to the checkpoint", lines(lambda rows: [*rows[:2], "1,2\n", *rows[3:]])),
}


@pytest.mark.every(5)
@pytest.mark.parametrize("name", ["metrics.csv", "eval.csv"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_table_that_is_not_the_runs_is_refused(
    run: Path, capsys: pytest.CaptureFixture[str], name: str, fault: str
) -> None:
    words, change = FAULTS[fault]
    change(run / name)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    capsys.readouterr()
    assert resumed(run) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and f"{name} " in err and any(word in err for word in words.split("|")), err
    assert "put back the run's own file" in err
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_what_a_kill_leaves_after_the_checkpoint_is_no_fault(run: Path) -> None:
    for name, more in (("metrics.csv", "56,7,"), ("eval.csv", "64,0,1,1,1,1\n64,1,1,")):
        with (run / name).open("a") as file:
            file.write(more)
    assert resumed(run) == 0
    assert read_table(run / "metrics.csv")["iteration"].tolist() == list(range(1, 9))


def test_a_checkpoint_that_does_not_count_is_continued_as_before(run: Path) -> None:
    """Those of earlier versions; one that counts strangely is like them."""
    path = run / "checkpoints" / "last.ckpt"
    content = torch.load(path, weights_only=True)
    assert Recorder.rows_of(content) == {"metrics.csv": 6, "eval.csv": 9}
    for strange in (None, {"metrics.csv": "6", "eval.csv": 9}, [6, 9], {}):
        content["callbacks"]["Recorder"]["rows"] = strange
        assert Recorder.rows_of(content) is None
    torch.save(content, path)
    assert resumed(run) == 0
    assert read_table(run / "metrics.csv")["iteration"].tolist() == list(range(1, 9))
