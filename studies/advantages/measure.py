"""What is run for docs/evidence/advantages.md; each run once."""

import csv
import io
import os
from collections.abc import Iterable

import torch

from lit_maprops.system.files import write_atomically
from lit_maprops.system.memory import keep_freed_memory
from studies import ROOT, table_of
from studies.advantages.watch import LEARNERS, watched
from studies.ledger import Ledger
from studies.low_discrepancy.regimes import GRID, RATE, RELIABILITY
from studies.runs import Run

STUDY, RUN_SEED, SEEDS = "advantages", 761, 32
ON_POLICY, CLOSED_FORM = "OnPolicy", "TabularMAPROPS"
SAMPLERS = (ON_POLICY, CLOSED_FORM, "LowDiscrepancy", "MAPROPS")
POINTS = (1, 3, 8, 20, 60)  # target updates whose batches are looked at, of 60
UPDATES = 60
# Learners that know more than IPPO and MAPPO do, trained like these; each with the seeds of a run.
TOLD = {
    "IPPO, values from 0": ("ZeroIPPO", 32),
    "MAPPO, values from 0": ("ZeroMAPPO", 32),
    "true values": ("ExactValues", 32),
    "true advantages": ("ExactAdvantages", 32),
}
FROM_ZERO, TRUE_VALUES, TRUE_ADVANTAGES = tuple(TOLD)[:2], *tuple(TOLD)[2:4]
TOLD_RUNS = (771, 772, 773, 774)  # run seeds
# Before the batches of a sampler are looked at: a sampler, and the learners that are trained with it.
FIRST = {
    CLOSED_FORM: (ON_POLICY, FROM_ZERO),
    SAMPLERS[2]: (ON_POLICY, (TRUE_VALUES,)),
    SAMPLERS[3]: (CLOSED_FORM, (*FROM_ZERO, TRUE_VALUES)),
}
Row = dict[str, str]


def rows() -> list[Row]:
    """advantages.csv so far."""
    path = table_of(STUDY)
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def watch(learner: str, sampler: str) -> None:
    """Enter a run's figures in advantages.csv, a row for each update and seed, unless they are there."""
    known = rows()
    if any(row["learner"] == learner and row["sampler"] == sampler for row in known):
        return
    print(STUDY, learner, sampler, RUN_SEED, flush=True)
    flags = ["--config", RELIABILITY, *GRID[sampler], *RATE, "--seed_everything", str(RUN_SEED)]
    flags += ["--model.num_seeds", str(SEEDS), "--model.eval_interval", str(UPDATES)]
    found, success = watched(flags, learner, POINTS)
    for update, figures in found.items():
        for seed in range(SEEDS):
            head = {"learner": learner, "sampler": sampler, "update": str(update), "seed": str(seed)}
            numbers = {name: f"{float(values[seed]):.3g}" for name, values in figures.items()}
            known.append(head | {"success": f"{success[seed]:g}"} | numbers)
    with io.StringIO() as text:
        writer = csv.DictWriter(text, list(known[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(known)
        write_atomically(table_of(STUDY), text.getvalue())


def told() -> Ledger:
    """Solved runs of ``TOLD``."""
    return Ledger("told", (), folder=STUDY)


def told_runs(sampler: str, run_seed: int, names: Iterable[str] = TOLD) -> dict[tuple[str, str, str, str], Run]:
    """Of some learners with a sampler."""
    found = {}
    for name in names:
        learner, seeds = TOLD[name]
        flags = [*GRID[sampler], *RATE, "--model.learner", f"studies.advantages.learners.{learner}"]
        flags += ["--model.num_seeds", str(seeds), "--model.eval_interval", str(UPDATES)]
        found["told", name, sampler, str(run_seed)] = Run(STUDY, f"{name} {sampler}", RELIABILITY, flags, run_seed)
    return found


def measure() -> None:
    """Run what is missing, what matters most first."""
    os.chdir(ROOT)
    torch.set_num_threads(1)
    keep_freed_memory()
    kept = told()
    for sampler in SAMPLERS:
        if sampler in FIRST:
            own, names = FIRST[sampler]
            for run_seed in TOLD_RUNS[:3]:
                kept.fill(told_runs(own, run_seed, names), 0)
        for learner in LEARNERS:
            watch(learner, sampler)
    for run_seed in TOLD_RUNS:
        for sampler in (ON_POLICY, CLOSED_FORM):
            kept.fill(told_runs(sampler, run_seed), 0)


if __name__ == "__main__":
    measure()
