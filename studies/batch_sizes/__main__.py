"""Measures docs/evidence/batch_sizes.md: how often the behavior policy is updated (m), how much data an update has (n).

The grid is that of sweeps/batch_sizes.yaml; settings are those that docs/evidence/samplers.md chose on other seeds, at
m = 1 and n = 256. Finished runs are in batch_sizes.csv and are not run again.
"""

import argparse
from itertools import product

import numpy as np
from scipy.stats import fisher_exact

from studies.cells import adjusted_p, difference, holm, p_value, points, share, share_of
from studies.ledger import Ledger
from studies.low_discrepancy.regimes import MAPROPS_OPTIONS, RATE, RELIABILITY, options
from studies.page import write_page
from studies.runs import Outcome, Run

RUN_SEED, SEEDS, ENV_STEPS = 741, 128, 15360
BATCHES, INTERVALS = (128, 256, 512), (1, 8, 32)  # n, m
BASE = "OnPolicy"
SAMPLERS = {
    BASE: options(BASE),
    "TabularMAPROPS": options("TabularMAPROPS", kl_cutoff=0.3),
    "MAPROPS": options("MAPROPS", **MAPROPS_OPTIONS),
}
RUNS = len(BATCHES) * SEEDS  # of a sampler and m
Cell = tuple[int, int, str]  # n, m, sampler


def cells() -> list[Cell]:
    """All that is run: on-policy sampling updates nothing, so one m stands for all."""
    return [
        (n, m, sampler)
        for n, sampler, m in product(BATCHES, SAMPLERS, INTERVALS)
        if sampler != BASE or m == INTERVALS[0]
    ]


def cheapest_first() -> list[Cell]:
    """The cells in the order in which they are run: updates cost most where they are frequent."""
    return sorted(cells(), key=lambda cell: (list(SAMPLERS).index(cell[2]), -cell[1]))


def run_of(n: int, m: int, sampler: str) -> Run:
    """A cell's run; estimates of the error come about as often for every n."""
    sizes = {"--data.target_batch_size": n, "--data.behavior_batch_size": m, "--model.num_seeds": SEEDS}
    sizes |= {"--model.total_env_steps": ENV_STEPS, "--model.sampling_error_interval": 2560 // n}
    flags = [*SAMPLERS[sampler], *RATE, "--model.learner", "IPPO", "--model.sampling_error", "tabular"]
    words = [*flags, *(str(word) for pair in sizes.items() for word in pair)]
    return Run("batch_sizes", f"n {n} m {m} {sampler}", RELIABILITY, words, RUN_SEED)


def key_of(n: int, m: int, sampler: str) -> tuple[str, str, str, str]:
    """A cell's place in the table."""
    return f"n = {n}", f"m = {m}", sampler, str(RUN_SEED)


def found(ledger: Ledger, n: int, m: int, sampler: str) -> Outcome | None:
    """A cell's outcome, if it has been run."""
    return ledger.of(*key_of(n, m, sampler)[:3])


def table(ledger: Ledger) -> str:
    """Every cell that has been run, against on-policy sampling with the same n."""
    lines = ["| n | m | sampler | solved | to on-policy with this n, points | joint TV, own / on-policy | seconds |"]
    lines.append("|---" * 7 + "|")
    for n, m, sampler in cells():
        result, base = found(ledger, n, m, sampler), found(ledger, n, INTERVALS[0], BASE)
        if result is None or base is None:
            continue
        change = "" if sampler == BASE else difference(result, base)
        error = f"{result.means['joint_tv']:.3f} / {result.means['joint_tv_on_policy']:.3f}"
        row = [str(n), "any" if sampler == BASE else str(m), sampler, f"{share(result)} of {result.seeds}"]
        lines.append(f"| {' | '.join([*row, change, error, f'{result.seconds:.0f}'])} |")
    return "\n".join(lines)


def pooled(ledger: Ledger, m: int, sampler: str) -> int:
    """Solved runs of ``RUNS``, with the three n together."""
    return sum(result.solved for n in BATCHES if (result := found(ledger, n, m, sampler)))


def pooled_p(ledger: Ledger) -> str:
    """Of the closed form with m = 1 against on-policy sampling, corrected for all samplers and m."""
    base = pooled(ledger, INTERVALS[0], BASE)
    counts = [pooled(ledger, m, sampler) for sampler in SAMPLERS if sampler != BASE for m in INTERVALS]
    p = [float(fisher_exact(np.array([[own, RUNS - own], [base, RUNS - base]])).pvalue) for own in counts]
    return f"p {adjusted_p(holm(p)[0])}"


def over_batches(ledger: Ledger) -> str:
    """Every m with the three n together, against on-policy sampling and m = 1."""
    lines, runs = ["| sampler | m | solved | to on-policy, points | to m = 1, points |", "|---" * 5 + "|"], RUNS

    def solved(m: int, sampler: str) -> int:
        return pooled(ledger, m, sampler)

    for sampler, m in product(SAMPLERS, INTERVALS):
        own, base, first = solved(m, sampler), solved(INTERVALS[0], BASE), solved(INTERVALS[0], sampler)
        if sampler == BASE or not own:
            continue
        to_first = "" if m == INTERVALS[0] else points(own, runs, first, runs)
        lines.append(f"| {sampler} | {m} | {share_of(own, runs)} | {points(own, runs, base, runs)} | {to_first} |")
    return "\n".join(lines)


def smallest_p(ledger: Ledger) -> str:
    """Of all comparisons with on-policy sampling, corrected for their number."""
    pairs = [(found(ledger, *cell), found(ledger, cell[0], INTERVALS[0], BASE)) for cell in cells() if cell[2] != BASE]
    return adjusted_p(min(holm([p_value(own, base) for own, base in pairs if own and base])))


def figures(ledger: Ledger) -> dict[str, str]:
    """What the page takes from the table."""
    return {
        "cells": table(ledger),
        "over_batches": over_batches(ledger),
        "smallest_p": smallest_p(ledger),
        "pooled_p": pooled_p(ledger),
    }


def main() -> None:
    """Run what is missing and write batch_sizes.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=1, help="runs at a time, each on one core; 0: in this process")
    parser.add_argument("--page", action="store_true", help="run nothing, write the page of what there is")
    given = parser.parse_args()
    ledger = Ledger("batch_sizes")
    if not given.page:
        ledger.fill({key_of(*cell): run_of(*cell) for cell in cheapest_first()}, given.workers)
    count = sum(found(ledger, *cell) is not None for cell in cells())
    missing = "" if count == len(cells()) else f" Of {len(cells())} planned runs {count} have been made."
    write_page("batch_sizes", missing=missing, run_seed=RUN_SEED, seeds=SEEDS, **figures(ledger))


if __name__ == "__main__":
    main()
