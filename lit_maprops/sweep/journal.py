"""What a sweep remembers of its runs: ``sweep.json``, written before a run starts and after it ends, atomically.

Several commands write it in turns: whoever holds the lease ``TURN`` reads what the others wrote, changes it, and saves.
"""

import contextlib
import hashlib
import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from lit_maprops.sweep.leases import Lease, Leases
from lit_maprops.sweep.sweep_file import SweepFile
from lit_maprops.system.errors import ConfigError, FolderLost, check
from lit_maprops.system.files import is_held, write_json

LOCK = "sweep.lock"  # nobody locks it: it is there to tell whether the folder was made anew
TURN = "journal"
TURN_SECONDS = 0.02  # between two attempts at it
ID = r"\d{3,}-[0-9a-f]{6}"
STATES = ("waiting", "running", "finished", "stopped", "failed")
ENDED = STATES[2:]


@dataclass
class Entry:
    """One run.

    Args:
        id: its folder inside the sweep's.
        parameters: the flags proposed for it.
        state: ``waiting``, ``running``, ``finished``, ``stopped`` (early, by hyperband) or ``failed``. A run that is
            ``running`` and nobody has the lease of was interrupted with its sweep.
        exit_code: of a failed run's process; negative: killed by that signal; None: the sweep was not there to see it.
        error: last line a failed run printed.
        log: file with everything it printed.
    """

    id: str
    parameters: dict[str, Any]
    state: str = "waiting"
    exit_code: int | None = None
    error: str | None = None
    log: str | None = None


class Journal:
    """The runs of a sweep in the order they were proposed.

    Args:
        folder: of the sweep.
        file: the sweep.
        held: its file ``LOCK``, open.

    Attributes:
        entries: as they were when the file was last read; to be changed within ``changing`` only.

    Raises:
        ConfigError: the folder holds a sweep of another file.
    """

    def __init__(self, folder: Path, file: SweepFile, held: IO[str]) -> None:
        self.path, self._file, self._held = folder / "sweep.json", file, held
        self._meaning = json.loads(json.dumps(file.meaning, default=str))
        self._read: tuple[int, ...] = ()  # which state of the file the entries are
        self._turn: Lease | None = None
        self.entries: list[Entry] = []
        self.refresh()

    @property
    def ended(self) -> int:
        """How many runs are over."""
        return sum(entry.state in ENDED for entry in self.entries)

    def refresh(self) -> None:
        """Take over what other commands have written; entries stay the objects that they are.

        Raises:
            ConfigError: somebody has put another file there.
        """
        try:
            with self.path.open(encoding="utf-8") as file:
                version = _version(os.fstat(file.fileno()))
                if version == self._read:
                    return
                text = file.read()
            content = json.loads(text)
            found = [_entry(**entry) for entry in content["runs"]]
            different = sorted(_differences(dict(content["sweep"]), self._meaning))
            same = [entry.id for entry in self.entries] == [entry.id for entry in found[: len(self.entries)]]
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            raise ConfigError(f"<runs_dir>: {self.path} is damaged: move it away, or choose a new place") from None
        check(same, f"<runs_dir>: {self.path} was replaced while this sweep was at work: give it again")
        check(
            not different,
            f"{self._file.path} has changed since its runs in {self.path.parent} began ({', '.join(different)}): "
            "choose a new place with <runs_dir>, or another name in the file",
        )
        # They become words of a command: a folder of somebody else's may not add its own.
        for entry in found:
            foreign = sorted(_foreign(entry.parameters, self._file.proposed))
            check(
                not foreign,
                f"<runs_dir>: {self.path} has a run {entry.id} with {', '.join(foreign)} as {self._file.path} never "
                "proposes it: move the folder away, or choose a new place",
            )
        for entry, now in zip(self.entries, found, strict=False):
            vars(entry).update(vars(now))
        self.entries += found[len(self.entries) :]
        self._read = version

    @contextlib.contextmanager
    def changing(self, leases: Leases) -> Iterator[None]:
        """Be the only one who changes the file, and know what the others have written.

        Raises:
            FolderLost: there is no such folder any more.
            WriteError: the turn cannot be taken.
        """
        self.check_held()
        turn = leases.take(TURN)
        while turn is None:
            time.sleep(TURN_SECONDS)
            leases.keep_alive()
            self.check_held()
            turn = leases.take(TURN)
        self._turn = turn
        try:
            self.refresh()
            yield
        finally:
            self._turn = None
            turn.release()

    def retry_failed(self, leases: Leases) -> None:
        """Let failed runs be begun again."""
        with self.changing(leases):
            for entry in self.entries:
                if entry.state == "failed":
                    entry.state, entry.exit_code, entry.error = "waiting", None, None
            self.save()

    def add(self, parameters: dict[str, Any]) -> Entry:
        """Remember a proposal; its id is its number and a hash of its parameters."""
        digest = hashlib.sha256(json.dumps(parameters, sort_keys=True, default=str).encode()).hexdigest()
        entry = Entry(f"{len(self.entries):03d}-{digest[:6]}", parameters)
        self.entries.append(entry)
        self.save()
        return entry

    def save(self) -> None:
        """Write the file, within ``changing``.

        Raises:
            FolderLost: it would not be that of this sweep.
        """
        self.check_held()
        if self._turn is None or not self._turn.is_held():
            raise FolderLost(f"{self.path} is written by another sweep command now: this one was away for too long")
        write_json(self.path, {"sweep": self._meaning, "runs": [asdict(entry) for entry in self.entries]})
        self._read = _version(self.path.stat())

    def check_held(self) -> None:
        """Refuse to write in a folder that is no longer the one that this sweep locked.

        Raises:
            FolderLost: it was removed or made anew.
        """
        if not is_held(self.path.with_name(LOCK), self._held):
            folder = self.path.parent
            raise FolderLost(f"{folder} was removed or made anew while this sweep was at work in it: give it again")


def _version(found: os.stat_result) -> tuple[int, ...]:
    """Tells states of a file apart that is replaced, never written into."""
    return found.st_ino, found.st_mtime_ns, found.st_size


def _entry(**saved: Any) -> Entry:
    """An entry of the file.

    Raises:
        ValueError, TypeError: it is not one that ``add`` made; its id names a folder that may be cleared.
    """
    entry = Entry(**saved)
    if not re.fullmatch(ID, entry.id) or entry.state not in STATES:
        raise ValueError
    entry.parameters = dict(entry.parameters)
    return entry


def _foreign(given: Mapping[str, Any], allowed: Mapping[str, Any]) -> set[str]:
    """Names of parameters that a sweep file does not propose, or not with these values."""
    found = set()
    for name, value in given.items():
        rule = allowed.get(name)
        if not isinstance(rule, dict):
            fits = False
        elif "parameters" in rule:
            fits = isinstance(value, dict) and not _foreign(value, rule["parameters"])
        elif "values" in rule or "value" in rule:
            fits = value in rule.get("values", [rule.get("value")])
        else:
            fits = isinstance(value, (int, float))
        found |= set() if fits else {name}
    return found


def _differences(before: dict[str, Any], now: dict[str, Any]) -> set[str]:
    """Keys with other values; of the parameters their names."""
    found = {key for key in before.keys() | now.keys() if before.get(key) != now.get(key)}
    if "parameters" in found:
        old, new = dict(before.get("parameters", {})), now.get("parameters", {})
        names = {f"parameters.{key}" for key in old.keys() | new.keys() if old.get(key) != new.get(key)}
        found = (found - {"parameters"}) | names
    return found
