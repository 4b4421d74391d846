"""Sentences that say which cells differ from on-policy sampling, so that the page stays true as tables grow."""

from collections.abc import Callable, Mapping

from studies.delta_epsilon.fixed import AGES
from studies.delta_epsilon.grid import BASE, BOULDER, CELLS, GAME, TASKS, Cell
from studies.delta_epsilon.kept import Kept
from studies.delta_epsilon.results import Fixed, Interval, compared, training_of

BIAS = ("return_bias", "importance_bias")  # plain mean minus weighted mean of the returns
Trained = dict[Cell, Interval]


def against_base(table: Kept, task: str) -> Trained:
    """Solved shares minus on-policy sampling's, of the cells that have been run."""
    found = {cell: training_of(table, task, cell) for cell in CELLS}
    base = found[BASE]
    return {
        cell: compared(own, base)
        for cell, own in found.items()
        if own is not None and base is not None and cell != BASE
    }


def end_errors(table: Kept, task: str) -> Trained:
    """Final sampling errors minus those of on-policy actions in the same states."""
    found = {cell: training_of(table, task, cell) for cell in CELLS}
    return {cell: own.error["end change"] for cell, own in found.items() if own is not None and cell != BASE}


def at_fixed_policies(fixed: Fixed, of: Callable[[Cell, list[str]], Interval]) -> Trained:
    """A figure's mean over the ages that a cell was measured at."""
    return {cell: of(cell, fixed.ages(cell)) for cell in CELLS if cell != BASE and fixed.ages(cell)}


def apart(found: Mapping[Cell, Interval], same: float, digits: str, scale: float = 1.0) -> str:
    """Which cells' intervals do not hold ``same``."""
    if not found:
        return "not measured yet."
    above = {cell: interval for cell, interval in found.items() if interval.low > same}
    below = {cell: interval for cell, interval in found.items() if interval.high < same}

    def listed(cells: Mapping[Cell, Interval]) -> str:
        names = [f"{cell.name} ({interval.text(digits, scale)})" for cell, interval in cells.items()]
        return f"in {len(cells)} of {len(found)} cells{': ' if names else ''}{'; '.join(names)}"

    return f"above {listed(above)}. Below {listed(below)}."


def boulder_lines(training: Kept, fixed: Fixed) -> str:
    """The four figures of BoulderPush, one bullet each."""

    def bias(name: str, less: str | None = None) -> Trained:
        return at_fixed_policies(fixed, lambda cell, ages: fixed.mean(cell, ages, name, less))

    variance = at_fixed_policies(fixed, lambda cell, ages: fixed.ratio(cell, ages, "variance"))
    lines = {
        "Solved seeds, difference to on-policy sampling in points": apart(
            against_base(training, BOULDER), 0, "+.0f", 100
        ),
        "Final joint sampling error, difference to on-policy actions": apart(end_errors(training, BOULDER), 0, "+.3f"),
        "Return bias, plain minus weighted mean": apart(bias(*BIAS), 0, "+.4f"),
        "The same without weights, plain mean minus that of on-policy batches": apart(bias(BIAS[0]), 0, "+.4f"),
        "Variance of the gradient, as a multiple of on-policy sampling's": apart(variance, 1, ".2f"),
    }
    return "\n".join(f"- **{title}:** {text}" for title, text in lines.items())


def answer(training: Kept, fixed: Fixed) -> str:
    """The page's first sentence, and what it says of missing runs."""
    base, best = training_of(training, GAME, BASE), training_of(training, GAME, Cell(3.0, 1.0))
    assert base is not None and best is not None
    game = (
        f"In figure1 the further the behavior policy may go the better, from {base.solved.mean():.0%} of the seeds "
        f"solved on-policy to {best.solved.mean():.0%} with delta 3 and an epsilon of 1 or more"
    )
    return f"{game}; {_boulder_answer(training, fixed)}{missing(training, fixed)}."


def _boulder_answer(training: Kept, fixed: Fixed) -> str:
    found, errors = against_base(training, BOULDER), end_errors(training, BOULDER)
    text = "on BoulderPush no cell has been trained yet"
    if found:
        more, fewer = sum(i.low > 0 for i in found.values()), sum(i.high < 0 for i in found.values())
        changes = [interval.value for interval in errors.values()]
        text = (
            f"on BoulderPush {more} of {len(found)} cells solve more seeds than on-policy sampling by more than their "
            f"intervals and {fewer} fewer, and the final sampling error differs from that of on-policy actions in the "
            "same states by "
            f"{min(changes):+.3f} to {max(changes):+.3f}"
        )
    by_age = {}
    for age in sorted(AGES, key=lambda name: AGES[name]):
        ratios = [fixed.ratio(cell, [age], "variance") for cell in CELLS if cell != BASE and fixed.has(cell, age)]
        values = [ratio.value for ratio in ratios]
        if values:
            apart = sum(not low <= 1 <= high for _, low, high in ratios)
            by_age[age] = f"{min(values):.2f} to {max(values):.2f} {age} ({apart} of {len(values)} intervals without 1)"
    if by_age:
        text += (
            "; at fixed policies of it the variance of the gradient is, in multiples of on-policy sampling's, "
            + ", ".join(by_age.values())
        )
    return text


def missing(training: Kept, fixed: Fixed) -> str:
    """What there is of the planned runs, in parentheses; empty if all have been made."""
    lacks = []
    for task, given in TASKS.items():
        planned, made = len(CELLS) * given.blocks, len(training.of(task=task))
        if made < planned:
            lacks.append(f"{made} of {planned} runs of {given.block} seeds on {task}")
    drawn, all_drawn = sum(fixed.has(cell, age) for cell in CELLS for age in AGES), len(CELLS) * len(AGES)
    if drawn < all_drawn:
        lacks.append(f"{drawn} of {all_drawn} measurements of bias and variance")
    return f" (not complete: {' and '.join(lacks)} have been made)" if lacks else ""
