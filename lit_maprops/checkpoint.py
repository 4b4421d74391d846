"""Checkpoint files: written all or nothing, read without unpickling objects, and told in one line what is wrong."""

import io
import pickle
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Tensor

from lit_maprops.config import ConfigError, check
from lit_maprops.files import replacing

CHECKPOINT_KEY = "lit_maprops"


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
        with replacing(Path(path)) as file:
            file.write(content.getbuffer())


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Load a checkpoint that ``fit`` wrote, tensors on the CPU.

    Raises:
        ConfigError: the file is missing, damaged or foreign.
    """
    check(path.is_file(), f"--ckpt_path: there is no file {path}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, KeyError, ValueError, pickle.UnpicklingError):
        raise ConfigError(
            f"--ckpt_path: {path} is damaged or not a checkpoint: give a file that `fit` wrote to "
            "runs/<run_name>/checkpoints/"
        ) from None
    ours(content, path)
    return content


def ours(content: Any, path: Path | None = None) -> dict[str, Any]:
    """Our part of a loaded checkpoint.

    Raises:
        ConfigError: the checkpoint is another program's.
    """
    saved = content.get(CHECKPOINT_KEY) if isinstance(content, dict) else None
    if not isinstance(saved, dict):
        where = "--ckpt_path" if path is None else f"--ckpt_path: {path}"
        raise ConfigError(f"{where} is not a checkpoint of lit_maprops: give one that `fit` wrote")
    return saved


def check_continues(saved: dict[str, Any], own: dict[str, Any]) -> None:
    """Refuse a run of other seeds, other batches or another identity; both dictionaries as a module saves them.

    Raises:
        ConfigError: what differs.
    """
    seeds = saved["seed_ids"]
    check(
        seeds == own["seed_ids"] and saved["run_seed"] == own["run_seed"],
        "--ckpt_path holds other seeds: leave --model.num_seeds, --model.first_seed and --seed_everything as "
        f"they were ({len(seeds)}, {seeds[0]}, {saved['run_seed']})",
    )
    check(
        saved["shape"] == own["shape"],
        "--ckpt_path holds other batches: leave --data.num_envs, --data.target_batch_size and "
        f"--data.history_batches as they were ({', '.join(map(str, saved['shape']))})",
    )
    for flag, value in own["identity"].items():
        there = saved["identity"].get(flag, value)
        check(there == value, f"{flag} differs from the run of --ckpt_path: leave it as it was, {there}")


def check_fits(saved: dict[str, Tensor], own: dict[str, Tensor]) -> None:
    """Refuse parameters of another network.

    Raises:
        ConfigError: names or shapes differ.
    """
    for name in sorted(saved.keys() | own.keys()):
        there, here = saved.get(name), own.get(name)
        if there is None or here is None or there.shape != here.shape:
            raise ConfigError(
                f"--ckpt_path does not fit these settings: {name} is {_shape(there)} in the file and {_shape(here)} "
                "here; give the environment, behavior, learner and sizes that the run was started with"
            )


def _shape(tensor: Tensor | None) -> str:
    return "absent" if tensor is None else str(list(tensor.shape))
