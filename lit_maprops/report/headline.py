"""What the figures say, in plain sentences that claim no more than the intervals do."""

from collections.abc import Sequence

from lit_maprops.metrics.reliability import share_text
from lit_maprops.report.analysis import Result, Setting
from lit_maprops.report.forms import interval_text, signed_digits, signed_points, three_digits
from lit_maprops.report.load import Run

FEW_SEEDS = 10
MOST_SENTENCES = 6
WITHOUT_SUCCESS = "count as not solved, with success 0."


def headline(setting: Setting) -> list[str]:
    """One sentence per sampler, on-policy first, then its difference to on-policy."""
    sentences = _what_counts(setting) if setting.by_return else []
    say = _solved if setting.tells_solved else _returned
    sentences += [say(result) for result in setting.results[:MOST_SENTENCES]]
    if len(setting.results) > MOST_SENTENCES:
        sentences.append(f"{len(setting.results) - MOST_SENTENCES} more samplers are in the numbers below.")
    compared = [result.difference.beats(0) for result in setting.results if result.difference is not None]
    if len(compared) > 1:
        more, fewer = compared.count(1), compared.count(-1)
        counts = f"{more} solved more, {fewer} fewer" if setting.tells_solved else f"{more} return more, {fewer} less"
        sentences.append(
            f"{len(compared)} samplers are compared with on-policy: {counts}, by intervals that miss 0. The intervals "
            f"of differences are corrected for {len(compared)} comparisons: without any true difference, one of twenty "
            "such settings has one that misses 0."
        )
    elif setting.baseline is None and setting.results:
        sentences.append("No finished OnPolicy run has these settings, so there is nothing to compare with.")
    if any(result.group.decided for result in setting.results):
        sentences.append(
            "Seeds were added until decided: differences and their intervals are those of the last looks below, and a "
            "difference that ended early is likely somewhat too large."
        )
    small = [result.group.name for result in setting.results if len(result.group.scores) < FEW_SEEDS]
    if small:
        names = ", ".join(small[:MOST_SENTENCES])
        sentences.append(
            f"Fewer than {FEW_SEEDS} seeds ({names}): too few to lean on, bootstrap intervals are too narrow."
        )
    return sentences


def _what_counts(setting: Setting) -> list[str]:
    """Why returns are compared, and what return a solved seed has."""
    why = "The runs are judged by their returns" if setting.tells_success else "This task has no success"
    if not setting.tells_solved:
        return [f"{why}: returns are compared."]
    (threshold,) = {group.judged.threshold for group in setting.groups}
    return [f"{why}: a seed is solved whose greedy policies return at least {threshold:g}."]


def _solved(result: Result) -> str:
    group, share = result.group, result.share
    solved = f"{group.name} solved {int(group.solved.sum())} of {len(group.solved)} seeds"
    text = f"{solved} ({share_text(share.value)}, 95% {share_text(share.low)} to {share_text(share.high)})"
    difference = result.difference
    if difference is None:
        return text + "."
    ends = f"[{signed_points(difference.low)}, {signed_points(difference.high)}]"
    conclusion = {1: "more than on-policy", -1: "fewer than on-policy", 0: "no difference shown"}[difference.beats(0)]
    return text + f"; difference to OnPolicy {signed_points(difference.value)} points {ends}: {conclusion}."


def _returned(result: Result) -> str:
    difference = result.difference
    text = f"{result.group.name}: mean return {interval_text(result.share, three_digits)} of {result.seeds} seeds"
    if difference is None:
        return text + "."
    text += f"; difference to OnPolicy {interval_text(difference, signed_digits)}"
    if difference.low != difference.low:
        return text + "."
    return text + f": {('no difference shown', 'more than on-policy', 'less than on-policy')[difference.beats(0)]}."


def sampled_notes(setting: Setting) -> list[str]:
    """Of samplers whose seeds are solved by sampled actions only: greedy ones decide what counts as solved."""
    notes = []
    for group in () if setting.by_return else setting.groups:
        hidden = sum(_solved_when_sampled(run) for run in group.runs)
        if hidden:
            seeds = "1 seed that is not solved reaches" if hidden == 1 else f"{hidden} seeds that are not solved reach"
            notes.append(f"{group.name}: {seeds} the threshold with sampled actions; see every seed.")
    return notes[:MOST_SENTENCES]


def _solved_when_sampled(run: Run) -> int:
    sampled = run.criterion.solved(run.others["stochastic_success_rate"][-1])
    return int((~run.solved_by(run.criterion) & sampled).sum())


def nan_notes(setting: Setting) -> list[str]:
    """Names the seeds that ended without a success rate."""
    runs: Sequence = [run for group in setting.groups for run in group.runs if run.nan_seeds]
    return [
        f"{run.name}: seed{'s' if len(run.nan_seeds) > 1 else ''} {', '.join(map(str, run.nan_seeds))} ended with NaN "
        "policies or in quarantine and " + ("have no return." if setting.by_return else WITHOUT_SUCCESS)
        for run in runs
    ]
