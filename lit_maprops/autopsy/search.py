"""The target update after which a seed could no longer recover, found by bisection over target iterations.

A seed's chance in a state is that of a run continued from there with other random numbers. It is a martingale along the
seed's own on-policy path, which ends at 0 in a seed that failed: there is a last update before which the chance had not
yet fallen below a level. With noisy shares that update is an estimate, so ``findings`` looks at its two sides again.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from lit_maprops.autopsy.branches import SEARCH, Share, shares
from lit_maprops.autopsy.case import Case
from lit_maprops.autopsy.replay import Moment, Replay
from lit_maprops.autopsy.replica import State
from lit_maprops.stacked.ranks import sliced

EVEN = 0.5  # the level, in seeds that began with at least that chance; half of their first chance in the others
LEAST = 0.1  # level: of fewer solved branches nothing can be told that is worth saying


@dataclass
class Trail:
    """How a seed's chance went; ``low`` and ``high`` are the target iterations between which it was lost.

    Attributes:
        seed: its number.
        looks: share of solved branches after so many target iterations.
        low: the last iteration looked at whose share is at least ``level``; 0 if none is.
        high: the next one looked at, or the end.
    """

    seed: int
    high: int
    low: int = 0
    looks: dict[int, Share] = field(default_factory=dict)

    @property
    def level(self) -> float:
        """The share below which a seed is taken to be lost."""
        return level_of(self.looks[0])

    def narrow(self, last: int) -> None:
        """Bracket the last fall below the level among all looks; ``last`` is the run's end."""
        self.low = max((k for k, share in self.looks.items() if share.value >= self.level and k < last), default=0)
        self.high = min((k for k in self.looks if k > self.low), default=last)

    def next_looks(self, points: int) -> list[int]:
        """Up to ``points`` iterations inside of the bracket, evenly spaced."""
        width = self.high - self.low
        return sorted({self.low + width * (place + 1) // (points + 1) for place in range(points)} - {self.low})


def level_of(first: Share) -> float:
    """The share below which a seed that began with ``first`` is taken to be lost."""
    return EVEN if first.value >= EVEN else max(LEAST, first.value / 2)


def search(
    case: Case, replay: Replay, branches: int, points: int, say: Callable[[str], None] = lambda line: None
) -> list[Trail]:
    """Bracket the decisive update of every seed of a replay, all side by side.

    Args:
        case: the run.
        replay: of the seeds.
        branches: of every look.
        points: looks per round and seed; 1 is bisection, more make a picture and fewer rounds.
        say: told what is being done.
    """
    trails = [Trail(seed, case.iterations) for seed in replay.seeds]
    wanted = {seed: [0] for seed in replay.seeds}
    while any(wanted.values()):
        rounds = sorted({k for looks in wanted.values() for k in looks})
        say(f"{branches} branches from each state after target iteration {', '.join(map(str, rounds))}")
        _look(case, replay, trails, wanted, branches)
        for trail in trails:
            trail.narrow(case.iterations)
        wanted = {t.seed: t.next_looks(points) if t.high - t.low > 1 else [] for t in trails}
    return trails


def _look(case: Case, replay: Replay, trails: list[Trail], wanted: dict[int, list[int]], branches: int) -> None:
    """Let the branches of all seeds that want to look after the same iteration run side by side."""
    by_iteration: dict[int, list[Trail]] = defaultdict(list)
    for trail in trails:
        for iteration in wanted[trail.seed]:
            by_iteration[iteration].append(trail)
    moments = replay.moments(by_iteration.keys())
    for iteration, looking in by_iteration.items():
        seeds = [trail.seed for trail in looking]
        found = shares(case, state_of(moments[iteration], replay, seeds), seeds, SEARCH, branches)
        for trail, share in zip(looking, found, strict=True):
            trail.looks[iteration] = share


def state_of(moment: Moment, replay: Replay, seeds: list[int]) -> State:
    """Of some of a replay's seeds."""
    return sliced(moment.state, [replay.seeds.index(seed) for seed in seeds])
