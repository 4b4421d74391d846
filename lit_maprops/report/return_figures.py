"""The dot plots where returns are judged, in place of success."""

from collections.abc import Sequence

import numpy as np

from lit_maprops.metrics.reliability import rate_text
from lit_maprops.report.analysis import Group, Result
from lit_maprops.report.figures import corrected, dots, solved
from lit_maprops.report.forms import signed_digits, three_digits
from lit_maprops.report.returns import mean
from lit_maprops.report.statistics import Interval
from lit_maprops.report.svg import Drawing

Rows = Sequence[tuple[Group, Interval]]


def returns(results: Sequence[Result], place: str) -> list[Drawing]:
    """Dot plots of mean returns, their differences to on-policy, IQMs and probabilities of improvement.

    With a threshold, solved shares and their differences come first.
    """
    told = all(r.group.judged.tells_solved for r in results)
    means = [(r.group, mean(r.group.scores) if told else r.share) for r in results]
    iqm = [(r.group, r.iqm) for r in results]
    difference = [(r.group, r.difference) for r in results if r.difference is not None]
    improvement = [(r.group, r.improvement) for r in results if r.improvement is not None]
    axis = _axis([*means, *iqm])
    caption = "Mean over seeds of the greedy policies' return (reward) in the last evaluation; 95% bootstrap interval."
    drawings = [
        *(solved(results, place) if told else []),
        dots("Mean final return", caption, means, three_digits, axis, place),
    ]
    if difference and not told:
        edge = 1.1 * max([*map(abs, _ends(difference)), 1e-9])
        words = corrected(len(difference))
        caption = f"Difference of mean returns, 95% bootstrap interval{words}. Holds 0: no difference shown."
        drawings.append(
            dots("Mean return minus on-policy", caption, difference, signed_digits, (-edge, edge, 0), place)
        )
    caption = (
        "Mean of the middle half of the seeds' final returns; 95% bootstrap interval. It has no width where all seeds "
        "end alike, or so many that the others stay in the quarters at the ends, which do not count."
    )
    drawings.append(dots("IQM of final return", caption, iqm, three_digits, axis, place))
    if improvement:
        caption = (
            "Probability that a seed of this sampler ends with a higher return than an on-policy seed, ties counting "
            f"half{corrected(len(improvement))}."
        )
        title = "P(improvement) over on-policy"
        drawings.append(dots(title, caption, improvement, rate_text, (0, 1, 0.5), place))
    return drawings


def _ends(rows: Rows) -> list[float]:
    return [end for _, i in rows for end in (i.value, i.low, i.high) if np.isfinite(end)]


def _axis(rows: Rows) -> tuple[float, float, None]:
    """From below the lowest to above the highest number."""
    low, high = min(_ends(rows)), max(_ends(rows))
    margin = 0.1 * (high - low) or 0.1 * abs(high) or 1.0
    return low - margin, high + margin, None
