"""Reading and writing the files of a run: tables, JSON, text. Imports nothing heavy."""

import csv
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def read_table(path: Path) -> dict[str, NDArray[np.floating]]:
    """Read one of our CSV files: column name to its numbers; an empty cell is NaN."""
    with path.open(newline="") as file:
        header, *rows = list(csv.reader(file))
    # A kill can leave half a line behind; it is the last one and the resumed run writes it again.
    rows = [row for row in rows if len(row) == len(header)]
    return {name: np.array([_number(row[i]) for row in rows]) for i, name in enumerate(header)}


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that a kill leaves the old one or the new one, never half of it."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text)
    os.replace(temporary, path)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write ``content`` atomically; NaN becomes null, since JSON has none."""
    write_atomically(path, json.dumps(_plain(content), indent=2) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
