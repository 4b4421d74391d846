"""What the figures say, in plain sentences that claim no more than the intervals do."""

from collections.abc import Sequence

from lit_maprops.report.analysis import Result, Setting
from lit_maprops.report.figures import percent, signed_points

FEW_SEEDS = 10
MOST_SENTENCES = 6


def headline(setting: Setting) -> list[str]:
    """One sentence per sampler, on-policy first, then its difference to on-policy."""
    sentences = [_solved(result) for result in setting.results[:MOST_SENTENCES]]
    if len(setting.results) > MOST_SENTENCES:
        sentences.append(f"{len(setting.results) - MOST_SENTENCES} more samplers are in the numbers below.")
    compared = [result.difference.beats(0) for result in setting.results if result.difference is not None]
    if len(compared) > 1:
        more, fewer = compared.count(1), compared.count(-1)
        sentences.append(
            f"{len(compared)} samplers are compared with on-policy: {more} solved more, {fewer} fewer, by intervals "
            "that miss 0. The intervals are not corrected for several comparisons: one in twenty misses 0 by chance."
        )
    elif setting.baseline is None and setting.results:
        sentences.append("No finished OnPolicy run has these settings, so there is nothing to compare with.")
    small = [result.group.name for result in setting.results if len(result.group.scores) < FEW_SEEDS]
    if small:
        names = ", ".join(small[:MOST_SENTENCES])
        sentences.append(
            f"Fewer than {FEW_SEEDS} seeds ({names}): too few to lean on, bootstrap intervals are too narrow."
        )
    return sentences


def _solved(result: Result) -> str:
    group, share = result.group, result.share
    solved = f"{group.name} solved {int(group.solved.sum())} of {len(group.solved)} seeds"
    text = f"{solved} ({percent(share.value)}, 95% {percent(share.low)} to {percent(share.high)})"
    difference = result.difference
    if difference is None:
        return text + "."
    ends = f"[{signed_points(difference.low)}, {signed_points(difference.high)}]"
    conclusion = {1: "more than on-policy", -1: "fewer than on-policy", 0: "no difference shown"}[difference.beats(0)]
    return text + f"; difference to OnPolicy {signed_points(difference.value)} points {ends}: {conclusion}."


def nan_notes(setting: Setting) -> list[str]:
    """Names the seeds that ended without a success rate."""
    runs: Sequence = [run for group in setting.groups for run in group.runs if run.nan_seeds]
    return [
        f"{run.name}: seed{'s' if len(run.nan_seeds) > 1 else ''} {', '.join(map(str, run.nan_seeds))} ended with NaN "
        "policies or in quarantine and count as not solved, with success 0."
        for run in runs
    ]
