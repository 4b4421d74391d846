"""How threads wait: the command line says it before torch is loaded, unless the user has."""

import os
import re
import subprocess
import sys

import pytest
from conftest import ROOT

from lit_maprops.cli import program as module
from lit_maprops.system.threads import WAITING, set_threads


def test_only_how_threads_wait_is_set_and_never_how_many_there_are() -> None:
    environment = {"OMP_NUM_THREADS": "3"}
    set_threads(environment)
    assert environment == {"OMP_NUM_THREADS": "3", "OMP_WAIT_POLICY": "passive"}


@pytest.mark.parametrize("name", WAITING)
def test_what_the_user_says_holds(name: str) -> None:
    environment = {name: "active"}
    set_threads(environment)
    assert environment == {name: "active"}


def test_the_program_says_it_before_anything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in WAITING:
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(module, "main", lambda: 0)
    for stream in ("stdout", "stderr"):  # which the program replaces
        monkeypatch.setattr(sys, stream, getattr(sys, stream))
    assert module.program() == 0 and os.environ["OMP_WAIT_POLICY"] == "passive"


def test_torchs_openmp_hears_of_it() -> None:
    """In its own words, which it prints when it is loaded."""
    code = "from lit_maprops.system.threads import set_threads; set_threads(); import torch"
    env = {name: value for name, value in os.environ.items() if name not in WAITING}
    env |= {"OMP_DISPLAY_ENV": "true", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=env, check=True, capture_output=True, text=True)
    assert re.search(r"OMP_WAIT_POLICY\s*=\s*'PASSIVE'", done.stderr + done.stdout)
