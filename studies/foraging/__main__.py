"""Measures docs/evidence/foraging.md: one run of conf/foraging.yaml as it stands, on one core."""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

from studies import ROOT, table_of
from studies.page import software, write_page
from studies.runs import success_rates

FIT = [sys.executable, "-m", "lit_maprops", "fit", "--config", "conf/foraging.yaml", "--wandb", "disabled"]


def main() -> None:
    """Run the configuration (or read a finished run of it) and write foraging.md and foraging.csv."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--run", type=Path, help="a finished run of conf/foraging.yaml instead of a new one")
    run = parser.parse_args().run
    if run is None:
        folder = tempfile.mkdtemp()
        one_core = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        subprocess.run([*FIT, "--runs_dir", folder, "--run_name", "foraging"], cwd=ROOT, env=one_core, check=True)
        run = Path(folder) / "foraging"
    summary = json.loads((run / "summary.json").read_text())
    low, high = summary["solved_share_ci95"]
    success = success_rates(summary).tolist()
    write_page(
        "foraging",
        machine=f"{platform.machine()}, one core of {os.cpu_count()}, {software()}",
        run_seed=summary["config"]["seed_everything"],
        seeds=len(success),
        env_steps=summary["env_steps"],
        mean=sum(success) / len(success),
        solved=summary["solved_share"],
        low=low,
        high=high,
        seconds=summary["wall_seconds"],
        rate=summary["env_steps_per_second"],
        behavior_kl=summary["behavior_kl"],
        joint_kl=summary["joint_kl"],
        joint_kl_on_policy=summary["joint_kl_on_policy"],
        per_seed=", ".join(f"{value:.2f}" for value in success),
        warnings="\n".join(f"- {line}" for line in summary["warnings"]) or "- none",
    )
    table_of("foraging").write_text((run / "eval.csv").read_text())


if __name__ == "__main__":
    main()
