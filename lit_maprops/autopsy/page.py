"""An autopsy as a few lines, as a page with its pictures, and as JSON."""

from importlib.resources import files
from pathlib import Path
from typing import Any

from lit_maprops.autopsy import drawings, ideal
from lit_maprops.autopsy.branches import Share
from lit_maprops.autopsy.case import Case
from lit_maprops.autopsy.findings import NOT, Finding, gain
from lit_maprops.autopsy.joint_actions import JointAction
from lit_maprops.metrics.reliability import share_text
from lit_maprops.report.forms import interval_text, signed_points
from lit_maprops.report.page import look
from lit_maprops.report.statistics import Interval
from lit_maprops.system.files import write_atomically, write_json

NAMED = 2  # joint actions at either end that the lines name
SEEN = 0.05  # z that is not shown as 0
EXACT = "exact: REINFORCE's expected gradient, every joint action weighted with its probability."
DRAWN = (
    "{times} times the run's n env steps, drawn afresh from pi_theta from where the environments stood, and as many "
    "gradient steps on it by the same learner."
)
BIT_FOR_BIT = "Replayed bit for bit."
ROUNDED = "Replayed, but it ends with other weights than the run: what follows is of a twin that fails as well."


class Page:
    """What ``autopsy`` prints and writes.

    Args:
        case: the run.
        replayed_exactly: whether the replay ended with the run's own weights.
        found: of one seed.
        times: of n, an ideal batch that is drawn.
    """

    def __init__(self, case: Case, replayed_exactly: bool, found: Finding, times: int) -> None:
        self.case, self.found, self.exact = case, found, ideal.is_exact(case)
        self.replayed = BIT_FOR_BIT if replayed_exactly else ROUNDED
        self.times = times

    @property
    def lines(self) -> list[str]:
        """The finding in words."""
        found, n = self.found, self.case.data.target_batch_size
        why = " (an ideal batch fails as well)" if found.verdict == NOT else ""
        last = found.env_steps + n
        dropped = gain(found.before, found.after)
        lines = [
            f"seed {found.seed} of {self.case.folder}: {found.verdict}{why}. {self.replayed}",
            f"decisive: target update {found.update} of {self.case.iterations} (env steps {found.env_steps:,} to "
            f"{last:,}). Chance to end solved {text_of(found.before)} before it, {text_of(found.after)} after it; at "
            f"the beginning {text_of(found.trail.looks[0])}",
        ]
        if dropped[0] <= 0:
            lines.append(
                f"no single update shown: that one took {points_text(found.before, found.after)} points; the chance "
                "may have gone down step by step"
            )
        lines.append(f"its batch: {_named(found.actions)}")
        kind = "exact" if self.exact else f"{self.times} n"
        lines.append(
            f"with an ideal batch ({kind}): {text_of(found.ideal)}, {points_text(found.ideal, found.after)} points "
            "against its own"
        )
        end = "solved" if found.to_the_end else "not solved"
        lines.append(f"with ideal batches from that update to the run's end: {end}")
        return lines

    def html(self) -> str:
        """The whole document."""
        from jinja2 import Environment, StrictUndefined

        case, found = self.case, self.found
        jinja = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
        template = jinja.from_string(files(__package__).joinpath("page.html").read_text(encoding="utf-8"))
        return template.render(
            title=f"Autopsy of seed {found.seed}: {found.verdict}",
            look=look(),
            run=str(case.folder),
            solved=f"{case.judged.on} of at least {case.judged.threshold:g}",
            episodes=case.template.eval_episodes,
            replayed=self.replayed,
            lines=self.lines,
            drawings=[drawings.chance(found, case.iterations), drawings.sides(found), drawings.actions(found.actions)],
            chances=self._chances(),
            actions=[[a.name, str(a.in_batch), f"{a.expected:.2f}", _z(a)] for a in found.actions],
            branches=found.before.branches,
            fewer=found.trail.looks[0].branches,
            ideal=EXACT if self.exact else DRAWN.format(times=self.times),
        )

    def _chances(self) -> list[list[str]]:
        found, n = self.found, self.case.data.target_batch_size
        rows = [(k, share, "") for k, share in sorted(found.trail.looks.items())]
        rows += [
            (found.update - 1, found.before, "before the decisive update"),
            (found.update, found.after, "after it"),
            (found.update, found.ideal, "after it with an ideal batch"),
        ]
        return [[str(k), f"{k * n:,}", str(share.branches), text_of(share), what] for k, share, what in rows]

    def plain(self) -> dict[str, Any]:
        """As plain numbers."""
        how = {
            "replayed_bit_for_bit": self.replayed == BIT_FOR_BIT,
            "ideal_batch": "exact" if self.exact else self.times,
        }
        return {"run": str(self.case.folder), "env": self.case.data.env.title} | how | self.found.plain()

    def write(self, path: Path) -> None:
        """The page, and beside it the same name with .json.

        Raises:
            WriteError: the disk is full or gone.
        """
        write_atomically(path, self.html())
        write_json(path.with_suffix(".json"), self.plain())


def text_of(share: Share) -> str:
    """``75% [51%, 90%]``."""
    return interval_text(Interval(share.value, *share.interval), share_text)


def points_text(a: Share, b: Share) -> str:
    """The difference of two shares with its interval."""
    return interval_text(Interval(a.value - b.value, *gain(a, b)), signed_points)


def _named(actions: list[JointAction]) -> str:
    """The joint actions at either end."""
    over = [a for a in actions if a.z > SEEN][:NAMED]
    under = [a for a in reversed(actions) if a.z < -SEEN][:NAMED]
    parts = []
    for what, some in (("over-sampled", over), ("under-sampled", under)):
        if some:
            told = (f"{a.name} {a.in_batch} times for {a.expected:.1f} expected (z {_z(a)})" for a in some)
            parts.append(f"{what} {', '.join(told)}")
    return "; ".join(parts) or "every joint action as often as expected"


def _z(action: JointAction) -> str:
    return "\N{EN DASH}" if action.z != action.z else f"{action.z:+.1f}".replace("-", "\N{MINUS SIGN}")
