"""What a run leaves behind: its folder with metrics.csv and eval.csv.

The x-axis of everything is env_steps (per seed). ``metrics.csv`` has one row per target iteration (means over seeds),
``eval.csv`` one per evaluation and seed.
"""

import csv
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from lightning.pytorch.loggers import Logger
from numpy.typing import NDArray

from lit_maprops.run.changes import FILE as CHANGES
from lit_maprops.run.changes import Change, continued_with, parse
from lit_maprops.run.diagnosis import RunningMeans
from lit_maprops.run.kept import drop_later, keep
from lit_maprops.run.new_folder import writable
from lit_maprops.system.errors import ConfigError, FolderLost, check
from lit_maprops.system.files import hold_folders, is_held, lock, no_link, sync, write_atomically, write_json, writing
from lit_maprops.system.safe_yaml import dump_yaml, read_yaml
from lit_maprops.system.tables import read_table

TABLES = ("metrics.csv", "eval.csv")
EVAL_COLUMNS = (
    "env_steps",
    "seed",
    "greedy_success_rate",
    "stochastic_success_rate",
    "greedy_return",
    "stochastic_return",
)


class RunFolder(Logger):
    """The folder of one run, which writes its CSV files; for Lightning a logger, so that callbacks write here, too.

    Args:
        path: ``runs_dir/run_name``; created by ``hold``, which also locks it until ``close``.

    Attributes:
        means: of every column of metrics.csv so far. Rows are on disk and nowhere else: memory is that of one row,
            however long the run.
        newest: the last row of metrics.csv; empty before the first.
        changes: settings that the run was continued with.
        rows: of each table so far; a checkpoint has them, so that a run is not continued with others.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.means = RunningMeans()
        self.newest: Mapping[str, float] = {}
        self.changes: list[Change] = []
        self.rows: dict[str, int] = dict.fromkeys(TABLES, 0)
        self._columns: list[str] = []
        self._lock: IO[str] | None = None
        self._release: Callable[[], None] = lambda: None

    @property
    def name(self) -> str:
        """The run's name."""
        return self.path.name

    @property
    def version(self) -> str:
        """None: Lightning's ``ModelCheckpoint`` writes to ``save_dir/name/version/checkpoints``."""
        return ""

    @property
    def save_dir(self) -> str:
        """Where the run's folder is."""
        return str(self.path.parent)

    @property
    def checkpoint(self) -> Path:
        """The newest checkpoint."""
        return self.path / "checkpoints" / "last.ckpt"

    def hold(self) -> None:
        """Keep other processes away from the folder until ``close``; creates it.

        Raises:
            ConfigError: it cannot be written, or another process is at work in it.
        """
        if self._lock is not None:
            return
        with writable(self.path):
            self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
            self._lock = lock(self._lock_path)
            check(
                self._lock is not None,
                f"<run_name>: another process is at work in {self.path}: wait for it, or choose another <run_name>",
            )
            self._release = hold_folders(self.path, self.checkpoint.parent)

    @property
    def _lock_path(self) -> Path:
        return self.checkpoint.parent / ".lock"

    def check_held(self) -> None:
        """Refuse to write in a folder that is no longer the one that ``hold`` locked.

        A process that was stopped (Ctrl-Z) may go on long after its folder was removed and another run began there.

        Raises:
            FolderLost: it was removed or made anew.
        """
        if self._lock is not None and not is_held(self._lock_path, self._lock):
            raise FolderLost(
                f"{self.path} was removed or made anew while this run was at work in it: nothing more is written"
            )

    def open(
        self,
        config: Mapping[str, Any],
        resume_from: int | None,
        counted: Mapping[str, int] | None = None,
        unset: Mapping[str, Any] | None = None,
    ) -> None:
        """Create the folder, or cut an existing one back to where its checkpoint was taken.

        A start of the same configuration that ended before its first checkpoint is started again in its folder.

        Args:
            config: the resolved configuration, written to config.yaml.
            resume_from: env steps of the checkpoint the run continues from; None for a new run.
            counted: rows of each table that the checkpoint counts on; None: it does not say.
            unset: see ``continued_with``.

        Raises:
            ConfigError: as ``hold``; the folder holds another run, or a table that is not the checkpoint's.
        """
        with writable(self.path):
            text = dump_yaml(config)
            if resume_from is None and not self._is_free(text):
                way = f", or continue it with <ckpt_path> {self.checkpoint}" if self.checkpoint.exists() else ""
                raise ConfigError(f"<run_name>: {self.path} already holds a run: choose another <run_name>{way}")
            self.hold()
            kept = {} if resume_from is None else {name: self._kept(name, resume_from, counted) for name in TABLES}
            if resume_from is not None:
                self._remember(config, resume_from, unset or {})
            write_atomically(self.path / "config.yaml", text)
            (self.path / "error.txt").unlink(missing_ok=True)  # of the attempt that is continued
            if resume_from is None:
                for name in TABLES:
                    (self.path / name).unlink(missing_ok=True)
            drop_later(self.checkpoint, resume_from or 0)
            for name, (columns, rows) in kept.items():
                self._write(name, columns, rows) if columns else (self.path / name).unlink(missing_ok=True)
                self.rows[name] = len(rows)
            for row in kept["metrics.csv"][1] if kept else []:
                self._count(row)
            self._columns = list(self.newest)

    def _remember(self, config: Mapping[str, Any], env_steps: int, unset: Mapping[str, Any]) -> None:
        """Write down which settings are others from here on; before config.yaml, which a kill may leave as it was."""
        path = self.path / CHANGES
        try:
            earlier = parse(path.read_text()) if path.exists() else []
        except ValueError as error:
            raise ConfigError(f"<ckpt_path>: {path} cannot be read ({error}): move it away") from None
        written = read_yaml("<ckpt_path>", self.path / "config.yaml", "the one that fit wrote")
        self.changes = continued_with(earlier, written, config, env_steps, unset)
        if self.changes or earlier:
            write_json(path, {"changes": [change._asdict() for change in self.changes]})

    def _is_free(self, config: str) -> bool:
        """Whether a run can start here: nothing is there, or a start of this configuration without a checkpoint."""
        if not self.path.exists():
            return True
        names = {path.name.removesuffix(".tmp") for path in self.path.iterdir()}
        written = self.path / "config.yaml"
        return (
            names <= {"config.yaml", "checkpoints", "error.txt", "wandb", *TABLES}
            and not list(self.path.glob("checkpoints/*.ckpt"))
            and (written.read_text() == config if written.exists() else not names & set(TABLES))
        )

    def close(self) -> None:
        """Let other processes at the folder; the end of this process does it, too."""
        if self._lock is not None:
            self._lock.close()
            self._release()
        self._lock = None

    def sync(self) -> None:
        """Wait until every row so far is on the disk: after a power cut no checkpoint is ahead of its rows.

        Raises:
            FolderLost: see ``check_held``.
            WriteError: the disk fails.
        """
        self.check_held()
        for name in TABLES:
            path = self.path / name
            if path.exists():
                with writing(path):
                    sync(path)

    def keep_checkpoint(self, env_steps: int, most: int) -> None:
        """Let the newest checkpoint stay when the next one takes its place; see ``lit_maprops.run.kept.keep``."""
        self.check_held()
        keep(self.checkpoint, env_steps, most)

    def _kept(
        self, name: str, env_steps: int, counted: Mapping[str, int] | None
    ) -> tuple[list[str], list[dict[str, float]]]:
        """Columns and rows without those after ``env_steps``, which the resumed run writes again.

        Raises:
            ConfigError: they are not the rows that the checkpoint counts on.
        """
        path = self.path / name
        refused = f"<ckpt_path>: {path} {{}}: put back the run's own file, or start the run anew"
        check(path.is_file() or not path.exists(), refused.format("is no file"))
        try:
            columns, rows = self._read(name) if path.exists() else ([], [])
        except (UnicodeDecodeError, csv.Error):
            raise ConfigError(refused.format("is no table")) from None
        check(
            not rows or {"env_steps", *(["seed"] if name == "eval.csv" else [])} <= set(columns),
            refused.format("is no table of a run"),
        )
        rows = [row for row in rows if row["env_steps"] <= env_steps]
        if counted is not None and len(rows) != counted[name]:
            have = f"has {len(rows):,} of the {counted[name]:,} rows up to the checkpoint" if rows else "is missing"
            raise ConfigError(refused.format(have))
        return columns, rows

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Nothing: Lightning rounds to single precision and may leave out rows; ``add_row`` gets all of all."""

    def add_row(self, row: dict[str, float]) -> None:
        """Append one row to metrics.csv; a column that comes later (a figure measured now and then) is put in."""
        self._count(row)
        self.rows["metrics.csv"] += 1
        new = [name for name in row if name not in self._columns]
        self._columns += new
        if new and self.means.rows > 1:
            self._write("metrics.csv", self._columns, [*self._read("metrics.csv")[1], row])
        else:
            self._append("metrics.csv", self._columns, [row])

    def _count(self, row: dict[str, float]) -> None:
        self.means.add(row)
        self.newest = row

    def _read(self, name: str) -> tuple[list[str], list[dict[str, float]]]:
        """Columns and rows of a file."""
        table = read_table(self.path / name)
        return list(table), [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]

    def _write(self, name: str, columns: list[str], rows: list[dict[str, float]]) -> None:
        self.check_held()
        cells = (",".join(_cell(row.get(column, math.nan)) for column in columns) for row in rows)
        write_atomically(self.path / name, "\n".join([",".join(columns), *cells]) + "\n")

    def log_evaluation(self, rows: list[dict[str, float]]) -> None:
        """Append one evaluation to eval.csv: a row per seed with ``EVAL_COLUMNS``."""
        self.rows["eval.csv"] += len(rows)
        self._append("eval.csv", list(EVAL_COLUMNS), rows)

    def _append(self, name: str, columns: list[str], rows: list[dict[str, float]]) -> None:
        self.check_held()
        path = self.path / name
        is_new = not path.exists()
        with writing(path), open(path, "a", newline="", opener=no_link) as file:
            if is_new:
                file.write(",".join(columns) + "\n")
            for row in rows:
                file.write(",".join(_cell(row.get(column, math.nan)) for column in columns) + "\n")

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: config.yaml has them."""

    def mean(self, column: str) -> float | None:
        """Mean of a column of metrics.csv over the run; None where it has no number."""
        if not math.isfinite(self.means[column]):
            return None
        values = read_table(self.path / "metrics.csv")[column]  # summed in pairs, where running sums round more
        return float(values[np.isfinite(values)].mean())

    def curve(self, column: str) -> tuple[NDArray[np.integer], NDArray[np.floating]]:
        """Evaluations so far: env steps ``[points]`` and a column of eval.csv, ``[points, seeds]``."""
        table = read_table(self.path / "eval.csv")
        env_steps = np.unique(table["env_steps"]).astype(int)
        return env_steps, table[column].reshape(len(env_steps), -1)


def _cell(value: float) -> str:
    if isinstance(value, float) and math.isnan(value):
        return ""
    # repr round-trips, so a rewound file keeps its numbers.
    return repr(int(value)) if float(value).is_integer() else repr(float(value))
