"""Reads what W&B has written offline: its program alone can send it, and no function of its package reads it back.

The file is LevelDB's log (https://github.com/google/leveldb/blob/main/doc/log_format.md) after a header of seven bytes;
its records are the messages of ``wandb.proto``.
"""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2 as messages

BLOCK, HEAD, IDENTIFIER = 32_768, 7, b":W&B"
FULL, FIRST, _, LAST = 1, 2, 3, 4  # kinds of a record's fragments


def contents(path: Path) -> Iterator[bytes]:
    """The records of a .wandb file, in order; of one that is still being written up to the first unfinished one.

    Raises:
        ValueError: it is no such file.
    """
    data = path.read_bytes()
    if data[: len(IDENTIFIER)] != IDENTIFIER:
        raise ValueError(f"{path} is no file of W&B's")
    place, whole = HEAD, b""
    while place + HEAD <= len(data):
        left = BLOCK - place % BLOCK
        if left < HEAD:  # filled up with zeros
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + HEAD])
        fragment = data[place + HEAD : place + HEAD + length]
        place += HEAD + length
        whole = fragment if kind in (FULL, FIRST) else whole + fragment
        if kind in (FULL, LAST):
            yield whole


def records(folder: Path) -> Iterator[Any]:
    """The messages of a run's newest offline W&B run.

    Args:
        folder: of the run.
    """
    (*_, newest) = sorted(folder.glob("wandb/offline-run-*/run-*.wandb"))
    for content in contents(newest):
        record = messages.Record()
        record.ParseFromString(content)
        yield record


def history(folder: Path) -> list[dict[str, Any]]:
    """What was logged, row by row, by name."""
    rows = [record.history.item for record in records(folder) if record.WhichOneof("record_type") == "history"]
    return [{item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in row} for row in rows]


def table(folder: Path, name: str) -> list[dict[str, Any]]:
    """The newest table that was logged under a name, a row as a dict.

    Args:
        folder: of the run.
        name: in the history.
    """
    (*_, newest) = [row[f"{name}/path"] for row in history(folder) if f"{name}/path" in row]
    (file,) = folder.glob(f"wandb/offline-run-*/files/{newest}")
    content = json.loads(file.read_text())
    return [dict(zip(content["columns"], row, strict=True)) for row in content["data"]]


def panel(folder: Path, name: str) -> dict[str, Any]:
    """How a custom chart is set up that was logged under a name: the newest ``panel_config``.

    Raises:
        LookupError: there is none.
    """
    found: dict[str, Any] = {}
    for record in records(folder):
        for update in record.config.update if record.WhichOneof("record_type") == "config" else ():
            if list(update.nested_key) == ["_wandb", "visualize", name]:
                found = json.loads(update.value_json)["panel_config"]
    if not found:
        raise LookupError(f"{folder} has no chart {name}")
    return found
