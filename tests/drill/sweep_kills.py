"""``sweep`` and its runs are killed again and again; in the end every run is there, once, and whole."""

import contextlib
import itertools
import json
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import yaml
from conftest import ROOT
from kills import Drill, compare
from processes import Attempt

from lit_maprops.system.tables import read_table

TOY = {
    "name": "toy",
    "method": "grid",
    "parameters": {"x": {"values": [1, 2, 3, 4]}, "y": {"values": [0.5, 0.25]}},
    "command": ["${interpreter}", str(ROOT / "tests/sweeps/toy.py"), "${args}", "--pause=0.1"],
}
REAL = {
    "name": "real",
    "method": "grid",
    "parameters": {"model.behavior": {"values": ["OnPolicy", "MAPROPS"]}},
    "command": [
        "${interpreter}", "-m", "lit_maprops", "fit", f"--config={ROOT / 'conf/matrix_game.yaml'}", "${args}",
        "--model.num_seeds=3", "--model.total_env_steps=4800", "--model.checkpoint_interval=5",
        "--model.eval_episodes=4",
    ],
}  # fmt: skip


def at_work(folder: Path) -> list[int]:
    """Processes of a sweep's runs, those that a killed sweep command left behind among them."""
    found = []
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            if f"--runs_dir={folder}" in command.read_text().split("\0"):
                found.append(int(command.parent.name))
    return found


def kill_sweep(place: Path, content: dict[str, Any], kills: int, seconds: float, seed: int) -> Drill:
    """Give the sweep command again and again, and kill it or one of its runs ``kills`` times.

    Args:
        place: empty folder for everything.
        content: of the sweep file.
        kills: how often something is killed, unless the sweep is over before.
        seconds: the longest wait before a kill.
        seed: of the moments and victims.
    """
    drill, moments = Drill(), random.Random(seed)
    file, log = place / "sweep.yaml", place / "sweep.log"
    file.write_text(yaml.safe_dump(content))
    args = ["sweep", str(file), "--runs_dir", str(place / "runs"), "--workers", "2", "--retry_failed"]
    folder = (place / "runs" / content["name"]).resolve()
    done = 0
    while done < kills:
        attempt = Attempt(args, log)
        attempt.wait_for((folder / "sweep.json").exists)
        while attempt.running() and done < kills:
            a_run = moments.random() < 0.5
            if a_run and not attempt.wait_for(lambda: bool(at_work(folder))):
                break
            time.sleep(moments.uniform(0, seconds))
            runs = at_work(folder)
            if a_run and runs and attempt.running():
                os.kill(moments.choice(runs), signal.SIGKILL)
                drill.killed["a run"] += 1
                done += 1
            elif attempt.kill():
                drill.killed["the sweep command"] += 1
                done += 1
        if attempt.code == 0:
            break  # all runs are there already
    attempt.finish()
    code = Attempt(args, log).finish()
    if code != 0:
        drill.faults.append(f"the last sweep command ended with {code}, see {log}")
    entries = json.loads((folder / "sweep.json").read_text())["runs"]
    drill.found = Counter(f"runs {entry['state']}" for entry in entries)
    drill.faults += _once_each(content, entries)
    return drill


def _once_each(content: dict[str, Any], entries: list[dict[str, Any]]) -> list[str]:
    """Every combination must be there once, finished."""
    names = list(content["parameters"])
    expected = sorted(itertools.product(*(content["parameters"][name]["values"] for name in names)))
    found = sorted(tuple(entry["parameters"][name] for name in names) for entry in entries)
    faults = [] if found == expected else [f"combinations: {found}, not {expected}"]
    return faults + [f"{entry['id']} is {entry['state']}" for entry in entries if entry["state"] != "finished"]


def drill_toy_sweep(place: Path, kills: int, seed: int) -> Drill:
    """Many kills of a sweep over a program that does next to nothing."""
    steps = 3 * kills  # enough that the sweep is not over too early
    drill = kill_sweep(place, TOY | {"command": [*TOY["command"], f"--steps={steps}"]}, kills, 0.6, seed)
    for run in (place / "runs" / "toy").glob("*/metrics.csv"):
        # Two processes at work in one folder, or a run that forgot where it was, would show here.
        written = read_table(run)["env_steps"].tolist()
        if written != list(range(steps)):
            drill.faults.append(f"{run}: steps {written}")
    return drill


def drill_real_sweep(place: Path, kills: int, seed: int) -> Drill:
    """A few kills of a sweep over ``fit``; its runs end as those of an untouched sweep."""
    drill = kill_sweep(place, REAL, kills, 10.0, seed)
    other = place / "untouched"
    other.mkdir()
    (other / "sweep.yaml").write_text(yaml.safe_dump(REAL))
    Attempt(["sweep", str(other / "sweep.yaml"), "--runs_dir", str(other / "runs")], other / "log").finish()
    if not drill.faults:
        for run in sorted((other / "runs" / "real").glob("*/")):
            drill.faults += [f"{run.name}: {fault}" for fault in compare(run, place / "runs" / "real" / run.name)]
    return drill
