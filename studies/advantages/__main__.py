"""Measures docs/evidence/advantages.md: why a central critic leaves samplers less to gain on BoulderPush.

Advantages of D beside the true ones, under both learners' critics; and learners that know more than theirs do.
Interrupted, it continues.
"""

import argparse
from collections.abc import Iterator

from studies.advantages import gains, measure, tables
from studies.advantages.gains import Count
from studies.cells import difference
from studies.page import write_page
from studies.runs import Outcome


def told() -> Iterator[list[str]]:
    """Learners that know more, beside IPPO and MAPPO, by sampler."""
    found, counts = measure.told(), gains.known()
    for name in (*gains.LEARNERS, *measure.TOLD):
        cells = [name]
        for sampler in (measure.ON_POLICY, measure.CLOSED_FORM):
            known = counts.get((gains.FRESH_NAME, name, sampler))
            result = found.of("told", name, sampler)
            count = known if result is None else Count(result.solved, result.seeds)
            cells.append("not run" if count is None else gains.solved(count))
        yield [*cells, _gain(found.of("told", name, measure.CLOSED_FORM), found.of("told", name, measure.ON_POLICY))]


def _gain(result: Outcome | None, base: Outcome | None) -> str:
    return "" if result is None or base is None else difference(result, base)


def fields() -> dict[str, object]:
    """What the template asks for."""
    table, counts = tables.Table(measure.rows()), gains.known()
    return {
        "gains": tables.lines(gains.gains(counts)),
        "ceilings": tables.lines(gains.ceilings(counts)),
        "critics": tables.lines(tables.critics(table, measure.ON_POLICY)),
        "advantages": tables.lines(tables.advantages(table)),
        "errors": tables.lines(tables.errors(table)),
        "told": tables.lines(told()),
        "seeds": measure.SEEDS,
        "run_seed": measure.RUN_SEED,
        "told_runs": ", ".join(map(str, measure.TOLD_RUNS)),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page", action="store_true", help="write the page from the tables, measure nothing")
    if not parser.parse_args().page:
        gains.keep()
        measure.measure()
    write_page(measure.STUDY, **fields())
