"""A run of ``fit`` is killed again and again and ends, bit for bit, where the uninterrupted one does."""

import json
import os
import pickle
import random
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from conftest import ROOT
from processes import Attempt
from test_resume import differences, state_of

from lit_maprops.system.tables import read_table

# Much state matters here: history, kept Adam moments, minibatch permutations, sampling error now and then, evaluations.
TASK = [
    "--config", str(ROOT / "conf/boulderpush.yaml"), "--model.num_seeds", "3", "--model.eval_interval", "5",
    "--model.eval_episodes", "3", "--model.checkpoint_interval", "2", "--model.sampling_error_interval", "20",
    "--model.behavior.reset_optimizer", "false", "--model.behavior.minibatches", "2", "--data.history_batches", "3",
    "--data.num_envs", "2", "--data.behavior_batch_size", "8", "--data.target_batch_size", "32",
    "--data.env.max_steps", "10", "--model.behavior.hidden", "[16]", "--model.learner.hidden", "[16]",
    "--model.learner.epochs", "4", "--model.learner.minibatches", "2",
]  # fmt: skip
ITERATIONS_PER_KILL = 6
WHEN = ("starting", "anywhere", "anywhere", "saving", "saving")


@dataclass
class Drill:
    """What the kills met.

    Attributes:
        killed: when the kill was to come, to how often.
        found: what was on the disk afterwards, to how often.
        faults: what must not be; empty if all is well.
    """

    killed: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


class Victim:
    """The run that is killed.

    Args:
        place: folder for everything.
        kills: how often.
        cold: how many of the attempts are new interpreters, tracked by W&B offline.
        seed: of the moments.
    """

    def __init__(self, place: Path, kills: int, cold: int, seed: int) -> None:
        self.place, self.kills = place, kills
        self.iterations = ITERATIONS_PER_KILL * kills
        self.run, self.log = place / "victim", place / "victim.log"
        self.checkpoint = self.run / "checkpoints" / "last.ckpt"
        self.drill = Drill()
        self._moments = random.Random(seed)
        self._cold = set(self._moments.sample(range(kills), cold))
        self._start_seconds = 1.0  # to the first iteration of an attempt, as last seen

    def args(self, name: str) -> list[str]:
        """The command that starts a run."""
        steps = str(32 * self.iterations)
        place = ["--runs_dir", str(self.place), "--run_name", name]
        return ["fit", *TASK, "--model.total_env_steps", steps, *place, "--wandb", "disabled"]

    def attempt(self, cold: bool = False, slow_saves: bool = False) -> Attempt:
        """Start the run, or continue it if there is a checkpoint."""
        args = self.args("victim")
        if self.checkpoint.exists():
            args = ["fit", "--ckpt_path", str(self.checkpoint), "--wandb", "offline" if cold else "disabled"]
        return Attempt(args, self.log, cold, slow_saves)

    def rows(self) -> int:
        """Whole rows of metrics.csv."""
        path = self.run / "metrics.csv"
        return max(0, path.read_bytes().count(b"\n") - 1) if path.exists() else 0

    def saved(self) -> int:
        """Iterations in the checkpoint, which must be whole at any time; 0 before the first."""
        if not self.checkpoint.exists():
            return 0
        return int(torch.load(self.checkpoint, weights_only=True)["lit_maprops"]["iteration"])

    def kill_all(self) -> None:
        """Kill it ``kills`` times, then let it end."""
        done = 0
        while done < self.kills:
            last = done >= self.kills - 2 and self.kills > 10
            when = "ending" if last or self.saved() == self.iterations else self._moments.choice(WHEN)
            started, before = time.time_ns(), self.saved()
            if self._kill(when, before, self.kills - done, cold=done in self._cold):
                done += 1
                self.drill.killed[when] += 1
                self.drill.found[self._found(started, before)] += 1
            if self.drill.faults:
                return
        code = self.attempt().finish()
        if code != 0:
            self.drill.faults.append(f"the last attempt ended with exit code {code}, see {self.log}")

    def _kill(self, when: str, before: int, kills_left: int, cold: bool) -> bool:
        """One attempt from iteration ``before`` and its end; False if it ended by itself."""
        moments, started = self._moments, time.time_ns()
        attempt = self.attempt(cold, slow_saves=when == "saving")
        if when == "starting":
            time.sleep(moments.uniform(0, 1.2 * self._start_seconds))
            return self._end(attempt)
        share = (self.iterations - before) / kills_left
        target = min(self.iterations, before + 1 + int(moments.uniform(0, 2.5 * share)))
        if when == "ending":
            target = self.iterations
        elif attempt.wait_for(lambda: self._fresh("metrics.csv", started) and self.rows() > before) and not cold:
            self._start_seconds = (time.time_ns() - started) / 1e9
        attempt.wait_for(lambda: self._fresh("metrics.csv", started) and self.rows() >= target)
        if when == "saving":
            attempt.wait_for(lambda: self._fresh("checkpoints/last.ckpt.tmp", started), poll_seconds=0.001)
        time.sleep(moments.uniform(0, {"anywhere": 0.2, "saving": 0.15}.get(when, self._start_seconds)))
        return self._end(attempt)

    def _end(self, attempt: Attempt) -> bool:
        killed = attempt.kill()
        if not killed and attempt.code != 0:
            self.drill.faults.append(f"an attempt ended with exit code {attempt.code}")
        return killed

    def _fresh(self, name: str, since: int) -> bool:
        try:
            return (self.run / name).stat().st_mtime_ns > since
        except FileNotFoundError:
            return False

    def _found(self, started: int, before: int) -> str:
        """What the kill left of an attempt that went on from iteration ``before``."""
        try:
            saved = self.saved()
        except (RuntimeError, EOFError, pickle.UnpicklingError):
            self.drill.faults.append("the checkpoint is damaged")
            return "a damaged checkpoint"
        if self._fresh("checkpoints/last.ckpt.tmp", started):
            try:
                torch.load(self.checkpoint.with_name("last.ckpt.tmp"), weights_only=True)
                return "inside a save: the new checkpoint is whole but not in place"
            except (RuntimeError, EOFError, pickle.UnpicklingError):
                return "inside a save: the new checkpoint is half written"
        rows = self.rows()
        if saved == self.iterations:
            return "after the last iteration" + (", with a summary" if (self.run / "summary.json").exists() else "")
        if not self._fresh("metrics.csv", started) or rows == before:
            return "before the first iteration of the attempt"
        where = "between a row and its checkpoint" if rows > saved else "right after a save"
        return where if self.checkpoint.exists() else "before the first checkpoint of all"


def compare(whole: Path, other: Path) -> list[str]:
    """Where two finished runs differ: one bit of the state, one cell of the tables that is no time."""
    found = differences(state_of(whole), state_of(other))
    for name in ("metrics.csv", "eval.csv"):
        a, b = read_table(whole / name), read_table(other / name)
        if list(a) != list(b):
            found.append(f"{name}: other columns")
            continue
        exact = [column for column in a if "time/" not in column and column != "wall_seconds"]
        found += [f"{name} {column}" for column in exact if not np.array_equal(a[column], b[column], equal_nan=True)]
    if (np.diff(read_table(other / "metrics.csv")["wall_seconds"]) < 0).any():
        found.append("wall_seconds runs backwards")
    a, b = (json.loads((run / "summary.json").read_text()) for run in (whole, other))
    exact = set(a) - {"wall_seconds", "env_steps_per_second", "config"}
    return found + [f"summary.json {key}" for key in sorted(exact) if a[key] != b.get(key)]


def drill_fit(place: Path, kills: int, cold: int, seed: int) -> Drill:
    """Kill a run of ``fit`` and compare it with one that nobody killed.

    Args:
        place: empty folder for everything.
        kills: how often it is killed.
        cold: how many of the attempts are new interpreters, the others forks.
        seed: of the moments.
    """
    victim, temporary = Victim(place, kills, cold, seed), place / "temporary"
    temporary.mkdir()
    with patch.dict(os.environ, TMPDIR=str(temporary)), patch.object(tempfile, "tempdir", str(temporary)):
        victim.kill_all()
    faults = victim.drill.faults
    if Attempt(victim.args("whole"), place / "whole.log").finish() != 0:
        faults.append("the uninterrupted run failed")
    if not faults:
        faults += compare(place / "whole", victim.run)
        faults += [f"left behind: {path}" for path in victim.run.rglob("*.tmp")]
        faults += [f"left behind: {path}" for path in temporary.iterdir() if path.is_file()]
    return victim.drill
