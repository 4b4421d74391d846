"""Folders that may be runs, at or below those that were given."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lit_maprops.system.errors import ConfigError

MARKS = ("config.yaml", "metrics.csv", "eval.csv", "summary.json")


@dataclass(frozen=True)
class LeftOut:
    """A folder that is not in the figures, and why."""

    path: str
    reason: str


def find(paths: Sequence[str | Path]) -> list[tuple[Path, bool]]:
    """Folders at or below ``paths`` that hold files, each with whether it looks like a run; not looked into further."""
    found: dict[Path, tuple[Path, bool]] = {}
    for given in map(Path, paths):
        if not given.is_dir():
            fault = "is a file" if given.exists() else "does not exist"
            raise ConfigError(
                f"report: {given} {fault}: give run folders, or a folder that contains them, such as runs"
            )
        for top, folders, files in os.walk(given):
            is_run = any(mark in files or mark in folders for mark in MARKS)
            # A run's own subfolders (checkpoints, wandb) are no runs.
            folders[:] = [] if is_run else sorted(f for f in folders if not f.startswith("."))
            foreign = not is_run and not folders and bool(files)
            if is_run or foreign:
                found.setdefault(Path(top).resolve(), (Path(top), is_run))
    return list(found.values())
