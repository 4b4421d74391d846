"""Measures docs/evidence/advantages.md: why a central critic leaves samplers less to gain on BoulderPush.

Advantages of D beside the true ones, under both learners' critics; and learners that know more than theirs do.
Interrupted, it continues.
"""

import argparse
from collections.abc import Iterator

from studies.advantages import gains, measure, tables
from studies.advantages.gains import Count
from studies.cells import signed
from studies.page import write_page


def solved_by(name: str, sampler: str) -> Count | None:
    """Seeds of IPPO, MAPPO or a learner that knows more; None: not run."""
    result = measure.told().of("told", name, sampler)
    known = gains.known().get((gains.FRESH_NAME, name, sampler))
    return known if result is None else Count(result.solved, result.seeds)


def between(a: str, b: str, sampler: str = measure.ON_POLICY) -> str:
    """Points that learner a solves more than learner b, where both have been run."""
    own, base = solved_by(a, sampler), solved_by(b, sampler)
    return "" if own is None or base is None else signed(*gains.gain(own, base))


def more_gain(name: str, than: str) -> str:
    """Points that the closed form adds to one learner more than to another, where all four have been run."""
    counts = [solved_by(learner, s) for learner in (name, than) for s in (measure.CLOSED_FORM, measure.ON_POLICY)]
    own, base, other, other_base = counts
    if own is None or base is None or other is None or other_base is None:
        return ""
    return signed(*gains.less(gains.gain(own, base), gains.gain(other, other_base)))


def told() -> Iterator[list[str]]:
    """Learners that know more, beside IPPO and MAPPO, by sampler."""
    for name in (*measure.LEARNERS, *measure.TOLD):
        counts = [solved_by(name, sampler) for sampler in (measure.ON_POLICY, measure.CLOSED_FORM)]
        cells = ["not run" if count is None else gains.solved(count) for count in counts]
        base, own = counts
        more = "" if own is None or base is None else signed(*gains.gain(own, base))
        yield [name, *cells, more]


def missing(runs: int) -> str:
    """How much of it has been measured, in words; empty where nothing lacks. ``runs``: whose batches were looked at."""
    watched, wanted = len(measure.LEARNERS) * len(measure.SAMPLERS), len(measure.TOLD_RUNS) * 2 * len(measure.TOLD)
    done = len(measure.told().outcomes)
    if runs == watched and done == wanted:
        return ""
    return (
        f" So far {runs} of the {watched} runs whose batches are looked at have been run, and {done} of the {wanted} "
        "runs of learners that know more."
    )


def fields() -> dict[str, object]:
    """What the template asks for."""
    table, counts = tables.Table(measure.rows()), gains.known()
    return {
        "missing": missing(len(table.measured())),
        "gains": tables.lines(gains.gains(counts)),
        "ceilings": tables.lines(gains.ceilings(counts)),
        "critics": tables.lines(tables.critics(table, measure.ON_POLICY)),
        "advantages": tables.lines(tables.advantages(table)),
        "errors": tables.lines(tables.errors(table)),
        "told": tables.lines(told()),
        "seeds": measure.SEEDS,
        "run_seed": measure.RUN_SEED,
        "learners": between(*measure.LEARNERS),
        "from_zero": between(*measure.FROM_ZERO),
        "ippo_from_zero": between(measure.FROM_ZERO[0], measure.LEARNERS[0]),
        "mappo_from_zero": between(measure.FROM_ZERO[1], measure.LEARNERS[1]),
        "true_values": between(measure.TRUE_VALUES, measure.LEARNERS[1]),
        "true_advantages": between(measure.TRUE_ADVANTAGES, measure.LEARNERS[1]),
        "told_ippo": between(measure.TRUE_ADVANTAGES, measure.LEARNERS[0]),
        "values_ippo": between(measure.TRUE_VALUES, measure.LEARNERS[0]),
        "more_gain": more_gain(measure.TRUE_ADVANTAGES, measure.LEARNERS[1]),
        "more_gain_values": more_gain(measure.TRUE_VALUES, measure.LEARNERS[1]),
        "told_runs": ", ".join(map(str, measure.TOLD_RUNS)),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page", action="store_true", help="write the page from the tables, measure nothing")
    if not parser.parse_args().page:
        gains.keep()
        measure.measure()
    write_page(measure.STUDY, **fields())
