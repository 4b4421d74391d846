"""W&B's server refuses, hangs or dies, or W&B's own process does: the run is complete, says one line, and ends."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb
from conftest import SMALL
from wandb_server import StandIn

from lit_maprops.cli.main import main
from lit_maprops.module import LitMAPROPS
from lit_maprops.run import wandb_run
from lit_maprops.system.tables import read_table

pytestmark = pytest.mark.usefixtures("curves")
FINISH_SECONDS = 2


@pytest.fixture
def online(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An environment in which W&B is logged in, with no file of the user's, and gives up on uploads early."""
    wandb.teardown()  # of an earlier run in this process: it remembers that run's server
    monkeypatch.setattr(wandb, "run", None)  # one whose process was killed stays
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    own = {"HOME": tmp_path, "NETRC": tmp_path / "netrc", "WANDB_API_KEY": "0" * 40, "NO_PROXY": "127.0.0.1"}
    own |= {"WANDB_ERROR_REPORTING": "false", "WANDB_FINISH_TIMEOUT": FINISH_SECONDS, "no_proxy": "127.0.0.1"}
    for name, value in own.items():
        monkeypatch.setenv(name, str(value))
    yield
    with contextlib.suppress(Exception):
        wandb.teardown()


@pytest.fixture
def fit_online(
    tmp_path: Path, online: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., list[str]]:
    """Train a small run, tracked by the server at ``url``; returns what it said of W&B. The run must be complete."""

    def run(url: str, mode: str = "online") -> list[str]:
        monkeypatch.setenv("WANDB_BASE_URL", url)
        place = ["--runs_dir", str(tmp_path / "runs"), "--run_name", "x", "--wandb", mode]
        started = time.monotonic()
        assert main(["fit", *SMALL["MatrixGame"], *place]) == 0
        folder = tmp_path / "runs" / "x"
        summary_seconds = read_table(folder / "metrics.csv")["wall_seconds"][-1]
        assert time.monotonic() - started < summary_seconds + FINISH_SECONDS + 120
        assert read_table(folder / "metrics.csv")["iteration"].tolist() == list(range(1, 9))
        assert (folder / "summary.json").exists() and (folder / "success.png").exists()
        err = capsys.readouterr().err
        assert "Traceback" not in err, err
        return [line for line in err.splitlines() if line.startswith("W&B")]

    return run


def in_iteration(monkeypatch: pytest.MonkeyPatch, number: int, action: Callable[[], Any]) -> None:
    original = LitMAPROPS.training_step

    def step(self: LitMAPROPS, batch: int, batch_idx: int) -> None:
        if self.iteration == number:
            action()
        original(self, batch, batch_idx)

    monkeypatch.setattr(LitMAPROPS, "training_step", step)


def has_local_file(tmp_path: Path) -> bool:
    """Whether W&B's own file of the run is there, for `wandb sync`; its process may write the last of it later."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        written = (tmp_path / "runs" / "x" / "wandb").glob("*run-*/run-*.wandb")
        if any(path.stat().st_size > 1000 for path in written):
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("fault", [401, pytest.param(500, marks=pytest.mark.slow), "hangs"])
def test_a_server_that_does_not_serve_from_the_start(
    tmp_path: Path, fit_online: Any, monkeypatch: pytest.MonkeyPatch, fault: int | str
) -> None:
    monkeypatch.setattr(wandb_run, "WANDB_INIT_SECONDS", 3)
    with StandIn() as server:
        server.fault = fault
        (line,) = fit_online(server.url)
    assert "offline" in line
    assert not server.runs
    assert has_local_file(tmp_path)


@pytest.mark.parametrize("fault", [*(pytest.param(f, marks=pytest.mark.slow) for f in (500, "hangs")), "dies"])
def test_a_server_that_stops_serving_in_the_middle(
    tmp_path: Path, fit_online: Any, monkeypatch: pytest.MonkeyPatch, fault: int | str
) -> None:
    monkeypatch.setattr(wandb_run, "WANDB_FINISH_SECONDS", 3)
    with StandIn() as server:

        def stop() -> None:
            assert server.runs, "it has not begun"
            server.die() if fault == "dies" else setattr(server, "fault", fault)

        in_iteration(monkeypatch, 4, stop)
        assert len(fit_online(server.url)) <= 1
    (run,) = server.runs.values()
    assert run.exit_code is None
    assert has_local_file(tmp_path)


def services() -> list[int]:
    """W&B's own processes of this program."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            is_it = b"wandb-core" in (folder / "cmdline").read_bytes()
        except (OSError, IndexError):  # it ended meanwhile
            continue
        if parent == os.getpid() and is_it:
            found.append(int(folder.name))
    return found


@pytest.mark.parametrize(
    ("fault", "moment"),
    [
        pytest.param(signal.SIGSTOP, "in the middle", id="stops in the middle"),
        pytest.param(signal.SIGKILL, "at the end", id="dies at the end"),
        pytest.param(signal.SIGKILL, "in the middle", id="dies in the middle", marks=pytest.mark.slow),
        pytest.param(signal.SIGSTOP, "at the end", id="stops at the end", marks=pytest.mark.slow),
    ],
)
def test_wandbs_own_process(
    fit_online: Any, monkeypatch: pytest.MonkeyPatch, fault: signal.Signals, moment: str
) -> None:
    """A stopped one answers nothing: rows wait, the run is complete, and its end waits no longer than it may."""
    monkeypatch.setattr(wandb_run, "PATIENCE_SECONDS", 3)
    met = []

    def strike() -> None:
        for process in services():
            os.kill(process, fault)
            met.append(process)

    if moment == "in the middle":
        in_iteration(monkeypatch, 4, strike)
    else:
        original = wandb_run.Tracker.end
        monkeypatch.setattr(wandb_run.Tracker, "end", lambda self, code: (strike(), original(self, code)))
    (line,) = fit_online("http://127.0.0.1:9", "offline")
    assert met
    assert "tracking ended" in line and ("did not answer for 3 s" in line) == (fault == signal.SIGSTOP)
    assert not set(met) & set(services())


def broken() -> None:
    raise RuntimeError("the training is broken")


@pytest.mark.parametrize(
    ("action", "code"),
    [(broken, 1), (lambda: os.kill(os.getpid(), signal.SIGTERM), 128 + signal.SIGTERM), (lambda: None, 0)],
    ids=["an exception", "a signal", "nothing"],
)
@pytest.mark.usefixtures("online")
def test_the_server_is_told_what_ended_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, action: Callable[[], None], code: int
) -> None:
    """W&B's page shows a run as finished if its exit code is 0, else as failed."""
    in_iteration(monkeypatch, 4, action)
    place = ["--runs_dir", str(tmp_path / "runs"), "--run_name", "x", "--wandb", "online"]
    with StandIn() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        with pytest.raises(RuntimeError) if action is broken else contextlib.nullcontext():
            assert main(["fit", *SMALL["MatrixGame"], *place]) == code
        (run,) = server.runs.values()
        assert run.exit_code == code
