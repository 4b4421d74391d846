"""Reading and writing files so that a kill, a power cut or a full disk damages none. Imports nothing heavy."""

import contextlib
import fcntl
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from lit_maprops.system.errors import WriteError

_HELD: dict[Path, int] = {}  # descriptors of the folders that are this process's own


def hold_folders(*paths: Path) -> Callable[[], None]:
    """Have ``replacing`` and ``no_link`` write in these very folders, whatever takes their paths from here on.

    Once they are removed that fails, also where another process has made some of the same paths since.

    Returns:
        What ends it.
    """
    own = {path: os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in paths}
    _HELD.update(own)

    def release() -> None:
        for path, descriptor in own.items():
            if _HELD.get(path) == descriptor:
                del _HELD[path]
            os.close(descriptor)
        own.clear()

    return release


def is_own(path: Path) -> bool:
    """Whether a file's folder is held."""
    return path.parent in _HELD


def _placed(path: Path) -> tuple[str, int | None]:
    """How the system is told of a file: within its folder if that is held, else by its path."""
    return (path.name, _HELD[path.parent]) if is_own(path) else (str(path), None)


def home_path(text: str | Path) -> Path:
    """A path that a user gave; ``~``, which shells leave as it is within a word, is their home."""
    return Path(os.path.expanduser(text))


def no_checkpoint(given: Path) -> str:
    """The line for a checkpoint that is no file; of a run's folder, or its folder of checkpoints, the newest."""
    for newest in (given / "checkpoints" / "last.ckpt", given / "last.ckpt"):
        if newest.is_file():
            return f"<ckpt_path>: {given} is a folder: give {newest}"
    return f"<ckpt_path>: there is no file {given.resolve()}"


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Name the file that the block writes in what goes wrong there.

    Raises:
        WriteError: instead of any OSError.
    """
    try:
        yield
    except OSError as error:
        raise WriteError(f"{path} could not be written ({error.strerror or error})") from None


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that takes the place of ``path`` when the block ends.

    Whatever stops the program or the machine leaves the old file or the new one, never half of it: the new one is on
    the disk before it gets its name, and so is the name before this returns.

    Raises:
        WriteError: the old file stays, and nothing of the new one.
    """
    place, folder = _placed(path)
    temporary = place + ".tmp"
    with writing(path):
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=folder)  # of a program that was killed, or a link that leads elsewhere
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            with os.fdopen(os.open(temporary, flags, 0o666, dir_fd=folder), "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, place, src_dir_fd=folder, dst_dir_fd=folder)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=folder)  # on a full disk it took what was left
            raise
        with contextlib.suppress(OSError):  # some file systems sync no folders
            sync(path.parent)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk, where they survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def no_link(path: str, flags: int) -> int:
    """An opener that follows no symbolic link: one in a run's folder must not lead a write elsewhere."""
    place, folder = _placed(Path(path))
    return os.open(place, flags | os.O_NOFOLLOW, 0o666, dir_fd=folder)


def lock(path: Path) -> IO[str] | None:
    """Take a lock that the system lets go of when the returned file is closed or the process ends, however it ends.

    Returns:
        None if another process has it. Where the file system knows no locks, everybody gets it.
    """
    file = open(path, "a", opener=no_link)  # noqa: SIM115 (the caller keeps it)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    except OSError:
        pass
    return file


def is_held(path: Path, held: IO[str]) -> bool:
    """Whether a lock that was taken is that of the file which is there now: its folder may have been made anew."""
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(held.fileno()))
    except FileNotFoundError:
        return False


def write_atomically(path: Path, text: str) -> None:
    """Write a text file, all or nothing; see ``replacing``."""
    with replacing(path) as file:
        file.write(text.encode())


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
