"""What ends a training run before its time, in one line; a traceback goes to ``error.txt`` in the run's folder."""

import contextlib
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lit_maprops.metrics import phases
from lit_maprops.module import LitMAPROPS
from lit_maprops.system.errors import EnvironmentFault, SamplerFault, WriteError
from lit_maprops.system.files import write_atomically
from lit_maprops.system.memory import OutOfMemory, is_out_of_memory


@contextlib.contextmanager
def one_line_failures(model: LitMAPROPS, folder: Path) -> Iterator[None]:
    """Complete the errors of the commands that run inside.

    Args:
        model: which is trained or evaluated.
        folder: of the run.

    Raises:
        EnvironmentFault, SamplerFault: as it was raised, with the path of the traceback of the exception behind it.
        OutOfMemory: says what ran out of memory and which settings to change, with their present values.
    """
    try:
        yield
    except (EnvironmentFault, SamplerFault) as fault:
        if fault.__cause__ is None:
            raise
        path = folder / "error.txt"
        with contextlib.suppress(WriteError):
            write_atomically(path, "".join(traceback.format_exception(fault.__cause__)))
            raise type(fault)(f"{fault.marked}; its traceback is in {path}") from fault.__cause__
        raise
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        phase = model.phases.current
        part = WORDS.get(phase or "", "the run")
        raise OutOfMemory(
            f"out of memory in {part}, at env step {model.env_steps:,}: lower {_sizes(model, phase)}"
        ) from error


WORDS = {
    phases.COLLECT: "the collection",
    phases.BUFFER: "D, the buffer",
    phases.BEHAVIOR: "a behavior update",
    phases.TARGET: "a target update",
    phases.EVALUATION: "an evaluation",
    phases.SAMPLING_ERROR: "the estimate of the sampling error",
    phases.CHECKPOINT: "a checkpoint",
}


def _sizes(model: LitMAPROPS, phase: str | None) -> str:
    """What the memory of a phase grows with: arguments with their present values."""
    data = model.data
    batch: dict[str, Any] = {"<data.target_batch_size>": data.target_batch_size}
    if data.stored_batches > 1:
        batch["<data.history_batches>"] = data.stored_batches
    networks = {"behavior": model.behavior, "learner": model.learner}
    layers = {name: {f"<{name}.hidden>": getattr(net, "hidden", None)} for name, net in networks.items()}
    sizes = {
        phases.COLLECT: {"<data.num_envs>": data.num_envs} | batch | layers["learner"] | layers["behavior"],
        phases.BEHAVIOR: batch | layers["behavior"],
        phases.TARGET: batch | layers["learner"],
        phases.EVALUATION: {"<model.eval_episodes>": model.eval_episodes} | layers["learner"],
    }.get(phase or "", batch)
    shown = [f"{name} ({value})" for name, value in ({"<model.num_seeds>": model.num_seeds} | sizes).items() if value]
    line = f"{', '.join(shown[:-1])} or {shown[-1]}"
    for name, of in (("behavior", phases.BEHAVIOR), ("learner", phases.TARGET)):
        parts = getattr(networks[name], "minibatches", None)
        if phase == of and parts:
            line += f", or raise <{name}.minibatches> ({parts})"
    return line
