"""Measures docs/evidence/tasks.md: learning curves of IPPO, MAPPO and HAPPO with three samplers, task by task.

Finished cells are in tasks.csv and curves.csv and are not run again; an interrupted run goes on from its checkpoint.
``--tasks``, ``--learners`` and ``--samplers`` run a part of what is missing. The page holds what the tables hold.
"""

import argparse
import csv

from studies import table_of
from studies.page import write_page
from studies.tasks.figure import draw
from studies.tasks.plan import LEARNERS, RUN_SEED, SAMPLERS, SEEDS, TASKS, cells
from studies.tasks.results import Results
from studies.tasks.tables import answer, coverage, published_table, section


def main() -> None:
    """Run what is missing and write tasks.md, tasks.png, tasks.csv and curves.csv."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--workers", type=int, default=1, help="runs at a time, each on one core; 0: in this process")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--learners", nargs="+", default=list(LEARNERS), choices=list(LEARNERS))
    parser.add_argument("--samplers", nargs="+", default=list(SAMPLERS), choices=list(SAMPLERS))
    parser.add_argument("--page", action="store_true", help="run nothing, write the page")
    given = parser.parse_args()
    last = table_of("tasks")
    results = Results(last, last.with_name("curves.csv"))
    if not given.page:
        results.fill(cells(given.tasks, given.learners, given.samplers), given.workers)
    with last.with_name("published.csv").open(newline="") as file:
        published = list(csv.DictReader(file))
    draw(results)
    sections = [section(results, name) for name in TASKS]
    write_page(
        "tasks",
        answer=answer(results),
        coverage=coverage(results),
        run_seed=RUN_SEED,
        seeds=SEEDS,
        sections="\n\n".join(text for text in sections if text),
        published=published_table(results, published),
    )


if __name__ == "__main__":
    main()
