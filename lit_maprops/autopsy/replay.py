"""The run once more, for the states of its failed seeds and the batches of their updates."""

from collections.abc import Collection
from typing import NamedTuple

import torch
from tensordict import TensorDictBase
from torch import Tensor

from lit_maprops.autopsy.case import Case
from lit_maprops.autopsy.replica import Replica, State, replica
from lit_maprops.engine import NOTHING
from lit_maprops.stacked.ranks import sliced
from lit_maprops.system.checkpoint import CHECKPOINT_KEY, check_head, check_like, own_state, read_checkpoint
from lit_maprops.system.errors import check

KEPT_BYTES = 2**29  # of states; of more, those that are asked for are made anew each time


class Moment(NamedTuple):
    """Some seeds after a target iteration."""

    state: State
    batch: TensorDictBase | None  # that the iteration's update learned from, ``[R, T, E]``; None at the beginning


class Replay:
    """What the seeds went through, bit for bit where kernels run every part of the run.

    Elsewhere all seeds of the run are replayed side by side, since how torch rounds depends on what lies beside a seed.
    Starts at the newest checkpoint that comes early enough, else at the beginning.

    Args:
        case: the run.
        seeds: of it.

    Attributes:
        exact: whether it ended with the very weights of the run's last checkpoint; None before that is known.

    Raises:
        ConfigError: the replayed seeds end otherwise, and one of them does not fail.
    """

    def __init__(self, case: Case, seeds: list[int]) -> None:
        self.case, self.seeds = case, seeds
        model = replica(case, seeds, seeds)
        engines = model.engines
        assert engines is not None
        alone = all(reason in (None, NOTHING) for reason in engines)
        self._ids = seeds if alone else case.seeds
        self._rows = [self._ids.index(seed) for seed in seeds]
        bytes_of_all = sum(tensor.numel() * tensor.element_size() for tensor in _tensors(model.state()))
        self._keeps = bytes_of_all * case.iterations <= KEPT_BYTES
        self._kept: dict[int, Moment] = {}
        self._check_end()

    def moments(self, iterations: Collection[int]) -> dict[int, Moment]:
        """The seeds after each of these target iterations; 0 is the beginning."""
        missing = set(iterations) - self._kept.keys()
        made = self._played(missing) if missing else {}
        return {k: made[k] if k in made else self._kept[k] for k in iterations}

    def _played(self, wanted: Collection[int]) -> dict[int, Moment]:
        model, found = replica(self.case, self._ids, self._ids), {}
        self._skip(model, min(wanted))
        if 0 in wanted:
            found[0] = Moment(sliced(model.state(), self._rows), None)
        while model.iteration < max(wanted):
            model.iterate()
            if model.iteration in wanted:
                batch = model.batch[torch.tensor(self._rows)]
                found[model.iteration] = Moment(sliced(model.state(), self._rows), batch)
        return found

    def _skip(self, model: Replica, first: int) -> None:
        """Go to the newest checkpoint that comes before target iteration ``first``, whose batch is wanted, too."""
        early = [iteration for iteration in self.case.older if iteration < first]
        if not early:
            return
        content = read_checkpoint(self.case.older[max(early)])
        check_head(content)
        saved = {name: content[name] for name in ("state_dict", "optimizer_states")}
        saved[CHECKPOINT_KEY] = own_state(content) | model.identity_state()
        state = sliced(saved, [self.case.row(seed) for seed in self._ids])
        check_like(state, model.state(), "a checkpoint")
        model.go_to(state)

    def _check_end(self) -> None:
        """Play to the end, and compare it with what the run left behind."""
        case, last = self.case, self.case.iterations
        wanted = range(last + 1) if self._keeps else [last]
        made = self._played(wanted)
        if self._keeps:
            self._kept = made
        ours = made[last].state["state_dict"]
        theirs = sliced(case.newest["state_dict"], [case.row(seed) for seed in self.seeds])
        same = ours.keys() == theirs.keys()
        self.exact = same and all(torch.equal(value, theirs[name]) for name, value in ours.items())
        if self.exact:
            return
        model = replica(case, self.seeds, self.seeds)
        model.go_to(made[last].state)
        solved = case.solved(model.evaluate("evaluation", model.eval_episodes)["greedy"])
        recovered = [seed for seed, well in zip(self.seeds, solved.tolist(), strict=True) if well]
        check(
            not recovered,
            f"autopsy: seed {', '.join(map(str, recovered))} of {case.folder} does not fail when it is replayed here: "
            "the run was made by another engine, version or machine, or was continued with other settings",
        )


def _tensors(tree: object) -> list[Tensor]:
    if isinstance(tree, Tensor):
        return [tree]
    children = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, (list, tuple)) else ()
    return [tensor for child in children for tensor in _tensors(child)]
