"""Measures docs/evidence/delta_epsilon.md: MA-PROPS over the KL cutoff delta and the clip epsilon, on one grid.

figure1 and BoulderPush are trained over the grid, and at fixed policies of BoulderPush bias and variance are measured
with the same settings and seeds. Interrupted, it continues. Nothing is chosen by what comes out.
"""

import argparse
from collections.abc import Callable

from lit_maprops.metrics.reliability import wilson_interval
from studies.delta_epsilon.earlier import earlier_rows
from studies.delta_epsilon.figure import draw
from studies.delta_epsilon.fixed import AGES, BATCHES, OF_BASE, REFERENCE, SEEDS
from studies.delta_epsilon.grid import BASE, BOULDER, CELLS, GAME, TASKS
from studies.delta_epsilon.kept import Kept
from studies.delta_epsilon.measure import fill, fixed_table, training_table
from studies.delta_epsilon.results import Fixed, Training, compared, training_of
from studies.delta_epsilon.verdict import BIAS, answer, boulder_lines
from studies.page import write_page

Column = tuple[str, Callable[[Training, Training], str]]


def error(when: str) -> Column:
    """Sampling error of D, and its difference to on-policy actions in the same states."""

    def cell(own: Training, _: Training) -> str:
        pair = f"{own.error[f'{when} own'].value:.3f} / {own.error[f'{when} on-policy'].value:.3f}"
        return f"{pair}, {own.error[f'{when} change'].text()}"

    return f"joint TV, {when}", cell


def solved(own: Training, base: Training) -> str:
    """Share with Wilson's interval, and the difference in points."""
    count, seeds = int(own.solved.sum()), len(own.solved)
    low, high = wilson_interval(count, seeds)
    share = f"{count / seeds:.0%} [{low:.0%}, {high:.0%}] of {seeds}"
    return share if own is base else f"{share}, {compared(own, base).text('+.0f', 100)}"


def diagnostic(name: str, title: str, digits: str) -> Column:
    """Mean over training."""

    def cell(own: Training, _: Training) -> str:
        value = own.diagnostics[f"behavior/{name}"]
        return "" if value != value else format(value, digits)

    return title, cell


LIMITS = [
    diagnostic("kl", "KL while acting", ".3g"),
    diagnostic("gradient_steps", "gradient steps", ".3g"),
    diagnostic("cutoff_share", "stopped by delta", ".0%"),
    diagnostic("first_step_cutoff_share", "after one step", ".0%"),
    diagnostic("ratio_clipped", "clipped", ".0%"),
]


def training_rows(table: Kept, task: str, columns: list[Column]) -> str:
    """A line per cell that has been run."""
    lines = [f"| setting | {' | '.join(title for title, _ in columns)} |", "|---" * (len(columns) + 1) + "|"]
    base = training_of(table, task, BASE)
    for cell in CELLS:
        own = base if cell == BASE else training_of(table, task, cell)
        if own is not None and base is not None:
            lines.append(f"| {cell.name} | {' | '.join(text(own, base) for _, text in columns)} |")
    return "\n".join(lines)


def four_figures(training: Kept, fixed: Fixed) -> str:
    """What the paper's check asks for, a line per cell."""
    head = ["solved", "final joint TV", "return bias by weights", "variance of the gradient, typical seed"]
    lines = [f"| setting | {' | '.join(head)} |", "|---" * (len(head) + 1) + "|"]
    base = training_of(training, BOULDER, BASE)
    for cell in CELLS:
        own = base if cell == BASE else training_of(training, BOULDER, cell)
        ages, trained, drawn = fixed.ages(cell), ["", ""], ["", ""]
        if base is not None and own is not None:
            trained = [solved(own, base), error("end")[1](own, base)]
        if ages and cell == BASE:
            drawn = ["0", "1"]
        elif ages:
            drawn = [fixed.mean(cell, ages, *BIAS).text("+.4f"), fixed.typical(cell, ages).ratio.text(".2f")]
        lines.append(f"| {cell.name} | {' | '.join([*trained, *drawn])} |")
    return "\n".join(lines)


def fixed_rows(fixed: Fixed) -> str:
    """Bias and variance, age by age."""
    head = ["plain - weighted", "plain - on-policy", "weighted - on-policy", "ESS", "variance, typical seed"]
    head += ["variance, mean", "squared bias", "error"]
    lines = [f"| setting | {' | '.join(head)} |", "|---" * (len(head) + 1) + "|"]
    for age in sorted(AGES, key=lambda name: AGES[name]):
        if not fixed.has(BASE, age):
            continue
        seeds, found = fixed.seeds(BASE, age), fixed.mean(BASE, [age], "return")
        norm, spread = seeds["norm_squared"].mean(), seeds["variance"].mean()
        lines.append(
            f"| **{age}** ({AGES[age]:,} env steps): return {found.text('.3f')}, squared norm of the "
            f"gradient {norm:.2g}, on-policy variance {spread:.2g}, a mean that rests on "
            f"{fixed.effective_seeds(age):.1f} of {len(seeds['variance'])} seeds |" + " |" * len(head)
        )
        for cell in CELLS:
            if not fixed.has(cell, age):
                continue
            row = [fixed.mean(cell, [age], *BIAS).text("+.4f")]
            row += [fixed.mean(cell, [age], name).text("+.4f") for name in BIAS]
            row += [fixed.mean(cell, [age], "effective_sample_share").text(".2f")]
            row += ["1" if cell == BASE else fixed.typical(cell, [age]).ratio.text(".2f")]
            row += [fixed.ratio(cell, [age], name).text(".2f") for name in ("variance", "bias_squared", "mse")]
            lines.append(f"| {cell.name} | {' | '.join(row)} |")
    return "\n".join(lines)


def page() -> None:
    """Write delta_epsilon.md and its picture from the tables."""
    training, fixed = training_table(), Fixed(fixed_table())
    draw(training, fixed)
    write_page(
        "delta_epsilon",
        answer=answer(training, fixed),
        says=boulder_lines(training, fixed),
        four=four_figures(training, fixed),
        game=training_rows(training, GAME, [("solved", solved), error("start"), error("end"), *LIMITS]),
        boulder=training_rows(training, BOULDER, [error("start"), error("mean"), *LIMITS]),
        fixed=fixed_rows(fixed),
        earlier=earlier_rows(),
        run_seed=TASKS[BOULDER].run_seed,
        fixed_seeds=SEEDS,
        batches=BATCHES,
        of_base=OF_BASE,
        reference=REFERENCE,
    )


def main() -> None:
    """Run what is missing and write delta_epsilon.md, .png and the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page", action="store_true", help="run nothing, write the page of what there is")
    if not parser.parse_args().page:
        fill()
    page()


if __name__ == "__main__":
    main()
