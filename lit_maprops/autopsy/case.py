"""A finished run whose failed seeds can be looked into."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning.pytorch import Trainer
from torch import Tensor

from lit_maprops.analyze.subject import read_run
from lit_maprops.data import MultiAgentData
from lit_maprops.metrics.evaluate import Evaluation
from lit_maprops.metrics.reliability import Criterion, share_text
from lit_maprops.module import LitMAPROPS
from lit_maprops.run.kept import kept_checkpoints
from lit_maprops.system.checkpoint import check_head, own_state
from lit_maprops.system.errors import check
from lit_maprops.system.tables import read_table


class Case(NamedTuple):
    """What a run folder says; nothing of it is changed."""

    folder: Path
    template: LitMAPROPS  # as configured, never prepared: replicas are made of its parts
    data: MultiAgentData  # likewise
    trainer: Trainer
    newest: dict[str, Any]  # content of last.ckpt
    older: dict[int, Path]  # checkpoints by target iteration
    seeds: list[int]
    judged: Criterion  # when a seed counts as solved
    scores: list[float]  # what it judges, of the greedy policies at the end; NaN of a seed without a figure

    @property
    def iterations(self) -> int:
        """Target iterations of the run."""
        return self.template.total_env_steps // self.data.target_batch_size

    @property
    def failed(self) -> list[int]:
        """Numbers of the seeds that did not solve the task."""
        solved = self.judged.solved(self.scores)
        return [seed for seed, well in zip(self.seeds, solved, strict=True) if not well]

    def solved(self, greedy: Evaluation) -> Tensor:
        """Which seeds an evaluation of their greedy policies calls solved, ``[R]`` bool; NaN never is."""
        return torch.from_numpy(
            self.judged.solved(greedy.episode_return if self.judged.by_return else greedy.success_rate)
        )

    def row(self, seed: int) -> int:
        """Where a seed stands among the run's."""
        return self.seeds.index(seed)


def load(folder: Path, classes: Sequence[str] = ()) -> Case:
    """Read a finished run.

    Args:
        folder: of the run.
        classes: as ``analyze.subject.read_run`` takes them.

    Raises:
        ConfigError: no run, no checkpoint, an unfinished run, or one of a kind that cannot be looked into.
    """
    check((folder / "config.yaml").is_file(), f"autopsy: {folder} is no run's folder: give one that `fit` wrote")
    checkpoint = folder / "checkpoints" / "last.ckpt"
    check(
        checkpoint.is_file(),
        f"autopsy: {folder} has no checkpoint, checkpoints/last.ckpt: give a run that has been trained to its end",
    )
    content, _, cli = read_run(checkpoint, classes)
    check_head(content)
    template, data = cli.model, cli.datamodule
    _check_kind(template, data)
    saved, n = own_state(content), data.target_batch_size
    done, planned = saved.get("iteration"), template.total_env_steps // n
    check(
        done == planned,
        f"autopsy: {folder} stands at {done} of {planned} target iterations: finish it first, with "
        f"<ckpt_path> {checkpoint}",
    )
    _check_quarantine(saved.get("quarantined"))
    older = {
        steps // n: path for steps, path in kept_checkpoints(checkpoint.parent).items() if steps % n == 0 and steps
    }
    judged, scores = _scores(folder / "eval.csv", template)
    return Case(folder, template, data, cli.trainer, content, older, template.seed_ids, judged, scores)


def check_seed(case: Case, seed: int) -> None:
    """Refuse a seed that is not there or did not fail.

    Raises:
        ConfigError: says which seeds failed.
    """
    first, last = case.seeds[0], case.seeds[-1]
    check(seed in case.seeds, f"<seed> is {seed}: the run has the seeds {first} to {last}; {failed_seeds(case)}")
    score = case.scores[case.row(seed)]
    ended = f"return {score:.3g}" if case.judged.by_return else f"success {share_text(score)}"
    check(seed in case.failed, f"<seed> {seed} did not fail, it ended with {ended}: {failed_seeds(case)}")


def failed_seeds(case: Case) -> str:
    """In words, for messages."""
    failed = case.failed
    if not failed:
        return "none of them failed"
    return f"failed: {', '.join(map(str, failed[:20]))}{', ...' if len(failed) > 20 else ''}"


def _check_kind(template: LitMAPROPS, data: MultiAgentData) -> None:
    check(
        not data.env.continuous_actions,
        f"autopsy: {type(data.env).__name__} has continuous actions, and joint actions cannot be counted: give a run "
        "with discrete ones",
    )
    check(
        data.history == "fixed" and data.history_batches == 1,
        "autopsy: the run learns from older batches, too (<data.history_batches>, <data.history>), so no update is "
        "one batch's: give a run without history",
    )


def _check_quarantine(quarantined: Any) -> None:
    check(not quarantined, "autopsy: the run has quarantined seeds, whose failure is the environment's: look there")


def _scores(path: Path, template: LitMAPROPS) -> tuple[Criterion, list[float]]:
    """What judges the seeds, and every seed's score at the last evaluation."""
    seeds = template.seed_ids
    try:
        table = read_table(path)
        last = table["env_steps"] == table["env_steps"].max()
        numbers = table["seed"][last].astype(int)
        rates, returns = table["greedy_success_rate"][last], table["greedy_return"][last]
    except (OSError, KeyError, ValueError):
        numbers = np.zeros(0, int)
    check(
        numbers.tolist() == list(seeds),
        f"autopsy: {path} does not hold the last evaluation of every seed: put back the run's own file",
    )
    judged = template.criterion(not bool(np.isnan(rates).all()))
    check(
        judged.tells_solved,
        "autopsy: nothing says which seeds failed, the task tells no success: give a run with <model.solved_on> return "
        "and a <model.solved_threshold>",
    )
    return judged, (returns if judged.by_return else rates).tolist()
