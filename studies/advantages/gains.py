"""What other pages measured of both learners: gains by samplers, and failures that eight times the data take away."""

import csv
import io
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from lit_maprops.metrics.reliability import difference_interval, wilson_interval
from lit_maprops.system.files import write_atomically
from studies import table_of
from studies.advantages.measure import STUDY
from studies.advantages.watch import LEARNERS
from studies.cells import signed
from studies.ledger import Ledger
from studies.low_discrepancy.regimes import BASE, CEILING, FRESH, PLANNED, RUN_SEEDS, ledgers

FRESH_NAME, FIRST_NAME, EARLIER = "1,024 fresh seeds", "run seeds 701, 702", "samplers.md"
SHARED_NAME, SHARED = f"{EARLIER}, run seeds 41, 42", ("41", "42")  # those that all samplers of that page have
COMPARED = ("TabularMAPROPS", "LowDiscrepancy", "LowDiscrepancy, joint coordinate", "MAPROPS", "Autoregressive")
DRAWN = 100_000


class Count(NamedTuple):
    """Solved seeds."""

    solved: int
    seeds: int

    @property
    def share(self) -> float:
        """Of all seeds."""
        return self.solved / self.seeds


Counts = dict[tuple[str, str, str], Count]  # by source, learner and sampler


def known() -> Counts:
    """gains.csv."""
    with table_of(STUDY).with_name("gains.csv").open(newline="") as file:
        found = {(r["source"], r["learner"], r["sampler"]): r for r in csv.DictReader(file)}
    return {key: Count(int(row["solved"]), int(row["seeds"])) for key, row in found.items()}


def keep() -> None:
    """Write gains.csv from the other pages' tables as they are now."""
    found: Counts = {}
    low, samplers = ledgers()["joint_tv"], Ledger("samplers")
    for learner in LEARNERS:
        for sampler in (BASE, CEILING, *COMPARED):
            name = f"BoulderPush, {learner}"
            outcomes = {
                EARLIER: samplers.of("compared", learner, sampler),
                SHARED_NAME: samplers.of("compared", learner, sampler, SHARED),
                FIRST_NAME: low.of(PLANNED, name, sampler, list(map(str, RUN_SEEDS))),
                FRESH_NAME: low.of(FRESH, name, sampler),
            }
            found |= {(k, learner, sampler): Count(o.solved, o.seeds) for k, o in outcomes.items() if o is not None}
    with io.StringIO() as text:
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("source", "learner", "sampler", "solved", "seeds"))
        writer.writerows([*key, *count] for key, count in found.items())
        write_atomically(table_of(STUDY).with_name("gains.csv"), text.getvalue())


def gains(counts: Counts) -> Iterator[list[str]]:
    """Points that a sampler adds to each learner's solved share, and how many more to IPPO's.

    Only against on-policy sampling on as many seeds: of ``EARLIER`` some samplers have a part of the run seeds.
    """
    for source in (EARLIER, SHARED_NAME, FIRST_NAME, FRESH_NAME):
        for sampler in COMPARED:
            found, seeds = [], []
            for learner in LEARNERS:
                own, base = (counts.get((source, learner, name)) for name in (sampler, BASE))
                if own is not None and base is not None and own.seeds == base.seeds:
                    found.append(gain(own, base))
                    seeds.append(f"{own.seeds:,}")
            if len(found) == len(LEARNERS):
                yield [source, sampler, " and ".join(seeds), *(signed(*x) for x in found), signed(*less(*found))]


Points = tuple[float, float, float]  # a figure and its interval


def gain(own: Count, base: Count) -> Points:
    """Points of solved seeds against ``base``, with Newcombe's interval."""
    low, high = difference_interval(*own, *base)
    return 100 * (own.share - base.share), 100 * low, 100 * high


def less(a: Points, b: Points) -> Points:
    """a - b of independent figures, by the squares of their distances (Zou and Donner 2008)."""
    below, above = np.hypot(a[0] - a[1], b[2] - b[0]), np.hypot(a[2] - a[0], b[0] - b[1])
    return a[0] - b[0], float(a[0] - b[0] - below), float(a[0] - b[0] + above)


def ceilings(counts: Counts) -> Iterator[list[str]]:
    """Failures with n that are none with 8 n, a share of those with n."""
    for learner in LEARNERS:
        own = [counts[source, learner, BASE] for source in (FIRST_NAME, FRESH_NAME)]
        base = Count(sum(one.solved for one in own), sum(one.seeds for one in own))
        high = counts[FIRST_NAME, learner, CEILING]
        low, top = np.percentile(_taken(*(_chances(one) for one in (base, high))), [2.5, 97.5])
        share = f"{_taken(np.array(base.share), np.array(high.share)):.0%} [{low:.0%}, {top:.0%}]"
        yield [learner, solved(base), solved(high), f"{1 - base.share:.0%}", f"{1 - high.share:.0%}", share]


def _chances(count: Count) -> np.ndarray:
    """Solved shares that go with a count (Jeffreys)."""
    rng = np.random.default_rng(count.solved)
    return rng.beta(count.solved + 0.5, count.seeds - count.solved + 0.5, DRAWN)


def _taken(base: np.ndarray, high: np.ndarray) -> np.ndarray:
    return (high - base) / (1 - base)


def solved(count: Count) -> str:
    """Share with Wilson's interval."""
    low, high = wilson_interval(count.solved, count.seeds)
    return f"{count.share:.0%} [{low:.0%}, {high:.0%}] of {count.seeds:,}"
