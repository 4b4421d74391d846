"""The grid of KL cutoffs delta and clips epsilon, and what is run on it; BoulderPush's is sweeps/delta_epsilon.yaml."""

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import yaml

from lit_maprops.system.shipped import shipped

SWEEP = yaml.safe_load(shipped("sweeps")["delta_epsilon"].read_text())
BEHAVIOR = "--model.behavior"
DELTAS: list[float] = SWEEP["parameters"]["model.behavior.kl_cutoff"]["values"]
EPSILONS: list[float] = SWEEP["parameters"]["model.behavior.clip_epsilon"]["values"]
NO_CLIP = 1.0  # from this epsilon on nothing is clipped
BOULDER, GAME = "BoulderPush", "figure1"


class Cell(NamedTuple):
    """Settings of MA-PROPS; both None: on-policy sampling."""

    delta: float | None  # nats
    epsilon: float | None

    @property
    def name(self) -> str:
        """In tables."""
        if self == BASE:
            return "on-policy"
        larger = [f"{e:g}" for e in EPSILONS if self.epsilon == NO_CLIP and e > NO_CLIP]
        return f"delta {self.delta:g}, epsilon {' and '.join([f'{self.epsilon:g}', *larger])}"


BASE = Cell(None, None)
# On-policy sampling, then the cells with the fewest gradient steps first; those that differ from another in nothing
# but an epsilon of which both are at least 1 are not run again.
CELLS = [BASE, *(Cell(delta, epsilon) for delta, epsilon in product(DELTAS, EPSILONS) if epsilon <= NO_CLIP)]


class Task(NamedTuple):
    """What is run, 60 target updates of it."""

    flags: list[str]  # with those of MAPROPS
    run_seed: int
    block: int  # seeds that are run at a time
    blocks: int  # that are planned

    def words(self, cell: Cell) -> list[str]:
        """Options of a run of all its seeds, but for their number."""
        flags = list(_of_cell(self.flags, cell))
        if cell == BASE:
            return [*flags, BEHAVIOR, "OnPolicy"]
        return [*flags, f"{BEHAVIOR}.kl_cutoff={cell.delta}", f"{BEHAVIOR}.clip_epsilon={cell.epsilon}"]


def _of_cell(flags: list[str], cell: Cell) -> Iterator[str]:
    """Without options of MAPROPS for on-policy sampling."""
    return (flag for flag in flags if cell != BASE or not flag.startswith(f"{BEHAVIOR}."))


_SWEEP_FLAGS = [word for word in SWEEP["command"] if word.startswith("--") and "seed_everything" not in word]
TASKS = {
    # Steps of 0.1 instead of the file's 1, and four times as many: one step of 1 is beyond every delta but the largest.
    GAME: Task(
        ["--config=matrix_game", f"{BEHAVIOR}.learning_rate=0.1", f"{BEHAVIOR}.epochs=32"],
        run_seed=771,
        block=512,
        blocks=2,
    ),
    BOULDER: Task(_SWEEP_FLAGS, run_seed=771, block=32, blocks=5),
}
