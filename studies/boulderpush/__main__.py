"""Measures docs/evidence/boulderpush.md: the main job as ``make fit`` runs it, and its picture for the README."""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from lit_maprops.run.figures import CAPTION_PIXELS
from studies import PAGES, ROOT, table_of
from studies.page import software, write_page
from studies.runs import success_rates

FIT = [sys.executable, "-m", "lit_maprops", "fit", "--config", "conf/boulderpush.yaml"]


def picture(run: Path, target: Path) -> None:
    """Put four frames of the successful episode beside the success curve."""
    curve = Image.open(run / "success.png").convert("RGB")
    film = Image.open(run / "success.gif")
    frames = getattr(film, "n_frames", 1)
    side = curve.height // 2
    canvas = Image.new("RGB", (curve.width + 2 * side + 24, curve.height), "white")
    for k in range(4):
        film.seek(round(k * (frames - 1) / 3))
        drawn = film.convert("RGB").crop((0, 0, film.width, film.height - CAPTION_PIXELS))
        frame = drawn.resize((side - 12, side - 12), Image.Resampling.NEAREST)
        canvas.paste(frame, ((k % 2) * side + 6, (k // 2) * side + 6))
    canvas.paste(curve, (2 * side + 24, 0))
    canvas.save(target, optimize=True)


def main() -> None:
    """Run the main job (or read a finished run) and write boulderpush.md, boulderpush.csv and the picture."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--run", type=Path, help="a finished run of the main job instead of a new one")
    run = parser.parse_args().run
    if run is None:
        folder = tempfile.mkdtemp()
        subprocess.run([*FIT, "--runs_dir", folder, "--run_name", "main"], cwd=ROOT, check=True)
        run = Path(folder) / "main"
    summary = json.loads((run / "summary.json").read_text())
    low, high = summary["solved_share_ci95"]
    success = success_rates(summary).tolist()
    kl = "joint KL to pi_theta of the actions in D {joint_kl:.4f} nats, of on-policy actions {joint_kl_on_policy:.4f}"
    write_page(
        "boulderpush",
        machine=f"{platform.machine()}, {os.cpu_count()} cores, {software()}",
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
        sampling=kl.format(**summary),
        per_seed=", ".join(f"{value:.2f}" for value in success),
        warnings="\n".join(f"- {line}" for line in summary["warnings"]) or "- none",
    )
    table_of("boulderpush").write_text((run / "eval.csv").read_text())
    picture(run, PAGES.parent / "boulderpush.png")


if __name__ == "__main__":
    main()
