"""Callbacks of a fit: records, checkpoints and signals."""

import os
import signal
import sys
import threading
from collections.abc import Callable
from time import perf_counter
from types import FrameType
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from lit_maprops.metrics.phases import CHECKPOINT
from lit_maprops.module import LitMAPROPS
from lit_maprops.run.diagnosis import diagnose, not_revisited
from lit_maprops.run.folder import TABLES, RunFolder
from lit_maprops.run.leftovers import leftovers

Say = Callable[[str], None]


class Recorder(Callback):
    """One row per target iteration to metrics.csv, evaluations to eval.csv, warnings to the user.

    Args:
        folder: of the run.
        say: prints one line.

    Attributes:
        warnings: so far, name to message.
        non_finite: see ``non_finite_seeds``, of the newest target iteration.
    """

    def __init__(self, folder: RunFolder, say: Say) -> None:
        self.folder, self.say = folder, say
        self.warnings: dict[str, str] = {}
        self.non_finite: list[int] = []

    def state_dict(self) -> dict[str, Any]:
        """For checkpoints: a resumed run neither forgets nor repeats a warning, nor forgets a seed."""
        return {"warnings": self.warnings, "non_finite": self.non_finite, "rows": dict(self.folder.rows)}

    @classmethod
    def rows_of(cls, checkpoint: dict[str, Any]) -> dict[str, int] | None:
        """Rows of each table that a checkpoint counts on; None: it is of a version that did not say."""
        callbacks = checkpoint.get("callbacks")
        own = callbacks.get(cls.__qualname__) if isinstance(callbacks, dict) else None
        rows = own.get("rows") if isinstance(own, dict) else None
        fits = isinstance(rows, dict) and set(rows) == set(TABLES) and all(type(n) is int for n in rows.values())
        return rows if fits else None

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a checkpoint."""
        saved = state_dict.get("warnings")
        self.warnings = {str(k): str(v) for k, v in saved.items()} if isinstance(saved, dict) else {}
        seeds = state_dict.get("non_finite")
        self.non_finite = [seed for seed in seeds if type(seed) is int] if isinstance(seeds, list) else []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock, a resumed run goes on from its last row; say what the run's length leaves out."""
        self._started = perf_counter() - self.folder.newest.get("wall_seconds", 0.0)
        found = leftovers(own_module(pl_module))
        for name in ("length", "no sampling error"):  # a resumed run may have others
            if self.warnings.get(name) != found.get(name):
                self.warnings.pop(name, None)
        self._say_new(found)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Log the iteration."""
        module = own_module(pl_module)
        row: dict[str, float] = {
            "env_steps": module.env_steps,
            "iteration": module.iteration,
            "wall_seconds": perf_counter() - self._started,
        }
        row |= module.means
        self.folder.add_row(row)
        if module.evaluations is not None:
            self.folder.log_evaluation(_evaluation_rows(module))
        self._warn(module)

    def _warn(self, module: LitMAPROPS) -> None:
        found = diagnose(self.folder.means, getattr(module.behavior, "kl_cutoff", None))
        if module.iteration < module.data.iterations:
            # While training, a signature must hold on a tenth of the run; at the end it counts as it is.
            found = found if module.iteration * 10 >= module.data.iterations else {}
        elif module.behavior.adapts:  # policies that settle may come back later
            found |= not_revisited(self.folder.means)
        self.non_finite = non_finite_seeds(module)
        if self.non_finite:
            numbers = ", ".join(map(str, self.non_finite))
            found["non_finite"] = (
                f"seed {numbers}: NaN or infinite loss at env step {module.env_steps}; the other seeds are not "
                "affected. Lower <learner.learning_rate>, or look at the environment's rewards"
            )
        for entry in module.quarantined:
            line = "seed {seed}: {reason}, at env step {env_step:,}; it is quarantined and counts as not solved"
            found[f"quarantine {entry['seed']}"] = line.format(**entry)
        self._say_new(found | module.data.env.remarks())

    def _say_new(self, found: dict[str, str]) -> None:
        """Say warnings that were not said before."""
        for name, message in found.items():
            if name not in self.warnings:
                self.say(f"warning: {message}")
                self.warnings[name] = message


# SIGUSR1 is what SLURM's job scripts for Lightning ask for before the time is up; SIGHUP: the terminal is closed.
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)


class Checkpoints(Callback):
    """Saves ``checkpoints/last.ckpt`` atomically between target iterations; ``STOPPING`` signals stop the run there.

    A second signal of the same kind stops at once: in a notebook its cell, elsewhere the process. With several ranks a
    signal to any of them stops all. Signals belong to the main thread: a fit in another one leaves them alone.

    Args:
        folder: of the run.
        say: prints one line.
        keep: older checkpoints that stay beside the newest.
    """

    def __init__(self, folder: RunFolder, say: Say, keep: int = 0) -> None:
        self.folder, self.say, self.keep = folder, say, keep
        self.received: int | None = None  # by any rank
        self._own: int | None = None
        self._saved = 0  # iteration of the newest checkpoint
        self._finishing = False  # the last checkpoint is written
        self._taken: set[signal.Signals] = set()
        self._found = {number: signal.getsignal(number) for number in STOPPING}  # before Lightning takes some

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take over the signals (after Lightning, which would end with exit code 0 or, under SLURM, not at all)."""
        self._saved = own_module(pl_module).iteration
        self._take()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take them over again: Lightning has just put back what it found, and the figures are still to be drawn."""
        self._take()

    def _take(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for number in STOPPING:
            if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                continue  # nohup
            signal.signal(number, self._receive)
            self._taken.add(number)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self._own == number:
            if number == signal.SIGINT and in_notebook():
                raise KeyboardInterrupt
            if self._finishing and not in_notebook():
                os._exit(128 + number)  # all is saved; what is left is summary, figures and good-byes
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self._own = self.received = number
        what = "finishing this iteration, then saving; once more stops at once and loses what is not saved"
        if self._finishing:
            what = "all is saved, what is left are the summary and figures; once more leaves them out"
        self.say(f"{signal.Signals(number).name}: {what}")

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Save if due, stop if told to."""
        module = own_module(pl_module)
        last = module.iteration >= module.data.iterations
        # A signal that comes after this line counts at the end of the next iteration, on every rank.
        number, told_to_stop = module.ranks.largest(self.received or 0, int(trainer.should_stop))
        if last or number or module.iteration % module.checkpoint_interval == 0:
            self._save(trainer, module)
        if number:
            self.received = number
        trainer.should_stop = bool(told_to_stop or (number and not last))
        self._finishing = last or bool(number)

    def _save(self, trainer: Trainer, module: LitMAPROPS) -> None:
        if trainer.is_global_zero:
            self.folder.sync()
            if self.keep:
                self.folder.keep_checkpoint(self._saved * module.data.target_batch_size, self.keep)
        with module.phases(CHECKPOINT):
            trainer.save_checkpoint(self.folder.checkpoint)  # rank 0 writes it
        self._saved = module.iteration

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save where a time limit or another callback has stopped the run."""
        module = own_module(pl_module)
        if module.iteration > self._saved:
            self._save(trainer, module)

    def give_back(self) -> None:
        """Give the signals back when all is written and said: the process may have other things to do."""
        for number in self._taken:
            signal.signal(number, self._found[number] or signal.SIG_DFL)  # None: of no Python
        self._taken = set()


def in_notebook() -> bool:
    """Whether this is a notebook's process."""
    ipython: Any = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and "IPKernelApp" in shell.config


def non_finite_seeds(module: LitMAPROPS) -> list[int]:
    """Numbers of the seeds whose newest update had a NaN or infinite loss; none that is quarantined."""
    losses = [value for name, value in module.row.items() if name.endswith("_loss")]
    if not losses:
        return []
    finite = torch.stack(losses).isfinite().all(0).tolist()
    left_out = {entry["seed"] for entry in module.quarantined}
    broken = [seed for seed, fine in zip(module.seed_ids, finite, strict=True) if not fine]
    return [seed for seed in broken if seed not in left_out]


def _evaluation_rows(module: LitMAPROPS) -> list[dict[str, float]]:
    assert module.evaluations is not None
    greedy, stochastic = module.evaluations["greedy"], module.evaluations["stochastic"]
    columns = [
        greedy.success_rate,
        stochastic.success_rate,
        greedy.episode_return,
        stochastic.episode_return,
    ]
    names = (
        "greedy_success_rate",
        "stochastic_success_rate",
        "greedy_return",
        "stochastic_return",
    )
    values = [dict(zip(names, row, strict=True)) for row in torch.stack(columns, 1).tolist()]
    return [
        {"env_steps": module.env_steps, "seed": seed} | row for seed, row in zip(module.seed_ids, values, strict=True)
    ]


def own_module(module: LightningModule) -> LitMAPROPS:
    """The module, which Lightning hands to callbacks by its own type."""
    assert isinstance(module, LitMAPROPS)
    return module
