"""Measures docs/evidence/gpu.md on a machine with a GPU: tests there, then fits on GPU and CPU in turn.

Without a GPU it says so and changes nothing.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from studies import ROOT
from studies.page import write

TURNS = 3
ENV_STEPS = 10_240  # per seed
CASES = [(sampler, seeds) for sampler in ("OnPolicy", "MAPROPS") for seeds in (16, 256)]


def speed(sampler: str, seeds: int, accelerator: str, folder: Path) -> float:
    """Env steps per second of one fit of conf/boulderpush.yaml, over all seeds; start-up excluded."""
    name = f"{sampler}-{seeds}-{accelerator}-{len(list(folder.iterdir()))}"
    flags = {
        "--config": "conf/boulderpush.yaml", "--model.behavior": sampler, "--model.num_seeds": str(seeds),
        "--model.total_env_steps": str(ENV_STEPS), "--model.eval_interval": "1000", "--model.sampling_error": "null",
        "--trainer.accelerator": accelerator, "--wandb": "disabled", "--runs_dir": str(folder), "--run_name": name,
    }  # fmt: skip
    command = [sys.executable, "-m", "lit_maprops", "fit", *(word for flag in flags.items() for word in flag)]
    subprocess.run(command, cwd=ROOT, check=True)
    return float(json.loads((folder / name / "summary.json").read_text())["env_steps_per_second"])


def main() -> int:
    """Test, measure, write the page."""
    if not torch.cuda.is_available():
        print("no GPU here: nothing to test or to measure")
        return 0
    tests = subprocess.run([sys.executable, "-m", "pytest", "tests/test_device.py"], cwd=ROOT, check=False)
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        for sampler, seeds in CASES:
            for turn in range(TURNS):
                rates = {where: speed(sampler, seeds, where, Path(folder)) for where in ("gpu", "cpu")}
                rows.append({"sampler": sampler, "seeds": seeds, "turn": turn, **rates})
                print(rows[-1], flush=True)
    lines = [
        f"| {row['sampler']} | {row['seeds']} | {row['gpu']:,.0f} | {row['cpu']:,.0f} | "
        f"{float(str(row['gpu'])) / float(str(row['cpu'])):.2f} |"
        for row in rows
    ]
    verdict = "passed" if tests.returncode == 0 else "FAILED"
    write(
        "gpu", rows, gpu=torch.cuda.get_device_name(), tests=verdict, env_steps=f"{ENV_STEPS:,}", table="\n".join(lines)
    )
    return tests.returncode


if __name__ == "__main__":
    sys.exit(main())
