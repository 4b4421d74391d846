"""What a run says at its end: how its seeds did, by what decides whether they are solved: success or return."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from lit_maprops.metrics.reliability import RETURN, Criterion, rate_text, share_text

MOST_SEEDS = 16  # that are listed one by one


def last_words(summary: Mapping[str, Any], episodes: int) -> list[str]:
    """Lines for the user: seeds one by one, unless there are too many, then all together.

    Args:
        summary: of the run, as in summary.json.
        episodes: of each seed's evaluation.
    """
    judged = Criterion(summary["solved_on"], summary["solved_threshold"])
    names = RETURNS if judged.by_return else ("success_rate", "success_rate_stochastic")
    of_seeds = zip(summary["seeds"], *(summary[name] for name in names), strict=True)
    seeds = [(number, greedy, sampled) for number, greedy, sampled in of_seeds]
    if judged.threshold is not None:
        return [*_each(seeds, judged), _solved(summary, episodes)]
    few = len(seeds) <= MOST_SEEDS
    return [*([_listed("return of each seed", seeds, short)] if few else []), _returned(summary, episodes)]


RETURNS = ("episode_return", "episode_return_stochastic")
Seeds = list[tuple[int, float, float]]  # number, figure of the greedy and of the sampled actions


def _each(seeds: Seeds, judged: Criterion) -> list[str]:
    form = short if judged.by_return else rate_text
    if len(seeds) <= MOST_SEEDS:
        return [_listed(f"{judged.on} of each seed", seeds, form)]
    hidden = [entry for entry in seeds if judged.solved(entry[1:]).tolist() == [False, True]]
    which = "1 seed is" if len(hidden) == 1 else f"{len(hidden)} seeds are"
    return [_listed(f"{which} solved by sampled actions only", hidden, form)] if hidden else []


def _listed(what: str, seeds: Seeds, form: Callable[[float], str]) -> str:
    more = f", and {len(seeds) - MOST_SEEDS} more in summary.json" if len(seeds) > MOST_SEEDS else ""
    return f"{what}, greedy/sampled: {', '.join(_figures(seeds[:MOST_SEEDS], form))}{more}"


def _figures(seeds: Seeds, form: Callable[[float], str]) -> Iterable[str]:
    return (f"{seed}: {form(greedy)}/{form(sampled)}" for seed, greedy, sampled in seeds)


def _solved(summary: Mapping[str, Any], episodes: int) -> str:
    low, high = summary["solved_share_ci95"]
    text = (
        f"solved {share_text(summary['solved_share'])} of {len(summary['seeds'])} seeds "
        f"[95% {share_text(low)} to {share_text(high)}] (greedy {summary['solved_on']} of at "
        f"least {summary['solved_threshold']:g} in {episodes} episodes), mean "
    )
    if summary["solved_on"] == RETURN:
        return f"{text}return {return_text(summary)}"
    rates = (summary["mean_success_rate"], summary["mean_success_rate_stochastic"])
    return text + "success {} (sampled {})".format(*map(share_text, rates))


def _returned(summary: Mapping[str, Any], episodes: int) -> str:
    """With what a share of solved seeds needs: a threshold, which no task brings along for its returns."""
    asked = summary["tells_success"]  # else the task alone decided
    why = "returns count" if asked else "this task has no success, so returns count"
    given = summary["config"]["model"]["solved_threshold"]
    needs = "a share of solved seeds needs "
    if asked:
        needs += "<model.solved_threshold>"
    elif given is None:
        needs += "<model.solved_on> return and <model.solved_threshold>"
    else:
        needs = f"<model.solved_threshold> {given:g} is of success: {needs}<model.solved_on> return, too"
    return (
        f"{why}: mean return {return_text(summary)} of "
        f"{len(summary['seeds'])} seed{'s' if len(summary['seeds']) > 1 else ''}, greedy, in {episodes} episodes "
        f"({needs})"
    )


def return_text(summary: Mapping[str, Any]) -> str:
    """The mean return with its interval."""
    low, high = summary["mean_return_ci95"]
    interval = f" [95% {short(low)} to {short(high)}]" if low <= high else ""  # none: NaN, a single seed
    return short(summary["mean_return"]) + interval


def short(value: float) -> str:
    """A return, of whatever scale."""
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.4g}"
