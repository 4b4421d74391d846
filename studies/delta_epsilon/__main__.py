"""Measures docs/evidence/delta_epsilon.md: MA-PROPS on BoulderPush over the KL cutoff delta and the clip epsilon.

The runs are those of sweeps/delta_epsilon.yaml, by the program's own ``sweep`` command, and one on-policy run of their
seeds. Interrupted, it continues. Nothing is chosen by what comes out.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from studies import ROOT, picture_of
from studies.cells import difference, share
from studies.page import write
from studies.runs import Outcome, Run, complete, outcome, outcome_of_folders, pooled

SWEEP = ROOT / "sweeps" / "delta_epsilon.yaml"
DIAGNOSTICS = {
    "behavior/kl": "KL while acting",
    "behavior/kl_reached": "KL reached",
    "behavior/gradient_steps": "gradient steps",
    "behavior/cutoff_share": "stopped by delta",
    "behavior/first_step_cutoff_share": "after one step",
    "behavior/ratio_clipped": "clipped",
}
Cell = tuple[float, float]  # delta (nats), epsilon


def run_sweep(folder: Path, workers: int) -> None:
    """All runs of the file, each on one core; finished ones are kept."""
    command = [sys.executable, "-m", "lit_maprops", "sweep", str(SWEEP), "--runs_dir", str(folder)]
    one_core = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    subprocess.run([*command, "--workers", str(workers)], cwd=ROOT, env=os.environ | one_core, check=True)


def baseline(content: dict[str, Any]) -> Run:
    """On-policy sampling with the sweep's own flags, those of the behavior policy left out."""
    given = dict(word.removeprefix("--").split("=") for word in content["command"] if "=" in word)
    config, seed = given.pop("config"), given.pop("seed_everything")
    words = [part for flag, value in given.items() if ".behavior." not in flag for part in (f"--{flag}", value)]
    return Run("delta_epsilon_base", "OnPolicy", config, ["--model.behavior", "OnPolicy", *words], int(seed))


def cells_of(folder: Path) -> dict[Cell, Outcome]:
    """Every finished run of the sweep by its delta and epsilon."""
    cells = {}
    for summary in sorted((folder / "delta_epsilon").glob("*/summary.json")):
        options = yaml.safe_load((summary.parent / "config.yaml").read_text())["model"]["behavior"]["init_args"]
        cell = float(options["kl_cutoff"]), float(options["clip_epsilon"])
        cells[cell] = outcome_of_folders([summary.parent], DIAGNOSTICS)
    return dict(sorted(cells.items()))


def line(name: str, result: Outcome, base: Outcome | None) -> str:
    """A row of the table."""
    error = f"{result.means['joint_tv']:.3f} / {result.means['joint_tv_on_policy']:.3f}"
    change = "" if base is None else difference(result, base)
    figures = [result.means.get(column, np.nan) for column in DIAGNOSTICS]
    cells = ["" if np.isnan(value) else f"{value:.3g}" for value in figures]
    ratio = result.means["joint_tv"] / result.means["joint_tv_on_policy"]
    return f"| {name} | {share(result)} of {result.seeds} | {change} | {error} | {ratio:.3f} | {' | '.join(cells)} |"


def margins(cells: dict[Cell, Outcome], base: Outcome) -> str:
    """Rows that pool the map over epsilon and over delta."""
    lines = []
    for axis, name in ((0, "delta"), (1, "epsilon")):
        for value in sorted({cell[axis] for cell in cells}):
            whole = pooled([result for cell, result in cells.items() if cell[axis] == value])
            lines.append(line(f"{name} {value:g}, all {'epsilon' if axis == 0 else 'delta'}", whole, base))
    return "\n".join(lines)


def draw(cells: dict[Cell, Outcome], base: Outcome) -> None:
    """Solved share, sampling error and diagnostics over the map."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    deltas, epsilons = (sorted({cell[axis] for cell in cells}) for axis in (0, 1))
    panels = {
        f"solved share (on-policy {base.solved / base.seeds:.2f})": lambda o: o.solved / o.seeds,
        "joint TV / on-policy's in the same states": lambda o: o.means["joint_tv"] / o.means["joint_tv_on_policy"],
        "KL while acting (nats)": lambda o: o.means["behavior/kl"],
        "share of updates that delta stopped": lambda o: o.means["behavior/cutoff_share"],
    }
    figure = Figure(figsize=(11, 3.6), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    # Shares on their whole range, so that colors do not make more of a difference than it is.
    limits = [(0, 1), (None, None), (None, None), (0, 1)]
    plots = figure.subplots(1, len(panels))
    for axes, (title, value_of), (low, high) in zip(plots, panels.items(), limits, strict=True):
        grid = np.array([[value_of(cells[d, e]) if (d, e) in cells else np.nan for e in epsilons] for d in deltas])
        image = axes.imshow(grid, cmap="cividis", origin="lower", aspect="auto", vmin=low, vmax=high)
        for (i, j), value in np.ndenumerate(grid):
            red, green, blue, _ = image.to_rgba(value)
            ink = "black" if 0.3 * red + 0.59 * green + 0.11 * blue > 0.5 else "white"
            axes.text(j, i, f"{value:.2f}", ha="center", va="center", color=ink)
        axes.set_xticks(range(len(epsilons)), [f"{e:g}" for e in epsilons])
        axes.set_yticks(range(len(deltas)), [f"{d:g}" for d in deltas])
        axes.set_xlabel("epsilon (ratio clip)")
        axes.set_title(title, fontsize=9)
    figure.axes[0].set_ylabel("delta (KL cutoff, nats)")
    figure.savefig(picture_of("delta_epsilon"))


def row(delta: float | str, epsilon: float | str, result: Outcome) -> dict[str, object]:
    """Raw figures of a run."""
    counts = {"seeds": result.seeds, "solved": result.solved, "mean_success": result.mean_success}
    return {"delta": delta, "epsilon": epsilon, **counts, **result.means, "seconds": result.seconds}


def main() -> None:
    """Run what is missing and write delta_epsilon.md, .csv and .png."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--workers", type=int, default=2, help="runs at a time, each on one core")
    options = parser.parse_args()
    folder = ROOT / "runs"
    content = yaml.safe_load(SWEEP.read_text())
    base_run = baseline(content)
    complete([base_run])
    run_sweep(folder, options.workers)
    cells, base = cells_of(folder), outcome([base_run], DIAGNOSTICS)
    draw(cells, base)
    lines = [line("OnPolicy", base, None)]
    lines += [line(f"delta {d:g}, epsilon {e:g}", result, base) for (d, e), result in cells.items()]
    write(
        "delta_epsilon",
        [row("OnPolicy", "", base), *(row(*cell, result) for cell, result in cells.items())],
        table="\n".join(lines),
        margins=margins(cells, base),
        run_seed=str(base_run.run_seed),
        seeds=str(base.seeds),
        header=" | ".join(DIAGNOSTICS.values()),
        rule="|".join("---" for _ in DIAGNOSTICS),
    )


if __name__ == "__main__":
    main()
