"""A folder for a run: one that can be written, and one that is nobody else's."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lit_maprops.system.errors import ConfigError, WriteError
from lit_maprops.system.files import writing


@contextmanager
def writable(path: Path) -> Iterator[None]:
    """Refuse a folder in which the block cannot write.

    Raises:
        ConfigError: instead of WriteError and any OSError.
    """
    try:
        with writing(path):
            yield
    except WriteError as error:
        raise ConfigError(f"<runs_dir>: {error.marked}: choose another folder or <run_name>") from None


def new_folder(path: Path) -> Path:
    """Create ``path``, or the first of ``path-2``, ``path-3``, ... that is not there yet, and return it.

    Runs that start within one second have one default name, and so have runs an hour apart when the clock is put back.

    Raises:
        ConfigError: the folder cannot be written.
    """
    folder, number = path, 1
    while True:
        with writable(folder), suppress(FileExistsError):
            folder.mkdir(parents=True)
            return folder
        number += 1
        folder = path.with_name(f"{path.name}-{number}")
