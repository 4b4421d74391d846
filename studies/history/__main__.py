"""Measures docs/evidence/history.md: what retained batches do for success, sampling error, staleness and bias.

Nothing is tuned here: learner and samplers are those of samplers.md, the run seeds are used nowhere else. Interrupted,
it continues with the runs that are missing; the page is made of those that have finished.
"""

import argparse
import json
from typing import Any, NamedTuple

import numpy as np

from lit_maprops.analyze.analysis import analyze, reference_of
from lit_maprops.analyze.subject import load
from lit_maprops.cli.main import main as main_command
from lit_maprops.metrics.reliability import difference_interval, mean_interval, wilson_interval
from lit_maprops.system.tables import read_table
from studies.page import write
from studies.runs import SOLVED, Run, complete

GAME, GAME_SEED, GAME_SEEDS = "conf/matrix_game.yaml", 41, 400
BOULDER, BOULDER_SEED, BOULDER_SEEDS = "conf/boulderpush_reliability.yaml", 42, 64
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
COLUMNS = (
    "task", "sampler", "history", "seeds", "solved", "mean_success", "staleness", "joint_tv", "joint_tv_on_policy",
    "seconds", "norm_squared", "bias_squared", "variance", "mse", "return_bias", "effective_sample_share",
)  # fmt: skip


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
    success = np.array([float(rate) for rate in summary["success_rate"]])
    error = summary["joint_tv"], summary["joint_tv_on_policy"]
    mean = float(np.nanmean(stale)) if np.isfinite(stale).any() else float("nan")
    return Result(success, mean, float(stale[-1]), error, summary["wall_seconds"])


def game_runs() -> dict[tuple[str, str, str], Run]:
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


def boulder_runs() -> dict[tuple[str, str, str], Run]:
    """Sampler x history on BoulderPush, with the learner's rate of samplers.md; the cheap ones first."""
    flags = [*MEASURED, "--model.num_seeds", str(BOULDER_SEEDS), f"{LEARNER}learning_rate", "0.004"]
    return {
        ("BoulderPush", sampler, history): Run(
            "history", f"BoulderPush {sampler} {history}", BOULDER, [*own, *kept, *flags], BOULDER_SEED
        )
        for history, kept in HISTORIES.items()
        for sampler, own in BOULDER_SAMPLERS.items()
    }


def bias_table() -> tuple[str, list[dict[str, object]]]:
    """Early in training on figure1: bias, variance and error of the gradient of D, against the exact gradient."""
    lines, rows = [], []
    size = ["--model.num_seeds", str(BIAS_SEEDS), "--model.total_env_steps", str(BIAS_STEPS)]
    for sampler, own in GAME_SAMPLERS.items():
        for history, kept in HISTORIES.items():
            run = Run("history_bias", f"{sampler} {history}", GAME, [*own, *kept, *size], BIAS_SEED)
            path = run.folder / "own.json"
            if not path.exists():
                if not run.finished:
                    place = ["--wandb", "disabled", "--runs_dir", str(run.folder.parent), "--run_name", run.folder.name]
                    # In this process: a start costs more than these runs.
                    main_command(
                        ["fit", "--config", run.config, *run.flags, "--seed_everything", str(run.run_seed)] + place
                    )
                subject = load(run.folder / "checkpoints" / "last.ckpt")
                exact = reference_of(subject, subject.target_batch_size, 2)
                analyze(subject, {"own": subject.own}, BATCHES, subject.target_batch_size, exact).write(path)
            summary = json.loads(path.read_text())
            norm, figures = summary["reference"]["norm_squared"], summary["samplers"]["own"]
            cells = " | ".join(_relative(figures, name, norm) for name in ("bias_squared", "variance", "mse"))
            back = [figures["return_bias"], *figures["return_bias_ci95"]]
            share = figures["effective_sample_share"]
            stale = result_of(run).last_staleness
            lines.append(
                f"| {sampler} | {history} | {'' if np.isnan(stale) else f'{stale:.3f}'} | {cells} "
                f"| {back[0]:+.3f} [{back[1]:+.3f}, {back[2]:+.3f}] | {share:.2f} |"
            )
            rows.append(
                {"task": "figure1, gradient", "sampler": sampler, "history": history, "seeds": BIAS_SEEDS}
                | {"staleness": stale, "norm_squared": norm, "return_bias": figures["return_bias"]}
                | {name: figures[name] for name in ("bias_squared", "variance", "mse", "effective_sample_share")}
            )
    return "\n".join(lines), rows


def _relative(figures: dict[str, Any], name: str, norm: float) -> str:
    low, high = figures[f"{name}_ci95"]
    return f"{figures[name] / norm:.2f} [{low / norm:.2f}, {high / norm:.2f}]"


def table_of(runs: dict[tuple[str, str, str], Run]) -> tuple[str, list[dict[str, object]]]:
    """Rows of the page and of the raw figures, for the runs that have finished."""
    results = {key: result_of(run) for key, run in runs.items() if run.finished}
    lines, rows = [], []
    for (task, sampler, history), result in results.items():
        seeds = len(result.success)
        low, high = wilson_interval(result.solved, seeds)
        mean_low, mean_high = (float(end[0]) for end in mean_interval(result.success[None]))
        base = results.get((task, sampler, "b = 1"))
        change, change_ends = "", (float("nan"), float("nan"))
        if base is not None and history != "b = 1":
            change_ends = difference_interval(result.solved, seeds, base.solved, len(base.success))
            points = result.solved / seeds - base.solved / len(base.success)
            change = f"{100 * points:+.0f} [{100 * change_ends[0]:+.0f}, {100 * change_ends[1]:+.0f}]"
        stale = "" if np.isnan(result.staleness) else f"{result.staleness:.3f}"
        own, on_policy = result.joint_tv
        lines.append(
            f"| {sampler} | {history} | {result.solved / seeds:.0%} [{low:.0%}, {high:.0%}] of {seeds} | {change} "
            f"| {result.success.mean():.2f} [{mean_low:.2f}, {mean_high:.2f}] | {stale} | {own:.3f} / {on_policy:.3f} "
            f"| {result.seconds:.0f} |"
        )
        rows.append(
            {"task": task, "sampler": sampler, "history": history, "seeds": seeds, "solved": result.solved}
            | {"mean_success": float(result.success.mean()), "staleness": result.staleness, "joint_tv": own}
            | {"joint_tv_on_policy": on_policy, "seconds": result.seconds}
        )
    return "\n".join(lines), rows


def main() -> None:
    """Run what is missing and write history.md and history.csv."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--workers", type=int, default=1, help="runs at a time, each on one core")
    parser.add_argument("--games_only", action="store_true", help="run the matrix game only")
    parser.add_argument("--page", action="store_true", help="run nothing, write the page of what there is")
    options = parser.parse_args()
    games, boulders = game_runs(), boulder_runs()
    if not options.page:
        complete([*games.values(), *([] if options.games_only else boulders.values())], options.workers)
    bias, bias_rows = bias_table()
    game_table, game_rows = table_of(games)
    boulder_table, boulder_rows = table_of(boulders)
    missing = [f"{sampler} with {history}" for (_, sampler, history), run in boulders.items() if not run.finished]
    write(
        "history",
        [{name: row.get(name, "") for name in COLUMNS} for row in (*game_rows, *bias_rows, *boulder_rows)],
        game=game_table,
        bias=bias,
        bias_seed=str(BIAS_SEED),
        bias_seeds=str(BIAS_SEEDS),
        batches=str(BATCHES),
        game_seed=str(GAME_SEED),
        boulder=boulder_table or "| not run yet | | | | | | | |",
        boulder_seed=str(BOULDER_SEED),
        boulder_seeds=str(BOULDER_SEEDS),
        missing="Every setting was run." if not missing else f"Not run: {', '.join(missing)}.",
    )


if __name__ == "__main__":
    main()
