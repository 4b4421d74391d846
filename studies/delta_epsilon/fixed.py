"""Bias and variance over the grid at fixed policies of BoulderPush: those of on-policy runs, at three ages."""

import numpy as np
import torch

from lit_maprops.analyze.analysis import analyze
from lit_maprops.analyze.batches import on_policy_reference
from lit_maprops.analyze.subject import Sampler, Subject, load
from lit_maprops.metrics.gradients import Reference
from lit_maprops.run.options import parsed
from studies.delta_epsilon.grid import BASE, BOULDER, TASKS, Cell
from studies.runs import Run, complete

SEEDS = 32  # the first of the grid's
AGES = {"half way": 7680, "after a quarter": 3840, "at the end": 15360}  # env steps per seed
BATCHES, OF_BASE, REFERENCE = 8, 32, 96  # batches per seed: of a cell, of on-policy sampling, of the reference
# Of a seed; differences of returns are to the reference's, the gradient's are sums over its components.
FIGURES = ("variance", "bias_squared", "mse", "return_bias", "importance_bias", "effective_sample_share")


def on_policy_run(age: str) -> Run:
    """The on-policy run that ends at an age."""
    words = [word for word in TASKS[BOULDER].words(BASE) if not word.startswith("--config")]
    sizes = ["--model.num_seeds", str(SEEDS), "--model.total_env_steps", str(AGES[age])]
    return Run("delta_epsilon", age, "boulderpush_reliability", [*words, *sizes], TASKS[BOULDER].run_seed)


def sampler_of(cell: Cell) -> Sampler:
    """The behavior policy that the training runs of the cell have."""
    return Sampler(parsed([*TASKS[BOULDER].words(cell), "--trainer.accelerator=cpu"]).model.behavior)


class Age:
    """Policies of an age and what their gradient and return are, found when first needed.

    Args:
        name: of ``AGES``.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._found: tuple[Subject, Reference] | None = None

    def found(self) -> tuple[Subject, Reference]:
        """The run's end, and the mean of its reference batches."""
        if self._found is None:
            run = on_policy_run(self.name)
            complete([run], workers=0)
            torch.set_num_threads(1)
            subject = load(run.folder / "checkpoints" / "last.ckpt")
            self._found = subject, on_policy_reference(subject, REFERENCE, subject.target_batch_size)
        return self._found

    def measured(self, cell: Cell) -> list[dict[str, object]]:
        """A row of the table per seed."""
        subject, reference = self.found()
        batches = OF_BASE if cell == BASE else BATCHES
        result = analyze(subject, {"": sampler_of(cell)}, batches, subject.target_batch_size, reference)
        norm = (reference.gradient.square().sum(-1) - reference.variance).double().numpy()
        own: dict[str, object] = {"age": self.name, "delta": cell.delta, "epsilon": cell.epsilon}
        return [
            own
            | {"seed": row["seed"]}
            | {name: float(row[name]) for name in FIGURES}
            | {"return": float(reference.episode_return[k]), "norm_squared": float(np.float64(norm[k]))}
            for k, row in enumerate(result.rows())
        ]
