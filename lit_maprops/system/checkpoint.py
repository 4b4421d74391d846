"""Checkpoint files: written all or nothing, read without unpickling objects, and told in one line what is wrong."""

import io
import pickletools
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Tensor

from lit_maprops.system.errors import ConfigError, check
from lit_maprops.system.files import is_own, no_checkpoint, replacing, writing

CHECKPOINT_KEY = "lit_maprops"
OPTIONAL = {"next_start_noise"}  # keys that are not always saved
CALLED = {
    "collections OrderedDict",
    "torch Size",
    "torch device",
    "torch._utils _rebuild_parameter",
    "torch._utils _rebuild_tensor_v2",
}
MOST = 10**15  # of any number in it


class DurableCheckpointIO(TorchCheckpointIO):
    """Lightning's, but saved beside the old file and synced: Lightning's goes through the temporary folder, where every
    kill during a save leaves a whole checkpoint behind, and copies from there.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Replace ``path``, all or nothing.

        Raises:
            WriteError: the old checkpoint stays as it was.
        """
        content = io.BytesIO()
        torch.save(checkpoint, content)
        if not is_own(Path(path)):  # of a ModelCheckpoint of the user's
            with writing(Path(path)):
                Path(path).parent.mkdir(parents=True, exist_ok=True)
        with replacing(Path(path)) as file:
            file.write(content.getbuffer())


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Load a checkpoint that ``fit`` wrote, tensors on the CPU.

    Raises:
        ConfigError: the file is missing, damaged or foreign.
    """
    check(path.is_file(), no_checkpoint(path))
    damaged = ConfigError(
        f"<ckpt_path>: {path} is damaged or not a checkpoint: give a file that `fit` wrote to runs/NAME/checkpoints/"
    )
    try:
        intact = _is_intact(path)
        content: Any = torch.load(path, map_location="cpu", weights_only=True) if intact else None
    except MemoryError:
        raise
    except Exception as error:  # zipfile and torch raise nearly anything over bytes that are not theirs
        if "allocate memory" in str(error):
            raise
        raise damaged from None
    if not intact:
        raise damaged
    own_state(content, path)
    return content


def _is_intact(path: Path) -> bool:
    """Whether every record has the checksum it was written with: torch.load looks at none of them.

    Without it nine in ten flipped bits load, as other weights (tests/hostile/test_checkpoints.py).
    """
    with zipfile.ZipFile(path) as archive:
        stored = all(record.compress_type == zipfile.ZIP_STORED for record in archive.infolist())
        return stored and archive.testzip() is None and all(_is_ours(name) for name in _names(archive))


def _names(archive: zipfile.ZipFile) -> Iterator[str]:
    """What the pickles of a checkpoint call by name, as ``module name``."""
    for record in archive.namelist():
        if record.endswith(".pkl"):
            for opcode, argument, _ in pickletools.genops(archive.read(record)):
                if "GLOBAL" in opcode.name or opcode.name in ("INST", "EXT1", "EXT2", "EXT4"):
                    yield str(argument)


def _is_ours(name: str) -> bool:
    """Whether a checkpoint of ours may call it. torch.load calls more, such as ``bytearray`` of any size."""
    module, _, what = name.partition(" ")
    is_kind = what.endswith("Storage") or isinstance(vars(torch).get(what), torch.dtype)
    return name in CALLED or (module == "torch" and is_kind)


def own_state(content: Any, path: Path | None = None) -> dict[str, Any]:
    """Our part of a loaded checkpoint.

    Raises:
        ConfigError: the checkpoint is another program's.
    """
    saved = content.get(CHECKPOINT_KEY) if isinstance(content, dict) else None
    if not isinstance(saved, dict):
        where = "<ckpt_path>" if path is None else f"<ckpt_path>: {path}"
        raise ConfigError(f"{where} is not a checkpoint of lit_maprops: give one that `fit` wrote")
    return saved


def check_head(checkpoint: dict[str, Any]) -> None:
    """Refuse a checkpoint without what the other checks, and Lightning, read first.

    Raises:
        ConfigError: a part is absent or of another type.
    """
    kinds = {"iteration": int, "seed_ids": list, "run_seed": int, "shape": list, "identity": dict}
    around = {"epoch": int, "global_step": int, "pytorch-lightning_version": str, "state_dict": dict, "callbacks": dict}
    around |= {"optimizer_states": list, "lr_schedulers": list}
    for part, wanted in ((own_state(checkpoint), kinds), (checkpoint, around)):
        for name, kind in wanted.items():
            value: Any = part.get(name)
            fine = isinstance(value, kind) and not isinstance(value, bool)
            refuse(name, unless=fine and (kind is not int or 0 <= value <= MOST))
    saved = own_state(checkpoint)
    for name in ("seed_ids", "shape"):
        refuse(name, unless=bool(saved[name]) and all(type(number) is int for number in saved[name]))
    version = checkpoint["pytorch-lightning_version"]
    refuse("pytorch-lightning_version", unless=re.fullmatch(r"[2-9](\.\w{1,9}){1,4}", version) is not None)


def check_like(saved: Any, own: Any, where: str, rows: int = 0) -> None:
    """Refuse saved state with other keys, types or shapes than this run's own.

    Args:
        saved: from a checkpoint.
        own: what the run would save, with any values.
        where: names it.
        rows: length that a dimension of length 0 in ``own`` has in the checkpoint.

    Raises:
        ConfigError: the place that differs.
    """
    if isinstance(own, Tensor):
        shape = [size or rows for size in own.shape]
        plain = type(saved) is Tensor and saved.layout is torch.strided
        refuse(where, unless=plain and saved.dtype is own.dtype and list(saved.shape) == shape)
    elif isinstance(own, dict):
        same = isinstance(saved, dict) and saved.keys() - OPTIONAL == own.keys() - OPTIONAL
        refuse(where, unless=same)
        for name, value in own.items():
            if name in saved:
                check_like(saved[name], value, f"{where}/{name}", rows)
        if "block_states" in own:
            _check_streams(saved, where)
    elif isinstance(own, (list, tuple)):
        refuse(where, unless=isinstance(saved, (list, tuple)) and len(saved) == len(own))
        for place, (there, here) in enumerate(zip(saved, own, strict=True)):
            check_like(there, here, f"{where}/{place}", rows)
    elif type(own) is float:
        refuse(where, unless=type(saved) in (int, float))
    elif own is None:  # an option of an optimizer
        refuse(where, unless=saved is None)
    else:
        refuse(where, unless=type(saved) is type(own) and (type(own) is not int or 0 <= saved <= MOST))


def _check_streams(saved: dict[str, Any], where: str) -> None:
    refuse(f"{where}/cursor", unless=saved["cursor"] <= saved["block_length"] < 2**31)
    try:
        for state in saved["block_states"]:
            torch.Generator().set_state(state.clone())
    except RuntimeError:
        refuse(f"{where}/block_states")


def refuse(where: str, unless: bool = False) -> None:
    """Raise ``ConfigError`` for a place of the checkpoint that this run would have saved otherwise."""
    check(
        unless,
        f"<ckpt_path> is damaged or of another version of lit_maprops: {where} is not what this run saves; give "
        "another checkpoint or start the run anew",
    )


def check_continues(saved: dict[str, Any], own: dict[str, Any]) -> None:
    """Refuse a run of other seeds, other batches or another identity; both dictionaries as a module saves them.

    Raises:
        ConfigError: what differs.
    """
    # First what a run is of, whose defaults for the rest may differ, too.
    for name, value in own["identity"].items():
        there = saved["identity"].get(name, value)
        argument = f"<{name.removeprefix('--')}>"  # checkpoints hold them by their flags
        was, given = _named(there), _named(value)
        if was != given:
            if isinstance(was, dict) and isinstance(given, dict) and was.get("class_path") != given.get("class_path"):
                there, value = was.get("class_path"), given.get("class_path")  # their arguments say no more
            told = f"leave it as it was, {there}, not {value}"
            raise ConfigError(f"{argument} differs from the run of <ckpt_path>: {told}")
    seeds = saved["seed_ids"]
    check(
        seeds == own["seed_ids"] and saved["run_seed"] == own["run_seed"],
        "<ckpt_path> holds other seeds: leave <model.num_seeds>, <model.first_seed> and <run_seed> as "
        f"they were ({len(seeds)}, {seeds[0]}, {saved['run_seed']})",
    )
    check(
        saved["shape"] == own["shape"],
        "<ckpt_path> holds other batches: leave <data.num_envs>, <data.target_batch_size> and "
        f"<data.history_batches> as they were ({', '.join(map(str, saved['shape']))})",
    )


def _named(identity: Any) -> Any:
    """A class of the package by its stable name, whatever module of it an earlier version has written."""
    if isinstance(identity, dict) and "class_path" in identity:
        return identity | {"class_path": _named(identity["class_path"])}
    if isinstance(identity, str) and identity.startswith("lit_maprops."):
        return identity.rpartition(".")[2]
    return identity


def check_fits(saved: dict[str, Tensor], own: dict[str, Tensor]) -> None:
    """Refuse parameters of another network.

    Raises:
        ConfigError: names or shapes differ.
    """
    for name in sorted(saved.keys() | own.keys(), key=str):
        there, here = saved.get(name), own.get(name)
        refuse(f"state_dict/{name}", unless=there is None or isinstance(there, Tensor))
        if there is None or here is None or there.shape != here.shape:
            raise ConfigError(
                f"<ckpt_path> does not fit these settings: {name} is {_shape(there)} in the file and {_shape(here)} "
                "here; give the environment, behavior, learner and sizes that the run was started with"
            )
        check_like(there, here, f"state_dict/{name}")


def _shape(tensor: Tensor | None) -> str:
    return "absent" if tensor is None else str(list(tensor.shape))
