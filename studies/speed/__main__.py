"""Measures docs/evidence/speed.md (``make bench``): the parts one after the other, each in its own process on one core.

The parts are the programs in tests/bench. The machines are shared, so a single time means little: cases of a part take
turns, and a ratio is taken within a turn. ``python -m studies.speed update start`` runs some parts and keeps the other
figures of speed.csv.
"""

import argparse
import csv
import json
import os
import platform
import subprocess
import sys
from datetime import date
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from studies import ROOT, picture_of, table_of
from studies.page import software, write_page

PARTS = {
    "update": ["update.py"],
    "environments": ["environments.py"],
    "mpe": ["environments.py", "mpe"],
    "cost": ["fits.py", "cost"],
    "draws": ["fits.py", "draws"],
    "lookups": ["lookups.py"],
    "recurrent": ["fits.py", "recurrent"],
    "seeds": ["fits.py", "seeds"],
    "around": ["fits.py", "around"],
    "start": ["fits.py", "start"],
    "memory": ["fits.py", "memory"],
    "engines": ["engines.py", "engines"],
    "plain": ["engines.py", "plain"],
    "happo": ["engines.py", "happo"],
    "cores": ["engines.py", "cores"],
    "shares": ["shares.py"],
    "scaling": ["scaling.py"],
    "threads": ["threads.py"],
    "report": ["reports.py"],
    "jaxmarl": ["against_peers.py", "jaxmarl"],
    "benchmarl": ["against_peers.py", "benchmarl"],
}
RATIOS = {  # of the page's first sentence
    "maprops": "64 seeds x 1 env, m = 1, n = 256: MAPROPS / OnPolicy",
    "closed_form": "64 seeds x 1 env, m = 1, n = 256: TabularMAPROPS / OnPolicy",
    "low_discrepancy": "draws, 64 seeds x 1 env, n = 256, native: LowDiscrepancy / OnPolicy",
}
PROGRAMS = ROOT / "tests" / "bench"
RESULT = table_of("speed")
Row = dict[str, str]


def run(part: str) -> list[Row]:
    """One part's rows."""
    one_core = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, *PARTS[part]]
    done = subprocess.run(command, cwd=PROGRAMS, env=one_core, check=True, stdout=subprocess.PIPE, text=True)
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    numbers, today = ("min", "median", "max"), str(date.today())
    return [
        {"part": part} | {k: f"{v:.4g}" if k in numbers else str(v) for k, v in row.items()} | {"date": today}
        for row in rows
    ]


def kept(parts: list[str]) -> list[Row]:
    """Rows of the parts that are not run now."""
    if not RESULT.exists():
        return []
    with RESULT.open() as file:
        return [row for row in csv.DictReader(file) if row.get("part") in set(PARTS) - set(parts)]


def table(rows: list[Row]) -> str:
    """Markdown."""
    if not rows:
        return "Not measured yet."
    lines = ["| figure | min | median | max | unit | asked for |", "|---|---|---|---|---|---|"]
    for row in rows:
        cells = [row["figure"], *(plain(row[key]) for key in ("min", "median", "max")), row["unit"], row["asked"]]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def plain(number: str) -> str:
    """Without an exponent."""
    value = float(number)
    return f"{value:,.0f}" if abs(value) >= 1000 else number


def bars(rows: list[Row]) -> str:
    """How many of the bars the medians reach, and which they do not."""
    asked = [row for row in rows if row["asked"]]
    missed = [row["figure"] for row in asked if not _reached(row)]
    more = f"; not by those of: {'; '.join(missed)}" if missed else ""
    return f"Medians reach {len(asked) - len(missed)} of the {len(asked)} bars of this page{more}."


def _reached(row: Row) -> bool:
    number, side = row["asked"].split(" or ")
    return float(row["median"]) >= float(number) if side == "more" else float(row["median"]) <= float(number)


def spread(rows: list[Row], figure: str) -> str:
    """Median of a figure, and least to most."""
    found = [f"{row['median']} ({row['min']} to {row['max']})" for row in rows if row["figure"] == figure]
    return found[0] if found else "(not measured)"


def picture(rows: list[Row], target: Path) -> None:
    """Time per seed, what a sampler's iteration costs, and how time and memory grow with each size."""
    median = {row["figure"]: float(row["median"]) for row in rows}
    grown = [
        f.split(", ")[1].split(":")[0] for f in median if f.startswith("scaling") and f.endswith("exponent of the time")
    ]
    figure = plt.figure(figsize=(10, 3.4 + 2.5 * -(-len(grown) // 3)), layout="constrained")
    parts = figure.subfigures(2, height_ratios=[3.4, 2.5 * -(-len(grown) // 3)]) if grown else [figure]
    _seeds_and_samplers(median, *parts[0].subplots(1, 2, width_ratios=[2, 3]))
    if grown:
        for axis, panel in zip(grown, parts[1].subplots(-(-len(grown) // 3), 3).flat, strict=False):
            _growth(median, axis, panel)
    figure.savefig(target, dpi=110)


def _seeds_and_samplers(median: dict[str, float], left: Axes, right: Axes) -> None:
    scaling = {int(f.split(": ")[1].split(",")[0]): v for f, v in median.items() if "iteration, per seed" in f}
    samplers = {
        f.split(": ", 1)[1].split(" / ")[0]: v for f, v in median.items() if "n = 256" in f and "/ OnPolicy" in f
    }
    left.loglog(list(scaling), list(scaling.values()), "o-", color="#0072b2")
    left.set_xticks(list(scaling), [str(seeds) for seeds in scaling])
    left.set(xlabel="seeds side by side", ylabel="seconds per seed and iteration", title="Seeds share the overhead")
    right.barh(list(samplers), list(samplers.values()), color="#0072b2")
    right.axvline(1, color="black", linewidth=1)
    right.invert_yaxis()
    right.set(xlabel="time of an iteration / OnPolicy's", title="64 seeds, 1 environment each, m = 1, n = 256")


def _growth(median: dict[str, float], axis: str, panel: Axes) -> None:
    """Seconds of an iteration (left, circles) and the process's memory (right, squares) against one size."""
    name = f"scaling, {axis}: "
    sizes = [int(f.removeprefix(name).split(",")[0]) for f in median if f.startswith(name) and f.endswith("iteration")]
    seconds = [median[f"{name}{size}, one iteration"] for size in sizes]
    memory = [median[f"{name}{size}, peak memory of the process"] for size in sizes]
    panel.loglog(sizes, seconds, "o-", color="#0072b2")
    panel.set_xticks(sizes, [str(size) for size in sizes], fontsize=7)
    panel.minorticks_off()
    power = median[f"{name}exponent of the time"]
    panel.set(xlabel=axis, ylabel="s an iteration")
    panel.set_title(f"in the end time ~ {axis}^{power:.2f}", fontsize=9)
    other = panel.twinx()
    other.plot(sizes, memory, "s:", color="#d55e00", markersize=4)
    other.set(ylim=(0, 1.1 * max(memory)), ylabel="MB")
    other.yaxis.label.set_color("#d55e00")


def write(rows: list[Row]) -> None:
    """speed.csv, speed.md and the picture."""
    rows.sort(key=lambda row: list(PARTS).index(row["part"]))
    with RESULT.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    machine = f"{platform.machine()}, one core of {os.cpu_count()}, {software()}"
    tables = {part: table([row for row in rows if row["part"] == part]) for part in PARTS}
    ratios = {name: spread(rows, figure) for name, figure in RATIOS.items()}
    write_page("speed", machine=machine, bars=bars(rows), **ratios, **tables)
    picture(rows, picture_of("speed"))


def main() -> int:
    """Run the parts named on the command line, or all; what a part measured is kept if a later one fails."""
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; default: all of them")
    parser.add_argument("--page", action="store_true", help="run nothing, write the page of what there is")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    if options.page:
        write(kept([]))
        return 0
    parts = options.parts or list(PARTS)
    rows, failed = kept(parts), []
    for part in parts:
        print(f"{part} ...", file=sys.stderr, flush=True)
        try:
            rows += run(part)
            write(rows)
        except subprocess.CalledProcessError as error:
            failed.append(part)
            print(f"{part} failed: {error}", file=sys.stderr)
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
