"""Measures docs/evidence/autopsy.md: what share of BoulderPush's failed seeds is sampling error, for IPPO and MAPPO?

First every failed seed is trained again from its first weights, with ideal batches and with ordinary ones
(from_start.csv). Then failed seeds are looked into a few at a time, learner by learner in turn (autopsy.csv); what is
in the tables is not measured again, so an interrupted study goes on, and ``--seeds`` says how many autopsies of each
learner are enough. The page holds what the tables hold.
"""

import argparse
import csv
import io
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.stats import t as student

from lit_maprops.autopsy.branches import SEARCH, Share, shares
from lit_maprops.autopsy.case import Case, load
from lit_maprops.autopsy.findings import NOT, SAMPLING_ERROR, UNDECIDED, Finding, findings, verdict
from lit_maprops.autopsy.ideal import run_out
from lit_maprops.autopsy.replay import Replay
from lit_maprops.autopsy.search import EVEN
from lit_maprops.metrics.reliability import wilson_interval
from lit_maprops.system.files import write_atomically
from studies import ROOT, table_of
from studies.cells import points
from studies.page import write_page
from studies.runs import Run, complete

CONFIG = "conf/boulderpush_reliability.yaml"
LEARNERS = ("IPPO", "MAPPO")
RUN_SEED, SEEDS = 61, 64
BRANCHES, TIMES = 16, 16
AT_ONCE = 2  # seeds
SIDES = ("before", "after", "ideal")
Row = dict[str, Any]
Look = Callable[[str, Case, list[int]], list[Row]]


def run_of(learner: str) -> Run:
    """The on-policy run whose failed seeds are looked into."""
    flags = ["--model.behavior", "OnPolicy", "--model.learner", learner, "--model.num_seeds", str(SEEDS)]
    return Run("autopsy", learner, CONFIG, [*flags, "--model.learner.learning_rate", "0.004"], RUN_SEED)


def row_of(learner: str, found: Finding) -> Row:
    """A seed's line of autopsy.csv."""
    start, most, least = found.trail.looks[0], found.actions[0], found.actions[-1]
    row: Row = {"learner": learner, "seed": found.seed, "update": found.update}
    row |= {"level": found.trail.level, "start solved": start.solved, "start branches": start.branches}
    for side, share in zip(SIDES, (found.before, found.after, found.ideal), strict=True):
        row |= {f"{side} solved": share.solved, f"{side} branches": share.branches}
    row |= {"ideal to the end": int(found.to_the_end)}
    row |= {"most": most.name, "most z": most.z, "least": least.name, "least z": least.z}
    return row


def known(name: str) -> list[Row]:
    """A raw table so far, numbers as numbers."""
    path = table_of("autopsy").with_name(f"{name}.csv")
    if not path.exists():
        return []
    with path.open(newline="") as file:
        words = ("learner", "most", "least")
        return [{k: v if k in words else float(v) for k, v in row.items()} for row in csv.DictReader(file)]


def keep(name: str, rows: list[Row]) -> None:
    """Write a raw table."""
    with io.StringIO() as text:
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: round(v, 5) if isinstance(v, float) else v for k, v in row.items()} for row in rows)
        write_atomically(table_of("autopsy").with_name(f"{name}.csv"), text.getvalue())


def start(learner: str, case: Case, seeds: list[int]) -> list[Row]:
    """From their first weights once more: whether ideal batches save them, and how often ordinary ones do."""
    print(learner, seeds, "from the start", flush=True)
    state = Replay(case, seeds).moments([0])[0].state
    ends, chances = run_out(case, state, seeds, TIMES), shares(case, state, seeds, SEARCH, BRANCHES // 2)
    return [
        {"learner": learner, "seed": seed, "failed seeds": len(case.failed), "ideal": int(end)}
        | {"start solved": share.solved, "start branches": share.branches}
        for seed, end, share in zip(seeds, ends, chances, strict=True)
    ]


def autopsy(learner: str, case: Case, seeds: list[int]) -> list[Row]:
    """Autopsies of some seeds."""
    replay = Replay(case, seeds)
    found = findings(case, replay, BRANCHES, 1, TIMES, lambda line: print(learner, seeds, line, flush=True))
    return [row_of(learner, one) for one in found]


def measure(enough: int) -> None:
    """Fill the tables, the learners in turn."""
    os.chdir(ROOT)
    torch.set_num_threads(1)
    complete([run_of(learner) for learner in LEARNERS], 0)
    cases = {learner: load(run_of(learner).folder) for learner in LEARNERS}
    fill("from_start", cases, start, SEEDS)
    fill("autopsy", cases, autopsy, enough)


def fill(name: str, cases: dict[str, Case], look: Look, enough: int) -> None:
    """Measure what a table lacks, a few seeds at a time."""
    rows, went_on = known(name), True
    while went_on:
        went_on = False
        for learner, case in cases.items():
            done = [int(row["seed"]) for row in rows if row["learner"] == learner]
            missing = [seed for seed in case.failed if seed not in done]
            some = missing[: max(0, min(AT_ONCE, enough - len(done)))]
            if some:
                rows += look(learner, case, some)
                keep(name, rows)
                went_on = True


def share_text(count: int, total: int) -> str:
    """With Wilson's interval."""
    low, high = wilson_interval(count, total)
    return f"{count / total:.0%} [{low:.0%}, {high:.0%}]"


def mean_text(values: list[float], signed: bool = False) -> str:
    """Mean over seeds in percent with its interval, by Student's t."""
    mean, error = float(np.mean(values)), float(np.std(values, ddof=1)) / len(values) ** 0.5
    reach = float(student.ppf(0.975, len(values) - 1)) * error
    ends = (mean - reach, mean + reach) if signed else (max(0.0, mean - reach), min(1.0, mean + reach))
    form = "{:+.0f} [{:+.0f}, {:+.0f}]" if signed else "{:.0f}% [{:.0f}%, {:.0f}%]"
    return form.format(100 * mean, *(100 * end for end in ends))


def side(row: Row, name: str) -> Share:
    """Branches of one seed."""
    return Share(int(row[f"{name} solved"]), int(row[f"{name} branches"]))


def of(rows: list[Row], learner: str) -> list[Row]:
    """Its rows."""
    return [row for row in rows if row["learner"] == learner]


def fields() -> dict[str, object]:
    """What the template asks for."""
    again, looked = known("from_start"), known("autopsy")
    lines = {learner: of_start(learner, of(again, learner)) for learner in LEARNERS}
    (ippo, *_), (mappo, good, poor) = (lines[learner] for learner in LEARNERS)
    return {
        "again": table([*lines["IPPO"], *lines["MAPPO"]]),
        "ippo": ippo[-1],
        "ippo_gain": over_ordinary(of(again, "IPPO")),
        "mappo": mappo[-1],
        "mappo_gain": over_ordinary(of(again, "MAPPO")),
        "mappo_good": good[-1],
        "mappo_poor": poor[-1],
        "between": between(again),
        "told": table([told(learner, of(looked, learner), of(again, learner)) for learner in LEARNERS]),
        "chances": table([chances(learner, of(looked, learner)) for learner in LEARNERS]),
        "seeds": SEEDS,
        "run_seed": RUN_SEED,
        "branches": BRANCHES,
        "fewer": BRANCHES // 2,
        "times": TIMES,
    }


def of_start(learner: str, rows: list[Row]) -> list[list[str]]:
    """Failed seeds trained again from their first weights: all, and by the chance they have with ordinary batches."""
    failed = int(rows[0]["failed seeds"])
    good = [row for row in rows if side(row, "start").value >= EVEN]
    poor = [row for row in rows if side(row, "start").value < EVEN]
    lines = []
    for what, some in (("all", rows), ("at least 50%", good), ("below 50%", poor)):
        saved = share_text(sum(int(row["ideal"]) for row in some), len(some)) if some else ""
        first = [mean_text([side(row, "start").value for row in rows]), share_text(SEEDS - failed, SEEDS)]
        chance, solved = first if what == "all" else ["", ""]
        lines.append([learner, solved, what, f"{len(some)} of {failed}", chance, saved])
    return lines


def over_ordinary(rows: list[Row]) -> str:
    """What ideal batches solve of the seeds less what ordinary ones do, in points, seed by seed."""
    return mean_text([row["ideal"] - side(row, "start").value for row in rows], signed=True)


def between(rows: list[Row]) -> str:
    """The difference of the learners' saved shares, in points."""
    (a, runs_a), (b, runs_b) = ((sum(int(r["ideal"]) for r in of(rows, k)), len(of(rows, k))) for k in LEARNERS)
    return points(a, runs_a, b, runs_b).replace(" [", " points [")


def told(learner: str, rows: list[Row], again: list[Row]) -> list[str]:
    """Verdicts of the autopsies."""
    words = [verdict(row["level"], side(row, "after"), side(row, "ideal")) for row in rows]
    counts = [str(words.count(word)) for word in (SAMPLING_ERROR, NOT, UNDECIDED)]
    ends = share_text(sum(int(row["ideal to the end"]) for row in rows), len(rows))
    updates = sorted(int(row["update"]) for row in rows)
    middle = f"{updates[len(updates) // 2]} ({updates[0]} to {updates[-1]})"
    return [learner, f"{len(rows)} of {int(again[0]['failed seeds'])}", *counts, middle, ends]


def chances(learner: str, rows: list[Row]) -> list[str]:
    """Means over seeds of the branches' shares."""
    shares = {name: [side(row, name).value for row in rows] for name in SIDES}
    lost = [a - b for a, b in zip(shares["after"], shares["before"], strict=True)]
    won = [a - b for a, b in zip(shares["ideal"], shares["after"], strict=True)]
    means = [mean_text(shares[name]) for name in SIDES]
    return [learner, str(len(rows)), *means, mean_text(lost, signed=True), mean_text(won, signed=True)]


def table(rows: list[list[str]]) -> str:
    """Rows of a table in Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS, help="failed seeds of each learner (default: all)")
    parser.add_argument("--page", action="store_true", help="write the page from the table, measure nothing")
    options = parser.parse_args()
    if not options.page:
        measure(options.seeds)
    write_page("autopsy", **fields())
