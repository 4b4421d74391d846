"""Measures docs/evidence/sparse_reward.md: samplers where reward comes only at the end of a rarely reached branch.

The game is in game.py. Every sampler trains from uniform policies; D's shares of high-value and low-value pairs of
state and action are compared with the exact ones of the policies it was collected for, iteration by iteration. The
policy gradient of each sampler is compared with the exact one at policies of on-policy runs. Nothing is tuned.
"""

import copy
import logging
import warnings
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
from lit_maprops.metrics.reliability import difference_interval, mean_interval, wilson_interval
from lit_maprops.module import LitMAPROPS
from studies import picture_of
from studies.matrix_games.measures import strong, weak
from studies.page import write
from studies.sparse_reward.game import Ladder, Watched, exact, exact_reference
from studies.train import train

RUN_SEED, SEEDS = 91, 256
RUNGS, EPISODES, ITERATIONS, RATE = 3, 8, 200, 2.0
SOLVED = 0.5  # probability of the reward at the end, under the target policies
CONSOLATIONS = (0.0, 0.04)
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
AGES = (0, 40, 80, 200)  # target updates of the on-policy runs at whose policies the gradient is looked at
GRADIENT_SEEDS, BATCHES = 32, 128
Floats = NDArray[np.floating]


class Outcome(NamedTuple):
    """A sampler's runs of a game."""

    rows: dict[str, Floats]  # figures per target iteration and seed, ``[iterations, R]``
    solved: int
    learners: dict[int, Watched]  # copies, by the updates they have made

    def off(self, pairs: str) -> Floats:
        """D's share of ``high`` or ``low`` pairs minus the exact one of the target policies, ``[iterations, R]``."""
        return self.rows[f"target/{pairs}"] - self.rows[f"target/expected_{pairs}"]

    @property
    def top(self) -> Floats:
        """Probability of the reward at the end under the policies that D is collected for, ``[iterations, R]``."""
        return self.rows["target/top"]


def run(maker: Callable[[], BehaviorPolicy], consolation: float, keep: Sequence[int] = ()) -> Outcome:
    """Train every seed; ``keep``: numbers of updates after which the learner is copied."""
    n = RUNGS * EPISODES
    model = LitMAPROPS(
        maker(),
        Watched(learning_rate=RATE),
        SEEDS,
        total_env_steps=n * ITERATIONS,
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
            learners[len(rows)] = copy.deepcopy(model.learner)

    train(model, MultiAgentData(Ladder(RUNGS, consolation), 1, 1, n), note)
    table = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    with torch.no_grad():
        solved = int((exact(model.learner.policies, model.task).top > SOLVED).sum())
    return Outcome(table, solved, learners)


# solved runs


def share(solved: int) -> str:
    """Of the seeds, with its Wilson interval."""
    low, high = wilson_interval(solved, SEEDS)
    return f"{solved / SEEDS:.0%} [{low:.0%}, {high:.0%}]"


def points(solved: int, base: int) -> str:
    """Difference of shares in percentage points, with Newcombe's interval."""
    ends = difference_interval(solved, SEEDS, base, SEEDS)
    return "{:+.0f} [{:+.0f}, {:+.0f}]".format(*(100 * value for value in ((solved - base) / SEEDS, *ends)))


def interval(values: Floats, scale: float = 1.0, form: str = "+.2f") -> tuple[float, float, float, str]:
    """Mean over seeds ``[R]``, its bootstrap interval, and all that as text; NaN is left out."""
    known = scale * values[np.isfinite(values)]
    if len(known) < 2:
        return np.nan, np.nan, np.nan, ""
    low, high = (float(end[0]) for end in mean_interval(known[None]))
    mean = float(known.mean())
    return mean, low, high, f"{mean:{form}} [{low:{form}}, {high:{form}}]"


def in_phase(outcome: Outcome, phase: str, values: Floats) -> Floats:
    """Means over a seed's iterations in a phase, ``[R]``; NaN where it has none."""
    low, high = PHASES[phase]
    inside = (outcome.top >= low) & (outcome.top < high)
    return np.where(inside, values, 0.0).sum(0) / np.where(inside.any(0), inside.sum(0), np.nan)


def extra_finds(outcome: Outcome) -> Floats:
    """Batches with the reward at the end: whether D is one, minus the chance of an on-policy batch."""
    return outcome.rows["target/rewarded"] - (1 - (1 - outcome.top) ** EPISODES)


def solved_table(outcomes: dict[str, Outcome], consolation: float, rows: list[dict[str, object]]) -> str:
    """One line per sampler."""
    lines, base = [], outcomes[BASE]
    for name, found in outcomes.items():
        finds = interval(in_phase(found, "below 0.05", extra_finds(found)), 100)
        own, fresh = (found.rows[f"sampling_error/joint_tv{suffix}"].mean() for suffix in ("", "_on_policy"))
        first = found.rows["sampling_error/first_visits"].mean()
        change = "" if name == BASE else points(found.solved, base.solved)
        cells = [share(found.solved), change, finds[3], f"{own:.3f} / {fresh:.3f}", f"{first:.0%}"]
        lines.append(f"| {consolation:g} | {name} | {' | '.join(cells)} |")
        row: dict[str, object] = {"part": "runs", "consolation": consolation, "sampler": name, "seeds": SEEDS}
        low, high = wilson_interval(found.solved, SEEDS)
        rows.append(row | {"value": found.solved / SEEDS, "low": low, "high": high, "figure": "solved"})
        rows.append(row | {"phase": "below 0.05", "figure": "extra finds"} | ends(finds, 0.01))
        rows += [row | {"figure": "joint_tv", "value": own}, row | {"figure": "joint_tv_on_policy", "value": fresh}]
        rows.append(row | {"figure": "first_visits", "value": first})
    return "\n".join(lines)


def ends(found: tuple[float, float, float, str], scale: float = 1.0) -> dict[str, object]:
    """Columns of the raw table."""
    return {"value": scale * found[0], "low": scale * found[1], "high": scale * found[2]}


def visits_table(outcomes: dict[str, Outcome], consolation: float, rows: list[dict[str, object]]) -> str:
    """D's shares of high-value and low-value pairs minus those of the policies, in points, phase by phase."""
    lines = []
    for name, found in outcomes.items():
        for pairs in ("high", "low"):
            cells = []
            for phase in PHASES:
                own = interval(in_phase(found, phase, found.off(pairs)), 100)
                cells.append(own[3])
                row: dict[str, object] = {"part": "visits", "consolation": consolation, "sampler": name}
                rows.append(row | {"seeds": SEEDS, "phase": phase, "figure": pairs} | ends(own, 0.01))
            lines.append(f"| {consolation:g} | {name} | {pairs} | {' | '.join(cells)} |")
    return "\n".join(lines)


# the gradient at equal policies


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


def gradient_table(base: Outcome, consolation: float, rows: list[dict[str, object]]) -> str:
    """Squared bias, variance, error and return of each sampler at policies of the on-policy runs."""
    lines, n = [], RUNGS * EPISODES
    for age in AGES:
        learner = first_seeds(base.learners.get(age), consolation)
        with torch.no_grad():
            top = float(exact(learner.policies, learner.task).top.mean())
        reference = exact_reference(learner.policies, learner.task, n)
        samplers = {name: Sampler(maker()) for name, maker in SAMPLERS.items()}
        summary = analyze(subject_of(learner, age, n), samplers, BATCHES, n, reference).summary()
        found: dict[str, dict[str, Any]] = summary["samplers"]
        for name, figures in found.items():
            names = ("bias_squared", "variance", "mse", "return_bias")
            texts = ["{:.2g} [{:.2g}, {:.2g}]".format(figures[f], *figures[f"{f}_ci95"]) for f in names]
            ratio = figures["mse"] / found[BASE]["mse"]
            lines.append(f"| {age} ({top:.2f}) | {name} | {' | '.join(texts)} | {ratio:.2f} |")
            row: dict[str, object] = {"part": "gradient", "consolation": consolation, "sampler": name}
            for figure in names:
                low, high = figures[f"{figure}_ci95"]
                own = {"figure": figure, "value": figures[figure], "low": low, "high": high}
                rows.append(row | {"seeds": GRADIENT_SEEDS, "phase": f"after {age} updates"} | own)
    return "\n".join(lines)


# the picture


def draw(games: dict[float, dict[str, Outcome]]) -> None:
    """Probability of the reward over training, and D's excess of both kinds of pairs by that probability."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6.4), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    looks = dict(
        zip(
            SAMPLERS,
            (("#4d4d4d", "-"), *((c, s) for c in ("#d55e00", "#0072b2") for s in ("--", "-")), ("#009e73", "-.")),
            strict=True,
        )
    )
    for line, (consolation, outcomes) in zip(figure.subplots(2, 3), games.items(), strict=True):
        for name, found in outcomes.items():
            color, style = looks[name]
            steps = RUNGS * EPISODES * np.arange(ITERATIONS)
            line[0].plot(steps, found.top.mean(1), color=color, ls=style, lw=1.4, label=name)
            for axes, pairs in zip(line[1:], ("high", "low"), strict=True):
                own = [interval(in_phase(found, phase, found.off(pairs)), 100) for phase in PHASES]
                mean, low, high = np.array([values[:3] for values in own]).T
                axes.errorbar(
                    np.arange(len(PHASES)), mean, [mean - low, high - mean], color=color, ls=style, lw=1.4, capsize=2
                )
        line[0].set_xlabel("env steps per seed")
        line[0].set_ylabel(f"consolation {consolation:g}\nprobability of the reward at the end")
        line[0].set_ylim(0, 1)
        for axes, title in zip(line[1:], ("high-value pairs", "low-value pairs"), strict=True):
            axes.axhline(0, color="#888888", lw=0.8)
            axes.set_xticks(range(len(PHASES)), list(PHASES), fontsize=8)
            axes.set_xlabel("probability of the reward under the policies")
            axes.set_ylabel(f"{title}: D minus policies, points")
    figure.axes[0].legend(fontsize=8)
    figure.savefig(picture_of("sparse_reward"))


def main() -> None:
    """Measure everything and write sparse_reward.md, .csv and .png."""
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    games: dict[float, dict[str, Outcome]] = {}
    for consolation in CONSOLATIONS:
        games[consolation] = {}
        for name, maker in SAMPLERS.items():
            print(f"consolation {consolation:g}: {name}", flush=True)
            games[consolation][name] = run(maker, consolation, AGES)
    rows: list[dict[str, object]] = []
    fields = {
        "solved": "\n".join(solved_table(found, c, rows) for c, found in games.items()),
        "visits": "\n".join(visits_table(found, c, rows) for c, found in games.items()),
        "gradient": gradient_table(games[CONSOLATIONS[-1]][BASE], CONSOLATIONS[-1], rows),
    }
    draw(games)
    columns = ("part", "consolation", "sampler", "seeds", "phase", "figure", "value", "low", "high")
    table = [{name: row.get(name, "") for name in columns} for row in rows]
    sizes = {"rungs": RUNGS, "episodes": EPISODES, "steps": RUNGS * EPISODES, "iterations": ITERATIONS, "rate": RATE}
    counts = {"seeds": SEEDS, "gradient_seeds": GRADIENT_SEEDS, "batches": BATCHES, "run_seed": RUN_SEED}
    write("sparse_reward", table, **fields, **sizes, **counts)


if __name__ == "__main__":
    main()
