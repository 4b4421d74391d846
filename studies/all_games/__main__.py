"""Measures docs/evidence/all_games.md: solved runs of every named 2x2 and 3x3 game, four samplers.

Settings are those of studies/matrix_games; nothing is tuned. The learning rate is 2 / (largest - smallest payoff),
which is that study's 1 for figure1, so that games are learned at the same pace whatever their payoffs' size.
"""

import csv
import logging
import platform
import warnings
from collections.abc import Sequence
from functools import partial
from itertools import product

import torch

from lit_maprops.envs import MatrixGame
from lit_maprops.envs.games.payoffs import payoff_names
from lit_maprops.metrics.reliability import difference_interval, wilson_interval
from studies import table_of
from studies.matrix_games.exact import ascent, payoffs
from studies.matrix_games.measures import GAME_SAMPLERS, RUN_SEED, solved_runs
from studies.page import software, write_page

SEEDS, SIZES, BASE = 200, (8, 16), "on-policy"
UPDATES = 60
# Also with the best joint action numbered last.
FLIPPED = ("figure1", "no_conflict_3", "no_conflict_5", "no_conflict_7")
RESULT = table_of("all_games")
Row = dict[str, str | int | float]


def learning_rate(game: MatrixGame) -> float:
    """See the top of this file."""
    return 2.0 / float(game.payoff.max() - game.payoff.min())


def exact_gradient_solves(game: MatrixGame) -> bool:
    """Whether ascent along the expected gradient, which no sampler can better, ends at a best joint action."""
    joint = ascent(payoffs(game), torch.zeros(1, 2, game.n_actions), learning_rate(game), UPDATES)
    return float(joint[0, game.is_best].sum()) > 0.5


def game_of(name: str) -> MatrixGame:
    """A named game; "flipped NAME" is the same one with the actions of both agents numbered the other way round."""
    if not name.startswith("flipped "):
        return MatrixGame(name)
    game = MatrixGame(name.removeprefix("flipped "))
    table = game.payoff.unflatten(0, (game.n_actions, game.n_actions))
    return MatrixGame(table.flip(0, 1).tolist())


def measure() -> list[Row]:
    """Every game, sampler and n; what all_games.csv holds is not measured again."""
    rows: list[Row] = list(csv.DictReader(RESULT.open())) if RESULT.exists() else []
    known = {(row["game"], row["sampler"], int(row["n"])) for row in rows}
    for game, (name, maker), n in product(
        [*payoff_names(), *(f"flipped {name}" for name in FLIPPED)], GAME_SAMPLERS.items(), SIZES
    ):
        if (game, name, n) in known:
            continue
        rate = learning_rate(game_of(game))
        solved, own, on_policy = solved_runs(maker, partial(game_of, game), n, SEEDS, rate)
        errors: Row = {"joint_tv": round(own, 5), "joint_tv_on_policy": round(on_policy, 5)}
        row: Row = {"game": game, "sampler": name, "n": n, "solved": solved, "seeds": SEEDS}
        rows.append(row | errors)
        with RESULT.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    return rows


def table(rows: list[Row], games: Sequence[str]) -> str:
    """Solved shares game by game, one n after the other in a cell."""
    lines = [f"| game | expected gradient | {' | '.join(GAME_SAMPLERS)} |", "|---" * (2 + len(GAME_SAMPLERS)) + "|"]
    share = {(r["game"], r["sampler"], int(r["n"])): int(r["solved"]) / SEEDS for r in rows}
    for game in games:
        cells = [" / ".join(f"{share[game, name, n]:.2f}" for n in SIZES) for name in GAME_SAMPLERS]
        exact = "solves" if exact_gradient_solves(game_of(game)) else "does not"
        lines.append(f"| {game} | {exact} | {' | '.join(cells)} |")
    return "\n".join(lines)


def totals(rows: list[Row], prefix: str) -> str:
    """Solved shares over all games whose name starts with ``prefix``, and the difference to on-policy."""
    lines = ["| sampler | n | solved [95% Wilson] | difference to on-policy [95% Newcombe] |", "|---|---|---|---|"]
    games = [game for game in payoff_names() if game.startswith(prefix)]
    runs = SEEDS * len(games)
    counts = {
        (name, n): sum(
            int(r["solved"]) for r in rows if (r["sampler"], int(r["n"])) == (name, n) and r["game"] in games
        )
        for name in GAME_SAMPLERS
        for n in SIZES
    }
    for (name, n), solved in counts.items():
        low, high = wilson_interval(solved, runs)
        base = counts[BASE, n]
        a, b = difference_interval(solved, runs, base, runs)
        change = "" if name == BASE else f"{(solved - base) / runs:+.3f} [{a:+.3f}, {b:+.3f}]"
        lines.append(f"| {name} | {n} | {solved / runs:.3f} [{low:.3f}, {high:.3f}] | {change} |")
    return "\n".join(lines)


def main() -> None:
    """Measure what is missing and write all_games.md."""
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    rows = measure()
    write_page(
        "all_games",
        machine=f"{platform.machine()}, {software()}, {torch.get_num_threads()} threads",
        run_seed=RUN_SEED,
        seeds=SEEDS,
        games=table(rows, payoff_names()),
        flipped=table(rows, [f"flipped {name}" for name in FLIPPED]),
        no_conflict=totals(rows, "no_conflict"),
    )


if __name__ == "__main__":
    main()
