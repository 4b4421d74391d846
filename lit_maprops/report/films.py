"""The runs' GIFs, embedded up to a total size."""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass

from lit_maprops.report.analysis import Setting

KINDS = ("success", "failure", "episode")
MOST_BYTES = 6_000_000  # of all films of a page


@dataclass(frozen=True)
class Film:
    """An episode of one seed's decentralized policies."""

    caption: str
    source: str  # data URI


def films(settings: Sequence[Setting]) -> tuple[dict[str, list[Film]], list[str]]:
    """Of every sampler in every setting the first success and the first failure; of tasks without success an episode.

    Returns:
        Films by the setting's name, and what was left out and why.
    """
    found: dict[str, list[Film]] = {}
    notes, total = [], 0
    for setting in settings:
        for group in setting.groups:
            for kind in KINDS:
                path = next((p for run in group.runs if (p := run.path / f"{kind}.gif").is_file()), None)
                if path is None:
                    continue
                size = path.stat().st_size
                if total + size > MOST_BYTES:
                    notes.append(
                        f"{group.name}, {kind}: {size / 1e6:.1f} MB, films may take {MOST_BYTES / 1e6:g} MB in all"
                    )
                    continue
                content = path.read_bytes()
                if not content.startswith(b"GIF8"):
                    notes.append(f"{group.name}, {kind}: no GIF file")
                    continue
                total += size
                source = "data:image/gif;base64," + b64encode(content).decode()
                found.setdefault(setting.name, []).append(Film(f"{group.name}: {kind}", source))
    return found, notes
