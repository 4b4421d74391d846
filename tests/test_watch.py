"""The first rank of a run ends after those that it started: one of them may be writing why."""

import subprocess
import sys
from pathlib import Path

import pytest

ENDING = """
import subprocess, sys
from lit_maprops.run import watch
watch.LAST_SECONDS = float(sys.argv[1])
first = watch.Watch()
code = f"import time; time.sleep({sys.argv[2]}); open({sys.argv[3]!r}, 'w').write('why')"
child = subprocess.Popen([sys.executable, "-c", code])
first._children = {1: child}
first._end("rank 1 ended: ValueError: why")
"""


@pytest.mark.parametrize(("patience", "takes", "said"), [(60, 4, True), (0.1, 600, False)])
def test_it_waits_for_a_rank_that_writes_and_kills_one_that_stays(
    patience: float, takes: float, said: bool, tmp_path: Path
) -> None:
    words = [sys.executable, "-c", ENDING, str(patience), str(takes), str(tmp_path / "error.txt")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stderr.startswith("lit_maprops: error: rank 1 ended: ValueError: why; the other ranks end too.")
    assert (tmp_path / "error.txt").exists() == said
