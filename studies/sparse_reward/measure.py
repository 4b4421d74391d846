"""The measurements: runs of every sampler in both games, and the policy gradient at policies of the on-policy runs."""

import copy
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from lit_maprops.analyze.analysis import analyze
from lit_maprops.analyze.subject import Sampler, Subject
from lit_maprops.behavior import MAPROPS, PROPS, BehaviorPolicy, OnPolicy, TabularMAPROPS
from lit_maprops.data import MultiAgentData
from lit_maprops.metrics.reliability import RESAMPLES, wilson_interval
from lit_maprops.module import LitMAPROPS
from studies.matrix_games.measures import strong, weak
from studies.sparse_reward.game import Ladder, Watched, exact, exact_reference
from studies.train import train

RUN_SEED, SEEDS = 191, 256
RUNGS, EPISODES, ITERATIONS, RATE = 3, 8, 120, 8.0
STEPS = RUNGS * EPISODES  # n
SOLVED = 0.5  # probability of the reward at the end, under the target policies
CONSOLATIONS = (0.0, 0.06)
BASE = "OnPolicy"
SAMPLERS: dict[str, Callable[[], BehaviorPolicy]] = {
    BASE: OnPolicy,
    "PROPS, weak": weak(PROPS),
    "PROPS, strong": strong(PROPS),
    "MAPROPS, weak": weak(MAPROPS),
    "MAPROPS, strong": strong(MAPROPS),
    "TabularMAPROPS": partial(TabularMAPROPS, clip_epsilon=1.0, kl_cutoff=1.0),
}
PHASES = {"below 0.05": (0.0, 0.05), "0.05 to 0.5": (0.05, 0.5), "0.5 to 0.95": (0.5, 0.95), "above 0.95": (0.95, 1.1)}
AGES = (0, 15, 30, 60, 120)  # target updates of the on-policy runs at whose policies the gradient is looked at
GRADIENT_SEEDS, BATCHES = 32, 128
GRADIENT = ("bias_squared", "variance", "mse", "return_bias")
POINTS = range(0, ITERATIONS, 4)  # iterations whose mean is kept for the picture
Floats = NDArray[np.floating]
Row = dict[str, str]


class Interval(NamedTuple):
    """A figure with its 95% interval."""

    value: float
    low: float
    high: float


class Outcome(NamedTuple):
    """A sampler's runs of a game."""

    rows: dict[str, Floats]  # figures per target iteration and seed, ``[iterations, R]``
    solved: int
    learners: dict[int, Watched]  # copies, by the updates they have made

    @property
    def top(self) -> Floats:
        """Probability of the reward at the end under the policies that D is collected for, ``[iterations, R]``."""
        return self.rows["target/top"]

    def excess(self, pairs: str) -> Floats:
        """D's share of ``high`` or ``low`` pairs minus the exact one of the target policies, ``[iterations, R]``."""
        return self.rows[f"target/{pairs}"] - self.rows[f"target/expected_{pairs}"]

    @property
    def extra_finds(self) -> Floats:
        """Whether D has the reward at the end, minus the chance that an on-policy batch has, ``[iterations, R]``."""
        return self.rows["target/rewarded"] - (1 - (1 - self.top) ** EPISODES)

    def in_phase(self, phase: str, values: Floats) -> Interval:
        """Mean over a phase's batches of all seeds; a bootstrap over seeds gives the interval.

        Not the mean of the seeds' own means: a seed leaves a phase after a lucky batch, and would count it too much.
        """
        low, high = PHASES[phase]
        inside = (self.top >= low) & (self.top < high)
        sums, counts = np.where(inside, values, 0.0).sum(0), inside.sum(0)
        seeds = len(sums)
        drawn = np.random.default_rng(0).integers(0, seeds, (RESAMPLES, seeds))
        ends = np.percentile(sums[drawn].sum(1) / counts[drawn].sum(1), [2.5, 97.5])
        return Interval(float(sums.sum() / counts.sum()), *map(float, ends))

    @property
    def half_solved(self) -> float:
        """Env steps per seed after which half of the seeds have been solved; infinite where half never are."""
        reached = self.top > SOLVED
        return float(np.median(np.where(reached.any(0), reached.argmax(0) * STEPS, np.inf)))


def run(maker: Callable[[], BehaviorPolicy], consolation: float, keep: Sequence[int] = ()) -> Outcome:
    """Train every seed; ``keep``: numbers of updates after which the learner is copied."""
    learner = Watched(learning_rate=RATE)
    model = LitMAPROPS(
        maker(),
        learner,
        SEEDS,
        total_env_steps=STEPS * ITERATIONS,
        eval_interval=ITERATIONS,
        eval_episodes=1,
        sampling_error="tabular",
        run_seed=RUN_SEED,
    )
    rows: list[dict[str, Floats]] = []
    learners: dict[int, Watched] = {}

    def note(model: LitMAPROPS) -> None:
        rows.append({name: value.double().numpy() for name, value in model.row.items()})
        if len(rows) in keep:
            learners[len(rows)] = copy.deepcopy(learner)

    train(model, MultiAgentData(Ladder(RUNGS, consolation), 1, 1, STEPS), note)
    table = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    with torch.no_grad():
        solved = int((exact(learner.policies, learner.task).top > SOLVED).sum())
    return Outcome(table, solved, learners)


def row(part: str, consolation: float, sampler: str, figure: str, found: Interval | float, phase: str = "") -> Row:
    """A line of the raw table."""
    numbers = found if isinstance(found, Interval) else Interval(found, np.nan, np.nan)
    texts = {name: "" if np.isnan(value) else f"{value:.4g}" for name, value in numbers._asdict().items()}
    head = {"part": part, "consolation": f"{consolation:g}", "sampler": sampler, "figure": figure, "phase": phase}
    return head | texts


def rows_of_runs(found: Outcome, consolation: float, sampler: str) -> list[Row]:
    """What the runs of a sampler gave."""
    own, first = ("runs", consolation, sampler), next(iter(PHASES))
    rows = [row(*own, "solved", Interval(found.solved / SEEDS, *wilson_interval(found.solved, SEEDS)))]
    rows += [row(*own, "env steps, half solved", found.half_solved)]
    rows += [row(*own, "extra finds", found.in_phase(first, found.extra_finds), first)]
    names = ("joint_tv", "joint_tv_on_policy", "first_visits")
    rows += [row(*own, name, float(found.rows[f"sampling_error/{name}"].mean())) for name in names]
    for phase in PHASES:
        rows += [row(*own, pairs, found.in_phase(phase, found.excess(pairs)), phase) for pairs in ("high", "low")]
    return rows + [row(*own, "top", float(found.top[k].mean()), str(k * STEPS)) for k in POINTS]


def subject_of(learner: Watched, updates: int, n_steps: int) -> Subject:
    """A learner as ``analyze`` wants it: one environment per seed, m = 1."""
    seeds = list(range(learner.policies.net.stack[0]))
    own = Sampler(OnPolicy())
    return Subject(Path(), Path(), learner, learner.task, own, None, RUN_SEED, seeds, 1, 1, n_steps, updates * n_steps)


def first_seeds(learner: Watched | None, consolation: float) -> Watched:
    """A learner of ``GRADIENT_SEEDS``: the first ones of another, or new."""
    fewer = Watched(learning_rate=RATE)
    fewer.build(Ladder(RUNGS, consolation), RUN_SEED, list(range(GRADIENT_SEEDS)))
    if learner is not None:
        with torch.no_grad():
            fewer.policies.net.flat.copy_(learner.policies.net.flat[:GRADIENT_SEEDS])
    return fewer


def rows_of_gradients(base: Outcome, consolation: float) -> list[Row]:
    """Squared bias, variance, error and return of each sampler's batches at policies of the on-policy runs."""
    rows = []
    for age in AGES:
        print(f"gradient after {age} updates", flush=True)
        learner = first_seeds(base.learners.get(age), consolation)
        with torch.no_grad():
            top = float(exact(learner.policies, learner.task).top.mean())
        reference = exact_reference(learner.policies, learner.task, STEPS)
        samplers = {name: Sampler(maker()) for name, maker in SAMPLERS.items()}
        summary = analyze(subject_of(learner, age, STEPS), samplers, BATCHES, STEPS, reference).summary()
        found: dict[str, dict[str, Any]] = summary["samplers"]
        for name, figures in found.items():
            own = ("gradient", consolation, name)
            rows += [row(*own, f, Interval(figures[f], *figures[f"{f}_ci95"]), str(age)) for f in GRADIENT]
            rows += [row(*own, "top", top, str(age))]
    return rows


def measure() -> list[Row]:
    """Everything: the raw table."""
    torch.set_num_threads(1)
    rows, base = [], None
    for consolation in CONSOLATIONS:
        for sampler, maker in SAMPLERS.items():
            print(f"consolation {consolation:g}: {sampler}", flush=True)
            found = run(maker, consolation, AGES)
            base = found if sampler == BASE else base
            rows += rows_of_runs(found, consolation, sampler)
    assert base is not None
    return rows + rows_of_gradients(base, CONSOLATIONS[-1])
