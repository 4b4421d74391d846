"""What a history does to D while runs learn from it: its joint sampling error against its off-policy bias.

Per seed and target iteration, when D is whole and before theta is updated on it, so for the D that is learned from:

- joint sampling error: joint total variation of all of D, as runs log it;
- return bias: mean return of the episodes that ended while D's batches were collected, minus the mean return of fresh
  episodes of the present policies;
- staleness: KL(collected || present) of the joint target policies over D's old steps, as runs log it (nats);
- effective share: of D's episodes under importance weights pi_theta now / pi_phi at collection (Kish 1965).

A block is a number of seeds that train side by side; what the table holds is not measured again.
"""

import csv
import io
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from scipy.stats import t as student
from tensordict import TensorDictBase

from lit_maprops import keys
from lit_maprops.behavior import MAPROPS, OnPolicy, TabularMAPROPS
from lit_maprops.data import MultiAgentData
from lit_maprops.envs import BoulderPush, MatrixGame, Task
from lit_maprops.metrics.importance import episodes_of, return_estimates
from lit_maprops.module import LitMAPROPS
from lit_maprops.system.files import write_atomically
from lit_maprops.targets import MAPPO, Learner, Reinforce
from studies import ROOT, table_of
from studies.matrix_games.measures import Maker, strong
from studies.runs import SOLVED
from studies.sparse_reward.game import Ladder, exact
from studies.sparse_reward.measure import RATE, RUNGS, STEPS
from studies.sparse_reward.measure import SOLVED as LIKELY
from studies.train import train

Floats = NDArray[np.floating]
EPISODES = 20  # fresh ones of the present policies, per seed and target iteration
HISTORIES: dict[str, dict[str, Any]] = {
    "b = 1": {},
    "b = 2": {"history_batches": 2},
    "b = 4": {"history_batches": 4},
    "growing": {"history": "growing"},
}
FIGURES = ("joint_tv", "joint_tv_on_policy", "last_joint_tv", "return_bias", "staleness", "effective_share")
CONFIG = ROOT / "conf" / "boulderpush_reliability.yaml"


class Setting(NamedTuple):
    """A task with its learner and samplers."""

    task: Callable[[], Task]
    learner: Callable[[], Learner]
    samplers: dict[str, Maker]
    n: int  # env steps per batch
    iterations: int
    run_seed: int
    blocks: tuple[int, ...]  # seeds of each
    every: int  # target iterations between estimates of the sampling error
    whole: bool  # batches are whole episodes


def _of_file(part: str, name: str) -> dict[str, Any]:
    """Arguments of conf/boulderpush_reliability.yaml."""
    return dict(yaml.safe_load(CONFIG.read_text())[part][name]["init_args"])


BOULDER = "BoulderPush"
SETTINGS = {
    "figure1": Setting(
        MatrixGame,
        partial(Reinforce, 1.0),
        {"OnPolicy": OnPolicy, "TabularMAPROPS": partial(TabularMAPROPS, kl_cutoff=1.0), "MAPROPS": strong(MAPROPS)},
        *(8, 60, 44, (128,), 1, True),
    ),
    "Ladder": Setting(
        lambda: Ladder(RUNGS, 0.06),
        partial(Reinforce, RATE),
        {"OnPolicy": OnPolicy, "TabularMAPROPS": partial(TabularMAPROPS, kl_cutoff=1.0)},
        *(STEPS, 60, 45, (128,), 5, True),  # half of the env steps of sparse_reward.md
    ),
    # The seeds of the runs of history.csv.
    BOULDER: Setting(
        lambda: BoulderPush(**_of_file("data", "env")),
        lambda: MAPPO(**_of_file("model", "learner") | {"learning_rate": 0.004}),
        {"OnPolicy": OnPolicy, "TabularMAPROPS": partial(TabularMAPROPS, kl_cutoff=0.3)},
        *(256, 60, 42, (4, 4, *(8,) * 7), 5, False),
    ),
}


class Watch:
    """Figures of every iteration's D, one list entry each ``[R]``.

    Args:
        history: a key of ``HISTORIES``.
        whole: batches are whole episodes, so that the first step of each begins one.
    """

    def __init__(self, history: str, whole: bool) -> None:
        self.kept, self.whole = HISTORIES[history].get("history_batches", 1), whole
        if history == "growing":
            self.kept = 10**9
        self.returns: list[Floats] = []  # sums over the episodes of each batch
        self.counts: list[Floats] = []
        self.errors: list[list[Floats]] = []
        self.bias: list[Floats] = []
        self.staleness: list[Floats] = []
        self.shares: list[Floats] = []

    def __call__(self, model: LitMAPROPS) -> None:
        """Look at a whole D."""
        row = {name: value.double().cpu().numpy() for name, value in model.row.items()}
        count = row["train/episodes"]
        self.returns.append(np.where(count > 0, np.nan_to_num(row["train/episode_return"]) * count, 0.0))
        self.counts.append(count)
        present = model.evaluate("present policies", EPISODES)["stochastic"].episode_return.double().cpu().numpy()
        self.bias.append(self.mean_return() - present)
        if "sampling_error/joint_tv" in row:
            self.errors.append([row[f"sampling_error/{name}"] for name in FIGURES[:2]])
        if "history/staleness" in row:
            self.staleness.append(row["history/staleness"])
        self.shares.append(effective_share(model.buffer.trajectories(), self.whole))

    def mean_return(self) -> Floats:
        """Of the episodes that ended while the batches of D were collected, ``[R]``."""
        kept = slice(max(0, len(self.counts) - self.kept), None)
        return np.sum(self.returns[kept], 0) / np.sum(self.counts[kept], 0)

    def figures(self) -> dict[str, Floats]:
        """``FIGURES``, each ``[R]``: means over the iterations."""
        own, on_policy = np.mean(self.errors, 0)
        stale = np.nanmean(self.staleness, 0) if self.staleness else np.full_like(own, np.nan)
        found = own, on_policy, self.errors[-1][0], np.mean(self.bias, 0), stale, np.nanmean(self.shares, 0)
        return dict(zip(FIGURES, found, strict=True))


def effective_share(batches: TensorDictBase, whole: bool) -> Floats:
    """(sum w)^2 / (N sum w^2) of the N episodes of ``[R, k, T, E]``, ``[R]``; w = pi_theta now / pi_phi then."""
    names = ("next", keys.BEHAVIOR_LOG_PROB, keys.BEHAVIOR_KL, keys.TARGET_LOG_PROB)
    side_by_side = batches.select(*names).permute(0, 2, 1, 3).flatten(2, 3)
    found = return_estimates(episodes_of(side_by_side, whole))
    return (found["effective_sample_size"] / found["episodes"]).cpu().numpy()


def run(setting: Setting, sampler: str, history: str, first_seed: int, seeds: int) -> tuple[Floats, dict[str, Floats]]:
    """Train; which seeds are solved ``[R]``, and their figures."""
    model = LitMAPROPS(
        setting.samplers[sampler](),
        setting.learner(),
        seeds,
        first_seed,
        total_env_steps=setting.n * setting.iterations,
        eval_interval=setting.iterations,
        sampling_error="tabular",
        sampling_error_interval=setting.every,
        run_seed=setting.run_seed,
    )
    watch = Watch(history, setting.whole)
    data = MultiAgentData(setting.task(), 1, 1, setting.n, **HISTORIES[history])
    train(model, data, lambda model: None, whole=watch)
    return solved(model), watch.figures()


def solved(model: LitMAPROPS) -> Floats:
    """By the page of the game where it has a rule of its own, else by greedy success ``[R]``."""
    if isinstance(model.task, Ladder):
        with torch.no_grad():
            return (exact(model.learner.policies, model.task).top > LIKELY).double().numpy()
    assert model.evaluations is not None
    return (model.evaluations["greedy"].success_rate >= SOLVED).double().cpu().numpy()


class Table:
    """A row per block of tradeoff.csv: means and mean squares over its seeds."""

    def __init__(self) -> None:
        self.path = table_of("history").with_name("tradeoff.csv")
        self.rows: list[dict[str, str]] = []
        if self.path.exists():
            with self.path.open(newline="") as file:
                self.rows = list(csv.DictReader(file))

    def fill(self, task: str, blocks: int | None = None) -> None:
        """Measure what a task lacks of the first blocks, block by block; what takes long, growing histories, first."""
        setting = SETTINGS[task]
        known = {tuple(row[name] for name in ("task", "sampler", "history", "first seed")) for row in self.rows}
        for block, seeds in enumerate(setting.blocks[:blocks]):
            first = sum(setting.blocks[:block])
            for sampler in setting.samplers:
                for history in reversed(HISTORIES):
                    if (task, sampler, history, str(first)) not in known:
                        self._add(task, sampler, history, first, seeds)

    def _add(self, task: str, sampler: str, history: str, first: int, seeds: int) -> None:
        setting, begun = SETTINGS[task], time.process_time()
        print(task, sampler, history, first, flush=True)
        is_solved, figures = run(setting, sampler, history, first, seeds)
        row = {"task": task, "sampler": sampler, "history": history, "run seed": setting.run_seed, "first seed": first}
        row |= {"seeds": len(is_solved), "solved": int(is_solved.sum())}
        for name, values in figures.items():
            row |= {name: f"{values.mean():.6g}", f"{name} squared": f"{np.square(values).mean():.6g}"}
        row["seconds"] = f"{time.process_time() - begun:.1f}"
        self.rows.append({name: str(value) for name, value in row.items()})
        with io.StringIO() as text:
            writer = csv.DictWriter(text, list(self.rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)
            write_atomically(self.path, text.getvalue())

    def of(self, task: str, sampler: str, history: str) -> "Cell | None":
        """All blocks of a setting; None where there are none."""
        own = [r for r in self.rows if (r["task"], r["sampler"], r["history"]) == (task, sampler, history)]
        return Cell(own) if own else None


class Cell:
    """Blocks of seeds of one setting."""

    def __init__(self, rows: list[dict[str, str]]) -> None:
        self.rows, self.sizes = rows, [int(row["seeds"]) for row in rows]
        self.seeds, self.solved = sum(self.sizes), sum(int(row["solved"]) for row in rows)

    def mean(self, name: str) -> float:
        """Over all seeds."""
        return self._pooled(name)

    def half(self, name: str) -> float:
        """Half of the 95% interval of the mean over seeds (Student's t)."""
        spread = max(0.0, self._pooled(f"{name} squared") - self.mean(name) ** 2) / (self.seeds - 1)
        return float(student.ppf(0.975, self.seeds - 1)) * spread**0.5

    def _pooled(self, column: str) -> float:
        return float(np.average([float(row[column]) for row in self.rows], weights=self.sizes))
