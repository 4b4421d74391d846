"""Measures docs/evidence/random_policies.md: Figure 1's game and the 21 no-conflict games from random initial policies.

Nothing is tuned: settings are those of studies/all_games. What random_policies.csv holds is not measured again.
"""

import argparse
import csv
import logging
import warnings
from collections.abc import Iterable
from functools import partial
from itertools import product

import numpy as np
import torch
from scipy.stats import t, ttest_1samp
from torch import Tensor

from lit_maprops.behavior import MAPROPS, PROPS, LowDiscrepancy, OnPolicy, TabularMAPROPS
from lit_maprops.envs import MatrixGame
from lit_maprops.envs.games.payoffs import payoff_names
from lit_maprops.metrics.reliability import wilson_interval
from studies import table_of
from studies.all_games.__main__ import UPDATES, learning_rate
from studies.cells import adjusted_p, holm, points, share_of, signed
from studies.delta_epsilon.results import paired_difference, paired_p
from studies.matrix_games.exact import ascent, payoffs
from studies.matrix_games.measures import Maker, best_joint_actions, solved_seeds, strong
from studies.page import write_page

RUN_SEED, SEEDS, SIZES, BASE = 20_261_130, 400, (8, 16), "OnPolicy"
SAMPLERS: dict[str, Maker] = {
    BASE: OnPolicy,
    "LowDiscrepancy": LowDiscrepancy,
    "PROPS": strong(PROPS),
    "MAPROPS": strong(MAPROPS),
    "TabularMAPROPS": TabularMAPROPS,
}
GAMES = ["figure1", *(name for name in payoff_names() if name.startswith("no_conflict"))]
RESULT = table_of("random_policies")
MANY = 3_000  # steps along the expected gradient, fifty times as many as runs have updates
Row = dict[str, str | int | float]
Counts = dict[tuple[str, str, int], tuple[int, int]]  # (game, sampler, n): solved of those ascent solves, of the others


def initial_logits() -> Tensor:
    """Every agent's probability of action 0 is uniform on [0, 1], the same in all games: ``[SEEDS, 2, 2]``."""
    first = torch.rand(SEEDS, 2, generator=torch.Generator().manual_seed(RUN_SEED)).clamp(1e-6, 1 - 1e-6)
    return torch.stack([first, 1 - first], -1).log()


def ascent_solves(game: MatrixGame, updates: int = UPDATES) -> Tensor:
    """Which seeds the expected gradient leads to a best joint action from their own start, ``[SEEDS]`` bool."""
    joint = ascent(payoffs(game), initial_logits(), learning_rate(game), updates)
    return joint[:, best_joint_actions(game)].sum(1) > 0.5


def measure() -> list[Row]:
    """Every game, sampler and n."""
    rows: list[Row] = list(csv.DictReader(RESULT.open())) if RESULT.exists() else []
    known = {(row["game"], row["sampler"], int(row["n"])) for row in rows}
    for game, (name, maker), n in product(GAMES, SAMPLERS.items(), SIZES):
        if (game, name, n) in known:
            continue
        task, reached = MatrixGame(game), ascent_solves(MatrixGame(game))
        made = partial(MatrixGame, game)
        solved, own, on_policy = solved_seeds(
            maker, made, n, SEEDS, learning_rate(task), run_seed=RUN_SEED, logits=initial_logits()
        )
        row: Row = {"game": game, "sampler": name, "n": n, "seeds": SEEDS, "ascent solves": int(reached.sum())}
        row |= {"solved of them": int(solved[reached].sum()), "solved of the others": int(solved[~reached].sum())}
        row |= {"joint_tv": round(own, 5), "joint_tv_on_policy": round(on_policy, 5)}
        rows.append(row | {"seed by seed": "".join("01"[int(one)] for one in solved)})
        with RESULT.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    return rows


def totals(rows: list[Row], games: Iterable[str]) -> str:
    """Solved shares over some games, of the seeds that the expected gradient solves and of the others."""
    games = set(games)
    lines = [
        "| sampler | n | seeds that the expected gradient solves: solved | to on-policy, points | the others: solved | "
        "to on-policy, points |",
        "|---" * 6 + "|",
    ]
    for n in SIZES:
        sums = {name: _sums(rows, games, name, n) for name in SAMPLERS}
        for name, own in sums.items():
            cells = [name, str(n)]
            for (solved, of), (base, base_of) in zip(own, sums[BASE], strict=True):
                low, high = wilson_interval(solved, of) if of else (0.0, 0.0)
                cells.append(f"{solved / of:.1%} [{low:.1%}, {high:.1%}] of {of:,}" if of else "none")
                cells.append(points(solved, of, base, base_of, digits=1) if of and name != BASE else "")
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _sums(rows: list[Row], games: set[str], name: str, n: int) -> list[tuple[int, int]]:
    """Solved and all, of the seeds that ascent solves and of the others."""
    own = [row for row in rows if row["game"] in games and (row["sampler"], int(row["n"])) == (name, n)]
    reached = sum(int(row["ascent solves"]) for row in own)
    total = sum(int(row["seeds"]) for row in own)
    return [
        (sum(int(row["solved of them"]) for row in own), reached),
        (sum(int(row["solved of the others"]) for row in own), total - reached),
    ]


def all_starts(rows: list[Row]) -> str:
    """Solved shares of all seeds against on-policy sampling: figure1 by its seeds, the no-conflict games by game."""
    found = solved_by_game(rows)
    lines = ["| games | sampler | n | solved | to on-policy, points | p (Holm) |", "|---" * 6 + "|"]
    cells, tests = {}, {}
    for n, name in product(SIZES, SAMPLERS):
        own, base = (_seeds(rows, "figure1", one, n) for one in (name, BASE))
        cells["figure1", n, name] = share_of(sum(own), SEEDS), paired_difference(own, base).text("+.1f", 100)
        tests["figure1", n, name] = paired_p(own, base)
        shares = np.array([[found[game, one, n] / SEEDS for game in GAMES[1:]] for one in (name, BASE)])
        change, solved = 100 * (shares[0] - shares[1]), f"{shares[0].mean():.1%}"
        reach = t.ppf(0.975, len(change) - 1) * change.std(ddof=1) / len(change) ** 0.5
        gain = signed(change.mean(), change.mean() - reach, change.mean() + reach, 1)
        cells["no-conflict", n, name] = solved, gain
        tests["no-conflict", n, name] = float(ttest_1samp(change, 0.0).pvalue) if change.any() else 1.0
    keys = [key for key in tests if key[2] != BASE]
    adjusted = dict(zip(keys, holm([tests[key] for key in keys]), strict=True))
    for key in sorted(cells, key=lambda key: (key[0], key[1])):
        solved, change = cells[key]
        gain = "" if key[2] == BASE else change
        lines.append(f"| {key[0]} | {key[2]} | {key[1]} | {solved} | {gain} | {adjusted_p(adjusted.get(key))} |")
    return "\n".join(lines)


def _seeds(rows: list[Row], game: str, name: str, n: int) -> list[bool]:
    """Which seeds are solved."""
    (bits,) = (
        str(row["seed by seed"]) for row in rows if (row["game"], row["sampler"], int(row["n"])) == (game, name, n)
    )
    return [bit == "1" for bit in bits]


def solved_by_game(rows: list[Row]) -> dict[tuple[str, str, int], int]:
    """Solved of all seeds."""
    return {
        (str(r["game"]), str(r["sampler"]), int(r["n"])): int(r["solved of them"]) + int(r["solved of the others"])
        for r in rows
    }


def by_game(rows: list[Row]) -> str:
    """Solved of all seeds, game by game."""
    found = solved_by_game(rows)
    lines = [f"| game | expected gradient | {' | '.join(SAMPLERS)} |", "|---" * (2 + len(SAMPLERS)) + "|"]
    for game in GAMES:
        reached = next(int(row["ascent solves"]) for row in rows if row["game"] == game) / SEEDS
        cells = [" / ".join(f"{found[game, name, n] / SEEDS:.2f}" for n in SIZES) for name in SAMPLERS]
        lines.append(f"| {game} | {reached:.2f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def solved_later() -> tuple[int, int]:
    """Seeds of the no-conflict games that ascent does not solve, and those of them that it solves in ``MANY`` steps."""
    tasks = [MatrixGame(game) for game in GAMES[1:]]
    others = sum(int((~ascent_solves(task)).sum()) for task in tasks)
    later = sum(int((ascent_solves(task, MANY) & ~ascent_solves(task)).sum()) for task in tasks)
    return others, later


def main() -> None:
    """Measure what is missing and write random_policies.md."""
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    argparse.ArgumentParser(description=__doc__).parse_args()
    torch.set_num_threads(1)
    rows = measure()
    others, later = solved_later()
    write_page(
        "random_policies",
        run_seed=RUN_SEED,
        seeds=SEEDS,
        all_starts=all_starts(rows),
        figure1=totals(rows, ["figure1"]),
        no_conflict=totals(rows, GAMES[1:]),
        games=by_game(rows),
        others=f"{others:,}",
        later=later,
        many=f"{MANY:,}",
    )


if __name__ == "__main__":
    main()
