"""Measures docs/evidence/history.md: what retained batches do for success, sampling error, staleness and bias.

Nothing is tuned here: learner and samplers are those of samplers.md, the run seeds are used nowhere else. Interrupted,
it continues: what the tables hold is not measured again. tradeoff.py: error against off-policy bias, task by task.
"""

import argparse
import csv
import json
import logging
import warnings
from typing import Any, NamedTuple

import numpy as np

from lit_maprops.analyze.analysis import analyze, reference_of
from lit_maprops.analyze.subject import load
from lit_maprops.metrics.reliability import mean_interval, wilson_interval
from lit_maprops.system.tables import read_table
from studies import table_of
from studies.cells import points
from studies.history import shown
from studies.history.tradeoff import BOULDER, SETTINGS, Table
from studies.page import write
from studies.runs import SOLVED, Run, complete, success_rates

GAME, GAME_SEED, GAME_SEEDS = "conf/matrix_game.yaml", 41, 400
BOULDER_CONFIG, BOULDER_SEED, BOULDER_SEEDS = "conf/boulderpush_reliability.yaml", 42, 64
# What those leave open, on seeds that were set down before any was run: enough to see 10 points at a power of 80%.
FRESH, FRESH_SEED, FRESH_SEEDS = "BoulderPush, fresh seeds", 46, 400
OPTION, LEARNER = "--model.behavior.init_args.", "--model.learner.init_args."
HISTORIES = {
    "b = 1": [],
    "b = 2": ["--data.history_batches", "2"],
    "b = 4": ["--data.history_batches", "4"],
    "growing": ["--data.history", "growing"],
}
MEASURED = ["--model.sampling_error", "tabular", "--model.sampling_error_interval", "10"]
GAME_SAMPLERS = {
    "OnPolicy": ["--model.behavior", "OnPolicy"],
    "TabularMAPROPS": ["--model.behavior", "TabularMAPROPS", f"{OPTION}kl_cutoff", "1.0"],
    "MAPROPS": [],
}
BOULDER_SAMPLERS = {
    "OnPolicy": ["--model.behavior", "OnPolicy"],
    # The cutoff that samplers.md chose on its tuning seeds.
    "TabularMAPROPS": ["--model.behavior", "TabularMAPROPS", f"{OPTION}kl_cutoff", "0.3"],
}
BIAS_SEED, BIAS_SEEDS, BIAS_STEPS = 43, 50, 80  # ten updates of n = 8: half way to where the game is decided
BATCHES = 64  # drawn at the checkpoint for the bias
GRADIENT = "figure1, gradient"
RELATIVE = ("bias_squared", "variance", "mse")  # to the exact gradient's squared norm
COLUMNS = (
    *("task", "sampler", "history", "seeds", "solved", "mean_success", "mean_success_low", "mean_success_high"),
    *("staleness", "joint_tv", "joint_tv_on_policy", "seconds", "norm_squared"),
    *(f"{name}{end}" for name in (*RELATIVE, "return_bias") for end in ("", "_low", "_high")),
    "effective_sample_share",
)
Key = tuple[str, str, str]
Row = dict[str, object]


class Result(NamedTuple):
    """What one run of many seeds gave."""

    success: np.ndarray  # greedy success rate of every seed
    staleness: float  # nats, mean over the run
    last_staleness: float  # nats, in the last iteration
    joint_tv: tuple[float, float]  # own, on-policy
    seconds: float

    @property
    def solved(self) -> int:
        """Seeds that reach ``SOLVED``."""
        return int((self.success >= SOLVED).sum())


def result_of(run: Run) -> Result:
    """Read a finished run."""
    summary = json.loads((run.folder / "summary.json").read_text())
    table = read_table(run.folder / "metrics.csv")
    stale = table.get("history/staleness", np.array([np.nan]))
    success = success_rates(summary)
    error = summary["joint_tv"], summary["joint_tv_on_policy"]
    mean = float(np.nanmean(stale)) if np.isfinite(stale).any() else float("nan")
    return Result(success, mean, float(stale[-1]), error, summary["wall_seconds"])


def game_runs() -> dict[Key, Run]:
    """Sampler x history on figure1."""
    return {
        ("figure1", sampler, history): Run(
            "history",
            f"figure1 {sampler} {history}",
            GAME,
            [*own, *kept, "--model.num_seeds", str(GAME_SEEDS)],
            GAME_SEED,
        )
        for sampler, own in GAME_SAMPLERS.items()
        for history, kept in HISTORIES.items()
    }


def boulder_runs(task: str, run_seed: int, seeds: int) -> dict[Key, Run]:
    """Sampler x fixed history on BoulderPush, with the learner's rate of samplers.md; growing ones: tradeoff.py."""
    flags = [*MEASURED, "--model.num_seeds", str(seeds), f"{LEARNER}learning_rate", "0.004"]
    return {
        (task, sampler, history): Run(
            "history", f"{task} {sampler} {history}", BOULDER_CONFIG, [*own, *kept, *flags], run_seed
        )
        for history, kept in HISTORIES.items()
        if history != "growing"
        for sampler, own in BOULDER_SAMPLERS.items()
    }


def bias_runs() -> dict[Key, Run]:
    """Sampler x history on figure1, stopped early."""
    size = ["--model.num_seeds", str(BIAS_SEEDS), "--model.total_env_steps", str(BIAS_STEPS)]
    return {
        (GRADIENT, sampler, history): Run("history_bias", f"{sampler} {history}", GAME, [*own, *kept, *size], BIAS_SEED)
        for sampler, own in GAME_SAMPLERS.items()
        for history, kept in HISTORIES.items()
    }


def row_of(key: Key, run: Run) -> Row:
    """Raw figures of a finished run."""
    result = result_of(run)
    low, high = (float(end[0]) for end in mean_interval(result.success[None]))
    row: Row = dict(zip(COLUMNS[:3], key, strict=True)) | {"seeds": len(result.success)}
    if key[0] == GRADIENT:
        return row | gradient_of(run) | {"staleness": result.last_staleness}
    row |= {"solved": result.solved, "mean_success": float(result.success.mean())}
    row |= {"mean_success_low": low, "mean_success_high": high, "staleness": result.staleness}
    return row | {"joint_tv": result.joint_tv[0], "joint_tv_on_policy": result.joint_tv[1], "seconds": result.seconds}


def gradient_of(run: Run) -> Row:
    """Bias, variance and error of the gradient of D at a run's end, against the exact gradient."""
    subject = load(run.folder / "checkpoints" / "last.ckpt")
    exact = reference_of(subject, subject.target_batch_size, 2)
    found = analyze(subject, {"own": subject.own}, BATCHES, subject.target_batch_size, exact).summary()
    figures: dict[str, Any] = found["samplers"]["own"]
    row: Row = {"norm_squared": found["reference"]["norm_squared"]}
    for name in (*RELATIVE, "return_bias"):
        low, high = figures[f"{name}_ci95"]
        row |= {name: figures[name], f"{name}_low": low, f"{name}_high": high}
    return row | {"effective_sample_share": figures["effective_sample_share"]}


def measured(measure: bool, workers: int) -> list[Row]:
    """Rows of the raw table; what it lacks is measured, or left out."""
    kept: dict[Key, Row] = {}
    if table_of("history").exists():
        with table_of("history").open(newline="") as file:
            kept = {(row["task"], row["sampler"], row["history"]): dict(row) for row in csv.DictReader(file)}
    runs = game_runs() | bias_runs() | boulder_runs(BOULDER, BOULDER_SEED, BOULDER_SEEDS)
    runs |= boulder_runs(FRESH, FRESH_SEED, FRESH_SEEDS)
    missing = {key: run for key, run in runs.items() if key not in kept}
    if measure:
        complete(missing.values(), workers)
    kept |= {key: row_of(key, run) for key, run in missing.items() if run.finished}
    return [{name: kept[key].get(name, "") for name in COLUMNS} for key in runs if key in kept]


def number(row: Row, name: str) -> float:
    """Of a row; NaN where it has none."""
    text = str(row[name])
    return float(text) if text else float("nan")


def known(row: Row, name: str) -> str:
    """A cell, empty where the row has no such figure."""
    value = number(row, name)
    return "" if np.isnan(value) else f"{value:.3f}"


def bias_table(rows: list[Row]) -> str:
    """Early in training on figure1."""
    lines = []
    for row in rows:
        if row["task"] != GRADIENT:
            continue
        norm = number(row, "norm_squared")
        cells = []
        for name in RELATIVE:
            value, low, high = (number(row, f"{name}{end}") / norm for end in ("", "_low", "_high"))
            cells.append(f"{value:.2f} [{low:.2f}, {high:.2f}]")
        back, low, high = (number(row, f"return_bias{end}") for end in ("", "_low", "_high"))
        lines.append(
            f"| {row['sampler']} | {row['history']} | {known(row, 'staleness')} | {' | '.join(cells)} | {back:+.3f} "
            f"[{low:+.3f}, {high:+.3f}] | {number(row, 'effective_sample_share'):.2f} |"
        )
    return "\n".join(lines)


def runs_table(rows: list[Row], task: str) -> str:
    """Solved runs of a task."""
    own = {(row["sampler"], row["history"]): row for row in rows if row["task"] == task}
    lines = []
    for (sampler, history), row in own.items():
        solved, seeds = (int(number(row, name)) for name in ("solved", "seeds"))
        low, high = wilson_interval(solved, seeds)
        base = own.get((sampler, "b = 1"))
        change = "" if base is None or base is row else points(solved, seeds, *solved_of(base))
        mean, mean_low, mean_high = (number(row, f"mean_success{end}") for end in ("", "_low", "_high"))
        error = f"{number(row, 'joint_tv'):.3f} / {number(row, 'joint_tv_on_policy'):.3f}"
        lines.append(
            f"| {sampler} | {history} | {solved / seeds:.0%} [{low:.0%}, {high:.0%}] of {seeds} | {change} "
            f"| {mean:.2f} [{mean_low:.2f}, {mean_high:.2f}] | {known(row, 'staleness')} | {error} "
            f"| {number(row, 'seconds'):.0f} |"
        )
    return "\n".join(lines)


def solved_of(row: Row) -> tuple[int, int]:
    """Seeds that are solved, of how many."""
    return int(number(row, "solved")), int(number(row, "seeds"))


def main() -> None:
    """Run what is missing and write history.md, history.csv, tradeoff.csv and history.png."""
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=1, help="runs at a time, each on one core; 0: in this process")
    parser.add_argument("--games_only", action="store_true", help="trade-off of the games only")
    parser.add_argument("--blocks", type=int, help="of BoulderPush's seeds for the trade-off, the first ones only")
    parser.add_argument("--page", action="store_true", help="run nothing, write the page of what there is")
    options = parser.parse_args()
    rows, table = measured(not options.page, options.workers), Table()
    for task in [] if options.page else SETTINGS:
        if task != BOULDER or not options.games_only:
            table.fill(task, options.blocks)
    of_64 = {
        (str(row["sampler"]), str(row["history"])): (
            number(row, "joint_tv"),
            float(np.nan_to_num(number(row, "staleness"))),
        )
        for row in rows
        if row["task"] == BOULDER
    }
    shown.draw(table, of_64)
    write(
        "history",
        rows,
        tradeoff=shown.table(table),
        measured=shown.what_there_is(table),
        growing=shown.boulder(table),
        game=runs_table(rows, "figure1"),
        bias=bias_table(rows),
        bias_seed=str(BIAS_SEED),
        bias_seeds=str(BIAS_SEEDS),
        batches=str(BATCHES),
        game_seed=str(GAME_SEED),
        boulder=runs_table(rows, BOULDER),
        fresh=runs_table(rows, FRESH),
        fresh_seed=str(FRESH_SEED),
        fresh_seeds=str(FRESH_SEEDS),
        boulder_seed=str(BOULDER_SEED),
        boulder_seeds=str(BOULDER_SEEDS),
    )


if __name__ == "__main__":
    main()
