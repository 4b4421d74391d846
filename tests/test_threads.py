"""How many threads there are and how they wait: the command line says it before torch is loaded, or the user has."""

import os
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest
from conftest import ROOT

from lit_maprops.cli import fit
from lit_maprops.cli import program as module
from lit_maprops.system.threads import SHARE, WAITING, asked_threads, chosen_by_us, set_threads, share_cores


def test_torch_gets_one_thread_and_nobody_has_asked_for_it() -> None:
    environment: dict[str, str] = {}
    set_threads(environment)
    assert (environment["OMP_NUM_THREADS"], environment["OMP_WAIT_POLICY"]) == ("1", "passive")
    assert chosen_by_us(environment) and asked_threads(environment) is None
    inherited = dict(environment)  # by a rank, or a run of a sweep
    set_threads(inherited)
    assert inherited == environment and asked_threads(inherited) is None


@pytest.mark.parametrize(("given", "number"), [("3", 3), ("1", 1), ("4,2", 4), ("many", None)])
def test_the_users_number_holds(given: str, number: int | None) -> None:
    environment = {"OMP_NUM_THREADS": given}
    set_threads(environment)
    assert environment == {"OMP_NUM_THREADS": given, "OMP_WAIT_POLICY": "passive"}
    assert not chosen_by_us(environment) and asked_threads(environment) == number


def test_a_number_for_products_is_one_for_all() -> None:
    environment = {"MKL_NUM_THREADS": "2"}
    set_threads(environment)
    assert environment["OMP_NUM_THREADS"] == "2" and asked_threads(environment) == 2


def test_a_number_that_a_user_gives_to_what_we_start_holds() -> None:
    environment: dict[str, str] = {}
    set_threads(environment)
    environment["OMP_NUM_THREADS"] = "4"  # in the command of a sweep
    assert not chosen_by_us(environment) and asked_threads(environment) == 4


def test_programs_side_by_side_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)))
    for start in ({}, {"OMP_NUM_THREADS": "1", SHARE: "0"}):
        environment: dict[str, str] = dict(start)
        share_cores(environment, 4)
        assert environment["OMP_NUM_THREADS"] == "1" and asked_threads(environment) == 1
        share_cores(environment, 2)
        assert asked_threads(environment) == 3
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        environment = {name: "5"}
        share_cores(environment, 2)
        assert environment == {name: "5"}


@pytest.mark.parametrize("name", WAITING)
def test_what_the_user_says_of_waiting_holds(name: str) -> None:
    environment = {name: "active", "OMP_NUM_THREADS": "2"}
    set_threads(environment)
    assert environment == {name: "active", "OMP_NUM_THREADS": "2"}


def test_the_program_says_it_before_anything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*WAITING, "OMP_NUM_THREADS", "MKL_NUM_THREADS", SHARE):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(module, "main", lambda: 0)
    for stream in ("stdout", "stderr"):  # which the program replaces
        monkeypatch.setattr(sys, stream, getattr(sys, stream))
    assert module.program() == 0
    assert (os.environ["OMP_WAIT_POLICY"], os.environ["OMP_NUM_THREADS"]) == ("passive", "1")


def test_torch_hears_of_both() -> None:
    """Of the number in torch's words, of the waiting in those that its OpenMP prints when it is loaded."""
    code = "from lit_maprops.system.threads import set_threads; set_threads(); import torch; "
    code += "print(torch.get_num_threads())"
    ours = (*WAITING, "OMP_NUM_THREADS", "MKL_NUM_THREADS", SHARE)
    env = {name: value for name, value in os.environ.items() if name not in ours}
    env |= {"OMP_DISPLAY_ENV": "true", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=env, check=True, capture_output=True, text=True)
    assert re.search(r"OMP_WAIT_POLICY\s*=\s*'PASSIVE'", done.stderr + done.stdout)
    assert done.stdout.split()[-1] == "1"


@pytest.mark.parametrize("given", ["", "1"])
def test_a_fit_says_what_it_took_by_itself(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    notes: list[str] = []
    config = SimpleNamespace(wandb_artifacts=[])
    monkeypatch.setattr(fit, "parsed", lambda *_: SimpleNamespace(notes=notes, config=config))
    monkeypatch.setattr(fit, "train", lambda *_, **__: (0, None))
    monkeypatch.setattr(os, "environ", {"OMP_NUM_THREADS": given})
    set_threads(os.environ)
    monkeypatch.setattr(fit, "chosen_by_us", lambda: chosen_by_us(os.environ))
    assert fit.run(["fit"]) == 0
    assert notes == ([] if given else [fit.ONE_THREAD])
