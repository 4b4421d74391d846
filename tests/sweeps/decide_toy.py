"""Runs of seeds that are solved or not by their number and their sampler: --sampler=0.7 solves seven of ten.

Flags: --model.first_seed, --model.num_seeds, --fail (a sampler and a first seed that fail, ``0.7/20``), --mute=true (no
share of solved seeds), --pause (seconds).
"""

import json
import random
import sys
import time
from pathlib import Path

flags = dict(word.removeprefix("--").split("=", 1) for word in sys.argv[1:] if word.startswith("--"))
run = Path(flags["runs_dir"]) / flags["run_name"]
first, number = int(flags["model.first_seed"]), int(flags["model.num_seeds"])
time.sleep(float(flags.get("pause", 0)))
if flags.get("fail") == f"{flags['sampler']}/{first}":
    print("boom", file=sys.stderr)
    sys.exit(3)
seeds = range(first, first + number)
solved = [random.Random(f"{flags['sampler']} {seed}").random() < float(flags["sampler"]) for seed in seeds]
run.mkdir(parents=True)
share = None if "mute" in flags else sum(solved) / number
(run / "summary.json").write_text(json.dumps({"solved_share": share, "seeds": list(seeds)}))
