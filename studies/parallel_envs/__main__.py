"""Measures docs/evidence/parallel_envs.md: environments side by side in a seed, with and without stratified draws.

Nothing is tuned: settings and seeds are those of studies/matrix_games.
"""

import logging
import warnings
from collections.abc import Callable

from lit_maprops.behavior import MAPROPS, PROPS, BehaviorPolicy, OnPolicy
from lit_maprops.behavior.draws import DrawKind
from lit_maprops.envs import MatrixGame
from lit_maprops.metrics.reliability import mean_interval, wilson_interval
from studies.matrix_games.measures import (
    FIXED_SEEDS,
    GAME_SEEDS,
    RUN_SEED,
    Maker,
    fixed_policy_error,
    probabilities,
    solved_runs,
)
from studies.page import write

N, ENVS = 32, (1, 2, 4, 8, 16, 32)
GAME_N, GAME_ENVS = 16, (1, 2, 4, 8)
POLICIES = ("uniform", "random")


def maker(kind: type, draws: DrawKind) -> Maker:
    """The strong updates of studies/matrix_games."""
    if kind is OnPolicy:
        return lambda: OnPolicy(draws=draws)
    options = {"clip_epsilon": 1.0, "kl_cutoff": 1.0, "epochs": 8, "learning_rate": 1.0, "hidden": []}
    return lambda: kind(**options, draws=draws)


DRAWS: tuple[DrawKind, ...] = "independent", "stratified"
SAMPLERS: dict[str, Callable[[], BehaviorPolicy]] = {
    name + ("" if draws == "independent" else f", {draws}"): maker(kind, draws)
    for name, kind in {"on-policy": OnPolicy, "PROPS": PROPS, "MA-PROPS": MAPROPS}.items()
    for draws in DRAWS
}


def errors(rows: list[dict[str, object]]) -> str:
    """Joint TV at fixed policies against the number of environments."""
    lines = []
    for policy in POLICIES:
        lines += [f"\n### {policy}\n", f"| sampler | {' | '.join(f'{e} envs' for e in ENVS)} |", "|---" * 7 + "|"]
        for name, sampler in SAMPLERS.items():
            cells = []
            for envs in ENVS:
                error = fixed_policy_error(sampler, probabilities(policy), N, envs)
                low, high = mean_interval(error[None])
                cells.append(f"{error.mean():.4f} +- {(high[0] - low[0]) / 2:.4f}")
                rows.append({"experiment": f"fixed {policy}", "sampler": name, "envs": envs, "joint_tv": error.mean()})
                rows[-1] |= {"solved": "", "seeds": FIXED_SEEDS}
            lines.append(f"| {name} | {' | '.join(cells)} |")
            print(lines[-1], flush=True)
    return "\n".join(lines)


def games(rows: list[dict[str, object]]) -> str:
    """Solved runs of figure1 against the number of environments."""
    lines = [f"| sampler | {' | '.join(f'{e} envs' for e in GAME_ENVS)} |", "|---" * 5 + "|"]
    for name, sampler in SAMPLERS.items():
        cells = []
        for envs in GAME_ENVS:
            solved, error, _ = solved_runs(sampler, lambda: MatrixGame("figure1"), GAME_N, envs=envs)
            low, high = wilson_interval(solved, GAME_SEEDS)
            cells.append(f"{solved / GAME_SEEDS:.3f} [{low:.3f}, {high:.3f}]")
            rows.append({"experiment": "figure1", "sampler": name, "envs": envs, "joint_tv": error})
            rows[-1] |= {"solved": solved, "seeds": GAME_SEEDS}
        lines.append(f"| {name} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    return "\n".join(lines)


def main() -> None:
    """Measure everything and write parallel_envs.md and parallel_envs.csv."""
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    rows: list[dict[str, object]] = []
    parts = {"errors": errors(rows), "games": games(rows)}
    sizes = {"n": str(N), "game_n": str(GAME_N), "fixed_seeds": str(FIXED_SEEDS), "game_seeds": str(GAME_SEEDS)}
    write("parallel_envs", rows, run_seed=str(RUN_SEED), **sizes, **parts)


if __name__ == "__main__":
    main()
