"""Finished runs in a study's raw table, so that none is run twice."""

import csv
import io
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from lit_maprops.system.files import write_atomically
from studies import table_of
from studies.runs import MEANS, PARTS, SQUARE, Outcome, Run, complete, outcome, pooled


class Ledger:
    """Finished runs by (part, setting, sampler, run seed) in ``<name>.csv``, which is committed: none is run twice.

    A row whose run seed reads "21, 22" pools two runs.

    Args:
        name: of the file; without one the ledger starts empty.
        fields: of summary.json, kept beside the seconds of each part.
        folder: the study, if it is not called like the file.
        squares: keep the mean squared success, too, for ``mean_success``.
    """

    def __init__(
        self, name: str, fields: Sequence[str] = MEANS, squares: bool = False, folder: str | None = None
    ) -> None:
        self.path, self.fields = table_of(folder or name).with_name(f"{name}.csv"), fields
        self.columns = [*fields, *(f"time/{part}" for part in PARTS), *([SQUARE] if squares else [])]
        self._lock = threading.Lock()
        rows = []
        if self.path.exists():
            with self.path.open(newline="") as file:
                rows = list(csv.DictReader(file))
        self.outcomes = {(r["part"], r["setting"], r["sampler"], r["run seed"]): self._outcome_of(r) for r in rows}

    def fill(self, runs: dict[tuple[str, str, str, str], Run], workers: int) -> None:
        """Run what is missing, ``workers`` at a time (see ``complete``), and enter each when it ends."""

        def one(key: tuple[str, str, str, str]) -> None:
            complete([runs[key]], min(workers, 1))
            with self._lock:
                self.outcomes[key] = outcome([runs[key]], fields=self.fields)
                self._write()

        missing = [key for key in runs if key not in self.outcomes]
        if not workers:
            for key in missing:
                one(key)
            return
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(one, missing))

    def of(self, part: str, setting: str, sampler: str, run_seeds: Iterable[str] | None = None) -> Outcome | None:
        """All runs of a sampler in a setting, pooled; None where there are none."""
        own = {key[3]: result for key, result in self.outcomes.items() if key[:3] == (part, setting, sampler)}
        found = [result for seed, result in own.items() if run_seeds is None or seed in run_seeds]
        return pooled(found) if found else None

    def _write(self) -> None:
        rows = []
        for key, o in self.outcomes.items():
            row = dict(zip(("part", "setting", "sampler", "run seed"), key, strict=True))
            kept = {name: o.means[name] for name in self.columns}
            values = {"mean_success": o.mean_success, **kept, "seconds": o.seconds}
            rounded = {name: str(round(value, 5)) for name, value in values.items()}
            rows.append(row | {"seeds": str(o.seeds), "solved": str(o.solved)} | rounded)
        with io.StringIO() as text:
            writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
            write_atomically(self.path, text.getvalue())

    def _outcome_of(self, row: dict[str, str]) -> Outcome:
        means = {name: float(row[name]) for name in self.columns}
        return Outcome(int(row["seeds"]), int(row["solved"]), float(row["mean_success"]), means, float(row["seconds"]))
