"""Threads on an idle and on a busy machine: what the command line sets by itself, and as many as there are cores.

Programs that compete for the cores are endless loops, one per core. Every way is a process of its own that waits for
its turn, idle and then busy; a ratio is within a turn. An iteration is one of the run itself: evaluation and start-up
are left out.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from time import perf_counter
from typing import Any

from figures import ROOT, hand_over, in_turn, ratio, row

ROUNDS = 3
COUNTED = 2  # iterations, after a first one
OURS, ALL, TORCH = "as the command line sets them", "one per core, sleeping", "torch's own"
# Variables of each way; those of the command line are set by itself.
WAYS: dict[str, dict[str, str]] = {
    OURS: {"BENCH_THREADS": "ours"},
    ALL: {"OMP_WAIT_POLICY": "passive"},
    TORCH: {},  # left out of the busy turns, where one of its iterations takes minutes
}
CASES = {
    "BoulderPush, 16 seeds x 8 envs": ["conf/boulderpush.yaml", "--data.target_batch_size", "64"],
    "figure1, 200 seeds": ["conf/matrix_game.yaml"],
}
SMALL = ["--model.total_env_steps", "1000000", "--model.eval_interval", "1000000", "--model.sampling_error", "null"]
SMALL += ["--model.checkpoint_interval", "1000000", "--wandb", "disabled", "--run_name", "bench"]
WORKER = "from threads import work; work()"


def work() -> None:
    """Run the fits that are asked for, one per line of options, and answer with the seconds of an iteration."""
    if "BENCH_THREADS" in os.environ:
        from lit_maprops.system.threads import set_threads

        set_threads()
    from lightning.pytorch import Callback

    from lit_maprops.run.options import parsed
    from lit_maprops.run.training import train

    class Clock(Callback):
        def __init__(self) -> None:
            self.ends: list[float] = []

        def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
            self.ends.append(perf_counter())
            trainer.should_stop = len(self.ends) > COUNTED

    for line in sys.stdin:
        clock = Clock()
        with tempfile.TemporaryDirectory() as folder:
            words = ["--config", *line.split(), *SMALL, "--runs_dir", folder]
            train(parsed(words), lambda message: None, "", [clock])
        print((clock.ends[-1] - clock.ends[0]) / COUNTED, flush=True)


class Worker:
    """A process with threads of one kind."""

    def __init__(self, variables: dict[str, str]) -> None:
        others = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_", "KMP_", "MKL_", "LIT_"))}
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER],
            cwd=ROOT,
            env=others | variables | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests' / 'bench'}"},
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def seconds(self, options: list[str]) -> float:
        """Of an iteration."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(" ".join(options) + "\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def end(self) -> None:
        """Let it go."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


@contextmanager
def competition(programs: int) -> Iterator[None]:
    """Other programs that want the cores."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(programs)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def beside_others(worker: Worker, options: list[str]) -> float:
    """Seconds of an iteration with one busy program per core."""
    with competition(len(os.sched_getaffinity(0))):
        return worker.seconds(options)


def main() -> None:
    """Measure, print rows."""
    with ExitStack() as stack:
        workers = {way: Worker(variables) for way, variables in WAYS.items()}
        for worker in workers.values():
            stack.callback(worker.end)
            worker.seconds(next(iter(CASES.values())))  # imports
        for case, options in CASES.items():
            turns: dict[str, Callable[[], float]] = {
                f"{way}, idle": lambda w=worker, o=options: w.seconds(o) for way, worker in workers.items()
            }
            for way in (OURS, ALL):
                turns[f"{way}, busy"] = lambda w=workers[way], o=options: beside_others(w, o)
            times = in_turn(turns, ROUNDS)
            rows = [row(f"threads, {case}: {name}, one iteration", spent, "s") for name, spent in times.items()]
            for state in ("idle", "busy"):
                bar = "1.35 or less" if state == "idle" else ""
                pair = times[f"{OURS}, {state}"], times[f"{ALL}, {state}"]
                rows.append(ratio(f"threads, {case}, {state}: {OURS} / {ALL}", *pair, bar))
            pair = times[f"{OURS}, busy"], times[f"{OURS}, idle"]
            hand_over([*rows, ratio(f"threads, {case}, {OURS}: busy / idle", *pair, "2.5 or less")])


if __name__ == "__main__":
    main()
