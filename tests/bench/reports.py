"""A report of 200 run folders, as its command is run: a sweep of samplers and sizes, few samplers repeated, many."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np
from figures import ROOT, hand_over, in_turn, row

sys.path.insert(0, str(ROOT / "tests" / "report"))
from synthetic import write_run

ROUNDS = 3
RUNS, SEEDS, ITERATIONS, EVALUATIONS = 200, 16, 256, 26
# Settings, and samplers within each; the other runs repeat them with another run seed.
CASES = {"25 settings x 8 samplers": (25, 8), "10 samplers x 20 runs": (1, 10), "200 samplers": (1, 200)}


def make(folder: Path, settings: int, samplers: int) -> Path:
    """Write the runs, whose seeds end at shares of 20 episodes."""
    generator = np.random.default_rng(0)
    for number in range(RUNS):
        setting, sampler = number % settings, number // settings % samplers
        changes = {"seed_everything": number // (settings * samplers), "model__num_seeds": SEEDS}
        changes["model__learner"] = {
            "class_path": "lit_maprops.targets.MAPPO",
            "init_args": {"learning_rate": 0.001 * (setting + 1)},
        }
        if sampler:
            options = {"clip_epsilon": 0.3, "kl_cutoff": 0.01 * sampler}
            changes["model__behavior"] = {"class_path": "lit_maprops.behavior.MAPROPS", "init_args": options}
        final = (generator.integers(0, 21, SEEDS) / 20).tolist()
        write_run(folder / f"run_{number}", final, rows=ITERATIONS, evaluations=EVALUATIONS, **changes)
    return folder


def report(folder: Path) -> tuple[float, float]:
    """Wall time and processor time (s) of one report, on one core."""
    command = [sys.executable, "-m", "lit_maprops", "report", str(folder), "-o", str(folder.with_suffix(".html"))]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    started = perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"{' '.join(command)} ended with {status}")
    return perf_counter() - started, usage.ru_utime + usage.ru_stime


def main() -> None:
    """Measure, print rows."""
    with tempfile.TemporaryDirectory() as place:
        folders = {name: make(Path(place) / str(sum(sizes)), *sizes) for name, sizes in CASES.items()}
        spent: dict[str, list[float]] = {name: [] for name in CASES}

        def case(name: str) -> float:
            wall, processor = report(folders[name])
            spent[name].append(processor)
            return wall

        walls = in_turn({name: lambda name=name: case(name) for name in CASES}, ROUNDS)
    for name in CASES:
        place_of = f"report of {RUNS} runs, {name}, {SEEDS} seeds each"
        hand_over([row(place_of, walls[name], "s", "10 or less"), row(f"{place_of}: processor time", spent[name], "s")])


if __name__ == "__main__":
    main()
