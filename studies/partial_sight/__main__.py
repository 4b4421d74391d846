"""Measures docs/evidence/partial_sight.md: Foraging where agents see little, with policies that remember and without.

Settings are those of conf/foraging.yaml, of which the second hidden layer is the GRU's; nothing is tuned. Finished runs
are in partial_sight.csv and are not run again.
"""

import argparse
from itertools import product

from studies.cells import difference, mean_success, share
from studies.ledger import Ledger
from studies.page import write_page
from studies.runs import Outcome, Run

RUN_SEED, SEEDS = 751, 32
LEARNER = "--model.learner.init_args."
TASKS = {
    "all cells": "Foraging-5x5-2p-1f-coop",
    "2 cells": "Foraging-2s-5x5-2p-1f-coop",
    "1 cell": "Foraging-1s-5x5-2p-1f-coop",
}
WITHOUT, GRU = "feed-forward", "GRU"
MEMORY = {"memory": "gru", "memory_size": "64", "sequence_length": "16", "hidden": "[64]"}
POLICIES = {WITHOUT: [], GRU: [part for name, value in MEMORY.items() for part in (LEARNER + name, value)]}


def run_of(sight: str, policies: str) -> Run:
    """On-policy sampling, the file's env steps."""
    flags = ["--model.behavior", "OnPolicy", "--data.env.name", TASKS[sight], "--model.sampling_error", "null"]
    flags += ["--model.num_seeds", str(SEEDS), *POLICIES[policies]]
    return Run("partial_sight", f"{sight} {policies}", "conf/foraging.yaml", flags, RUN_SEED)


def key_of(sight: str, policies: str) -> tuple[str, str, str, str]:
    """A run's place in the table."""
    return f"sight {sight}", policies, "OnPolicy", str(RUN_SEED)


def found(ledger: Ledger, sight: str, policies: str) -> Outcome | None:
    """The outcome of what has been run."""
    return ledger.of(*key_of(sight, policies)[:3])


def table(ledger: Ledger) -> str:
    """A line per run that has been made."""
    lines = ["| sight | policies | solved | difference to feed-forward, points | mean success | seconds |"]
    lines.append("|---" * 6 + "|")
    for sight, policies in product(TASKS, POLICIES):
        result, base = found(ledger, sight, policies), found(ledger, sight, WITHOUT)
        if result is not None:
            change = "" if base is None or policies == WITHOUT else difference(result, base)
            cells = [sight, policies, share(result), change, mean_success(result), f"{result.seconds:.0f}"]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Run what is missing and write partial_sight.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=1, help="runs at a time, each on one core; 0: in this process")
    parser.add_argument("--page", action="store_true", help="run nothing, write the page of what there is")
    given = parser.parse_args()
    ledger = Ledger("partial_sight", ("behavior_kl",), squares=True)
    if not given.page:
        cells = list(product(TASKS, POLICIES))
        ledger.fill({key_of(*cell): run_of(*cell) for cell in cells}, given.workers)
    count = sum(found(ledger, *cell) is not None for cell in product(TASKS, POLICIES))
    planned = len(TASKS) * len(POLICIES)
    missing = "" if count == planned else f" Of {planned} planned runs {count} have been made."
    write_page("partial_sight", missing=missing, run_seed=RUN_SEED, seeds=SEEDS, cells=table(ledger))


if __name__ == "__main__":
    main()
