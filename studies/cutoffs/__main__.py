"""Measures docs/evidence/cutoffs.md: where behavior updates overshoot, what was tried, and ``kl_cutoff: auto``.

Everything was chosen on run seeds 77 to 91 and 4000; those reported are used for nothing else.
"""

import logging
import warnings

import torch

from studies.cutoffs.fixed import MANY_SEEDS, RUN_SEED, SEEDS, Rows, games, mechanism, ten_agents
from studies.cutoffs.training import training
from studies.page import write


def main() -> None:
    """Measure everything and write cutoffs.md and cutoffs.csv."""
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    rows: Rows = []
    tables = {"tried": mechanism(rows), "fixed": games(rows), "many": ten_agents(rows), "training": training(rows)}
    columns = list(dict.fromkeys(name for row in rows for name in row))
    rows = [{name: row.get(name, "") for name in columns} for row in rows]
    write("cutoffs", rows, run_seed=RUN_SEED, seeds=SEEDS, many_seeds=MANY_SEEDS, **tables)


if __name__ == "__main__":
    main()
