"""Measures docs/evidence/autopsy.md: what share of BoulderPush's failed seeds is sampling error, for IPPO and MAPPO?

Failed seeds are looked into a few at a time, learner by learner in turn; a seed that is in autopsy.csv is not looked
into again, so an interrupted study goes on, and ``--seeds`` says how many of each learner are enough. The page holds
what the table holds.
"""

import argparse
import csv
import os
from typing import Any

import torch

from lit_maprops.autopsy.branches import Share
from lit_maprops.autopsy.case import Case, load
from lit_maprops.autopsy.findings import NOT, SAMPLING_ERROR, UNDECIDED, Finding, findings, gain, verdict
from lit_maprops.autopsy.ideal import run_out
from lit_maprops.autopsy.replay import Replay
from lit_maprops.autopsy.search import level_of
from lit_maprops.metrics.reliability import difference_interval, wilson_interval
from studies import ROOT, table_of
from studies.page import write, write_page
from studies.runs import Run, complete

CONFIG = "conf/boulderpush_reliability.yaml"
LEARNERS = ("IPPO", "MAPPO")
RUN_SEED, SEEDS = 61, 64
BRANCHES, TIMES = 16, 16
AT_ONCE = 2  # seeds
SIDES = ("before", "after", "ideal")
Row = dict[str, Any]


def run_of(learner: str) -> Run:
    """The on-policy run whose failed seeds are looked into."""
    flags = ["--model.behavior", "OnPolicy", "--model.learner", learner, "--model.num_seeds", str(SEEDS)]
    return Run("autopsy", learner, CONFIG, [*flags, "--model.learner.learning_rate", "0.004"], RUN_SEED)


def row_of(learner: str, failed: int, found: Finding, from_start: bool) -> Row:
    """A seed's line of the raw table."""
    start, most, least = found.trail.looks[0], found.actions[0], found.actions[-1]
    row: Row = {"learner": learner, "seed": found.seed, "failed seeds": failed, "update": found.update}
    row |= {"level": found.trail.level, "start solved": start.solved, "start branches": start.branches}
    for side, share in zip(SIDES, (found.before, found.after, found.ideal), strict=True):
        row |= {f"{side} solved": share.solved, f"{side} branches": share.branches}
    row |= {"ideal to the end": int(found.to_the_end), "ideal from the start": int(from_start)}
    row |= {"most": most.name, "most z": most.z, "least": least.name, "least z": least.z}
    return row


def known() -> list[Row]:
    """The raw table so far, numbers as numbers."""
    path = table_of("autopsy")
    if not path.exists():
        return []
    with path.open(newline="") as file:
        words = ("learner", "most", "least")
        rows: list[Row] = [{k: v if k in words else float(v) for k, v in row.items()} for row in csv.DictReader(file)]
    return [row | {"level": level_of(side(row, "start"))} for row in rows]


def look(learner: str, case: Case, seeds: list[int]) -> list[Row]:
    """Autopsies of some seeds."""
    replay = Replay(case, seeds)
    found = findings(case, replay, BRANCHES, 1, TIMES, lambda line: print(learner, seeds, line, flush=True))
    start = replay.moments([0])[0].state
    ends = run_out(case, start, seeds, TIMES)
    return [row_of(learner, len(case.failed), one, end) for one, end in zip(found, ends, strict=True)]


def measure(enough: int) -> None:
    """Fill the table, the learners in turn."""
    os.chdir(ROOT)
    torch.set_num_threads(1)
    complete([run_of(learner) for learner in LEARNERS], 0)
    cases = {learner: load(run_of(learner).folder) for learner in LEARNERS}
    rows = known()
    while True:
        went_on = False
        for learner, case in cases.items():
            done = [int(row["seed"]) for row in rows if row["learner"] == learner]
            missing = [seed for seed in case.failed if seed not in done]
            some = missing[: max(0, min(AT_ONCE, enough - len(done)))]
            if some:
                rows += look(learner, case, some)
                write("autopsy", rows, **fields(rows))
                went_on = True
        if not went_on:
            return


def share_text(count: int, total: int) -> str:
    """With Wilson's interval."""
    low, high = wilson_interval(count, total)
    return f"{count / total:.0%} [{low:.0%}, {high:.0%}]"


def side(row: Row, name: str) -> Share:
    """Branches of one seed."""
    return Share(int(row[f"{name} solved"]), int(row[f"{name} branches"]))


def pool(rows: list[Row], name: str) -> Share:
    """All seeds' branches together."""
    shares = [side(row, name) for row in rows]
    return Share(sum(s.solved for s in shares), sum(s.branches for s in shares))


def verdicts(rows: list[Row]) -> list[str]:
    """Of every seed."""
    return [verdict(row["level"], side(row, "after"), side(row, "ideal")) for row in rows]


def fields(rows: list[Row]) -> dict[str, object]:
    """What the template asks for."""
    told, chances, ends, found = [], [], [], {}
    for learner in LEARNERS:
        own = [row for row in rows if row["learner"] == learner]
        if not own:
            continue
        total, words = len(own), verdicts(own)
        failed = int(own[0]["failed seeds"])
        counts = [share_text(words.count(word), total) for word in (SAMPLING_ERROR, NOT, UNDECIDED)]
        told.append([learner, share_text(SEEDS - failed, SEEDS), f"{total} of {failed}", *counts])
        shares = [pool(own, name) for name in ("start", *SIDES)]
        cells = [share_text(*share) for share in shares]
        low, high = (100 * end for end in gain(shares[3], shares[2]))
        points = 100 * (shares[3].value - shares[2].value)
        chances.append([learner, *cells, f"{points:+.0f} [{low:+.0f}, {high:+.0f}]"])
        saved = {name: sum(int(row[name]) for row in own) for name in ("ideal to the end", "ideal from the start")}
        updates = sorted(int(row["update"]) for row in own)
        cells = [share_text(count, total) for count in saved.values()]
        ends.append([learner, str(total), *cells, f"{updates[total // 2]} ({updates[0]} to {updates[-1]})"])
        found[learner] = (words.count(SAMPLING_ERROR), saved["ideal from the start"], total)
    return {
        "told": table(told),
        "chances": table(chances),
        "ends": table(ends),
        "between": between(found),
        "seeds": SEEDS,
        "run_seed": RUN_SEED,
        "branches": BRANCHES,
        "fewer": BRANCHES // 2,
        "times": TIMES,
    }


def between(found: dict[str, tuple[int, int, int]]) -> str:
    """The learners against each other, in words."""
    if len(found) < len(LEARNERS):
        return "One learner only has been looked into so far."
    (error, start, total), (other_error, other_start, other_total) = (found[learner] for learner in LEARNERS)
    lines = []
    for what, a, b in (("sampling error", error, other_error), ("saved from the start on", start, other_start)):
        low, high = (100 * end for end in difference_interval(a, total, b, other_total))
        lines.append(f"{what}: {100 * (a / total - b / other_total):+.0f} points [{low:+.0f}, {high:+.0f}]")
    return "IPPO's share of failed seeds minus MAPPO's (Newcombe's 95% intervals): " + "; ".join(lines) + "."


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
    write_page("autopsy", **fields(known()))
