"""Several sweep commands on one folder, here and as if on several machines: every run once, whoever is killed."""

import errno
import fcntl
import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from conftest import ROOT, command
from kills import compare
from processes import Attempt
from sweep_kills import REAL

from lit_maprops.cli.main import main
from lit_maprops.sweep import leases
from lit_maprops.sweep.leases import Leases
from lit_maprops.system.tables import read_table

TOY = str(ROOT / "tests" / "sweeps" / "toy.py")
SECONDS = 240  # on a busy machine
SIX = {"x": {"values": [1, 2, 3]}, "y": {"values": [0.5, 0.25]}}
ONE = {"x": {"values": [1]}}


@pytest.fixture
def sweep(tmp_path: Path) -> Callable[..., list[str]]:
    """Writes a sweep file over the toy program; returns the command line that runs it."""

    def write(*flags: str, **content: Any) -> list[str]:
        content = {"name": "toy", "method": "grid", "command": ["${interpreter}", TOY, "${args}", *flags]} | content
        (tmp_path / "sweep.yaml").write_text(yaml.safe_dump({"parameters": SIX} | content))
        return ["sweep", str(tmp_path / "sweep.yaml"), "--runs_dir", str(tmp_path / "runs")]

    return write


@contextmanager
def machine(name: str, **seconds: float) -> Iterator[None]:
    """What starts in here believes to be on a machine of that name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(leases, "machine", lambda: [name])
        for constant, value in seconds.items():
            patch.setattr(leases, constant, value)
        yield


def entries(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "sweep.json").read_text())["runs"]


def starts(entry: dict[str, Any]) -> int:
    return sum(line.startswith("$ ") for line in Path(entry["log"]).read_text().splitlines())


def wait_until(condition: Callable[[], object]) -> None:
    until = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def at_work(folder: Path) -> list[psutil.Process]:
    """The processes of runs of a sweep."""
    return [p for p in psutil.process_iter(["cmdline"]) if f"--runs_dir={folder}" in (p.info["cmdline"] or [])]


def guards(folder: Path) -> list[psutil.Process]:
    return [p for p in psutil.process_iter(["cmdline"]) if str(folder / leases.FOLDER) in (p.info["cmdline"] or [])]


def test_two_commands_share_the_runs(sweep: Callable[..., list[str]], tmp_path: Path) -> None:
    args, folder = sweep("--pause=0.3", "--steps=2"), tmp_path / "runs" / "toy"
    other = command(*args)
    wait_until(lambda: list(folder.glob("*.log")))
    assert main(args) == 0
    _, err = other.communicate(timeout=SECONDS)
    assert other.returncode == 0
    assert {(e["parameters"]["x"], e["parameters"]["y"]) for e in entries(folder)} == {
        (x, y) for x in (1, 2, 3) for y in (0.5, 0.25)
    }
    assert [(e["state"], starts(e)) for e in entries(folder)] == [("finished", 1)] * 6
    assert 0 < err.count(" started ") < 6 and "6 finished, 0 failed" in err
    wait_until(lambda: not guards(folder))


@pytest.mark.parametrize("place", ["here", "elsewhere"])
def test_runs_of_a_killed_command_are_taken_over(
    sweep: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """On the machine of the dead at once, on another one when it has given no sign of life for a while."""
    args, folder = sweep("--pause=0.1", "--steps=12", parameters={"x": {"values": [1, 2]}}), tmp_path / "runs" / "toy"
    monkeypatch.setattr(leases, "TAKEOVER_SECONDS", 2.0)
    with machine("here", BEAT_SECONDS=0.2):
        victim = Attempt(args, tmp_path / "log")
    assert victim.wait_for(lambda: bool(list(folder.glob("000-*/checkpoints/last.ckpt"))))
    (run,) = at_work(folder)
    assert victim.kill()
    run.kill()
    wait_until(lambda: not guards(folder))
    begun = time.monotonic()
    with machine(place):
        assert main(args) == 0
    first, second = entries(folder)
    assert [(e["state"], starts(e)) for e in (first, second)] == [("finished", 2), ("finished", 1)]
    assert json.loads((folder / first["id"] / "summary.json").read_text())["first"] > 0  # from its checkpoint
    assert read_table(folder / first["id"] / "metrics.csv")["env_steps"].tolist() == list(range(12))
    assert place == "here" or time.monotonic() - begun > 2


def test_what_lives_is_left_alone_from_afar(sweep: Callable[..., list[str]], tmp_path: Path) -> None:
    """A command that does not answer, then a run whose command was killed, then nothing but their files."""
    args, folder = sweep("--pause=0.1", "--steps=3000", parameters=ONE), tmp_path / "runs" / "toy"
    with machine("there", BEAT_SECONDS=0.1):
        other = Attempt(args, tmp_path / "log")
    assert other.wait_for(lambda: bool(list(folder.glob("000-*/metrics.csv"))))
    (run,) = at_work(folder)
    (name,) = [path.name for path in folder.glob("000-*/")]
    with machine("here", TAKEOVER_SECONDS=0.8), Leases(folder) as ours:

        def is_taken() -> bool:
            return ours.take(name) is not None

        def never_taken() -> bool:
            until = time.monotonic() + 1.6
            while time.monotonic() < until:
                if is_taken():
                    return False
                time.sleep(0.05)
            return True

        os.kill(other.pid, signal.SIGSTOP)
        assert never_taken()
        assert other.kill()
        assert never_taken()
        run.kill()
        begun = time.monotonic()
        wait_until(is_taken)
        assert time.monotonic() - begun < 60
    wait_until(lambda: not guards(folder))


@pytest.mark.parametrize("years", [-40, 60])
def test_clocks_of_machines_are_not_compared(tmp_path: Path, years: int) -> None:
    with machine("there", BEAT_SECONDS=1000.0):
        theirs = Leases(tmp_path)
        lease = theirs.take("run")
    assert lease is not None
    clock = time.time() + years * 365 * 86400
    with machine("here", TAKEOVER_SECONDS=0.3):
        ours = Leases(tmp_path)
        for beat in range(10):  # it moves, even backwards
            os.utime(lease.path, (clock - beat, clock - beat))
            assert ours.take("run") is None
            time.sleep(0.1)
        begun = time.monotonic()
        wait_until(lambda: ours.take("run") is not None)
        assert time.monotonic() - begun > 0.1
    assert not lease.is_held()


def test_a_lease_goes_to_one_of_many(tmp_path: Path) -> None:
    """Eight processes count in turns, and some of them die with the turn in their hands."""
    Leases(tmp_path)
    counter, rounds = tmp_path / "counter", 25
    counter.write_text("0")
    pids = []
    for number in range(8):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                own, moments = Leases(tmp_path), random.Random(number)
                for turn in range(rounds):
                    while (lease := own.take("turn")) is None:
                        time.sleep(moments.uniform(0, 0.002))
                    count = int(counter.read_text())
                    time.sleep(moments.uniform(0, 0.001))
                    counter.write_text(str(count + 1))
                    if number < 4 and turn == 10:
                        os._exit(0)
                    lease.release()
                code = 0
            finally:
                os._exit(code)
        pids.append(pid)
    # A death counts once its process is no zombie: nobody must wait for it in vain.
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids] == [0] * 8
    assert int(counter.read_text()) == 4 * 11 + 4 * rounds
    assert len(list((tmp_path / leases.FOLDER).iterdir())) == 1


def test_a_lease_that_came_late_is_void(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody saw a free lease, slept, and makes a generation that others have long made and cleared away."""
    ours, theirs = Leases(tmp_path), Leases(tmp_path)
    for _ in range(3):
        lease = theirs.take("run")
        assert lease is not None
        lease.release()
    lease = theirs.take("run")
    assert lease is not None
    seen = iter([{1}, ours._generations("run") | {2}])
    monkeypatch.setattr(ours, "_generations", lambda name: next(seen))
    monkeypatch.setattr(ours, "_may_take", lambda path: True)
    assert ours.take("run") is None
    assert lease.is_held()
    assert [path.name for path in (tmp_path / leases.FOLDER).iterdir()] == [lease.path.name]


def test_a_run_that_was_taken_over_is_killed_and_its_end_is_not_ours(
    sweep: Callable[..., list[str]], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """As after a night in which this machine slept, and another one did not."""
    args, folder = sweep("--pause=0.1", "--steps=3000", parameters=ONE), tmp_path / "runs" / "toy"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lit_maprops.sweep.scheduler.BEAT_SECONDS", 0.1)
        sleeper = Attempt([*args, "--take", "1"], tmp_path / "log")
    assert sleeper.wait_for(lambda: bool(list(folder.glob("000-*/checkpoints/last.ckpt"))))
    with machine("elsewhere", TAKEOVER_SECONDS=0.0), Leases(folder) as others:
        wait_until(lambda: others.take(entries(folder)[0]["id"]))
        assert sleeper.finish() == 0
    assert not at_work(folder)
    assert "was taken over by another sweep command" in capfd.readouterr().err + (tmp_path / "log").read_text()
    assert entries(folder)[0]["state"] == "running"


def test_a_finished_run_is_never_begun_again(sweep: Callable[..., list[str]], tmp_path: Path) -> None:
    """Its command was killed between the run's end and the line about it."""
    args, folder = sweep(parameters=ONE), tmp_path / "runs" / "toy"
    assert main(args) == 0
    content = json.loads((folder / "sweep.json").read_text())
    content["runs"][0]["state"] = "running"
    (folder / "sweep.json").write_text(json.dumps(content))
    assert main(args) == 0
    assert [(e["state"], starts(e)) for e in entries(folder)] == [("finished", 1)]


@pytest.mark.parametrize("method", ["random", "bayes"])
def test_searches_are_shared(sweep: Callable[..., list[str]], tmp_path: Path, method: str) -> None:
    """Random draws are those of one command; bayes learns from what all have finished."""
    space = {"x": {"min": 0.0, "max": 1.0}}
    metric = {"name": "score", "goal": "maximize"}
    args = [*sweep("--pause=0.1", method=method, parameters=space, metric=metric, run_cap=6)]
    folder = tmp_path / "runs" / "toy"
    other = Attempt(args, tmp_path / "log")
    wait_until((folder / "sweep.json").exists)
    assert main(args) == 0
    assert other.finish() == 0
    found = entries(folder)
    assert [(e["state"], starts(e)) for e in found] == [("finished", 1)] * 6
    assert len({e["parameters"]["x"] for e in found}) == 6
    if method == "random":
        assert main([*args[:-1], str(tmp_path / "alone")]) == 0
        assert [e["id"] for e in entries(tmp_path / "alone" / "toy")] == [e["id"] for e in found]


def test_a_task_takes_so_many_runs_and_waits_for_nobody(sweep: Callable[..., list[str]], tmp_path: Path) -> None:
    args, folder = sweep(), tmp_path / "runs" / "toy"
    for done in (2, 4, 6, 6):
        assert main([*args, "--take", "2"]) == 0
        assert sum(e["state"] == "finished" for e in entries(folder)) == done
    with Leases(folder) as others:
        content = json.loads((folder / "sweep.json").read_text())
        content["runs"][3]["state"] = "running"
        (folder / "sweep.json").write_text(json.dumps(content))
        assert others.take(content["runs"][3]["id"]) is not None
        assert main([*args, "--take", "1"]) == 0
    assert entries(folder)[3]["state"] == "running"


def no_exclusion(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
    return os_open(path, flags & ~os.O_EXCL, *args, **kwargs)


def no_flock(file: Any, operation: int) -> None:
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))


os_open = os.open


@pytest.mark.parametrize(
    ("where", "name", "fault", "words"),
    [
        (os, "open", no_exclusion, "lets two processes make the same file"),
        (fcntl, "flock", no_flock, "gives no locks (No locks available)"),
    ],
    ids=["exclusive files", "locks"],
)
def test_a_file_system_that_cannot_be_shared_is_one_line(
    sweep: Callable[..., list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    where: Any,
    name: str,
    fault: Any,
    words: str,
) -> None:
    args = sweep()
    monkeypatch.setattr(where, name, fault)
    assert main(args) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "--runs_dir" in err and words in err
    assert not (tmp_path / "runs" / "toy").exists()


@pytest.mark.slow  # tests/test_slurm.py compares what SLURM did
def test_shared_runs_end_in_the_same_bits(tmp_path: Path) -> None:
    real = REAL | {"command": [*REAL["command"], "--model.total_env_steps=480"]}
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(real))
    for place in ("alone", "shared"):
        args = ["sweep", str(tmp_path / "sweep.yaml"), "--runs_dir", str(tmp_path / place)]
        others = [command(*args)] if place == "shared" else []
        assert main(args) == 0
        for other in others:
            other.communicate(timeout=SECONDS)
    runs = sorted((tmp_path / "alone" / "real").glob("*/checkpoints"))
    assert len(runs) == 2
    for run in runs:
        assert compare(run.parent, tmp_path / "shared" / "real" / run.parent.name) == []


def test_a_folder_that_goes_away_is_one_line(
    sweep: Callable[..., list[str]], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    args, folder = sweep("--pause=0.1", "--steps=5"), tmp_path / "runs" / "toy"
    other = Attempt(args, tmp_path / "log")
    assert other.wait_for(lambda: bool(list(folder.glob("000-*/metrics.csv"))))
    shutil.rmtree(folder)
    assert other.finish() == 1
    err = capfd.readouterr().err + (tmp_path / "log").read_text()
    assert "was removed or made anew" in err and "Traceback" not in err
    wait_until(lambda: not guards(folder))
