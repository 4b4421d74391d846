"""A sweep until decided: which block of seeds comes next, and what the finished ones say.

A block is a run of its own with ``first_seed``. What comes next follows from the journal and the runs' summaries alone,
so that a sweep that was killed goes on as if it had not been.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lit_maprops.sweep.decision_file import METRIC, Decision
from lit_maprops.sweep.journal import Entry
from lit_maprops.sweep.results import read_summary
from lit_maprops.sweep.sweep_file import ALLOTTED, FIRST_SEED, NUM_SEEDS
from lit_maprops.trials.decision import OPEN, Look, blocks_of, path, words_of


class Standing(NamedTuple):
    """One arm beside the baseline.

    Attributes:
        arm: its number.
        looks: so far, up to the verdict.
        fault: why it cannot go on; None: it can.
    """

    arm: int
    looks: list[Look]
    fault: str | None

    @property
    def verdict(self) -> str:
        """Of the last look."""
        return self.looks[-1].verdict if self.looks else OPEN


class Trial:
    """Proposes blocks of seeds in the place of W&B's search.

    Args:
        decision: of the sweep.
        folder: where its runs lie.
    """

    def __init__(self, decision: Decision, folder: Path) -> None:
        self.decision, self.folder = decision, folder
        self.blocks = blocks_of(decision.design.looks)
        self._solved: dict[str, int | None] = {}
        self._paths: dict[tuple[tuple[int, ...], ...], list[Look]] = {}  # it is asked ten times a second

    def size(self, limit: int) -> int:
        """The most runs there can be."""
        return min(limit, len(self.decision.arms) * len(self.blocks))

    def to_stop(self, entries: Sequence[Entry]) -> set[str]:
        """No run is stopped in its middle."""
        return set()

    def propose(self, entries: Sequence[Entry]) -> dict[str, Any] | None:
        """Parameters of the next block; None while blocks at work have to end first, or where all is decided."""
        begun, wanted = self._places(entries), set()
        for standing in self.standings(entries):
            place = len(standing.looks)
            if standing.fault is None and standing.verdict == OPEN and place < len(self.blocks):
                wanted |= {(place, self.decision.baseline), (place, standing.arm)}
        # The baseline first: everything waits for it.
        missing = sorted((place, arm != self.decision.baseline, arm) for place, arm in wanted - begun.keys())
        if not missing:
            return None
        place, _, arm = missing[0]
        first, number = self.blocks[place]
        parameters = self.decision.arms[arm] | {FIRST_SEED: first, NUM_SEEDS: number}
        return {name: parameters[name] for name in sorted(parameters)}

    def standings(self, entries: Sequence[Entry]) -> list[Standing]:
        """Every arm but the baseline beside it."""
        begun = self._places(entries)
        base, base_fault = self._counts(self.decision.baseline, begun)
        found = []
        for arm in self.decision.others:
            solved, fault = self._counts(arm, begun)
            looks = self._path(solved, base)
            decided = bool(looks) and looks[-1].verdict != OPEN
            blocked = [f for counts, f in ((base, base_fault), (solved, fault)) if f and len(counts) == len(looks)]
            found.append(Standing(arm, looks, None if decided or not blocked else blocked[0]))
        return found

    def _path(self, solved: list[int], base: list[int]) -> list[Look]:
        counts = tuple(solved), tuple(base)
        if counts not in self._paths:
            self._paths[counts] = path(self.decision.design, solved, base)
        return self._paths[counts]

    def _places(self, entries: Sequence[Entry]) -> dict[tuple[int, int], Entry]:
        """Number of the block and of the arm of every run."""
        starts = {first: place for place, (first, _) in enumerate(self.blocks)}
        found = {}
        for entry in entries:
            arm, place = self.arm_of(entry), starts.get(entry.parameters.get(FIRST_SEED, -1))
            if place is not None and arm is not None:
                found[place, arm] = entry
        return found

    def arm_of(self, entry: Entry) -> int | None:
        """Number of the arm that a run is of; None: of no one."""
        arm = {k: v for k, v in entry.parameters.items() if k not in ALLOTTED}
        return self.decision.arms.index(arm) if arm in self.decision.arms else None

    def _counts(self, arm: int, begun: dict[tuple[int, int], Entry]) -> tuple[list[int], str | None]:
        """Seeds an arm solved up to each look, as far as all blocks before it are finished; and what is wrong then."""
        counts: list[int] = []
        for place in range(len(self.blocks)):
            entry = begun.get((place, arm))
            if entry is None or entry.state in ("waiting", "running"):
                return counts, None
            solved = self._solved_by(entry, place) if entry.state == "finished" else None
            if solved is None:
                why = f"has no {METRIC}: its task has no success" if entry.state == "finished" else "failed"
                return counts, f"{entry.id} {why}"
            counts.append(solved + (counts[-1] if counts else 0))
        return counts, None

    def _solved_by(self, entry: Entry, place: int) -> int | None:
        if entry.id not in self._solved:
            share = read_summary(self.folder / entry.id).get(METRIC, -1.0)
            self._solved[entry.id] = round(share * self.blocks[place][1]) if 0 <= share <= 1 else None
        return self._solved[entry.id]


def sentence(decision: Decision, standing: Standing) -> str:
    """What became of an arm: ``MAPROPS: decided: better than OnPolicy, +31 points [+9, +51], 55 seeds of each``."""
    name, base = decision.name(standing.arm), decision.name(decision.baseline)
    if standing.looks:
        look = standing.looks[-1]
        points = "{:+.0f} points [{:+.0f}, {:+.0f}]".format(*(100 * n for n in look[1:4]))
        figures = f", {points}, {look.seeds} seeds of each"
    else:
        figures = ""
    if standing.fault is not None:
        return f"{name}: not decided against {base}, {standing.fault}{figures}"
    if standing.verdict != OPEN:
        words, end = words_of(standing.verdict, decision.margin), "" if standing.verdict == "equal" else f" than {base}"
        return f"{name}: decided: {words}{end or f' of {base}'}{figures}"
    if len(standing.looks) == len(decision.design.looks):
        return f"{name}: {words_of(OPEN, decision.margin)} against {base}{figures}"
    return f"{name}: not decided yet against {base}{figures}"
