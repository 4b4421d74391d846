"""Measures docs/evidence/low_discrepancy.md: low-discrepancy draws beside on-policy and adaptive sampling.

Nothing is tuned here: games have the settings of studies/matrix_games, tasks those that docs/evidence/samplers.md chose
on other seeds. What the tables hold is not measured again; ``--regimes`` and ``--samplers`` measure a part of it.
"""

import argparse
import logging
import warnings

from studies.ledger import Ledger
from studies.low_discrepancy import fixed, parallel, regimes
from studies.page import write_page


def main() -> None:
    """Measure what is missing and write low_discrepancy.md."""
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--regimes", nargs="*", choices=list(regimes.REGIMES), default=list(regimes.REGIMES))
    samplers = [*regimes.SAMPLERS, regimes.CEILING]
    parser.add_argument("--samplers", nargs="*", choices=samplers, default=samplers)
    parser.add_argument("--workers", type=int, default=1, help="runs at a time; 0: in this process")
    parser.add_argument("--page", action="store_true", help="run nothing, write the page of what there is")
    options = parser.parse_args()
    ledger = Ledger("low_discrepancy", regimes.FIELDS)
    errors, games = fixed.errors(), fixed.games()
    beside = parallel.shares(measure=not options.page)
    regimes.fill(ledger, [] if options.page else options.regimes, options.samplers, options.workers)
    write_page(
        "low_discrepancy",
        run_seed=fixed.RUN_SEED,
        seeds=fixed.SEEDS,
        fixed_seeds=fixed.FIXED_SEEDS,
        fixed=errors,
        games=games,
        parallel=beside,
        regimes=regimes.compared(ledger),
    )


if __name__ == "__main__":
    main()
