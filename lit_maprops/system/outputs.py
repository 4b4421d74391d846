"""Where a command may write what it was told to write: never over a run's own files, nor anything but files."""

import os
from fnmatch import fnmatch
from pathlib import Path

from lit_maprops.system.errors import check

# Of a run folder, see docs/how-to/continue.md; reports and analyses may lie beside them.
RUN_FILES = ("config.yaml", "metrics.csv", "eval.csv", "summary.json", "changes.json", "validate.json", "test.json",
             "error.txt", "*.ckpt", "*.png", "*.gif", "*.tmp")  # fmt: skip
RUN_FOLDERS = ("checkpoints", "wandb")
SWEEP_FILES = (
    "sweep.json",
    "sweep.lock",
    "launched.json",
    "*.log",
)  # of a sweep's folder, which holds those of its runs


def check_output(argument: str, *paths: Path) -> None:
    """Refuse a file that cannot be written, is no file, or belongs to a run.

    Args:
        argument: that named it, marked as in ``lit_maprops.system.errors``.
        *paths: of the files that the command writes.

    Raises:
        ConfigError: says why, and what to give instead.
    """
    for path in paths:
        check(not path.is_dir(), f"{argument} is {path}, a folder: give the name of a file in it")
        check(path.parent.is_dir(), f"{argument}: {path.parent} is no folder: create it first")
        check(
            not path.exists() or path.is_file(),
            f"{argument} is {path}, which is no regular file: give the name of one, to be created or replaced",
        )
        check(os.access(path.parent, os.W_OK), f"{argument}: {path.parent} cannot be written: choose another folder")
        run = next((folder for folder in path.resolve().parents if _is_run(folder)), None)
        inside = () if run is None else path.resolve().relative_to(run).parts
        own = bool(inside) and (inside[0] in RUN_FOLDERS or any(fnmatch(inside[-1], name) for name in RUN_FILES))
        check(not own, f"{argument} is {path}, a file of the run {run}: choose another name")
        swept = (path.resolve().parent / "sweep.json").is_file() and any(fnmatch(path.name, n) for n in SWEEP_FILES)
        check(not swept, f"{argument} is {path}, a file of the sweep {path.parent}: choose another name")


def _is_run(folder: Path) -> bool:
    return (folder / "config.yaml").is_file() and (folder / "checkpoints").is_dir()
