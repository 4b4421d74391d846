"""What ends a training run before its time, in one line; a traceback goes to ``error.txt`` in the run's folder."""

import contextlib
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lit_maprops.behavior import BehaviorPolicy
from lit_maprops.buffer import Buffer
from lit_maprops.collect import Collection
from lit_maprops.module import LitMAPROPS
from lit_maprops.system.errors import EnvironmentFault, WriteError
from lit_maprops.system.files import write_atomically
from lit_maprops.system.memory import OutOfMemory, is_out_of_memory
from lit_maprops.targets import Learner


@contextlib.contextmanager
def one_line_failures(model: LitMAPROPS, folder: Path) -> Iterator[None]:
    """Complete the errors of the commands that run inside.

    Args:
        model: which is trained or evaluated.
        folder: of the run.

    Raises:
        EnvironmentFault: as it was raised, with the path of the traceback of the exception behind it.
        OutOfMemory: says what ran out of memory and which settings to change, with their present values.
    """
    try:
        yield
    except EnvironmentFault as fault:
        if fault.__cause__ is None:
            raise
        path = folder / "error.txt"
        with contextlib.suppress(WriteError):
            write_atomically(path, "".join(traceback.format_exception(fault.__cause__)))
            raise EnvironmentFault(f"{fault.marked}; its traceback is in {path}") from fault.__cause__
        raise
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        part = _part_of(error)
        raise OutOfMemory(
            f"out of memory in {part}, at env step {model.env_steps:,}: lower {_sizes(model, part)}"
        ) from error


COLLECTION, BUFFER, BEHAVIOR, TARGET, EVALUATION, SAMPLING_ERROR, CHECKPOINT = (
    "the collection",
    "D, the buffer",
    "a behavior update",
    "a target update",
    "an evaluation",
    "the estimate of the sampling error",
    "a checkpoint",
)
OBJECTS = {Collection: COLLECTION, BehaviorPolicy: BEHAVIOR, Learner: TARGET, Buffer: BUFFER}
FUNCTIONS = {"evaluate": EVALUATION, "_sampling_error": SAMPLING_ERROR, "save_checkpoint": CHECKPOINT}


def _part_of(error: Exception) -> str:
    """Which part of the run an error comes from: the outermost that its traceback passes through."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_name in FUNCTIONS:
            return FUNCTIONS[frame.f_code.co_name]
        for kind, part in OBJECTS.items():
            if isinstance(frame.f_locals.get("self"), kind):
                return part
    return "the run"


def _sizes(model: LitMAPROPS, part: str) -> str:
    """What the memory of a part grows with: arguments with their present values."""
    data = model.data
    batch: dict[str, Any] = {"<data.target_batch_size>": data.target_batch_size}
    if data.stored_batches > 1:
        batch["<data.history_batches>"] = data.stored_batches
    networks = {"behavior": model.behavior, "learner": model.learner}
    layers = {name: {f"<{name}.hidden>": getattr(net, "hidden", None)} for name, net in networks.items()}
    sizes = {
        COLLECTION: {"<data.num_envs>": data.num_envs} | batch | layers["learner"] | layers["behavior"],
        BEHAVIOR: batch | layers["behavior"],
        TARGET: batch | layers["learner"],
        EVALUATION: {"<model.eval_episodes>": model.eval_episodes} | layers["learner"],
    }.get(part, batch)
    shown = [f"{name} ({value})" for name, value in ({"<model.num_seeds>": model.num_seeds} | sizes).items() if value]
    line = f"{', '.join(shown[:-1])} or {shown[-1]}"
    for name, of in (("behavior", BEHAVIOR), ("learner", TARGET)):
        parts = getattr(networks[name], "minibatches", None)
        if part == of and parts:
            line += f", or raise <{name}.minibatches> ({parts})"
    return line
