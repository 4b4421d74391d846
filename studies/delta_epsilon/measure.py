"""Fills the tables: every figure with 32 seeds before any has more."""

import logging
import warnings

from studies import table_of
from studies.delta_epsilon.fixed import AGES, Age
from studies.delta_epsilon.grid import BOULDER, CELLS, GAME, TASKS
from studies.delta_epsilon.kept import Kept
from studies.delta_epsilon.training import measured

TRAINING = table_of("delta_epsilon")
FIXED = TRAINING.with_name("fixed.csv")


def training_table() -> Kept:
    """A row per task, cell and block of seeds."""
    return Kept(TRAINING, ("task", "delta", "epsilon", "first seed"))


def fixed_table() -> Kept:
    """A row per age, cell and seed."""
    return Kept(FIXED, ("age", "delta", "epsilon", "seed"))


def fill() -> None:
    """Measure what is missing, in this process."""
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    training, fixed = training_table(), fixed_table()
    middle, *others = AGES
    _train(training, GAME, 0)
    _draw(fixed, middle)
    _train(training, BOULDER, 0)
    for age in others:
        _draw(fixed, age)
    for task in TASKS:
        for block in range(1, TASKS[task].blocks):
            _train(training, task, block)


def _draw(table: Kept, name: str) -> None:
    age = Age(name)
    for cell in CELLS:
        if not table.has(age=name, delta=cell.delta, epsilon=cell.epsilon):
            print(name, cell.name, flush=True)
            table.add(age.measured(cell))


def _train(table: Kept, task: str, block: int) -> None:
    first = block * TASKS[task].block
    for cell in CELLS:
        if not table.has(task=task, delta=cell.delta, epsilon=cell.epsilon, **{"first seed": first}):
            print(task, cell.name, "from seed", first, flush=True)
            table.add([measured(task, cell, first)])


if __name__ == "__main__":
    fill()
