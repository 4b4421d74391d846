"""Tables that are filled part by part, so that a study goes on where it was interrupted."""

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path

from lit_maprops.system.files import write_atomically

Row = dict[str, str]


class Kept:
    """Rows of a csv file, numbers rounded to four significant digits.

    Args:
        path: of the file; need not exist.
        key: columns that tell rows apart.
    """

    def __init__(self, path: Path, key: tuple[str, ...]) -> None:
        self.path, self.key = path, key
        self.rows: list[Row] = []
        if path.exists():
            with path.open(newline="") as file:
                self.rows = list(csv.DictReader(file))

    def has(self, **key: object) -> bool:
        """Whether there is such a row."""
        return bool(self.of(**key))

    def of(self, **key: object) -> list[Row]:
        """The rows with these values."""
        wanted = {name: _text(value) for name, value in key.items()}
        return [row for row in self.rows if wanted.items() <= row.items()]

    def add(self, rows: Iterable[Mapping[str, object]]) -> None:
        """Enter rows and write the file."""
        self.rows += [{name: _text(value) for name, value in row.items()} for row in rows]
        assert len({tuple(row[name] for name in self.key) for row in self.rows}) == len(self.rows)
        with io.StringIO() as text:
            writer = csv.DictWriter(text, list(self.rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)
            write_atomically(self.path, text.getvalue())


def _text(value: object) -> str:
    if isinstance(value, float):
        return "" if value != value else f"{value:.4g}"
    return "" if value is None else str(value)
