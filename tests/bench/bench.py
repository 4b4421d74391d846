"""``make bench``: whole commands timed in turn, A B A B ..., on one core; writes docs/evidence/speed.md and speed.csv.

These machines are shared, so a single time means little: quote the medians and, between settings, the ratio of pairs.
"""

import csv
import os
import platform
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path
from time import perf_counter

import numpy as np
import torch

ROOT = Path(__file__).parent.parent.parent
RESULT = ROOT / "docs" / "evidence" / "speed.csv"
TEMPLATE = RESULT.with_suffix(".template.md")
ROUNDS = 5
FIT = [sys.executable, "-m", "lit_maprops", "fit", "--wandb", "disabled"]
GAME = [*FIT, "--config", "conf/matrix_game.yaml"]
BOULDER = [*FIT, "--config", "conf/boulderpush.yaml", "--model.total_env_steps", "2560"]
# The figure of the first issue: figure1, 200 seeds, n = 8, m = 1, 60 target updates, MAPROPS, under 60 s on one core.
CASES = {
    "figure1, 200 seeds, on-policy": [*GAME, "--model.behavior", "OnPolicy"],
    "figure1, 200 seeds, PROPS": [*GAME, "--model.behavior", "PROPS"],
    "figure1, 200 seeds, MA-PROPS": GAME,
    "boulder_push, 16 seeds x 2,560 steps, on-policy": [*BOULDER, "--model.behavior", "OnPolicy"],
    "boulder_push, 16 seeds x 2,560 steps, MA-PROPS": BOULDER,
    "boulder_push, 1 seed x 2,560 steps, MA-PROPS": [*BOULDER, "--model.num_seeds", "1"],
}
PAIRS = [
    ("figure1, 200 seeds, MA-PROPS", "figure1, 200 seeds, on-policy"),
    ("boulder_push, 16 seeds x 2,560 steps, MA-PROPS", "boulder_push, 16 seeds x 2,560 steps, on-policy"),
    ("boulder_push, 16 seeds x 2,560 steps, MA-PROPS", "boulder_push, 1 seed x 2,560 steps, MA-PROPS"),
]


def seconds_of(command: list[str]) -> float:
    """Wall time of one whole run, start-up and figures included (s)."""
    one_core = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        started = perf_counter()
        subprocess.run(
            [*command, "--runs_dir", folder], cwd=ROOT, env=os.environ | one_core, check=True, capture_output=True
        )
        return perf_counter() - started


def main() -> None:
    """Run every case ROUNDS times in turn, print and store the figures."""
    times: dict[str, list[float]] = {name: [] for name in CASES}
    for _ in range(ROUNDS):
        for name, command in CASES.items():
            times[name].append(seconds_of(command))
    rows = []
    for name, values in times.items():
        low, mid, high = np.percentile(values, [0, 50, 100])
        rows.append({"figure": f"{name} (s)", "min": low, "median": mid, "max": high})
    for a, b in PAIRS:
        low, mid, high = np.percentile(np.divide(times[a], times[b]), [0, 50, 100])
        rows.append({"figure": f"{a} / {b} (ratio)", "min": low, "median": mid, "max": high})
    for row in rows:
        print(f"{row['figure']:95s} min {row['min']:.2f}  median {row['median']:.2f}  max {row['max']:.2f}")
    machine = f"{platform.machine()}, one core of {os.cpu_count()}, torch {torch.__version__}"
    print(machine)
    table = [f"| {r['figure']} | {r['min']:.2f} | {r['median']:.2f} | {r['max']:.2f} |" for r in rows]
    text = TEMPLATE.read_text().format(
        date=date.today().isoformat(), machine=machine, rounds=ROUNDS, table="\n".join(table)
    )
    RESULT.with_suffix(".md").write_text(text)
    with RESULT.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: v if isinstance(v, str) else round(float(v), 3) for k, v in r.items()} for r in rows)


if __name__ == "__main__":
    main()
