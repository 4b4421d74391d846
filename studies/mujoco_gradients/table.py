"""The raw table of docs/evidence/mujoco_gradients.md: a row per cell and seed."""

import csv
import io
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lit_maprops.system.files import write_atomically

Row = dict[str, Any]


class Key(NamedTuple):
    """A cell."""

    part: str  # tuning or compared
    task: str
    age: str
    sampler: str
    setting: str


class Table:
    """Measured cells, written after each: none is measured twice.

    Args:
        path: of the table that is committed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cells: dict[Key, list[Row]] = {}
        if path.exists():
            with path.open(newline="") as file:
                for row in csv.DictReader(file):
                    self.cells.setdefault(Key(*(row.pop(name) for name in Key._fields)), []).append(row)

    def enter(self, key: Key, rows: list[Row]) -> None:
        """Keep a cell, floats with six digits."""
        self.cells[key] = [{k: f"{v:.6g}" if isinstance(v, float) else str(v) for k, v in row.items()} for row in rows]
        lines = [key._asdict() | row for key, found in self.cells.items() for row in found]
        with io.StringIO() as text:
            writer = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(lines)
            write_atomically(self.path, text.getvalue())

    def values(self, key: Key, figure: str) -> NDArray[np.floating]:
        """A figure of every seed, ``[seeds]``."""
        return np.array([float(row[figure]) for row in self.cells[key]])

    def mean(self, key: Key, figure: str) -> float | None:
        """Over seeds; None where the cell has not been measured."""
        return float(self.values(key, figure).mean()) if key in self.cells else None

    def of(self, part: str, task: str, age: str) -> dict[str, Key]:
        """The cells of a task at an age, by sampler; of tuning the last setting of each."""
        return {key.sampler: key for key in self.cells if key[:3] == (part, task, age)}
