"""Measures docs/evidence/matrix_games.md: sampling error at a fixed policy, and solved runs of three matrix games.

Nothing here is tuned: the settings are those of the project's design notes, the seeds are not used elsewhere.
"""

import csv
import logging
import platform
import warnings
from collections.abc import Callable
from time import perf_counter

import numpy as np
import torch
from numpy.typing import NDArray

from lit_maprops.behavior import MAPROPS, PROPS, Greedy, OnPolicy
from lit_maprops.envs import Coordination, MatrixGame, Task
from lit_maprops.metrics.reliability import mean_interval, wilson_interval
from studies import table_of
from studies.matrix_games.measures import (
    FIXED_SEEDS,
    GAME_SAMPLERS,
    GAME_SEEDS,
    POLICIES,
    RANDOM,
    RUN_SEED,
    Maker,
    fixed_policy_error,
    probabilities,
    solved_runs,
    strong,
    weak,
)
from studies.page import software, write_page

COMMAND = "make evidence-matrix"
SIZES = (8, 16, 32, 64)
SAMPLERS: dict[str, Maker] = {
    "on-policy": OnPolicy,
    "PROPS, weak updates": weak(PROPS),
    "MA-PROPS, weak updates": weak(MAPROPS),
    "PROPS, strong updates": strong(PROPS),
    "MA-PROPS, strong updates": strong(MAPROPS),
    "MA-PROPS, weak, moments kept": weak(MAPROPS, reset_optimizer=False),
    "MA-PROPS, strong, moments kept": strong(MAPROPS, reset_optimizer=False),
    "greedy": Greedy,
}
# What the design notes' prototype gave for the uniform policy.
PROTOTYPE = {
    "on-policy": (0.231, 0.169, 0.121, 0.086),
    "PROPS, weak updates": (0.166, 0.112, 0.077, 0.052),
    "MA-PROPS, weak updates": (0.125, 0.074, 0.041, 0.021),
    "MA-PROPS, strong updates": (0.0094, 0.0050, 0.0020, 0.0009),
    "greedy": (0.0, 0.0, 0.0, 0.0),
}
GAMES: dict[str, Callable[[], Task]] = {
    "figure1": lambda: MatrixGame("figure1"),
    "3 agents x 2 actions": lambda: Coordination(3, 2),
    "2 agents x 3 actions": lambda: Coordination(2, 3),
}
GAME_PROTOTYPE = {
    ("figure1", "on-policy"): (0.69, 0.75, 0.84),
    ("figure1", "MA-PROPS"): (0.995, 1.0, 1.0),
    ("3 agents x 2 actions", "on-policy"): (0.76, 0.86, 0.91),
    ("3 agents x 2 actions", "MA-PROPS"): (0.998, 1.0, 1.0),
    ("2 agents x 3 actions", "on-policy"): (0.81, 0.91, 0.96),
    ("2 agents x 3 actions", "PROPS"): (0.92, 0.98, 1.0),
    ("2 agents x 3 actions", "MA-PROPS"): (0.998, 1.0, 1.0),
}


def slope(errors: list[NDArray[np.floating]]) -> tuple[float, float, float]:
    """Slope of log mean TV^2 in log n, with its 95% bootstrap interval over seeds."""
    squares = np.stack(errors).astype(float) ** 2
    if not squares.any():
        return (float("nan"),) * 3
    x = np.log(SIZES)
    rng = np.random.default_rng(0)
    draws = [squares.mean(1)]
    draws += [squares[:, rng.integers(0, FIXED_SEEDS, FIXED_SEEDS)].mean(1) for _ in range(1_000)]
    slopes = [np.polyfit(x, np.log(np.maximum(d, 1e-12)), 1)[0] for d in draws]
    low, high = np.percentile(slopes[1:], [2.5, 97.5])
    return float(slopes[0]), float(low), float(high)


def fixed_policy_section(rows: list[dict[str, object]]) -> str:
    """Measure and tabulate sampling error at fixed policies."""
    lines = []
    for policy in [*POLICIES, RANDOM]:
        prob = probabilities(policy)
        what = "drawn for every seed and agent" if policy == RANDOM else str(POLICIES[policy])
        lines += [
            f"\n### {policy}: both agents choose action 0 with probability {what}\n",
            "| sampler | n = 8 | n = 16 | n = 32 | n = 64 | slope of log TV^2 in log n [95%] | prototype |",
            "|---|---|---|---|---|---|---|",
        ]
        for name, maker in SAMPLERS.items():
            errors = [fixed_policy_error(maker, prob, n) for n in SIZES]
            low, high = mean_interval(np.stack(errors))
            cells = [f"{e.mean():.4f} +- {(b - a) / 2:.4f}" for e, a, b in zip(errors, low, high, strict=True)]
            fit = slope(errors)
            text = "-" if np.isnan(fit[0]) else f"{fit[0]:.2f} [{fit[1]:.2f}, {fit[2]:.2f}]"
            known = PROTOTYPE.get(name) if policy == "uniform" else None
            note = ", ".join(f"{v:g}" for v in known) if known else ""
            lines.append(f"| {name} | {' | '.join(cells)} | {text} | {note} |")
            print(lines[-1], flush=True)
            rows += [
                {"experiment": f"fixed {policy}", "sampler": name, "n": n, "joint_tv": float(e.mean())}
                for n, e in zip(SIZES, errors, strict=True)
            ]
    return "\n".join(lines)


def games_section(rows: list[dict[str, object]]) -> str:
    """Measure and tabulate solved runs."""
    lines = [
        "| game | sampler | n | solved [95% Wilson] | prototype | joint TV over training: own / on-policy |",
        "|---|---|---|---|---|---|",
    ]
    for game, make_game in GAMES.items():
        for name, maker in GAME_SAMPLERS.items():
            known = GAME_PROTOTYPE.get((game, name), ("", "", ""))
            for n, was in zip((8, 16, 32), known, strict=True):
                solved, own, on_policy = solved_runs(maker, make_game, n)
                low, high = wilson_interval(solved, GAME_SEEDS)
                share = solved / GAME_SEEDS
                lines.append(
                    f"| {game} | {name} | {n} | {share:.3f} [{low:.3f}, {high:.3f}] | {was} | "
                    f"{own:.3f} / {on_policy:.3f} |"
                )
                print(lines[-1], flush=True)
                row = {"experiment": game, "sampler": name, "n": n, "joint_tv": own}
                rows.append(row | {"joint_tv_on_policy": on_policy, "solved": solved, "seeds": GAME_SEEDS})
    return "\n".join(lines)


def main() -> None:
    """Measure everything and write matrix_games.md and matrix_games.csv."""
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    started = perf_counter()
    rows: list[dict[str, object]] = []
    fixed, games = fixed_policy_section(rows), games_section(rows)
    write_page(
        "matrix_games",
        command=COMMAND,
        machine=f"{platform.machine()}, {software()}, {torch.get_num_threads()} threads",
        seconds=perf_counter() - started,
        run_seed=RUN_SEED,
        fixed_seeds=FIXED_SEEDS,
        game_seeds=GAME_SEEDS,
        fixed=fixed,
        games=games,
    )
    with table_of("matrix_games").open("w", newline="") as file:
        fields = ["experiment", "sampler", "n", "joint_tv", "joint_tv_on_policy", "solved", "seeds"]
        writer = csv.DictWriter(file, fields, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
