"""Training over the grid: which seeds are solved, and the sampling error of D in the last tenth of the updates."""

import numpy as np
import torch
from numpy.typing import NDArray

from lit_maprops.module import LitMAPROPS
from lit_maprops.run.options import parsed
from studies.delta_epsilon.grid import TASKS, Cell
from studies.train import train

UPDATES = 60  # target updates of a run
# Whose batches the sampling error is told of; the end is the last tenth.
WHEN = {"end": slice(-UPDATES // 10, None), "start": slice(UPDATES // 10), "mean": slice(None)}
ERROR = "sampling_error/joint_tv"
DIAGNOSTICS = (
    "behavior/kl",
    "behavior/kl_reached",
    "behavior/gradient_steps",
    "behavior/cutoff_share",
    "behavior/first_step_cutoff_share",
    "behavior/ratio_clipped",
)


class Trained:
    """A run, watched from update to update.

    Args:
        task: of ``TASKS``.
        cell: its behavior policy.
        first_seed: number of its first seed.
        seeds: R.
        updates: target updates.
    """

    def __init__(self, task: str, cell: Cell, first_seed: int, seeds: int, updates: int = UPDATES) -> None:
        sizes = {"num_seeds": seeds, "first_seed": first_seed, "eval_interval": updates, "sampling_error_interval": 1}
        words = [*TASKS[task].words(cell), f"--seed_everything={TASKS[task].run_seed}", "--trainer.accelerator=cpu"]
        cli = parsed([*words, *(f"--model.{name}={value}" for name, value in sizes.items())])
        self.model: LitMAPROPS = cli.model
        self.model.total_env_steps = updates * cli.datamodule.target_batch_size
        self.rows: list[dict[str, NDArray[np.floating]]] = []
        train(self.model, cli.datamodule, self._note)

    def _note(self, model: LitMAPROPS) -> None:
        names = (ERROR, f"{ERROR}_on_policy", *DIAGNOSTICS)
        self.rows.append({name: model.row[name].double().numpy() for name in names if name in model.row})

    def of(self, name: str, updates: slice = slice(None)) -> NDArray[np.floating]:
        """Mean over target updates of a figure: ``[R]``; NaN where there is no such figure."""
        return np.mean([row.get(name, np.full(self.model.num_seeds, np.nan)) for row in self.rows[updates]], 0)

    def solved(self) -> NDArray[np.bool_]:
        """Which seeds' greedy policies solve the task at the end."""
        assert self.model.evaluations is not None
        return self.model.criterion(True).solved(self.model.evaluations["greedy"].success_rate.numpy())


def measured(task: str, cell: Cell, first_seed: int) -> dict[str, object]:
    """A row of the table: a block of seeds of a cell."""
    torch.set_num_threads(1)
    run = Trained(task, cell, first_seed, TASKS[task].block)
    row: dict[str, object] = {"task": task, "delta": cell.delta, "epsilon": cell.epsilon, "first seed": first_seed}
    row["solved"] = "".join("01"[int(one)] for one in run.solved())
    for when, updates in WHEN.items():
        own, on_policy = run.of(ERROR, updates), run.of(f"{ERROR}_on_policy", updates)
        for name, value in (("own", own), ("on-policy", on_policy), ("change", own - on_policy)):
            row |= {f"{when} {name}": float(value.mean()), f"{when} {name} variance": float(value.var())}
    return row | {name: float(np.mean(run.of(name))) for name in DIAGNOSTICS}
