"""Measures docs/evidence/adam_epsilon.md: Adam's epsilon of behavior updates, and two ways to stop them.

Nothing here is tuned: the updates are those of docs/evidence/matrix_games.md, on seeds that nothing was chosen on.
"""

import logging
import warnings
from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np
from lightning.pytorch import Trainer
from numpy.typing import NDArray

from lit_maprops.behavior import MAPROPS, PROPS
from lit_maprops.data import MultiAgentData
from lit_maprops.envs import BoulderPush, Coordination, MatrixGame, Task
from lit_maprops.metrics.reliability import mean_interval, wilson_interval
from lit_maprops.module import LitMAPROPS
from lit_maprops.targets import MAPPO, Learner, Reinforce
from studies.adam_epsilon.stops import Watched
from studies.cells import points
from studies.matrix_games.measures import (
    FIXED_SEEDS,
    Maker,
    fixed_policy_error,
    probabilities,
    solved_runs,
    strong,
    weak,
)
from studies.page import write

RUN_SEED = 20_261_128
GAME_SEEDS, GAME_N = 256, 8
EPSILONS = (1e-8, 1e-5, 1e-3)  # the first is the default, the second the PROPS authors'
SIZES = (8, 32)
SAMPLERS: dict[str, Callable[[float], Maker]] = {
    "PROPS, weak": lambda e: weak(PROPS, adam_epsilon=e),
    "PROPS, strong": lambda e: strong(PROPS, adam_epsilon=e),
    "MA-PROPS, weak": lambda e: weak(MAPROPS, adam_epsilon=e),
    "MA-PROPS, strong": lambda e: strong(MAPROPS, adam_epsilon=e),
    "MA-PROPS, weak, moments kept": lambda e: weak(MAPROPS, reset_optimizer=False, adam_epsilon=e),
    "MA-PROPS, strong, moments kept": lambda e: strong(MAPROPS, reset_optimizer=False, adam_epsilon=e),
}
IN_GAMES = ("PROPS, weak", "PROPS, strong", "MA-PROPS, weak", "MA-PROPS, strong")
GAMES: dict[str, Callable[[], Task]] = {
    "figure1": lambda: MatrixGame("figure1"),
    "2 agents x 3 actions": lambda: Coordination(2, 3),
}
NORTH: dict[str, Any] = {"push_direction": "north", "penalty": 0.003, "max_steps": 20}
Rows = list[dict[str, Any]]


def mean_of(values: NDArray[np.floating], signed: bool = False) -> str:
    """A mean over seeds with its bootstrap interval."""
    low, high = mean_interval(values[np.newaxis])
    sign = "+" if signed else ""
    return f"{values.mean():{sign}.4f} [{low[0]:{sign}.4f}, {high[0]:{sign}.4f}]"


def fixed_section(rows: Rows) -> str:
    """Sampling error at fixed policies; the differences are paired, seed by seed."""
    others = " | ".join(f"change at {epsilon:g}" for epsilon in EPSILONS[1:])
    lines = [f"| policy | sampler | n | {EPSILONS[0]:g} | {others} |", "|---" * (3 + len(EPSILONS)) + "|"]
    for policy in ("uniform", "skewed 0.8"):
        for name, maker in SAMPLERS.items():
            for n in SIZES:
                errors = [fixed_policy_error(maker(e), probabilities(policy), n, run_seed=RUN_SEED) for e in EPSILONS]
                cells = [mean_of(errors[0]), *(mean_of(other - errors[0], signed=True) for other in errors[1:])]
                lines.append(f"| {policy} | {name} | {n} | {' | '.join(cells)} |")
                print(lines[-1], flush=True)
                for epsilon, error in zip(EPSILONS, errors, strict=True):
                    row = {"part": "fixed", "setting": policy, "sampler": name, "n": n, "adam_epsilon": epsilon}
                    rows.append(row | {"joint_tv": float(error.mean())})
    return "\n".join(lines)


def games_section(rows: Rows) -> str:
    """Solved runs of the games."""
    others = " | ".join(f"change at {epsilon:g} (points)" for epsilon in EPSILONS[1:])
    lines = [f"| game | sampler | {EPSILONS[0]:g} | {others} |", "|---" * (2 + len(EPSILONS)) + "|"]
    for game, make_game in GAMES.items():
        for name in IN_GAMES:
            solved = []
            for epsilon in EPSILONS:
                maker = SAMPLERS[name](epsilon)
                count, own, _ = solved_runs(maker, make_game, GAME_N, GAME_SEEDS, run_seed=RUN_SEED)
                solved.append(count)
                row = {"part": "game", "setting": game, "sampler": name, "n": GAME_N, "adam_epsilon": epsilon}
                rows.append(row | {"joint_tv": own, "solved": count, "seeds": GAME_SEEDS})
            low, high = wilson_interval(solved[0], GAME_SEEDS)
            cells = [f"{solved[0] / GAME_SEEDS:.3f} [{low:.3f}, {high:.3f}]"]
            cells += [points(count, GAME_SEEDS, solved[0], GAME_SEEDS, digits=1) for count in solved[1:]]
            lines.append(f"| {game} | {name} | {' | '.join(cells)} |")
            print(lines[-1], flush=True)
    return "\n".join(lines)


def trained(behavior: Watched, learner: Learner, task: Task, seeds: int, sizes: tuple[int, int, int]) -> Watched:
    """``behavior`` after a run; ``sizes``: m, n and all env steps."""
    m, n, steps = sizes
    model = LitMAPROPS(behavior, learner, seeds, total_env_steps=steps, eval_interval=10**6, run_seed=RUN_SEED)
    silent: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = Trainer(accelerator="cpu", max_epochs=1, enable_model_summary=False, **silent)
    trainer.fit(model, datamodule=MultiAgentData(task, 1, m, n))
    return behavior


def stops_section(rows: Rows) -> str:
    """Steps until either KL exceeds delta, where delta and not the epochs ends updates."""
    table: dict[str, Any] = {"clip_epsilon": 0.3, "kl_cutoff": 0.05, "hidden": []}
    cases: dict[str, Callable[[], Watched]] = {
        "figure1, weak updates": lambda: trained(
            Watched(1, 8, learning_rate=0.5, **table), Reinforce(1.0), MatrixGame("figure1"), 200, (1, 8, 160)
        ),
        "figure1, Adam 0.1": lambda: trained(
            Watched(1, 64, learning_rate=0.1, **table), Reinforce(1.0), MatrixGame("figure1"), 200, (1, 8, 160)
        ),
        "BoulderPush, MAPROPS() as it is": lambda: trained(
            Watched(4, 64), MAPPO(learning_rate=1e-3), BoulderPush(**NORTH), 16, (16, 256, 1024)
        ),
        "BoulderPush, boulderpush_reliability.yaml": lambda: trained(
            Watched(16, 64, clip_epsilon=1.0, kl_cutoff=0.3, epochs=4, learning_rate=1e-2),
            MAPPO(learning_rate=1e-3, entropy_coeff=0.05, minibatches=2),
            BoulderPush(**NORTH, start=[[1, 3], [0, 4], [3, 4]]),
            16,
            (1, 256, 768),
        ),
    }
    lines = [
        "| updates of | delta | counted | exact | estimated | fewer | as many | 1 or 2 more | more |",
        "|---" * 9 + "|",
    ]
    for name, case in cases.items():
        behavior = case()
        figures = behavior.figures()
        means = f"{figures['updates']:,.0f} | {figures['exact']:.2f} | {figures['estimate']:.2f}"
        shares = " | ".join(f"{figures[key]:.0%}" for key in ("fewer", "same", "one_or_two", "more"))
        lines.append(f"| {name} | {behavior.kl_cutoff:g} | {means} | {shares} |")
        print(lines[-1], flush=True)
        rows.append({"part": "stop", "setting": name, "sampler": "MA-PROPS"} | figures)
    return "\n".join(lines)


def main() -> None:
    """Measure everything and write adam_epsilon.md and adam_epsilon.csv."""
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    started, rows = perf_counter(), Rows()
    stops, games, fixed = stops_section(rows), games_section(rows), fixed_section(rows)
    columns = dict.fromkeys(name for row in rows for name in row)
    write(
        "adam_epsilon",
        [{name: row.get(name, "") for name in columns} for row in rows],
        seconds=perf_counter() - started,
        run_seed=RUN_SEED,
        fixed_seeds=FIXED_SEEDS,
        game_seeds=GAME_SEEDS,
        fixed=fixed,
        games=games,
        stops=stops,
    )


if __name__ == "__main__":
    main()
