"""Tables of docs/evidence/tasks.md."""

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ttest_ind

from lit_maprops.metrics.reliability import difference_interval, mean_interval
from studies.cells import difference, holm, p_value, share, signed
from studies.runs import SOLVED, Outcome
from studies.tasks.plan import BASE, TASKS, Cell, cells
from studies.tasks.results import Results, Row


def coverage(results: Results) -> str:
    """What of the plan has been measured."""
    planned = cells()
    count = sum(cell in results.last for cell in planned)
    whole = [name for name in TASKS if all(cell in results.last for cell in cells([name]))]
    if count == len(planned):
        return f"All {count} cells (task, learner, sampler) were measured."
    finished = f"tasks with all their cells: {', '.join(whole) or 'none'}"
    return (
        f"{count} of {len(planned)} cells (task, learner, sampler) were measured; {finished}. The page is not complete."
    )


class Comparison(NamedTuple):
    """Of a cell with the learner's on-policy sampling: of solved seeds, or of the greedy return where there are none.

    That is where the task tells no success, or no seed of the two is solved.
    """

    cell: Cell
    text: str
    p: float
    sign: int  # of a difference whose interval excludes 0, else 0


def comparisons(results: Results) -> list[Comparison]:
    """All that have been measured."""
    found = []
    for cell in cells():
        base = cell._replace(sampler=BASE)
        if cell.sampler == BASE or not {cell, base} <= results.last.keys():
            continue
        own, other = outcome(results, cell), outcome(results, base)
        if own is not None and other is not None and own.solved + other.solved:
            ends = difference_interval(own.solved, own.seeds, other.solved, other.seeds)
            text, p = f"{difference(own, other)} points", p_value(own, other)
        else:
            pair = [results.values(one, "greedy_return") for one in (cell, base)]
            welch = ttest_ind(*pair, equal_var=False)
            ends, p = tuple(welch.confidence_interval(0.95)), float(welch.pvalue)
            text = f"{change(*pair)} of return"
        found.append(Comparison(cell, text, p, int(ends[0] > 0) - int(ends[1] < 0)))
    return found


def answer(results: Results) -> str:
    """Whether any sampler differs from on-policy sampling, corrected for the number of comparisons and not."""
    found = comparisons(results)
    sure = [one for one, p in zip(found, holm([one.p for one in found]), strict=True) if p < 0.05]
    told = f"told from on-policy sampling after Holm's correction for {len(found)} comparisons"
    says = f"{_listed(sure)} {'are' if len(sure) > 1 else 'is'} {told}." if sure else f"No sampler is {told}."
    for sign, where in ((1, "above"), (-1, "below")):
        alone = [one for one in found if one.sign == sign]
        count = {0: "no interval lies", 1: "one interval lies"}.get(len(alone), f"{len(alone)} intervals lie")
        says += f" Uncorrected, {count} {where} 0"
        says += f": {_listed(alone)}." if alone else "."
    return says


def _listed(found: Sequence[Comparison]) -> str:
    return "; ".join(f"{one.cell.task}, {one.cell.learner}, {one.cell.sampler} ({one.text})" for one in found)


def outcome(results: Results, cell: Cell) -> Outcome | None:
    """Solved seeds; None where the task tells no success."""
    success = results.values(cell, "greedy_success_rate")
    if np.isnan(success).all():
        return None
    solved = int((success.astype(np.float32) >= np.float32(SOLVED)).sum())
    return Outcome(len(success), solved, float(np.nan_to_num(success).mean()), {}, results.seconds(cell))


def _number(value: float, spread: float) -> str:
    """As many digits as the interval's width allows."""
    return f"{value:.{2 if spread < 5 else 1}f}"


def mean(values: NDArray[np.floating]) -> str:
    """Over seeds, with its bootstrap interval."""
    sound = values[np.isfinite(values)]
    if not len(sound):
        return ""
    low, high = (float(end[0]) for end in mean_interval(sound[None]))
    return "{} [{}, {}]".format(*(_number(x, high - low) for x in (float(sound.mean()), low, high)))


def change(values: NDArray[np.floating], base: NDArray[np.floating]) -> str:
    """Difference of two means over seeds, with Welch's interval."""
    own, other = (x[np.isfinite(x)] for x in (values, base))
    if min(len(own), len(other)) < 2 or not (own.std() or other.std()):
        return ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # equal values of all seeds: their variance of 0 is exact
        ends = ttest_ind(own, other, equal_var=False).confidence_interval(0.95)
    return signed(float(own.mean() - other.mean()), float(ends.low), float(ends.high), digits=2)


def line(results: Results, cell: Cell, told: bool) -> str:
    """One of a task's table; ``told``: the task tells success."""
    base, own = cell._replace(sampler=BASE), outcome(results, cell)
    compared = base in results.last and cell.sampler != BASE
    cells_of_line = [cell.learner, cell.sampler]
    if told:
        other = outcome(results, base) if compared else None
        cells_of_line += ["" if own is None else share(own)]
        cells_of_line += ["" if own is None or other is None else difference(own, other)]
    returns = results.values(cell, "greedy_return")
    cells_of_line += [mean(returns), change(returns, results.values(base, "greedy_return")) if compared else ""]
    cells_of_line += [mean(results.values(cell, "stochastic_return")), f"{results.seconds(cell):.0f}"]
    return f"| {' | '.join(cells_of_line)} |"


def section(results: Results, name: str) -> str:
    """What there is of one task; empty where there is nothing."""
    planned = cells([name])
    measured = [cell for cell in planned if cell in results.last]
    if not measured:
        return ""
    told = any(outcome(results, cell) is not None for cell in measured)
    head = ["learner", "sampler", *(["solved", "to on-policy, points"] if told else [])]
    head += ["greedy return", "to on-policy", "return of sampled actions", "seconds"]
    task = TASKS[name]
    says = f"{task.says} `conf/{task.config}.yaml`, {task.env_steps:,} env steps per seed."
    if len(measured) < len(planned):
        says += f" {len(measured)} of {len(planned)} cells were measured."
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|", *(line(results, cell, told) for cell in measured)]
    return "\n\n".join([f"## {name}", says, "\n".join(lines)])


def published_table(results: Results, published: Sequence[Row]) -> str:
    """Published figures beside the same learner's with on-policy sampling."""
    head = ("task", "learner", "published", "in our units", "env steps", "after our env steps", "ours, sampled actions")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row in published:
        cell = Cell(row["task"], row["learner"], BASE)
        offset = float(row["offset"])
        ours = "not measured"
        if cell in results.last:
            ours = f"{mean(results.values(cell, 'stochastic_return'))} at {TASKS[cell.task].env_steps:,}"
        figures = [f"{row['value']} (SD {row['spread']}, {row['runs']} runs)", f"{float(row['value']) + offset:.2f}"]
        figures += [f"{int(row['env_steps']):,}", f"{float(row['early_value']) + offset:.2f}", ours]
        lines.append(f"| {' | '.join([cell.task, cell.learner, *figures])} |")
    return "\n".join(lines)
