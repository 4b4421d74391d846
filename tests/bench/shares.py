"""The main job from its first step to its last, and how its time is split up."""

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from time import perf_counter
from typing import Any

from figures import ROOT, hand_over, row
from fits import PROGRAM, ROUNDS
from lightning.pytorch import Callback

TRAINING = ("collect", "behavior", "target")
AROUND = ("sampling_error", "evaluation", "checkpoint")


class Split(Callback):
    """Tells the seconds of every phase of a fit, and of all of it."""

    def on_train_start(self, trainer: Any, module: Any) -> None:
        """Before the first iteration."""
        self.started, self.seconds = perf_counter(), Counter()

    def on_train_batch_start(self, trainer: Any, module: Any, *args: Any) -> None:
        """The phases of the iteration before: its checkpoint comes after its end."""
        self.seconds.update(module.phases.seconds)
        module.phases.restart()

    def on_train_end(self, trainer: Any, module: Any) -> None:
        """After the last one."""
        self.seconds.update(module.phases.seconds)
        print(json.dumps(self.seconds | {"all": perf_counter() - self.started}), flush=True)


def seconds() -> dict[str, float]:
    """Of a whole run of conf/boulderpush.yaml, on all cores, as a user starts it."""
    with tempfile.TemporaryDirectory() as folder:
        command = [*PROGRAM, "fit", "--config", "conf/boulderpush.yaml", "--wandb", "disabled", "--runs_dir", folder]
        unset = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "MKL_"))}
        path = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests' / 'bench'}"}
        started = perf_counter()
        done = subprocess.run(
            [*command, "--trainer.callbacks+", "shares.Split"],
            cwd=ROOT,
            env=unset | path,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        return json.loads(done.stdout) | {"command": perf_counter() - started}


def main() -> None:
    """Measure, print rows."""
    runs = [seconds() for _ in range(ROUNDS)]
    name = "boulderpush.yaml, whole run, two cores"
    rows = [row(f"{name}: from the command to its end", [run["command"] for run in runs], "s", "45 or less")]
    rows += [
        row(f"{name}: {phase.replace('_', ' ')}", [run.get(phase, 0.0) / run["all"] for run in runs], "share")
        for phase in (*TRAINING, *AROUND)
    ]
    rest = [1 - sum(run.get(phase, 0.0) for phase in TRAINING) / run["all"] for run in runs]
    hand_over([*rows, row(f"{name}: all but collection and updates", rest, "share", "0.1 or less")])


if __name__ == "__main__":
    sys.exit(main())
