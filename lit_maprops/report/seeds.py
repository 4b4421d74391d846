"""Every seed by itself: what its greedy and its sampled actions reach at the end."""

import math
from dataclasses import dataclass

from lit_maprops.metrics.reliability import share_text
from lit_maprops.report.analysis import Setting
from lit_maprops.report.forms import three_digits

MOST_SEEDS = 400  # in the table of a setting
HEADS = ("sampler", "run", "seed", "success, greedy", "success, sampled", "return, greedy", "return, sampled", "solved")


@dataclass(frozen=True)
class SeedTable:
    """Rows of text under ``heads``; ``more`` seeds are left out."""

    heads: tuple[str, ...]
    rows: list[list[str]]
    more: int


def seeds_of(setting: Setting) -> SeedTable:
    """The seeds of a setting's finished runs; without columns of success, or of what is solved, where none is told."""
    rows = []
    for group in setting.groups:
        for run in group.runs:
            solved = run.solved_by(group.judged).tolist()
            names = ("stochastic_success_rate", "greedy_return", "stochastic_return")
            columns = [run.success[-1], *(run.others[name][-1] for name in names)]
            of_seeds = zip(run.seeds.tolist(), solved, *(column.tolist() for column in columns), strict=True)
            for seed, is_solved, *figures in of_seeds:
                texts = [_text(value, k) for k, value in enumerate(figures)]
                rows.append([group.name, run.name, str(seed), *texts, "yes" if is_solved else "no"])
    untold: tuple[str, ...] = () if setting.tells_success or not setting.by_return else ("success",)
    untold += () if setting.tells_solved else ("solved",)
    columns_shown = [k for k, head in enumerate(HEADS) if not head.startswith(untold)]
    chosen = [[row[k] for k in columns_shown] for row in rows[:MOST_SEEDS]]
    return SeedTable(tuple(HEADS[k] for k in columns_shown), chosen, max(0, len(rows) - MOST_SEEDS))


def _text(value: float, column: int) -> str:
    if math.isnan(value):
        return "\N{EN DASH}"
    return share_text(value) if column < 2 else three_digits(value)
