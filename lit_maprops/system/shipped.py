"""The configurations and sweep files that come with the package, found by their names."""

import os
from pathlib import Path
from typing import Literal

from lit_maprops.system.errors import did_you_mean
from lit_maprops.system.files import home_path

# Links to the repository's top folders; in a wheel, the files themselves.
PACKAGE = Path(__file__).parent.parent

LISTED = "lit-maprops conf lists the shipped ones"

Kind = Literal["conf", "sweeps", "conf/presets"]  # what fit takes as its configuration, what sweep runs, and what is
# laid over a configuration: part of one, which fit takes, too


def shipped(kind: Kind) -> dict[str, Path]:
    """The files of a kind by their names, which are their file names without .yaml."""
    return {path.stem: path for path in sorted((PACKAGE / kind).glob("*.yaml"))}


def _named(kind: Kind) -> dict[str, Path]:
    return shipped(kind) | (shipped("conf/presets") if kind == "conf" else {})


def locate(kind: Kind, given: str) -> Path | None:
    """The file at the path ``given``, else the shipped file of that name, else a pipe at the path; None: nothing."""
    path = home_path(given)
    try:
        found = path if path.is_file() else _named(kind).get(given)
        return found or (path if path.exists() and not path.is_dir() else None)
    except OSError:  # longer than any path can be
        return None


def nothing_there(kind: Kind, given: str) -> str:
    """The end of an error line for a path or name that ``locate`` does not find."""
    path = home_path(given)
    if os.path.isdir(path):  # False where the path is too long to be one
        own = path / "config.yaml"  # it is a run folder
        return f"{given} is a folder: give " + (str(own) if own.is_file() else f"a file; {LISTED}")
    similar = did_you_mean(Path(given).name.removesuffix(".yaml"), _named(kind))
    return f"there is no file {given}{similar}: {LISTED}"
