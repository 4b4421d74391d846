"""Measures docs/evidence/gradients.md: bias, variance and error of the policy gradient, sampler by sampler.

figure1 from the uniform policy on (exact reference), and the delta x epsilon map of MA-PROPS at half-trained policies
of BoulderPush. Interrupted, it continues with the parts that are missing.
"""

import argparse
import json
from typing import Any

import numpy as np
import torch

from lit_maprops.analyze.analysis import analyze, reference_of
from lit_maprops.analyze.subject import Sampler, Subject, load
from lit_maprops.behavior import MAPROPS, PROPS, BehaviorPolicy, Greedy, OnPolicy, TabularMAPROPS
from studies import ROOT, picture_of
from studies.page import write
from studies.runs import Run, complete, success_rates

OPTION, LEARNER = "--model.behavior.init_args.", "--model.learner.init_args."
RUN_SEED = 51
GAME_SEEDS, GAME_BATCHES, GAME_STEPS = 50, 64, 8
BOULDER_SEEDS, BOULDER_BATCHES, REFERENCE = 6, 16, 192
DELTAS, EPSILONS = (0.01, 0.03, 0.1, 0.3), (0.3, 1.0, 3.0)
# Env steps of an on-policy run each, so that no sampler is looked at on policies of its own making.
GAME_AGES = {"after 1 update": 8, "after 10 updates": 80, "after 60 updates": 480}
FIGURES = ("bias_squared", "variance", "mse", "cosine", "return_bias", "importance_bias", "effective_sample_share")


def training(task: str, config: str, env_steps: int, seeds: int, *flags: str) -> Run:
    """An on-policy run that ends where the gradient is looked at."""
    size = ["--model.num_seeds", str(seeds), "--model.total_env_steps", str(env_steps)]
    return Run("gradients", f"{task} {env_steps}", config, ["--model.behavior", "OnPolicy", *size, *flags], RUN_SEED)


BOULDER = """conf/boulderpush_reliability.yaml half trained: 7,680 of 15,360 env steps, learner at 4e-3, {seeds} seeds,
greedy success there {success}. {batches} batches of 256 steps per seed and setting. Reference: {reference}
on-policy batches per seed, squared norm of the mean gradient {norm}, its own squared error {own}, which is taken
off bias and mean squared error. MA-PROPS with 4 epochs, Adam 3e-3, merge_states, the rest as in the configuration.

| sampler | squared bias | variance | mean squared error | cosine | return bias | with weights | ESS | MSE ratio |
|---|---|---|---|---|---|---|---|---|
{table}

![Squared bias, variance and mean squared error over delta and epsilon](gradients.png)"""


def half_trained() -> Run:
    """BoulderPush half way through the configuration's env steps."""
    flags = [f"{LEARNER}learning_rate", "0.004", "--data.behavior_batch_size", "256"]
    return training("BoulderPush", "conf/boulderpush_reliability.yaml", 7680, BOULDER_SEEDS, *flags)


def strong(kind: type) -> BehaviorPolicy:
    """The settings of conf/matrix_game.yaml."""
    return kind(clip_epsilon=1.0, kl_cutoff=1.0, epochs=8, learning_rate=1.0, hidden=[])


def weak(kind: type) -> BehaviorPolicy:
    """Epsilon 0.3, delta 0.05, Adam 0.5, as in matrix_games.md."""
    return kind(clip_epsilon=0.3, kl_cutoff=0.05, epochs=8, learning_rate=0.5, hidden=[])


def game_samplers() -> dict[str, BehaviorPolicy]:
    """All samplers, the trained ones with strong and weak updates."""
    return {
        "OnPolicy": OnPolicy(),
        "PROPS, strong": strong(PROPS),
        "PROPS, weak": weak(PROPS),
        "MAPROPS, strong": strong(MAPROPS),
        "MAPROPS, weak": weak(MAPROPS),
        "TabularMAPROPS": TabularMAPROPS(clip_epsilon=1.0, kl_cutoff=1.0),
        "Greedy": Greedy(),
    }


def boulder_samplers() -> dict[str, BehaviorPolicy]:
    """On-policy, the closed form, and MA-PROPS over the map; equal states are merged: the same sums in less time."""
    samplers: dict[str, BehaviorPolicy] = {"OnPolicy": OnPolicy(), "TabularMAPROPS": TabularMAPROPS()}
    for delta in DELTAS:
        for epsilon in EPSILONS:
            samplers[f"delta {delta:g}, epsilon {epsilon:g}"] = MAPROPS(
                clip_epsilon=epsilon, kl_cutoff=delta, epochs=4, learning_rate=3e-3, merge_states=True
            )
    return samplers


def measured(
    subject: Subject, name: str, samplers: dict[str, BehaviorPolicy], batches: int, run_missing: bool = True
) -> dict[str, Any] | None:
    """The summary of all samplers, kept sampler by sampler in runs/gradients; None where some may not be run."""
    whole: dict[str, Any] = {}
    reference = None
    for sampler, template in samplers.items():
        slug = "".join(c if c.isalnum() or c in ".-" else "_" for c in f"{name} {sampler}")
        path = ROOT / "runs" / "gradients" / f"{slug}.json"
        if not path.exists() and not run_missing:
            return None
        if not path.exists():
            print(name, sampler, flush=True)
            steps = subject.target_batch_size
            if reference is None:
                reference = reference_of(subject, steps, REFERENCE)
            result = analyze(subject, {sampler: Sampler(template)}, batches, steps, reference)
            result.write(path)
        found = json.loads(path.read_text())
        whole = found | {"samplers": whole.get("samplers", {}) | found["samplers"]}
    return whole


def cell(figures: dict[str, Any], name: str) -> str:
    """A figure with its 95% interval; empty where there is none."""
    if figures[name] is None:
        return ""
    low, high = figures[f"{name}_ci95"]
    return f"{figures[name]:.2g} [{low:.2g}, {high:.2g}]"


def table(summary: dict[str, Any]) -> str:
    """A line per sampler."""
    lines = []
    base = summary["samplers"]["OnPolicy"]["mse"]
    for name, figures in summary["samplers"].items():
        cells = " | ".join(cell(figures, f) for f in FIGURES)
        lines.append(f"| {name} | {cells} | {figures['mse'] / base:.2f} |")
    return "\n".join(lines)


def rows_of(part: str, summary: dict[str, Any]) -> list[dict[str, object]]:
    """Raw figures."""
    ends = {f: figures for f, figures in summary["samplers"].items()}
    return [
        {"part": part, "sampler": name}
        | {f: figures[f] for f in FIGURES}
        | {f"{f}_{end}": figures[f"{f}_ci95"][k] for f in FIGURES for k, end in enumerate(("low", "high"))}
        for name, figures in ends.items()
    ]


def draw_maps(summary: dict[str, Any]) -> None:
    """Squared bias, variance and MSE over delta and epsilon, each as a multiple of on-policy sampling's variance."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    samplers = summary["samplers"]
    scale = samplers["OnPolicy"]["variance"]
    figure = Figure(figsize=(11, 3.6), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    titles = {"bias_squared": "squared bias", "variance": "variance", "mse": "mean squared error"}
    for axes, (name, title) in zip(figure.subplots(1, 3), titles.items(), strict=True):
        grid = np.array([[samplers[f"delta {d:g}, epsilon {e:g}"][name] for e in EPSILONS] for d in DELTAS]) / scale
        positive = np.clip(grid, 1e-3, None)
        image = axes.imshow(positive, cmap="cividis", origin="lower", norm=LogNorm(1e-2, max(3.0, positive.max())))
        for i, row in enumerate(grid):
            for j, value in enumerate(row):
                dark = positive[i, j] < 0.2
                axes.text(j, i, f"{value:.2g}", ha="center", va="center", color="white" if dark else "black")
        axes.set_xticks(range(len(EPSILONS)), [f"{e:g}" for e in EPSILONS])
        axes.set_yticks(range(len(DELTAS)), [f"{d:g}" for d in DELTAS])
        axes.set_xlabel("epsilon (ratio clip)")
        axes.set_ylabel("delta (KL cutoff, nats)")
        axes.set_title(f"{title} / on-policy variance", fontsize=10)
    figure.colorbar(image, ax=figure.axes, shrink=0.8)
    figure.savefig(picture_of("gradients"))


def main() -> None:
    """Measure what is missing and write gradients.md, .csv and .png."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--games_only", action="store_true", help="do not run BoulderPush; the page says so")
    options = parser.parse_args()
    torch.set_num_threads(1)
    games = {age: training("figure1", "conf/matrix_game.yaml", n, GAME_SEEDS) for age, n in GAME_AGES.items()}
    complete(games.values())
    parts, rows = [], []
    for age, run in games.items():
        subject = load(run.folder / "checkpoints" / "last.ckpt")
        summary = measured(subject, f"figure1 {age}", game_samplers(), GAME_BATCHES)
        assert summary is not None
        norm = summary["reference"]["norm_squared"]
        parts.append(f"| **{age}**, squared norm {norm:.2g} | | | | | | | | |\n{table(summary)}")
        rows += rows_of(f"figure1, {age}", summary)
    boulder, found = boulder_part(run_missing=not options.games_only)
    write(
        "gradients",
        [*rows, *found],
        games="\n".join(parts),
        game_batches=str(GAME_BATCHES),
        game_seeds=str(GAME_SEEDS),
        game_steps=str(GAME_STEPS),
        run_seed=str(RUN_SEED),
        boulder=boulder,
    )


def boulder_part(run_missing: bool) -> tuple[str, list[dict[str, object]]]:
    """The section about BoulderPush and its raw figures."""
    half = half_trained()
    if run_missing:
        complete([half])
    summary = None
    if half.finished:
        # Without behavior updates the run needed no m; the samplers here correct after every step.
        subject = load(half.folder / "checkpoints" / "last.ckpt")._replace(behavior_batch_size=1)
        summary = measured(subject, "BoulderPush", boulder_samplers(), BOULDER_BATCHES, run_missing)
    if summary is None:
        return "Not measured yet: `make evidence-gradients` does it.", []
    draw_maps(summary)
    rates = success_rates(json.loads((half.folder / "summary.json").read_text()))
    success = ", ".join(f"{rate:.2f}" for rate in rates)
    reference = summary["reference"]
    text = BOULDER.format(
        seeds=BOULDER_SEEDS,
        success=success,
        batches=BOULDER_BATCHES,
        reference=REFERENCE,
        norm=f"{reference['norm_squared']:.3g}",
        own=f"{reference['variance']:.2g}",
        table=table(summary),
    )
    return text, rows_of("BoulderPush", summary)


if __name__ == "__main__":
    main()
