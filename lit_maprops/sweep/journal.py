"""What a sweep remembers of its runs: ``sweep.json``, written before a run starts and after it ends, atomically."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from lit_maprops.sweep.sweep_file import SweepFile
from lit_maprops.system.errors import ConfigError, FolderLost, check
from lit_maprops.system.files import is_held, write_json

LOCK = "sweep.lock"
ID = r"\d{3,}-[0-9a-f]{6}"
STATES = ("waiting", "running", "finished", "stopped", "failed")


@dataclass
class Entry:
    """One run.

    Args:
        id: its folder inside the sweep's.
        parameters: the flags proposed for it.
        state: ``waiting``, ``running``, ``finished``, ``stopped`` (early, by hyperband) or ``failed``. A run that is
            still ``running`` when a sweep starts was interrupted with it.
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
        held: its lock.

    Raises:
        ConfigError: the folder holds a sweep of another file.
    """

    def __init__(self, folder: Path, file: SweepFile, held: IO[str]) -> None:
        self.path, self._held = folder / "sweep.json", held
        self._meaning = json.loads(json.dumps(file.meaning, default=str))
        self.entries: list[Entry] = []
        if self.path.exists():
            try:
                content = json.loads(self.path.read_text())
                self.entries = [_entry(**entry) for entry in content["runs"]]
                different = sorted(_differences(dict(content["sweep"]), self._meaning))
            except (OSError, ValueError, KeyError, TypeError, RecursionError):
                raise ConfigError(f"<runs_dir>: {self.path} is damaged: move it away, or choose a new place") from None
            check(
                not different,
                f"{file.path} has changed since its runs in {folder} began ({', '.join(different)}): "
                "choose a new place with <runs_dir>, or another name in the file",
            )
            # They become words of a command: a folder of somebody else's may not add its own.
            for entry in self.entries:
                foreign = sorted(_foreign(entry.parameters, file.proposed))
                check(
                    not foreign,
                    f"<runs_dir>: {self.path} has a run {entry.id} with {', '.join(foreign)} as {file.path} never "
                    "proposes it: move the folder away, or choose a new place",
                )

    def add(self, parameters: dict[str, Any]) -> Entry:
        """Remember a proposal; its id is its number and a hash of its parameters."""
        digest = hashlib.sha256(json.dumps(parameters, sort_keys=True, default=str).encode()).hexdigest()
        entry = Entry(f"{len(self.entries):03d}-{digest[:6]}", parameters)
        self.entries.append(entry)
        self.save()
        return entry

    def save(self) -> None:
        """Write the file.

        Raises:
            FolderLost: it would not be that of this sweep.
        """
        if not is_held(self.path.with_name(LOCK), self._held):
            folder = self.path.parent
            raise FolderLost(f"{folder} was removed or made anew while this sweep was at work in it: give it again")
        write_json(self.path, {"sweep": self._meaning, "runs": [asdict(entry) for entry in self.entries]})


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
