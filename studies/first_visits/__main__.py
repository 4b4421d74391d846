"""Measures docs/evidence/first_visits.md: what adaptive sampling does for error and success as states come back.

Over tasks: tasks.py. Within one task: BoulderPush from the first target iterations on, over batch sizes and starts,
without a choice of settings; the figures are those of a run's own warning. Interrupted, it continues: what the tables
hold is not measured again.
"""

import argparse
import csv
import logging
import warnings
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from lit_maprops.run.diagnosis import FIRST_VISITS, STANDARD_ERRORS, Comparison, RunningMeans
from lit_maprops.system.tables import read_table
from studies import table_of
from studies.first_visits import shown, tasks
from studies.page import write
from studies.runs import Run, complete

CONFIG, RUN_SEED, SEEDS, ITERATIONS = "conf/boulderpush_reliability.yaml", 92, 32, 10
ENV, OPTION = "--data.env.init_args.", "--model.behavior.init_args."
STARTS = {
    "5x5, one start": [],
    "5x5, random starts": [f"{ENV}start", "null"],
    "8x8, random starts": [f"{ENV}start", "null", f"{ENV}size", "small"],
    "12x12, random starts": [f"{ENV}start", "null", f"{ENV}size", "medium"],
}
SIZES = (20, 60, 180, 540)  # n, whole episodes of 20 steps
SAMPLERS = {
    "Greedy": ["--model.behavior", "Greedy"],
    "TabularMAPROPS": ["--model.behavior", "TabularMAPROPS", f"{OPTION}kl_cutoff", "1.0"],
    "MAPROPS": [],
    "PROPS": ["--model.behavior", "PROPS"],
}
BANDS = (0.0, 0.25, 0.5, 0.6, 0.7, 0.8, 0.9, 1.01)  # of first visits
MOST_TRAINED = 180  # n up to which the samplers that are trained are measured: an update takes all of D


class Cell(NamedTuple):
    """A sampler in a setting."""

    start: str
    n: int
    sampler: str
    first_visits: float
    error: Comparison

    @property
    def change(self) -> float:
        """Of the joint sampling error against on-policy's, a share of it."""
        return self.error.difference / self.error.on_policy

    @property
    def reach(self) -> float:
        """``STANDARD_ERRORS`` of it."""
        return STANDARD_ERRORS * self.error.standard_error / self.error.on_policy


def runs() -> Iterator[tuple[str, int, str, Run]]:
    """Every setting and sampler."""
    for start, flags in STARTS.items():
        for n in SIZES:
            for sampler, own in SAMPLERS.items():
                if n > MOST_TRAINED and sampler in ("MAPROPS", "PROPS"):
                    continue
                size = {"num_seeds": SEEDS, "total_env_steps": n * ITERATIONS, "eval_interval": ITERATIONS}
                words = [word for name, value in size.items() for word in (f"--model.{name}", str(value))]
                measured = ["--model.sampling_error", "tabular", "--model.sampling_error_interval", "1"]
                batch = ["--data.target_batch_size", str(n)]
                all_flags = [*own, *flags, *words, *measured, *batch]
                yield start, n, sampler, Run("first_visits", f"{start} {n} {sampler}", CONFIG, all_flags, RUN_SEED)


def cell_of(start: str, n: int, sampler: str, run: Run) -> Cell:
    """Of a finished run; the error is compared as the run's own warnings do."""
    table = read_table(run.folder / "metrics.csv")
    means = RunningMeans()
    columns = {name: values.tolist() for name, values in table.items()}
    for values in zip(*columns.values(), strict=True):
        means.add(dict(zip(columns, values, strict=True)))
    return Cell(start, n, sampler, means["sampling_error/first_visits"], means.compared("joint_tv"))


def table_of_cells(cells: list[Cell]) -> str:
    """Lines with the most first visits come last."""
    lines = []
    for cell in sorted(cells, key=lambda cell: cell.first_visits):
        error = f"{cell.error.own:.3f} / {cell.error.on_policy:.3f}"
        change = f"{100 * cell.change:+.1f} +- {100 * cell.reach:.1f}"
        lines.append(f"| {cell.first_visits:.0%} | {cell.start} | {cell.n} | {cell.sampler} | {error} | {change} |")
    return "\n".join(lines)


def row_of(cell: Cell) -> dict[str, object]:
    """Raw figures."""
    own: dict[str, object] = {"start": cell.start, "n": cell.n, "sampler": cell.sampler, "seeds": SEEDS}
    own |= {"estimates": cell.error.estimates, "first_visits": cell.first_visits}
    own |= {"joint_tv": cell.error.own, "joint_tv_on_policy": cell.error.on_policy}
    return own | {"difference": cell.error.difference, "standard_error": cell.error.standard_error}


def most_taken_off(cells: list[Cell]) -> str:
    """The largest fall of the error in bands of first visits."""
    lines = []
    for low, high in pairwise(BANDS):
        inside = [cell for cell in cells if low <= cell.first_visits < high]
        if inside:
            best = min(inside, key=lambda cell: cell.change)
            change = f"{100 * best.change:+.1f} +- {100 * best.reach:.1f}"
            lines.append(
                f"| {low:.0%} to {min(high, 1):.0%} | {len(inside)} | {change} | {best.sampler}, n = {best.n} |"
            )
    return "\n".join(lines)


def known() -> dict[tuple[str, ...], dict[str, str]]:
    """Rows of the raw table."""
    if not table_of("first_visits").exists():
        return {}
    with table_of("first_visits").open(newline="") as file:
        return {(row["start"], row["n"], row["sampler"]): row for row in csv.DictReader(file)}


def cell_of_row(row: dict[str, str]) -> Cell:
    """Of raw figures."""
    names = ("joint_tv", "joint_tv_on_policy", "difference", "standard_error")
    error = Comparison(int(row["estimates"]), *(float(row[name]) for name in names))
    return Cell(row["start"], int(row["n"]), row["sampler"], float(row["first_visits"]), error)


def cells_and_rows() -> tuple[list[Cell], list[dict[str, object]]]:
    """Of every setting within BoulderPush, measured where the table lacks it."""
    rows, cells = known(), []
    raw: list[dict[str, object]] = []
    for start, n, sampler, run in runs():
        row = rows.get((start, str(n), sampler))
        if row is None:
            complete([run], workers=0)
        cell = cell_of(start, n, sampler, run) if row is None else cell_of_row(row)
        cells.append(cell)
        raw.append(row_of(cell) if row is None else dict(row))
    return cells, raw


def main() -> None:
    """Run what is missing and write first_visits.md, .csv and .png, and visits.csv."""
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page", action="store_true", help="run nothing, write the page of what there is")
    if not parser.parse_args().page:
        tasks.ledger().fill(tasks.runs(), workers=0)
    cells, rows = cells_and_rows()
    points = tasks.points()
    shown.draw(points)
    write(
        "first_visits",
        rows,
        tasks=shown.table(points),
        n_tasks=len({point.task for point in points}),
        correlations=shown.correlations(points),
        over_tasks=shown.bands(points),
        task_seed=tasks.RUN_SEED,
        staged=tasks.staged(),
        **shown.sentences(points),
        bands=most_taken_off(cells),
        cells=table_of_cells(cells),
        run_seed=RUN_SEED,
        seeds=SEEDS,
        iterations=ITERATIONS,
        threshold=f"{FIRST_VISITS:.0%}",
    )


if __name__ == "__main__":
    main()
