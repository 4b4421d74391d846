"""The configurations and sweep files that come with the package, found by their names."""

import difflib
from pathlib import Path
from typing import Literal

# Links to the repository's top folders; in a wheel, the files themselves.
PACKAGE = Path(__file__).parent.parent

Kind = Literal["conf", "sweeps"]  # what fit takes as its configuration, and what sweep runs


def shipped(kind: Kind) -> dict[str, Path]:
    """The files of a kind by their names, which are their file names without .yaml."""
    return {path.stem: path for path in sorted((PACKAGE / kind).glob("*.yaml"))}


def locate(kind: Kind, given: str) -> Path | None:
    """The file at the path ``given``, else the shipped file of that name, else what lies at the path; None: nothing."""
    path = Path(given)
    try:
        found = path if path.is_file() else shipped(kind).get(given)
        return found or (path if path.exists() else None)
    except OSError:  # longer than any path can be
        return None


def did_you_mean(given: str, names: list[str]) -> str:
    """The one of ``names`` that a path or a name is most like, in parentheses; empty if none is."""
    close = difflib.get_close_matches(Path(given).name.removesuffix(".yaml"), names, n=1)
    return f" (did you mean {close[0]}?)" if close else ""
