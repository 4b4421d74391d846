"""Measures docs/evidence/partial_sight.md: Foraging where agents see little, with policies that remember and without.

Settings are those of conf/foraging.yaml, of which the second hidden layer is the GRU's; nothing is tuned. Finished runs
are in partial_sight.csv and are not run again.
"""

import argparse
from itertools import product
from typing import NamedTuple

from studies.cells import difference, mean_success, share
from studies.ledger import Ledger
from studies.page import write_page
from studies.runs import Outcome, Run

RUN_SEED, SEEDS, ENV_STEPS = 751, 32, 102_400  # env steps per seed, those of the file
LEARNER = "--model.learner.init_args."
TASKS = {
    "all cells": "Foraging-5x5-2p-1f-coop",
    "2 cells": "Foraging-2s-5x5-2p-1f-coop",
    "1 cell": "Foraging-1s-5x5-2p-1f-coop",
}
WITHOUT, GRU = "feed-forward", "GRU"
MEMORY = {"memory": "gru", "memory_size": "64", "sequence_length": "16", "hidden": "[64]"}
POLICIES = {WITHOUT: [], GRU: [part for name, value in MEMORY.items() for part in (LEARNER + name, value)]}


class Cell(NamedTuple):
    """A run: on-policy sampling, ``times`` the file's env steps."""

    sight: str
    policies: str
    times: int = 1

    @property
    def env_steps(self) -> int:
        """Per seed."""
        return self.times * ENV_STEPS

    @property
    def key(self) -> tuple[str, str, str, str]:
        """Its place in the table."""
        longer = "" if self.times == 1 else f", {self.env_steps} env steps"
        return f"sight {self.sight}{longer}", self.policies, "OnPolicy", str(RUN_SEED)

    @property
    def run(self) -> Run:
        """What is run."""
        flags = ["--model.behavior", "OnPolicy", "--data.env.name", TASKS[self.sight], "--model.sampling_error", "null"]
        flags += ["--model.total_env_steps", str(self.env_steps), "--model.num_seeds", str(SEEDS)]
        longer = "" if self.times == 1 else f" x {self.times}"
        name = f"{self.sight} {self.policies}{longer}"
        return Run("partial_sight", name, "conf/foraging.yaml", [*flags, *POLICIES[self.policies]], RUN_SEED)


# The GRU learns more slowly: longer runs tell where it gets to.
CELLS = [Cell(*names) for names in product(TASKS, POLICIES)]
CELLS += [Cell("1 cell", policies, 4) for policies in POLICIES] + [Cell("all cells", GRU, 4)]


def found(ledger: Ledger, cell: Cell) -> Outcome | None:
    """The outcome of what has been run."""
    return ledger.of(*cell.key[:3])


def table(ledger: Ledger) -> str:
    """A line per run that has been made."""
    lines = ["| sight | env steps | policies | solved | difference to feed-forward, points | mean success | seconds |"]
    lines.append("|---" * 7 + "|")
    for cell in CELLS:
        result, base = found(ledger, cell), found(ledger, cell._replace(policies=WITHOUT))
        if result is not None:
            change = "" if base is None or cell.policies == WITHOUT else difference(result, base)
            row = [cell.sight, f"{cell.env_steps:,}", cell.policies, share(result), change, mean_success(result)]
            lines.append(f"| {' | '.join([*row, f'{result.seconds:.0f}'])} |")
    return "\n".join(lines)


def main() -> None:
    """Run what is missing and write partial_sight.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=1, help="runs at a time, each on one core; 0: in this process")
    parser.add_argument("--page", action="store_true", help="run nothing, write the page of what there is")
    given = parser.parse_args()
    ledger = Ledger("partial_sight", ("behavior_kl",), squares=True)
    if not given.page:
        ledger.fill({cell.key: cell.run for cell in CELLS}, given.workers)
    count = sum(found(ledger, cell) is not None for cell in CELLS)
    missing = "" if count == len(CELLS) else f" Of {len(CELLS)} planned runs {count} have been made."
    write_page("partial_sight", missing=missing, run_seed=RUN_SEED, seeds=SEEDS, cells=table(ledger))


if __name__ == "__main__":
    main()
