"""Sampling error at fixed policies, and named games: what one state shows."""

import csv
from collections.abc import Callable, Iterable
from functools import partial
from itertools import product
from typing import Any

import numpy as np

from lit_maprops.behavior import MAPROPS, PROPS, Autoregressive, LowDiscrepancy, OnPolicy, TabularMAPROPS
from lit_maprops.envs import Coordination, Task
from lit_maprops.envs.games.payoffs import payoff_names
from lit_maprops.metrics.reliability import mean_interval, wilson_interval
from studies import ROOT
from studies.all_games.__main__ import exact_gradient_solves, game_of, learning_rate
from studies.cells import points
from studies.matrix_games.measures import (
    FIXED_SEEDS,
    POLICIES,
    RANDOM,
    Maker,
    fixed_policy_error,
    probabilities,
    solved_runs,
    strong,
    weak,
)

RUN_SEED = 20_261_129
SIZES = (8, 16, 32, 64)
LOW: dict[str, Any] = {"draws": "low_discrepancy"}
FIXED: dict[str, Maker] = {
    "on-policy": OnPolicy,
    "low-discrepancy": LowDiscrepancy,
    "low-discrepancy, Owen": partial(LowDiscrepancy, scrambling="owen"),
    "low-discrepancy, joint coordinate": partial(LowDiscrepancy, coordinates="joint"),
    "PROPS, weak": weak(PROPS),
    "MA-PROPS, weak": weak(MAPROPS),
    "MA-PROPS, weak, low-discrepancy draws": weak(MAPROPS, **LOW),
    "MA-PROPS, strong": strong(MAPROPS),
    "MA-PROPS, strong, low-discrepancy draws": strong(MAPROPS, **LOW),
    "Autoregressive, strong": strong(Autoregressive),
    "TabularMAPROPS": TabularMAPROPS,
    "TabularMAPROPS, low-discrepancy draws": partial(TabularMAPROPS, **LOW),
}
GAME_SAMPLERS: dict[str, Maker] = {
    "on-policy": OnPolicy,
    "low-discrepancy": LowDiscrepancy,
    "low-discrepancy, joint": partial(LowDiscrepancy, coordinates="joint"),
    "MA-PROPS": strong(MAPROPS),
}
GAME_SIZES, SEEDS = (8, 16), 400
TEAMS: dict[str, Callable[[], Task]] = {
    "3 agents x 2 actions": lambda: Coordination(3, 2),
    "2 agents x 3 actions": lambda: Coordination(2, 3),
}
Row = dict[str, str]


class Kept:
    """Rows of a table in this folder; what it holds is not measured again."""

    def __init__(self, name: str) -> None:
        self.path = ROOT / "studies" / "low_discrepancy" / f"{name}.csv"
        self.rows: list[Row] = []
        if self.path.exists():
            with self.path.open(newline="") as file:
                self.rows = list(csv.DictReader(file))

    def of(self, key: Row, measure: Callable[[], Row]) -> Row:
        """The row with these cells, measured if it is missing."""
        for row in self.rows:
            if all(row[name] == value for name, value in key.items()):
                return row
        print(*key.values(), flush=True)
        self.rows.append(key | measure())
        with self.path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(self.rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)
        return self.rows[-1]


def errors() -> str:
    """Joint TV at fixed 2x2 policies."""
    table, lines = Kept("fixed"), []
    for policy in [*POLICIES, RANDOM]:
        what = "drawn for every seed and agent" if policy == RANDOM else str(POLICIES[policy])
        lines += [f"\n### {policy}: both agents choose action 0 with probability {what}\n"]
        lines += ["| sampler | " + " | ".join(f"n = {n}" for n in SIZES) + " |", "|---" * (1 + len(SIZES)) + "|"]
        for name, maker in FIXED.items():
            cells = []
            for n in SIZES:
                key = {"policy": policy, "sampler": name, "n": str(n)}
                row = table.of(key, partial(_error, maker, policy, n))
                cells.append(f"{float(row['joint_tv']):.4f} +- {float(row['half_width']):.4f}")
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _error(maker: Maker, policy: str, n: int) -> Row:
    found = fixed_policy_error(maker, probabilities(policy), n, run_seed=RUN_SEED)
    low, high = mean_interval(np.stack([found]))
    return {"joint_tv": f"{found.mean():.6f}", "half_width": f"{(high[0] - low[0]) / 2:.6f}", "seeds": str(FIXED_SEEDS)}


def games() -> str:
    """Solved runs of every named game, also with its actions numbered the other way round, and of two more."""
    table = Kept("games")
    names = [*payoff_names(), *(f"flipped {name}" for name in payoff_names()), *TEAMS]
    for game, (name, maker), n in product(names, GAME_SAMPLERS.items(), GAME_SIZES):
        key = {"game": game, "sampler": name, "n": str(n)}
        table.of(key, partial(_solved, maker, game, n))
    lines = ["| games | n | " + " | ".join(GAME_SAMPLERS) + " | low-discrepancy - on-policy, points |"]
    lines += ["|---" * (3 + len(GAME_SAMPLERS)) + "|"]
    for title, which in _groups(names).items():
        for n in GAME_SIZES:
            of = {name: _total(table, which, name, n) for name in GAME_SAMPLERS}
            runs = SEEDS * len(which)
            cells = []
            for solved, error in of.values():
                low, high = wilson_interval(solved, runs)
                cells.append(f"{solved / runs:.3f} [{low:.3f}, {high:.3f}], TV {error:.3f}")
            own, base = of["low-discrepancy"][0], of["on-policy"][0]
            change = points(own, runs, base, runs, digits=1)
            lines.append(f"| {title} | {n} | {' | '.join(cells)} | {change} |")
    return "\n".join(lines)


def _groups(names: Iterable[str]) -> dict[str, list[str]]:
    """Games that are looked at together; whether the expected gradient solves them tells what a sampler can do."""
    named = [name for name in names if name not in TEAMS]
    solvable = {name: exact_gradient_solves(game_of(name)) for name in named}
    return {
        "figure1": ["figure1"],
        "figure1, flipped": ["flipped figure1"],
        **{name: [name] for name in TEAMS},
        "all that the expected gradient solves": [name for name in named if solvable[name]],
        "all that it does not solve": [name for name in named if not solvable[name]],
    }


def _solved(maker: Maker, game: str, n: int) -> Row:
    made = TEAMS.get(game, partial(game_of, game))
    rate = 1.0 if game in TEAMS else learning_rate(game_of(game))
    solved, own, on_policy = solved_runs(maker, made, n, SEEDS, rate, run_seed=RUN_SEED)
    return {"solved": str(solved), "joint_tv": f"{own:.5f}", "joint_tv_on_policy": f"{on_policy:.5f}"}


def _total(table: Kept, games: list[str], sampler: str, n: int) -> tuple[int, float]:
    rows = [r for r in table.rows if r["game"] in games and r["sampler"] == sampler and r["n"] == str(n)]
    return sum(int(r["solved"]) for r in rows), float(np.mean([float(r["joint_tv"]) for r in rows]))
