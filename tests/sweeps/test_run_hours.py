"""A run of a sweep that hangs, or takes too long, holds nobody up."""

import json
import os
from pathlib import Path

import pytest

from lit_maprops.cli.main import main
from lit_maprops.sweep import processes

HANGS = """
import os, signal, sys, time
from pathlib import Path
run = {word.partition("=")[0]: word.partition("=")[2] for word in sys.argv[1:]}
folder = Path(run["--runs_dir"]) / run["--run_name"]
if run["--kind"] == "quick" or Path("fixed").exists():
    sys.exit(0)
if run["--kind"] == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = os.fork()
    Path("child" if child == 0 else "parent").write_text(str(os.getpid()))
time.sleep(600)
"""


def entries(tmp_path: Path) -> dict[str, dict]:
    content = json.loads((tmp_path / "runs" / "s" / "sweep.json").read_text())
    return {entry["parameters"]["kind"]: entry for entry in content["runs"]}


def test_a_run_that_hangs_holds_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(processes, "GRACE_SECONDS", 1.0)
    (tmp_path / "toy.py").write_text(HANGS)
    content = {"name": "s", "method": "grid", "command": ["${interpreter}", "toy.py", "${args}"]}
    content["parameters"] = {"kind": {"values": ["slow", "deaf", "quick"]}}
    (tmp_path / "s.yaml").write_text(json.dumps(content))
    args = ["sweep", "s.yaml", "--runs_dir", "runs", "--run_hours", str(2 / 3600)]
    assert main(args) == 1
    found = entries(tmp_path)
    assert {kind: entry["state"] for kind, entry in found.items()} == {
        "slow": "failed",
        "deaf": "failed",
        "quick": "finished",
    }
    assert [found[kind]["exit_code"] for kind in ("slow", "deaf")] == [-15, -9]
    assert all("it took longer than" in found[kind]["error"] for kind in ("slow", "deaf"))
    for name in ("parent", "child"):  # a zombie at most: nobody but us waits for the child
        stat = Path("/proc") / (tmp_path / name).read_text() / "stat"
        assert not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"
    (tmp_path / "fixed").touch()
    assert main([*args, "--retry_failed"]) == 0
    assert {entry["state"] for entry in entries(tmp_path).values()} == {"finished"}


@pytest.mark.parametrize("hours", ["0", "-1", "nan", "inf", "1e9"])
def test_hours_that_are_none(tmp_path: Path, capsys: pytest.CaptureFixture[str], hours: str) -> None:
    assert main(["sweep", "no_conflict", "--runs_dir", str(tmp_path), "--run_hours", hours]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "--run_hours is" in err and not os.listdir(tmp_path)
