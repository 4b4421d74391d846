"""The fault drill, ``make drill``: kill -9 fifty times over a run, sweeps and their runs killed, a clock that jumps.

    python tests/drill/drill.py --output docs/evidence/drill.md
    python tests/drill/drill.py --kills 5 --parts fit

Ends with 1 if anything is not as it must be. Full disks, folders that cannot be written, clocks and W&B servers that
refuse, hang or die are in the test suite.
"""

import argparse
import os
import platform
import resource
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent.parent)]
os.environ |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parent.parent)}  # of forks, and of what they start

import torch  # noqa: E402
from kills import Drill, drill_fit  # noqa: E402
from sweep_kills import drill_real_sweep, drill_toy_sweep  # noqa: E402

from lit_maprops.system.version import __version__  # noqa: E402

PARTS = {
    "fit": "`fit` on BoulderPush, MA-PROPS + MAPPO, 3 seeds, history of 3 batches, a checkpoint every second iteration",
    "toy": "`sweep` over 8 runs of a toy program, two at a time",
    "real": "`sweep` over 2 runs of `fit`, two at a time",
}
TEXT = """
SIGKILL at random moments, the same command again, until the run has been killed as often as asked; then it may end.
Moments: while it starts, anywhere in training, while it saves (writing is slowed down there, so that kills meet every
stage), and after its last iteration. After every kill the checkpoint must load. In the end parameters, optimizers,
buffers, random streams, every cell of metrics.csv and eval.csv but times, and the summary must equal those of a run
that nobody killed, bit for bit, and nothing temporary may be left, neither in the run's folder nor in the system's.
Most attempts are forks of one process that has imported everything, some are new interpreters with W&B offline.

A sweep is killed, or one of its runs is, at random moments, and the same command with `--retry_failed` is given
again. In the end every combination must be there once, finished, with every step in its table once; runs of `fit`
must equal those of a sweep that nobody killed.

Full disks, folders that cannot be written, a clock that jumps, and W&B servers that refuse, hang or die are tried in
the test suite: [test_disk.py](../../tests/drill/test_disk.py), [test_clock.py](../../tests/drill/test_clock.py),
[test_wandb_faults.py](../../tests/sweeps/test_wandb_faults.py).
"""


def main() -> int:
    """Run the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="of the run of fit (default: 50)")
    parser.add_argument("--cold", type=int, default=3, help="attempts at it that are new interpreters (default: 3)")
    parser.add_argument("--seed", type=int, default=0, help="of moments and victims (default: 0)")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--output", type=Path, help="Markdown page to write")
    options = parser.parse_args()
    torch.set_num_threads(1)
    lines, faults = [], []
    for part in options.parts:
        with tempfile.TemporaryDirectory(prefix=f"drill-{part}-", ignore_cleanup_errors=True) as place:
            started = time.monotonic()
            if part == "fit":
                drill = drill_fit(Path(place), options.kills, options.cold, options.seed)
            elif part == "toy":
                drill = drill_toy_sweep(Path(place), max(2, options.kills * 3 // 5), options.seed)
            else:
                drill = drill_real_sweep(Path(place), 6, options.seed)
            lines += report(PARTS[part], drill, time.monotonic() - started)
            faults += drill.faults
            if drill.faults:
                print(*(f"{log}:\n{log.read_text()[-3000:]}" for log in Path(place).rglob("*.log")), sep="\n")
    print(*lines, sep="\n")
    if options.output is not None:
        options.output.write_text("\n".join([*head(), *lines]) + "\n")
    return 1 if faults else 0


def report(what: str, drill: Drill, seconds: float) -> list[str]:
    """One part as Markdown."""

    def table(title: str, counts: Counter[str]) -> list[str]:
        return ["", f"| {title} | times |", "|---|---|", *(f"| {name} | {n} |" for name, n in counts.most_common())]

    lines = ["", f"## {what}", *table("killed", drill.killed), *table("found afterwards", drill.found), ""]
    verdict = [f"- FAULT: {fault}" for fault in drill.faults] or ["As it must be."]
    return [*lines, *verdict, f"({drill.killed.total()} kills, {seconds / 60:.0f} minutes)"]


def head() -> list[str]:
    """How the page begins."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu = sum(part.ru_utime + part.ru_stime for part in used) / 60
    machine = f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, lit_maprops {__version__}"
    command = f"python {Path(sys.argv[0]).as_posix()} {' '.join(sys.argv[1:])}"
    return [
        "# Fault drill",
        "",
        f"`{command.strip()}` (`make drill`), {time.strftime('%Y-%m-%d')}; {machine}; {cpu:.0f} minutes of CPU time.",
        "",
        *TEXT.strip().splitlines(),
    ]


if __name__ == "__main__":
    sys.exit(main())
