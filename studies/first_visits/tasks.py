"""Over tasks: what samplers take off the joint sampling error, and how many more runs they solve, by first visits.

Solved runs and errors are those that other pages measured. What is measured here is the share of first visits of
on-policy sampling in every regime of studies/low_discrepancy, with few seeds, and all of StagedGame. Where there is one
state, the first of n steps is the only first visit: 1 / n.
"""

import csv
from typing import NamedTuple

import numpy as np

from lit_maprops.metrics.reliability import NORMAL_QUANTILE
from studies import ROOT
from studies.ledger import Ledger
from studies.low_discrepancy.regimes import BASE, CEILING, FRESH, PLANNED, REGIMES, ledgers, options
from studies.runs import Outcome, Run, pooled

RUN_SEED = 94
FIGURES = ("first_visits", "first_visits_se", "joint_tv", "joint_tv_on_policy")
# Of on-policy runs, by regime: seeds, and env steps where not those of the regime: states are continuous in the last
# two, so all batches are alike.
MEASURED: dict[str, tuple[int, int | None]] = {
    "BoulderPush, IPPO": (8, None),
    "BoulderPush, MAPPO": (8, None),
    "BoulderPush, MAPPO, penalty 0.002": (8, None),
    "BoulderPush, MAPPO, penalty 0.005": (8, None),
    "BoulderPush 8x8, MAPPO": (8, None),
    "BoulderPush, MAPPO, one random start per seed": (8, None),
    "BoulderPush, MAPPO, random starts": (4, None),
    "Foraging, MAPPO": (4, None),
    "VMAS navigation": (4, 4096),
    "SparseReacher": (2, 4096),
}
ONE_STATE = ("coordination 10x5, close rewards", "TwoPeaks")  # regimes of a single state
STAGED = "StagedGame, MAPPO"
STAGED_SEEDS = 64
STAGED_SAMPLERS = {
    BASE: options("OnPolicy"),
    "LowDiscrepancy": options("LowDiscrepancy"),
    "TabularMAPROPS": options("TabularMAPROPS"),
}
GAMES, GAME_N, GAME_SEEDS = ("figure1", "3 agents x 2 actions", "2 agents x 3 actions"), 8, 400  # of games.csv
LADDER, LADDER_SEEDS = "0.06", 256  # of sparse_reward.csv: the game with the consolation
# Names that these pages give to one and the same kind of sampler.
KINDS = {
    "LowDiscrepancy": ("LowDiscrepancy", "low-discrepancy"),
    "TabularMAPROPS": ("TabularMAPROPS",),
    "MAPROPS": ("MAPROPS", "MA-PROPS", "MAPROPS, strong", "GaussianAdjustment", "Autoregressive"),
    "PROPS": ("PROPS", "PROPS, strong"),
}


class Point(NamedTuple):
    """A sampler in a task."""

    task: str
    kind: str
    first_visits: tuple[float, float]  # share of on-policy sampling's steps, half of its 95% interval
    solved: tuple[int, int]  # of so many seeds
    base: tuple[int, int]  # on-policy
    reductions: tuple[float, ...]  # of each run seed: 1 - own error / on-policy's in the same states
    ceiling: float | None = None  # solved with 8 times the data minus on-policy, points; None: not measured
    by_state: bool = True  # the error compares actions state by state; energy distances do not

    @property
    def reduction(self) -> float:
        """Mean over the run seeds."""
        return float(np.mean(self.reductions))

    @property
    def points(self) -> float:
        """Difference of the solved shares."""
        return 100 * (self.solved[0] / self.solved[1] - self.base[0] / self.base[1])


def ledger() -> Ledger:
    """What is measured here."""
    return Ledger("visits", FIGURES, folder="first_visits")


def runs() -> dict[tuple[str, str, str, str], Run]:
    """The cheap ones first."""
    made = {}
    for name, (seeds, env_steps) in MEASURED.items():
        regime = REGIMES[name]
        error = "energy" if regime.error == "joint_energy" else "tabular"
        sizes = {"num_seeds": seeds, "total_env_steps": env_steps or regime.env_steps, "sampling_error": error}
        sizes["sampling_error_interval"] = 1 if env_steps else regime.interval
        given = [*regime.samplers[BASE], *regime.flags, "--data.target_batch_size", str(regime.n), *_words(sizes)]
        run = Run("first_visits", f"{name} {BASE}", regime.config, given, RUN_SEED)
        made["visits", name, BASE, str(RUN_SEED)] = run
    sizes = {"num_seeds": STAGED_SEEDS, "sampling_error_interval": 10}
    for sampler, own in STAGED_SAMPLERS.items():
        run = Run("first_visits", f"{STAGED} {sampler}", "conf/staged_game.yaml", [*own, *_words(sizes)], RUN_SEED)
        made["visits", STAGED, sampler, str(RUN_SEED)] = run
    return made


def _words(sizes: dict[str, object]) -> list[str]:
    return [word for name, value in sizes.items() for word in (f"--model.{name}", str(value))]


def points() -> list[Point]:
    """Every kind of sampler in every task, tasks with the fewest first visits first."""
    visits = ledger()
    found = [*_of_games(), *_of_ladder(), *_of_staged(visits), *_of_regimes(visits)]
    return sorted(found, key=lambda point: (point.first_visits[0], point.task))


def _share(visits: Ledger, task: str) -> tuple[float, float] | None:
    result = visits.of("visits", task, BASE)
    if result is None:
        return None
    return result.means["first_visits"], NORMAL_QUANTILE * result.means["first_visits_se"]


def _of_regimes(visits: Ledger) -> list[Point]:
    found = []
    for name, regime in REGIMES.items():
        share = (1 / regime.n, 0.0) if name in ONE_STATE else _share(visits, name)
        kept, error = ledgers()[regime.error], regime.error
        top = kept.of(PLANNED, name, CEILING)
        usual = [result for part in (PLANNED, FRESH) if (result := kept.of(part, name, BASE)) is not None]
        ceiling = 100 * (_solved(top) - _solved(pooled(usual))) if top is not None and usual else None
        for kind, names in KINDS.items() if share is not None else ():
            # Fresh seeds, where there are some, and not both together.
            choices = [(part, own) for own in names for part in (FRESH, PLANNED) if kept.of(part, name, own)]
            if not choices:
                continue
            part, own = choices[0]
            result, base = kept.of(part, name, own), kept.of(part, name, BASE)
            assert result is not None and base is not None and share is not None
            rows = [o.means for key, o in kept.outcomes.items() if key[:3] == (part, name, own)]
            reductions = tuple(1 - means[error] / means[f"{error}_on_policy"] for means in rows)
            counts = (result.solved, result.seeds), (base.solved, base.seeds)
            found.append(Point(name, kind, share, *counts, reductions, ceiling, error != "joint_energy"))
    return found


def _solved(result: Outcome) -> float:
    return result.solved / result.seeds


def _of_games() -> list[Point]:
    found = []
    with (ROOT / "studies" / "low_discrepancy" / "games.csv").open(newline="") as file:
        rows = {(r["game"], r["sampler"], int(r["n"])): r for r in csv.DictReader(file)}
    for game in GAMES:
        base = int(rows[game, "on-policy", GAME_N]["solved"]), GAME_SEEDS
        for kind, names in KINDS.items():
            for own in (own for own in names if (game, own, GAME_N) in rows):
                row = rows[game, own, GAME_N]
                reduction = 1 - float(row["joint_tv"]) / float(row["joint_tv_on_policy"])
                counts = (int(row["solved"]), GAME_SEEDS), base
                found.append(Point(game, kind, (1 / GAME_N, 0.0), *counts, (reduction,)))
    return found


def _of_ladder() -> list[Point]:
    with (ROOT / "studies" / "sparse_reward" / "sparse_reward.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if (row["part"], row["consolation"]) == ("runs", LADDER)]
    figures = {(row["sampler"], row["figure"]): float(row["value"]) for row in rows}
    base = round(LADDER_SEEDS * figures[BASE, "solved"]), LADDER_SEEDS
    found = []
    for kind, names in KINDS.items():
        for own in (own for own in names if (own, "solved") in figures):
            reduction = 1 - figures[own, "joint_tv"] / figures[own, "joint_tv_on_policy"]
            counts = (round(LADDER_SEEDS * figures[own, "solved"]), LADDER_SEEDS), base
            share = figures[BASE, "first_visits"], 0.0
            found.append(Point("sparse reward at the top of a ladder", kind, share, *counts, (reduction,)))
    return found


def staged() -> str:
    """Whether StagedGame is among the tasks, for the page."""
    if ledger().of("visits", STAGED, BASE) is None:
        return "StagedGame (conf/staged_game.yaml) is not measured yet."
    return f"StagedGame is measured here: conf/staged_game.yaml as it is, {STAGED_SEEDS} seeds."


def _of_staged(visits: Ledger) -> list[Point]:
    share, base = _share(visits, STAGED), visits.of("visits", STAGED, BASE)
    found = []
    for kind in STAGED_SAMPLERS:
        result = visits.of("visits", STAGED, kind)
        if kind in KINDS and result and base and share:
            reduction = 1 - result.means["joint_tv"] / result.means["joint_tv_on_policy"]
            counts = (result.solved, result.seeds), (base.solved, base.seeds)
            found.append(Point(STAGED, kind, share, *counts, (reduction,)))
    return found
