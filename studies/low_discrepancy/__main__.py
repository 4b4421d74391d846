"""Measures docs/evidence/low_discrepancy.md: low-discrepancy draws beside on-policy and adaptive sampling.

Nothing is tuned here: games have the settings of studies/matrix_games, tasks those that docs/evidence/samplers.md chose
on other seeds. What the tables hold is not measured again; ``--regimes`` and ``--samplers`` measure a part of it.
"""

import argparse
import logging
import warnings

from studies.low_discrepancy import fixed, larger, parallel, regimes
from studies.page import write_page

PARTS = ["parallel", regimes.PLANNED, regimes.FRESH]


def main() -> None:
    """Measure what is missing and write low_discrepancy.md."""
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=PARTS)
    parser.add_argument("--regimes", nargs="*", choices=list(regimes.REGIMES), default=list(regimes.REGIMES))
    parser.add_argument("--samplers", nargs="+", help="of the regimes, these only")
    parser.add_argument("--gpu", action="store_true", help="the rows that are meant for a GPU, and only them")
    parser.add_argument("--workers", type=int, default=1, help="runs at a time; 0: in this process")
    parser.add_argument("--page", action="store_true", help="run nothing, write the page of what there is")
    options = parser.parse_args()
    errors, games = fixed.errors(), fixed.games()
    parts = [] if options.page or options.gpu else options.parts
    beside = parallel.shares(measure="parallel" in parts)
    if options.gpu:
        regimes.fill_on_gpu(options.workers)
    for part in (regimes.PLANNED, regimes.FRESH):
        if part in parts:
            regimes.fill(part, options.regimes, options.samplers, options.workers)
    write_page(
        "low_discrepancy",
        run_seed=fixed.RUN_SEED,
        seeds=fixed.SEEDS,
        fixed_seeds=fixed.FIXED_SEEDS,
        fixed=errors,
        larger_seeds=larger.SEEDS,
        larger=larger.errors(),
        squares=larger.squares(),
        squares_seeds=larger.SQUARES_SEEDS,
        games=games,
        parallel=beside,
        regimes=regimes.compared(regimes.PLANNED),
        confirmed=regimes.compared(regimes.FRESH),
    )


if __name__ == "__main__":
    main()
