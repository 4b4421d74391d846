"""A terminal of 80 columns: words at once, a bar that can be seen, one meaning of its rate, Ctrl-C."""

import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT

from lit_maprops.cli.program import LOADING
from lit_maprops.run.bar import BAR_LEGEND
from lit_maprops.system.console import Unfailing, say_for_now

SECONDS = 240  # on a busy machine
PREFIXES = {"": 1.0, "k": 1e3, "M": 1e6}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return 2


def test_words_for_now_give_way_to_whatever_comes_first() -> None:
    for first in (0, 1):
        terminal = Terminal()
        streams = Unfailing(terminal), Unfailing(terminal)
        say_for_now("loading", *streams)
        assert terminal.getvalue() == "loading"
        streams[first].write("a line\n")
        streams[1 - first].write("another\n")
        assert terminal.getvalue() == f"loading\r{' ' * 7}\ra line\nanother\n"


def test_words_for_now_are_for_terminals_and_leave_nothing_behind() -> None:
    pipe, terminal = io.StringIO(), Terminal()
    out, err = Unfailing(pipe), Unfailing(pipe)
    say_for_now("loading", out, err)
    assert pipe.getvalue() == "" and out.before is None
    out, err = Unfailing(terminal), Unfailing(terminal)
    say_for_now("loading", out, err)
    err.settle()
    assert terminal.getvalue() == f"loading\r{' ' * 7}\r"


def test_the_bar_can_be_seen_at_80_columns_and_counts_all_seeds(
    fit: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(os, "get_terminal_size", lambda *descriptor: os.terminal_size((80, 24)))
    monkeypatch.setattr(sys, "stderr", terminal)
    run = fit("x", "--model.num_seeds", "16")
    text = terminal.getvalue()
    assert text.count(BAR_LEGEND) == 1
    bars = [line for line in re.split(r"[\r\n]+", text) if "%|" in line]
    assert all(len(line) <= 80 for line in bars)
    shape = r" *(\d+)%\|(.{12,})\| 64\.0/64\.0 x 16 seeds, (\d+(?:\.\d+)?)([kM]?)/s, success \d\.\d\d, 00:00 left"
    last = re.fullmatch(shape, bars[-1].rstrip())
    assert last is not None, bars[-1]
    rate = float(last[3]) * PREFIXES[last[4]]
    told = json.loads((run / "summary.json").read_text())["env_steps_per_second"]
    assert told / 4 < rate < 4 * told  # of one seed it would be a sixteenth


def test_ctrl_c_while_packages_are_imported_is_one_line() -> None:
    here, there = pty.openpty()
    # A process that was started in the background ignores SIGINT, and so do its children.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "lit_maprops", "fit", "--config", "boulderpush"],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=there,
            stderr=there,
        )
    finally:
        signal.signal(signal.SIGINT, before)
    os.close(there)
    text = b""
    late = threading.Timer(SECONDS, process.kill)  # what is read then is the end
    late.start()
    while LOADING.encode() not in text:
        text += os.read(here, 1000)
    os.kill(process.pid, signal.SIGINT)
    try:
        while more := os.read(here, 1000):
            text += more
    except OSError:  # the other end is closed
        pass
    os.close(here)
    late.cancel()
    assert process.wait() == 128 + signal.SIGINT
    assert text.decode().rpartition("\r")[0].rpartition("\r")[2] == "lit_maprops: stopped"
    assert text.count(b"\n") == 1
