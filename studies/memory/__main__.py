"""Measures docs/evidence/memory.md: conf/tmaze.yaml as it stands, and the same policies without memory, on one core."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from lit_maprops.system.tables import read_table
from studies import ROOT
from studies.page import write
from studies.runs import success_rates

FIT = [sys.executable, "-m", "lit_maprops", "fit", "--config", "conf/tmaze.yaml", "--wandb", "disabled"]
NONE = [f"--model.learner.{name}=null" for name in ("memory", "memory_size", "sequence_length")]
CASES = {"gru": [], "feed_forward": [*NONE, "--model.learner.hidden", "[32, 32]"]}


def trained(name: str, folder: Path) -> Path:
    """The run folder of a case."""
    one_core = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    place = ["--runs_dir", str(folder), "--run_name", name]
    subprocess.run([*FIT, *CASES[name], *place], cwd=ROOT, env=one_core, check=True)
    return folder / name


def figures(name: str, run: Path) -> dict[str, Any]:
    """Fields of the page."""
    summary = json.loads((run / "summary.json").read_text())
    low, high = summary["solved_share_ci95"]
    success = success_rates(summary).tolist()
    found = {
        "seeds": len(success), "env_steps": summary["env_steps"], "mean": sum(success) / len(success),
        "most": max(success), "least": min(success), "solved": summary["solved_share"], "low": low, "high": high,
        "seconds": summary["wall_seconds"],
    }  # fmt: skip
    return {f"{name}_{key}": value for key, value in found.items()}


def main() -> None:
    """Run both (or read finished runs) and write memory.md and memory.csv."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=Path, help="a folder that holds the finished runs gru and feed_forward")
    folder = parser.parse_args().runs
    if folder is None:
        folder = Path(tempfile.mkdtemp())
        for name in CASES:
            trained(name, folder)
    rows: list[dict[str, object]] = []
    fields: dict[str, Any] = {}
    for name in CASES:
        fields |= figures(name, folder / name)
        table = read_table(folder / name / "eval.csv")
        columns = ("env_steps", "seed", "greedy_success_rate", "greedy_return")
        for values in zip(*(table[column].tolist() for column in columns), strict=True):
            rows.append({"policies": name} | dict(zip(columns, values, strict=True)))
    write("memory", rows, **fields)


if __name__ == "__main__":
    main()
