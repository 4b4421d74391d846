"""What an autopsy finds in a seed, and the verdict."""

from collections import defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

from lit_maprops.autopsy import ideal
from lit_maprops.autopsy.branches import AFTER, BEFORE, IDEAL, Share, shares
from lit_maprops.autopsy.case import Case
from lit_maprops.autopsy.joint_actions import JointAction, joint_actions
from lit_maprops.autopsy.replay import Replay
from lit_maprops.autopsy.search import Trail, search, state_of
from lit_maprops.metrics.reliability import difference_interval

SAMPLING_ERROR = "sampling error"
NOT = "not sampling error"
UNDECIDED = "undecided"


class Finding(NamedTuple):
    """A seed's autopsy.

    Attributes:
        trail: how its chance went.
        update: number of the decisive target update, from 1.
        env_steps: per seed, before the batch of that update.
        before: branches from the state before it, all fresh: none of them had a part in finding it.
        after: from the state after it, likewise.
        ideal: from the state after it had it learned from an ideal batch.
        to_the_end: whether the seed ends solved if that update and all later ones learn from ideal batches.
        actions: the joint actions of that update's batch.
    """

    trail: Trail
    update: int
    env_steps: int
    before: Share
    after: Share
    ideal: Share
    to_the_end: bool
    actions: list[JointAction]

    @property
    def seed(self) -> int:
        """Its number."""
        return self.trail.seed

    @property
    def verdict(self) -> str:
        """Whether the batch's sampling error cost the seed its chance; see ``docs/how-to/autopsy.md``."""
        return verdict(self.trail.level, self.after, self.ideal)

    def plain(self) -> dict[str, Any]:
        """As plain numbers."""
        sides = {"before": self.before, "after": self.after, "ideal": self.ideal}
        return {
            "seed": self.seed,
            "verdict": self.verdict,
            "update": self.update,
            "env_steps": self.env_steps,
            "level": self.trail.level,
            **{name: {"solved": s.solved, "branches": s.branches, "ci95": s.interval} for name, s in sides.items()},
            "ideal_minus_after_ci95": gain(self.ideal, self.after),
            "ideal_to_the_end_solved": self.to_the_end,
            "chance": {str(k): tuple(share) for k, share in sorted(self.trail.looks.items())},
            "joint_actions": [action._asdict() for action in self.actions],
        }


def verdict(level: float, after: Share, ideal: Share) -> str:
    """Of a seed whose chance fell below ``level``: what it was after its own batch, and after an ideal one."""
    if ideal.interval[1] < level:
        return NOT
    return SAMPLING_ERROR if gain(ideal, after)[0] > 0 else UNDECIDED


def gain(a: Share, b: Share) -> tuple[float, float]:
    """95% interval of the difference of two shares (Newcombe)."""
    return difference_interval(a.solved, a.branches, b.solved, b.branches)


def findings(
    case: Case,
    replay: Replay,
    branches: int,
    points: int,
    times: int = ideal.TIMES,
    say: Callable[[str], None] = lambda line: None,
) -> list[Finding]:
    """The autopsy of a replay's seeds, all side by side.

    Args:
        case: the run.
        replay: of failed seeds of it.
        branches: from the states on either side of the decisive update and from the ideal one; looks on the way to it
            have half as many.
        points: see ``search``.
        times: n env steps times this make an ideal batch, where it is drawn.
        say: told what is being done.
    """
    trails = search(case, replay, max(1, branches // 2), points, say)
    by_low: dict[int, list[Trail]] = defaultdict(list)
    for trail in trails:
        by_low[trail.low].append(trail)
    found = []
    for low, group in sorted(by_low.items()):
        say(f"target update {low + 1}: {branches} branches each before it, after it, and with an ideal batch")
        found += _decided(case, replay, low, group, branches, times)
    return sorted(found, key=lambda finding: replay.seeds.index(finding.seed))


def _decided(case: Case, replay: Replay, low: int, group: list[Trail], branches: int, times: int) -> list[Finding]:
    """Of the seeds whose decisive update is number ``low`` + 1."""
    seeds = [trail.seed for trail in group]
    moments = replay.moments([low, low + 1])
    before, after = (state_of(moments[k], replay, seeds) for k in (low, low + 1))
    redone = ideal.redone(case, before, after, seeds, times)
    sides = zip(
        shares(case, before, seeds, BEFORE, branches),
        shares(case, after, seeds, AFTER, branches),
        shares(case, redone, seeds, IDEAL, branches),
        strict=True,
    )
    ends = ideal.run_out(case, before, seeds, times)
    batch = moments[low + 1].batch
    assert batch is not None
    rows = [replay.seeds.index(seed) for seed in seeds]
    actions = [joint_actions(case.data.env, batch[row]) for row in rows]
    steps = low * case.data.target_batch_size
    return [
        Finding(trail, low + 1, steps, *three, end, own)
        for trail, three, end, own in zip(group, sides, ends, actions, strict=True)
    ]
