"""A small fault drill; the whole one is ``make drill``."""

import subprocess
import sys

import pytest
from conftest import ROOT


# test_sweep_command.py kills a sweep, too.
@pytest.mark.parametrize("part", ["fit", pytest.param("toy", marks=pytest.mark.slow)])
def test_killed_again_and_again_a_run_and_a_sweep_end_as_if_nothing_had_happened(part: str) -> None:
    command = [
        sys.executable,
        str(ROOT / "tests/drill/drill.py"),
        "--kills",
        "2",
        "--cold",
        "0",
        "--parts",
        part,
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "(2 kills" in done.stdout
