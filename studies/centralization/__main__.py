"""Measures docs/evidence/centralization.md: one adjustment over joint actions against an adjustment per agent.

The games were chosen by on-policy sampling alone, on run seed 1000: coordination games whose expected gradient leads to
the best joint action and of which on-policy sampling solves 50% to 70% of the runs at n = 16. Samplers are not tuned.
What centralization.csv holds is not measured again.
"""

import argparse
import csv
import logging
import warnings
from functools import partial
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import fisher_exact

from lit_maprops.behavior import MAPROPS, PROPS, LowDiscrepancy, OnPolicy, TabularMAPROPS
from lit_maprops.envs import Coordination
from lit_maprops.metrics.reliability import wilson_interval
from studies import table_of
from studies.cells import adjusted_p, holm, points
from studies.matrix_games.exact import ascent, payoffs
from studies.matrix_games.measures import Maker, best_joint_actions, solved_seeds, strong, weak
from studies.page import write_page

RUN_SEED, SEEDS, SIZES, BASE = 20_261_131, 1024, (8, 16, 32), "OnPolicy"
SAMPLERS: dict[str, Maker] = {
    BASE: OnPolicy,
    "LowDiscrepancy": LowDiscrepancy,
    "LowDiscrepancy, joint coordinate": partial(LowDiscrepancy, coordinates="joint"),
    "PROPS, weak updates": weak(PROPS),
    "MAPROPS, weak updates": weak(MAPROPS),
    "PROPS, strong updates": strong(PROPS),
    "MAPROPS, strong updates": strong(MAPROPS),
    "TabularMAPROPS": TabularMAPROPS,
}
PAIRS = [("MAPROPS, weak updates", "PROPS, weak updates"), ("MAPROPS, strong updates", "PROPS, strong updates")]
RESULT = table_of("centralization")
Row = dict[str, str | int | float]
Cell = tuple[str, int, str]  # game, n, sampler


class Game(NamedTuple):
    """A coordination game: agreeing on action j pays ``rewards[j]``, everything else nothing."""

    n_agents: int
    rewards: list[float]
    learning_rate: float

    def task(self) -> Coordination:
        """The game itself."""
        return Coordination(self.n_agents, len(self.rewards), self.rewards)


GAMES = {
    "3 agents x 2 actions": Game(3, [1.0, 0.9], 1.0),
    "3 agents x 3 actions": Game(3, [1.0, 0.8, 0.64], 2.0),
    "4 agents x 2 actions": Game(4, [1.0, 0.9], 1.0),
    "4 agents x 3 actions": Game(4, [1.0, 0.8, 0.64], 2.0),
}


def ascent_ends_at(game: Game) -> float:
    """Probability of the best joint actions after 60 steps along the expected gradient."""
    task = game.task()
    uniform = torch.zeros(1, task.n_agents, task.n_actions)
    joint = ascent(payoffs(task), uniform, game.learning_rate, 60)
    return float(joint[0, best_joint_actions(task)].sum())


def measure() -> list[Row]:
    """Every game, n and sampler."""
    rows: list[Row] = list(csv.DictReader(RESULT.open())) if RESULT.exists() else []
    known = {(row["game"], row["sampler"], int(row["n"])) for row in rows}
    for name, n, (sampler, maker) in product(GAMES, SIZES, SAMPLERS.items()):
        if (name, sampler, n) in known:
            continue
        game = GAMES[name]
        solved, own, on_policy = solved_seeds(maker, game.task, n, SEEDS, game.learning_rate, run_seed=RUN_SEED)
        row: Row = {"game": name, "sampler": sampler, "n": n, "seeds": SEEDS, "solved": int(solved.sum())}
        rows.append(row | {"joint_tv": round(own, 5), "joint_tv_on_policy": round(on_policy, 5)})
        with RESULT.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    return rows


def adjusted(pairs: dict[Cell, tuple[int, int]]) -> dict[Cell, float]:
    """p of equal shares (Fisher's exact test), after Holm's correction for all of them."""
    tables = [np.array([[own, SEEDS - own], [base, SEEDS - base]]) for own, base in pairs.values()]
    tests = [fisher_exact(one).pvalue for one in tables]
    return dict(zip(pairs, holm([float(p) for p in tests]), strict=True))


def against_on_policy(rows: list[Row]) -> dict[Cell, float]:
    """Every sampler's p in every game and n."""
    found = solved_of(rows)
    return adjusted({cell: (own, found[*cell[:2], BASE]) for cell, own in found.items() if cell[2] != BASE})


def of_pairs(rows: list[Row]) -> dict[Cell, float]:
    """MAPROPS' p against PROPS with the same updates."""
    found = solved_of(rows)
    pairs = dict(PAIRS)
    return adjusted({cell: (own, found[*cell[:2], pairs[cell[2]]]) for cell, own in found.items() if cell[2] in pairs})


def solved_of(rows: list[Row]) -> dict[Cell, int]:
    """Solved seeds of ``SEEDS``."""
    return {(str(r["game"]), int(r["n"]), str(r["sampler"])): int(r["solved"]) for r in rows}


def told(rows: list[Row]) -> dict[str, str]:
    """How many comparisons are left after correction, for the page's text."""
    p, q, found = against_on_policy(rows), of_pairs(rows), solved_of(rows)
    fields = {"comparisons": str(len(p))}
    for method in ("MAPROPS", "PROPS"):
        own = [cell for cell in p if cell[2].startswith(f"{method},")]
        better = [cell for cell in own if p[cell] < 0.05 and found[cell] > found[*cell[:2], BASE]]
        fields[f"{method}_told"] = f"{len(better)} of {len(own)}"
    for sign, name in ((1, "more"), (-1, "fewer")):
        for updates in ("weak", "strong"):
            these = [cell for cell in q if updates in cell[2] and q[cell] < 0.05]
            gains = [sign * (found[cell] - found[*cell[:2], dict(PAIRS)[cell[2]]]) > 0 for cell in these]
            fields[f"{updates}_{name}"] = str(sum(gains))
    return fields


def table(rows: list[Row]) -> str:
    """Every cell, and what it is above on-policy sampling."""
    found = {(r["game"], int(r["n"]), r["sampler"]): r for r in rows}
    lines = [
        "| game | n | sampler | solved | to on-policy, points | p (Holm) | joint TV over training: own / on-policy |",
        "|---" * 7 + "|",
    ]
    p = against_on_policy(rows)
    for name, n, sampler in product(GAMES, SIZES, SAMPLERS):
        row, base = found[name, n, sampler], int(found[name, n, BASE]["solved"])
        solved = int(row["solved"])
        low, high = wilson_interval(solved, SEEDS)
        cells = [name, str(n), sampler, f"{solved / SEEDS:.1%} [{low:.1%}, {high:.1%}]"]
        cells.append("" if sampler == BASE else points(solved, SEEDS, base, SEEDS))
        cells.append(adjusted_p(p.get((name, n, sampler))))
        cells.append(f"{float(row['joint_tv']):.3f} / {float(row['joint_tv_on_policy']):.3f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def centralized(rows: list[Row]) -> str:
    """MAPROPS minus PROPS with the same updates."""
    found, p = solved_of(rows), of_pairs(rows)
    head = " | ".join(f"{own} minus {other.split(',')[0]}" for own, other in PAIRS)
    lines = [f"| game | n | {head} |", "|---" * (2 + len(PAIRS)) + "|"]
    for name, n in product(GAMES, SIZES):
        cells = []
        for own, other in PAIRS:
            mark = "" if p[name, n, own] < 0.05 else " †"
            cells.append(points(found[name, n, own], SEEDS, found[name, n, other], SEEDS) + mark)
        lines.append(f"| {name} | {n} | {' | '.join(cells)} |")
    return "\n".join(lines)


def games() -> str:
    """What is played."""
    lines = ["| game | rewards | learning rate | expected gradient ends at pi_theta(best) |", "|---" * 4 + "|"]
    for name, game in GAMES.items():
        rewards = ", ".join(f"{reward:g}" for reward in game.rewards)
        lines.append(f"| {name} | {rewards} | {game.learning_rate:g} | {ascent_ends_at(game):.2f} |")
    return "\n".join(lines)


def main() -> None:
    """Measure what is missing and write centralization.md."""
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    argparse.ArgumentParser(description=__doc__).parse_args()
    torch.set_num_threads(1)
    rows = measure()
    write_page(
        "centralization",
        run_seed=RUN_SEED,
        seeds=SEEDS,
        games=games(),
        centralized=centralized(rows),
        cells=table(rows),
        **told(rows),
    )


if __name__ == "__main__":
    main()
