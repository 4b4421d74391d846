"""A program small enough to sweep over in a test: leaves the files of a run, saves, continues, can fail and be slow.

Flags: --x --y (the score is x + y), --steps, --pause (seconds per step), --fail (the value of x that fails).
"""

import json
import signal
import sys
import time
from pathlib import Path

flags = dict(word.removeprefix("--").split("=", 1) for word in sys.argv[1:])
run = Path(flags["runs_dir"]) / flags["run_name"]
x, y = float(flags["x"]), float(flags.get("y", 0))
if flags.get("fail") == flags["x"]:
    print("first line\nboom: x is not to my taste", file=sys.stderr)
    sys.exit(3)

stopped = []
signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
checkpoint, metrics = run / "checkpoints" / "last.ckpt", run / "metrics.csv"
first = int(Path(flags["ckpt_path"]).read_text()) if "ckpt_path" in flags else 0
if first == 0:
    checkpoint.parent.mkdir(parents=True)  # fails where an earlier start left something, as fit does
    metrics.write_text("env_steps,score\n")
else:
    metrics.write_text("".join(metrics.read_text().splitlines(keepends=True)[: first + 1]))
for step in range(first, int(flags.get("steps", 1))):
    time.sleep(float(flags.get("pause", 0)))
    with metrics.open("a") as file:
        file.write(f"{step},{x + y}\n")
    temporary = checkpoint.with_suffix(".tmp")
    temporary.write_text(str(step + 1))
    temporary.replace(checkpoint)
    if stopped:
        sys.exit(143)
(run / "summary.json").write_text(json.dumps({"score": x + y, "first": first}))
