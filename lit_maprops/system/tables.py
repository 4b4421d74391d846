"""Reading the CSV files of runs: a row per target iteration or per evaluated seed, numbers alone."""

import csv
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def read_table(path: Path) -> dict[str, NDArray[np.floating]]:
    """Read one of our CSV files: column name to its numbers; an empty cell is NaN. Without a whole line it is empty."""
    with path.open(newline="") as file:
        # A kill or a full disk can leave half a line behind, with all its commas even; the resumed run writes it again.
        header, *rows = list(csv.reader(line for line in file if line.endswith("\n"))) or [[]]
    rows = [row for row in rows if len(row) == len(header)]
    return {name: np.array([_number(row[i]) for row in rows]) for i, name in enumerate(header)}


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan
