"""Reading the CSV files of runs: a row per target iteration or per evaluated seed, numbers alone."""

import csv
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def read_table(path: Path, every: int = 1) -> dict[str, NDArray[np.floating]]:
    """Read one of our CSV files: column name to its numbers; an empty cell is NaN. Without a whole line it is empty.

    Args:
        path: of the file.
        every: take each so-maniest row, from the first on, and the last one.

    Raises:
        csv.Error, UnicodeDecodeError: it is no text, or no table.
        OSError: it cannot be read.
    """
    with path.open(newline="", encoding="utf-8") as file:
        # A kill or a full disk can leave half a line behind, with all its commas even; the resumed run writes it again.
        lines = (line for line in file if line.endswith("\n"))
        header = next(csv.reader(lines), [])
        rows = [row for row in csv.reader(_thinned(lines, every)) if len(row) == len(header)]
    columns = zip(*rows, strict=True) if rows else [()] * len(header)
    return {name: _numbers(cells) for name, cells in zip(header, columns, strict=True)}


def _thinned(lines: Iterator[str], every: int) -> Iterator[str]:
    line, number = "", -1
    for number, line in enumerate(lines):
        if number % every == 0:
            yield line
    if number % every:
        yield line


def _numbers(cells: Sequence[str]) -> NDArray[np.floating]:
    try:
        if "" in cells:
            return np.array([float(cell) if cell else math.nan for cell in cells])
        return np.array(list(map(float, cells)))
    except ValueError:  # a text in some cell
        return np.array([_number(cell) for cell in cells])


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan
