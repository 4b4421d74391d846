"""Nobody reads what the program says: it works on, saves and ends with its own exit code."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import ROOT, SMALL, STARTED

from lit_maprops.system.console import Unfailing
from lit_maprops.system.tables import read_table

ENDLESS = ["--model.total_env_steps", "800000", "--model.checkpoint_interval", "100000"]  # saved by a stop only
# Losses that are not finite are a warning, which the run has to print while nobody reads.
WARNS = ["--model.learner", "IPPO", "--model.learner.learning_rate", "1e29", "--model.total_env_steps", "16"]


def shell(line: str, folder: Path) -> subprocess.Popen[str]:
    """A line of a shell, in a process group of its own as in a terminal; ``PROGRAM`` stands for the program."""
    line = line.replace("PROGRAM", f"{sys.executable} -m lit_maprops")
    env = os.environ | {"OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled", "PYTHONPATH": str(ROOT)}
    # The shell itself outlives the signal, to say how the program ended.
    command = ["bash", "-c", f"trap : INT TERM; {line}; exit ${{PIPESTATUS[0]}}"]
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        command, cwd=folder, env=env, text=True, stdout=pipe, stderr=pipe, start_new_session=True
    )
    STARTED.append(process)
    return process


def words(*options: str) -> str:
    return " ".join(["fit", *SMALL["MatrixGame"], "--runs_dir", "runs", "--run_name", "x", *options])


def started(process: subprocess.Popen[str], metrics: Path) -> None:
    """Wait for the first rows."""
    until = time.monotonic() + 240
    while not (metrics.exists() and metrics.read_text().count("\n") > 3):
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.1)


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_signal_that_ends_the_reader_too(tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C goes to the whole line, ``tee`` included."""
    process = shell(f"PROGRAM {words(*ENDLESS)} 2>&1 | tee log", tmp_path)
    metrics = tmp_path / "runs" / "x" / "metrics.csv"
    started(process, metrics)
    os.killpg(process.pid, number)
    process.communicate(timeout=240)
    assert process.returncode == 128 + number
    saved = torch.load(tmp_path / "runs" / "x" / "checkpoints" / "last.ckpt", weights_only=True)
    assert read_table(metrics)["iteration"][-1] == saved["lit_maprops"]["iteration"]


@pytest.mark.parametrize(
    "where",
    [
        "2>&1 | true",
        *(pytest.param(w, marks=pytest.mark.slow) for w in (">&- 2>&-", "2>/dev/full", "2>&-", ">/dev/full")),
    ],
)
def test_words_that_go_nowhere(tmp_path: Path, where: str) -> None:
    """A run that has something to say writes what it would write anyway, and exits with 0."""
    process = shell(f"PROGRAM {words(*WARNS)} {where}", tmp_path)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert "Traceback" not in err + out and "Exception ignored" not in err
    summary = json.loads((tmp_path / "runs" / "x" / "summary.json").read_text())
    assert summary["env_steps"] == 16 and summary["warnings"]
    assert (where == ">/dev/full") == ("warning:" in err)


def test_a_result_that_cannot_be_printed_is_an_error(tmp_path: Path) -> None:
    process = shell("PROGRAM conf boulderpush > /dev/full", tmp_path)
    err = process.communicate(timeout=240)[1]
    assert process.returncode == 1
    assert err == "lit_maprops: error: stdout could not be written (No space left on device)\n"
    process = shell("PROGRAM conf boulderpush | head -1", tmp_path)
    out, err = process.communicate(timeout=240)
    assert (process.returncode, out.count("\n"), err) == (0, 1, "")
    process = shell("PROGRAM conf nosuch 2>/dev/full", tmp_path)
    process.communicate(timeout=240)
    assert process.returncode == 2


@pytest.mark.parametrize(
    "line",
    [
        "fit --config matrix_game --print_config",
        pytest.param("validate --help", marks=pytest.mark.slow),
        pytest.param("fit --model.behavior.help MAPROPS", marks=pytest.mark.slow),
    ],
)
def test_what_a_training_command_prints_instead_of_training_is_a_result(tmp_path: Path, line: str) -> None:
    process = shell(f"PROGRAM {line} > /dev/full", tmp_path)
    err = process.communicate(timeout=240)[1]
    assert process.returncode == 1
    assert err == "lit_maprops: error: stdout could not be written (No space left on device)\n"


@pytest.mark.slow  # test_sweep_command.py stops a sweep, and a run above has no reader
def test_a_sweep_without_a_reader_leaves_no_run_alive(tmp_path: Path) -> None:
    sweep = {
        "name": "s",
        "method": "grid",
        "parameters": {"model.behavior": {"values": ["OnPolicy", "MAPROPS"]}},
        "command": ["${env}", "${interpreter}", "-m", "lit_maprops", "fit", *SMALL["MatrixGame"], *ENDLESS, "${args}"],
    }
    (tmp_path / "s.yaml").write_text(json.dumps(sweep))
    process = shell("PROGRAM sweep s.yaml --workers 2 --runs_dir runs 2>&1 | tee log", tmp_path)
    until = time.monotonic() + 240
    while len(list(tmp_path.glob("runs/s/*/metrics.csv"))) < 2:
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=240)
    assert process.returncode == 128 + signal.SIGINT
    until = time.monotonic() + 240
    while any(str(tmp_path) in line for line in command_lines()):
        assert time.monotonic() < until, "a run is still alive"
        time.sleep(0.1)
    assert len(list(tmp_path.glob("runs/s/*/checkpoints/last.ckpt"))) == 2


def command_lines() -> list[str]:
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(f"{file.read_text()} {os.readlink(file.parent / 'cwd')}")
        except OSError:
            continue
    return found


def test_a_stream_that_fails_and_recovers() -> None:
    class Moody:
        fails = True
        text = ""

        def write(self, text: str) -> int:
            if self.fails:
                raise OSError(28, "No space left on device")
            self.text += text
            return len(text)

        def flush(self) -> None:
            pass

        def fileno(self) -> int:
            raise OSError("none")

    moody = Moody()
    stream = Unfailing(moody)  # type: ignore[arg-type]
    assert stream.write("lost") == 4 and stream.failed is not None and stream.failed.errno == 28
    moody.fails = False
    stream.writelines(["kept", " too"])
    stream.settle()
    assert moody.text == "kept too"
