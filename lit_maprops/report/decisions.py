"""Sweeps until decided: the path of each decision, and the interval it ended with."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lit_maprops.report.forms import interval_text, signed_points
from lit_maprops.report.load import MOST_BYTES, LeftOut, Run
from lit_maprops.report.settings import FIXED_STYLES, SAMPLER
from lit_maprops.report.statistics import Interval
from lit_maprops.report.svg import MUTED, STYLES, Drawing, color, draw, plain, shorten
from lit_maprops.sweep.decided import Standing, Trial, sentence
from lit_maprops.sweep.decision_file import FIELD, Decision, decision_of
from lit_maprops.sweep.journal import Entry
from lit_maprops.sweep.sweep_file import SweepFile
from lit_maprops.system.errors import ConfigError, printable
from lit_maprops.trials.decision import OPEN, Look

FILE = "sweep.json"
MOST_FIGURES = 12  # of a sweep's samplers
HEADS = ("sampler", "seeds of each", "difference, interval that holds at every look", "standard errors", "verdict")


@dataclass(frozen=True)
class Decided:
    """One sweep until decided.

    Attributes:
        name: of its folder.
        sentences: one for each sampler.
        drawings: the paths.
        rows: every look as text, under ``HEADS``.
        rule: how it is decided, in words.
    """

    name: str
    sentences: list[str]
    drawings: list[Drawing]
    rows: list[list[str]]
    rule: str


def decided_sweeps(runs: Sequence[Run]) -> tuple[list[Decided], dict[Path, Look], list[LeftOut]]:
    """The sweeps until decided that runs are of.

    Returns:
        What the page shows; the last look of the arm that each run is of; and files that cannot be read.
    """
    shown: list[Decided] = []
    looks: dict[Path, Look] = {}
    left_out: list[LeftOut] = []
    for folder in dict.fromkeys(run.path.parent for run in runs):
        try:
            found = _read(folder)
            standings = [] if found is None else found[0].standings(found[1])
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            reason = str(error).splitlines()[0] if isinstance(error, ConfigError) else "is no journal of a sweep"
            left_out.append(LeftOut(printable(str(folder / FILE)), printable(reason)))
            continue
        if found is None:
            continue
        trial, entries = found
        shown.append(_decided(folder.name, trial.decision, standings))
        looks |= _last_looks(folder, trial, entries, standings)
    return shown, looks, left_out


def _read(folder: Path) -> tuple[Trial, list[Entry]] | None:
    """The trial of a sweep's folder; None: it is of no sweep, or of one without a decision."""
    path = folder / FILE
    if not path.is_file():
        return None
    if path.stat().st_size > MOST_BYTES:
        raise ValueError
    content = json.loads(path.read_text(encoding="utf-8"))
    if FIELD not in content["sweep"]:
        return None
    decision = decision_of(SweepFile(path, content["sweep"]))
    assert decision is not None  # the field is there
    entries = [Entry(**entry) for entry in content["runs"]]
    if not all(isinstance(e.parameters, dict) and "/" not in e.id for e in entries):
        raise ValueError
    return Trial(decision, folder), entries


def _last_looks(
    folder: Path, trial: Trial, entries: Sequence[Entry], standings: Sequence[Standing]
) -> dict[Path, Look]:
    arms = {standing.arm: standing.looks[-1] for standing in standings if standing.looks}
    found = {}
    for entry in entries:
        number = trial.arm_of(entry)
        if number in arms:
            found[folder / entry.id] = arms[number]
    return found


def interval_of(looks: Mapping[Path, Look], runs: Sequence[Run], base: Sequence[Run]) -> Interval | None:
    """The interval that a sampler's comparison with the base ended with; None: not all its runs are of such a sweep."""
    folders = {run.path.parent for run in [*runs, *base]}
    own = bool(runs) and all(run.path in looks for run in runs)
    if not own or len(folders) > 1 or any(run.path in looks for run in base):
        return None
    look = looks[runs[0].path]
    return Interval(look.difference, look.low, look.high)


def _decided(name: str, decision: Decision, standings: Sequence[Standing]) -> Decided:
    design = decision.design
    rows = [
        [
            decision.name(standing.arm),
            str(look.seeds),
            interval_text(Interval(*look[1:4]), signed_points),
            f"{design.quantiles[number]:.3f}",
            "\N{EN DASH}" if look.verdict == OPEN else look.verdict,
        ]
        for standing in standings
        for number, look in enumerate(standing.looks)
    ]
    count = len(decision.others)
    each = f"each comparison has {decision.alpha:g}/{count} (Bonferroni), " if count > 1 else "that is "
    rule = (
        f"Looks after {', '.join(map(str, design.looks))} seeds of each sampler. All verdicts together, of "
        f"{count} comparison{'s' if count > 1 else ''} with {decision.name(decision.baseline)} and all looks, are "
        f"wrong in at most {100 * decision.alpha:g}% of such sweeps: {each}"
        "spent over the looks as the square of the share of seeds (Lan and DeMets). Better or worse: the "
        f"interval misses 0. Equal: it lies within {100 * decision.margin:g} points."
    )
    drawings = [_drawing(decision, standing) for standing in standings[:MOST_FIGURES] if standing.looks]
    return Decided(printable(name), [printable(sentence(decision, s)) + "." for s in standings], drawings, rows, rule)


def _drawing(decision: Decision, standing: Standing) -> Drawing:
    name, base = decision.name(standing.arm), decision.name(decision.baseline)
    kind = str(decision.arms[standing.arm].get(SAMPLER)).rpartition(".")[2]
    margin, style = 100 * decision.margin, FIXED_STYLES.get(kind, STYLES - 1)

    def paint(axes: Any) -> None:
        seeds = [look.seeds for look in standing.looks]
        low, high, value = ([100 * look[k] for look in standing.looks] for k in (2, 3, 1))
        axes.axhspan(-margin, margin, color=MUTED, alpha=0.15, lw=0)
        axes.axhline(0, color=MUTED, lw=1, ls=(0, (2, 2)))
        axes.vlines(seeds, low, high, color=color(style), lw=2.5)
        axes.plot(seeds, value, color=color(style), marker="o", ms=5, lw=1)
        axes.set_xlim(0, decision.max_seeds * 1.03)
        axes.set_xlabel("seeds of each sampler")
        axes.set_ylabel(plain(f"points over {shorten(base, 30)}"))

    ends = "; ".join(f"{k.seeds} seeds {interval_text(Interval(*k[1:4]), signed_points)}" for k in standing.looks)
    alt = f"Difference of solved shares look by look, {name} minus {base}: {ends}"
    caption = (
        f"{sentence(decision, standing)}. Intervals hold at every look and for all samplers together; gray: equal "
        f"within {margin:g} points."
    )
    return Drawing(
        printable(f"{name} minus {base}, look by look"), draw(paint, 2.6, printable(alt)), alt, printable(caption)
    )
