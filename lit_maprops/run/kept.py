"""Older checkpoints of a run: ``env_steps_N.ckpt`` beside last.ckpt, N counted per seed."""

import os
from pathlib import Path

from lit_maprops.system.files import replacing, writing


def keep(newest: Path, env_steps: int, most: int) -> None:
    """Give the newest checkpoint a second name, under which it stays when the next one takes its place.

    Args:
        newest: last.ckpt, which may not be there yet.
        env_steps: it was taken at (per seed).
        most: such checkpoints to keep, those of the most env steps.

    Raises:
        WriteError: the disk is full or gone.
    """
    kept = kept_checkpoints(newest.parent)
    path = newest.with_name(f"env_steps_{env_steps}.ckpt")
    with writing(path):
        if newest.exists() and env_steps not in kept:
            link_or_copy(newest, path)
            kept[env_steps] = path
        for number in sorted(kept)[:-most]:
            kept[number].unlink()


def drop_later(newest: Path, env_steps: int) -> None:
    """Remove checkpoints of what a run that goes on from ``env_steps`` trains anew."""
    for number, path in kept_checkpoints(newest.parent).items():
        if number > env_steps:
            path.unlink()


def kept_checkpoints(folder: Path) -> dict[int, Path]:
    """By the env steps they were taken at; files of other names are not ours."""
    found = ((path.stem.removeprefix("env_steps_"), path) for path in folder.glob("env_steps_*.ckpt"))
    return {int(number): path for number, path in found if number.isdecimal()}


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it where the file system cannot."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:  # the file system has no hard links, or the disk is full, which the copy will say
        with replacing(target) as file:
            file.write(source.read_bytes())
