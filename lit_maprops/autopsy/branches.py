"""Branches: a state trained on to the run's end with other random numbers, many times side by side.

Whether a branch ends solved is drawn anew each time; the share that does is the chance the seed had in that state.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from lit_maprops.autopsy.case import Case
from lit_maprops.autopsy.replica import State, replica
from lit_maprops.metrics.reliability import wilson_interval
from lit_maprops.stacked.ranks import sliced
from lit_maprops.system.checkpoint import CHECKPOINT_KEY

FIRST_BRANCH = 2**128  # numbers of branches start here: none reads a stream of training's or of ``analyze``'s batches
MOST_BRANCHES, MOST_ITERATIONS = 2**20, 2**40  # of one look at a state; of a run
ROWS_AT_ONCE = 512  # branches side by side
# Purposes, whose branches share no random numbers.
SEARCH, BEFORE, AFTER, IDEAL = range(4)


class Share(NamedTuple):
    """How many of some branches ended solved."""

    solved: int
    branches: int

    @property
    def value(self) -> float:
        """The share."""
        return self.solved / self.branches

    @property
    def interval(self) -> tuple[float, float]:
        """95% Wilson score interval."""
        return wilson_interval(self.solved, self.branches)


def branch_ids(seeds: list[int], iteration: int, purpose: int, branches: range) -> list[int]:
    """Numbers of the branches whose streams are read, seed by seed: ``len(seeds) * len(branches)``."""
    place = (purpose * MOST_ITERATIONS + iteration) * MOST_BRANCHES
    return [FIRST_BRANCH * (1 + place + branch) + seed for seed in seeds for branch in branches]


def shares(case: Case, state: State, seeds: list[int], purpose: int, branches: int) -> list[Share]:
    """The chance of every seed in a state.

    Args:
        case: the run.
        state: of ``seeds``, all after the same target iteration.
        seeds: of the run, each once.
        purpose: one of those above.
        branches: of each seed.
    """
    at_once = max(1, ROWS_AT_ONCE // len(seeds))
    parts = [range(first, min(branches, first + at_once)) for first in range(0, branches, at_once)]
    solved = sum(_solved(case, state, seeds, purpose, part).sum(1) for part in parts)
    return [Share(int(count), branches) for count in torch.as_tensor(solved)]


def _solved(case: Case, state: State, seeds: list[int], purpose: int, branches: range) -> Tensor:
    """Which of the branches end solved, ``[seeds, branches]`` bool."""
    ids = branch_ids(seeds, state[CHECKPOINT_KEY]["iteration"], purpose, branches)
    starts = [seed for seed in seeds for _ in branches]
    model = replica(case, ids, starts)
    rows = [row for row in range(len(seeds)) for _ in branches]
    model.branch_from(sliced(state, rows))
    if model.iteration >= model.data.iterations:
        model.evaluations = model.evaluate("evaluation", model.eval_episodes)
    while model.iteration < model.data.iterations:
        model.iterate()
    assert model.evaluations is not None  # of the last iteration
    return case.solved(model.evaluations["greedy"]).unflatten(0, (len(seeds), len(branches)))
