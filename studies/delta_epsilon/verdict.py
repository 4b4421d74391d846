"""Sentences that say which cells differ from on-policy sampling, so that the page stays true as tables grow."""

from collections.abc import Callable, Mapping

from lit_maprops.trials.power import share_power, visible_effect
from studies.cells import holm
from studies.delta_epsilon.fixed import AGES
from studies.delta_epsilon.grid import BASE, BOULDER, CELLS, GAME, TASKS, Cell
from studies.delta_epsilon.kept import Kept
from studies.delta_epsilon.results import Fixed, Interval, compared, paired_p, together, training_of

BIAS = ("return_bias", "importance_bias")  # plain mean minus weighted mean of the returns
LEVEL = 0.05
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

    lines = {
        "Solved seeds, difference to on-policy sampling in points": apart(
            against_base(training, BOULDER), 0, "+.0f", 100
        ),
        "Final joint sampling error, difference to on-policy actions": apart(end_errors(training, BOULDER), 0, "+.3f"),
        "Return bias, plain minus weighted mean": apart(bias(*BIAS), 0, "+.4f"),
        "The same without weights, plain mean minus that of on-policy batches": apart(bias(BIAS[0]), 0, "+.4f"),
    }
    lines |= {
        f"Variance of the gradient {age}, of a typical seed, as a multiple of on-policy sampling's": tested(fixed, age)
        for age in _ages(fixed)
    }
    return "\n".join(f"- **{title}:** {text}" for title, text in lines.items())


def _ages(fixed: Fixed) -> list[str]:
    """That were measured, the first one first."""
    return [age for age in sorted(AGES, key=lambda name: AGES[name]) if fixed.has(BASE, age)]


def typical_variance(fixed: Fixed, age: str) -> dict[Cell, tuple[Interval, float]]:
    """Of a typical seed, and p after Holm's correction for the cells of the age."""
    found = {c: fixed.typical(c, [age]) for c in CELLS if c != BASE and fixed.has(c, age)}
    adjusted = holm([one.p for one in found.values()])
    return {cell: (one.ratio, p) for (cell, one), p in zip(found.items(), adjusted, strict=True)}


def tested(fixed: Fixed, age: str) -> str:
    """Which cells' variance is told from on-policy sampling's."""
    found = typical_variance(fixed, age)
    kept = [f"{c.name} ({ratio.text('.2f')})" for c, (ratio, p) in found.items() if p < LEVEL]
    apart = sum(not ratio.low <= 1 <= ratio.high for ratio, _ in found.values())
    told = f"{len(kept)} after Holm's correction{': ' if kept else ''}{'; '.join(kept)}"
    return f"{apart} of {len(found)} intervals lie apart from 1, {told}."


def answer(training: Kept, fixed: Fixed) -> str:
    """The page's first sentences, and what they say of missing runs."""
    base, best = training_of(training, GAME, BASE), training_of(training, GAME, Cell(3.0, 1.0))
    assert base is not None and best is not None
    game = (
        f"In figure1 the further the behavior policy may go the better, from {base.solved.mean():.0%} of the seeds "
        f"solved on-policy to {best.solved.mean():.0%} with delta 3 and an epsilon of 1 or more"
    )
    parts = [part for part in (_solved_answer(training), _bias_answer(fixed), _variance_answer(fixed)) if part]
    return f"{game}.{missing(training, fixed)} On BoulderPush {' '.join(parts)}"


def _solved_answer(training: Kept) -> str:
    found = {cell: run for cell in CELLS if (run := training_of(training, BOULDER, cell)) is not None}
    if len(found) < 2 or BASE not in found:
        return "no cell has been trained yet."
    base = found.pop(BASE)
    seeds, share = len(base.solved), float(base.solved.mean())
    intervals = against_base(training, BOULDER).values()
    more, fewer = sum(i.low > 0 for i in intervals), sum(i.high < 0 for i in intervals)
    told = sum(p < LEVEL for p in holm([paired_p(own.solved, base.solved) for own in found.values()]))
    seen = visible_effect(lambda effect: share_power(share + effect, share, seeds, LEVEL), 0.8, 1 - share) or 1.0
    every = together(list(found.values()), base)
    changes = [interval.value for interval in end_errors(training, BOULDER).values()]
    return (
        f"success is undecided: with {seeds} seeds a cell, which see {100 * seen:.0f} points four times in five, "
        f"{more} of {len(found)} cells solve more seeds than on-policy sampling by more than their intervals and "
        f"{fewer} fewer ({told} after Holm's correction), all of them together {every.text('+.0f', 100)} points; the "
        "final sampling error differs from that of on-policy actions in the same states by "
        f"{min(changes):+.3f} to {max(changes):+.3f}."
    )


def _bias_answer(fixed: Fixed) -> str:
    """The largest off-policy bias of the return, without weights, age by age."""
    said = []
    for age in _ages(fixed):
        cells = [cell for cell in CELLS if cell != BASE and fixed.has(cell, age)]
        worst = max((fixed.mean(cell, [age], BIAS[0]) for cell in cells), key=lambda interval: abs(interval.value))
        said.append(f"{worst.text('+.3f')} of {fixed.mean(BASE, [age], 'return').value:.2f} {age}")
    return (
        f"At fixed policies of it the off-policy bias of the mean return is at most {', '.join(said)}." if said else ""
    )


def _variance_answer(fixed: Fixed) -> str:
    """How the gradient's variance of a typical seed moves over the grid, age by age."""
    said = []
    for age in _ages(fixed):
        found = typical_variance(fixed, age)
        values = [ratio.value for ratio, _ in found.values()]
        told = sum(p < LEVEL for _, p in found.values())
        said.append(
            f"{min(values):.2f} to {max(values):.2f} {age} ({told} of {len(found)} told from 1 after correction)"
        )
    return f"The gradient's variance of a typical seed is {', '.join(said)} times on-policy sampling's." if said else ""


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
    return f" Not complete: {' and '.join(lacks)} have been made." if lacks else ""
