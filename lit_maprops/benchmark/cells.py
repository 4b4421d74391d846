"""What a benchmark measures: a task with a learner and a sampler is a cell, whose seeds come in blocks."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from lit_maprops.benchmark.benchmark_file import BenchmarkFile, Sampler, Task
from lit_maprops.sweep.sweep_file import SweepFile
from lit_maprops.system.errors import check, did_you_mean
from lit_maprops.system.extras import install

COMMAND = ["${env}", "${interpreter}", "-m", "lit_maprops", "fit", "${args}"]
SEEDS, FIRST = "model.num_seeds", "model.first_seed"  # of a block
EXTRA = "envs"  # which has the packages of tasks


@dataclass(frozen=True)
class Cell:
    """A task with a learner and a sampler.

    Attributes:
        task: of the file.
        learner: class of the target policies' learner.
        sampler: of the file.
        run_seed: of its runs.
        flags: of every run of the file.
    """

    task: Task
    learner: str
    sampler: Sampler
    run_seed: int
    common: tuple[tuple[str, Any], ...]

    @property
    def name(self) -> tuple[str, str, str]:
        """Task, learner, sampler."""
        return self.task.name, self.learner, self.sampler.name

    def flags(self) -> dict[str, Any]:
        """Of every block of it; ``config`` comes first, and classes before their settings."""
        classes = {"model.learner": self.learner, "model.behavior": self.sampler.name}
        own = dict(self.common) | self.task.flags | self.sampler.flags
        return {"config": self.task.config, "seed_everything": self.run_seed, **classes, **own}

    def block(self, done: int, seeds: int) -> dict[str, Any]:
        """Flags of the next block: the task's first size, then as many as there are, so that start-up weighs less.

        Args:
            done: seeds of the blocks so far.
            seeds: of the cell in the end.
        """
        return self.flags() | {SEEDS: min(max(self.task.block, done), seeds - done), FIRST: done}


@dataclass(frozen=True)
class LeftOutCell:
    """What is not measured: a sampler in a task, or all of a task (``sampler`` is None)."""

    task: str
    sampler: str | None
    reason: str


def choose(kind: str, known: Sequence[str], asked: Iterable[str] | None) -> list[str]:
    """The names asked for, in the file's order; all if none are.

    Raises:
        ConfigError: one is not known.
    """
    if asked is None:
        return list(known)
    wanted = list(asked)
    for name in wanted:
        check(name in known, f"<{kind}> has {name}{did_you_mean(name, known)}: choose of {', '.join(known)}")
    return [name for name in known if name in wanted]


def missing_packages(task: Task) -> list[str]:
    """Packages of a task that are not installed."""
    return [package for package in task.needs if find_spec(package) is None]


def cells_of(
    file: BenchmarkFile, tasks: Sequence[str], samplers: Sequence[str], learners: Sequence[str] | None
) -> tuple[list[Cell], list[LeftOutCell]]:
    """The cells of the tasks and samplers, and what cannot go together, with reasons.

    Args:
        file: the list.
        tasks: names.
        samplers: names.
        learners: those wanted where a task has several; None: all.
    """
    cells, left_out = [], []
    common = tuple(file.flags.items())
    for task in (file.tasks[name] for name in tasks):
        missing = missing_packages(task)
        if missing:
            words = "are" if len(missing) > 1 else "is"
            reason = f"{', '.join(missing)} {words} not installed: {install(EXTRA)}"
            left_out.append(LeftOutCell(task.name, None, reason))
            continue
        for sampler in (file.samplers[name] for name in samplers):
            why = _why_not(task, sampler)
            if why is not None:
                left_out.append(LeftOutCell(task.name, sampler.name, why))
                continue
            wanted = [name for name in task.learners if learners is None or name in learners or len(task.learners) == 1]
            cells += [Cell(task, learner, sampler, file.run_seed, common) for learner in wanted]
    return cells, left_out


def _why_not(task: Task, sampler: Sampler) -> str | None:
    if sampler.actions is not None and sampler.actions != task.actions:
        return f"for {sampler.actions} actions only"
    if sampler.tasks and task.name not in sampler.tasks:
        return f"in the list for {', '.join(sampler.tasks)} only"
    return task.left_out.get(sampler.name)


def as_sweep(file: BenchmarkFile, seeds: int) -> SweepFile:
    """The runs of all cells as a sweep file, whose journal and processes then serve.

    All cells of the file, whatever was asked for and is installed: the journal refuses the runs of another file.

    Args:
        file: the list.
        seeds: most seeds that a cell may ever have.
    """
    values: dict[str, list[Any]] = {}
    for task in file.tasks.values():
        for sampler in file.samplers.values():
            for learner in task.learners:
                cell = Cell(task, learner, sampler, file.run_seed, tuple(file.flags.items()))
                for flag, value in cell.flags().items():
                    known = values.setdefault(flag, [])
                    known += [] if value in known else [value]
    parameters: dict[str, Any] = {flag: {"values": known} for flag, known in values.items()}
    parameters |= {flag: {"min": 0, "max": seeds} for flag in (SEEDS, FIRST)}
    return SweepFile(file.path, {"name": file.name, "method": "random", "parameters": parameters, "command": COMMAND})
