"""What a run says at its end: how its seeds did, by success or, where the task tells none, by return."""

from collections.abc import Iterable, Mapping
from typing import Any

MOST_SEEDS = 16  # that are listed one by one


def last_words(summary: Mapping[str, Any], episodes: int) -> list[str]:
    """Lines for the user: seeds one by one, unless there are too many, then all together.

    Args:
        summary: of the run, as in summary.json.
        episodes: of each seed's evaluation.
    """
    names = ("success_rate", "success_rate_stochastic") if summary["tells_success"] else RETURNS
    of_seeds = zip(summary["seeds"], *(summary[name] for name in names), strict=True)
    seeds = [(number, greedy, sampled) for number, greedy, sampled in of_seeds]
    if summary["tells_success"]:
        return [*_successes(seeds, summary["solved_threshold"]), _solved(summary, episodes)]
    few = len(seeds) <= MOST_SEEDS
    return [*([_listed("return of each seed", seeds)] if few else []), _returned(summary, episodes)]


RETURNS = ("episode_return", "episode_return_stochastic")
Seeds = list[tuple[int, float, float]]  # number, figure of the greedy and of the sampled actions


def _successes(seeds: Seeds, threshold: float) -> list[str]:
    if len(seeds) <= MOST_SEEDS:
        return [_listed("success of each seed", seeds)]
    hidden = [entry for entry in seeds if not entry[1] >= threshold and entry[2] >= threshold]  # NaN is not solved
    which = "1 seed is" if len(hidden) == 1 else f"{len(hidden)} seeds are"
    return [_listed(f"{which} solved by sampled actions only", hidden)] if hidden else []


def _listed(what: str, seeds: Seeds) -> str:
    more = f", and {len(seeds) - MOST_SEEDS} more in summary.json" if len(seeds) > MOST_SEEDS else ""
    return f"{what}, greedy/sampled: {', '.join(_figures(seeds[:MOST_SEEDS]))}{more}"


def _figures(seeds: Seeds) -> Iterable[str]:
    return (f"{seed}: {short(greedy)}/{short(sampled)}" for seed, greedy, sampled in seeds)


def _solved(summary: Mapping[str, Any], episodes: int) -> str:
    low, high = summary["solved_share_ci95"]
    return (
        f"solved {summary['solved_share']:.0%} of {len(summary['seeds'])} seeds [95% {low:.0%} to {high:.0%}] (greedy "
        f"success of at least {summary['solved_threshold']:g} in {episodes} episodes), mean success "
        f"{summary['mean_success_rate']:.2f} (sampled {summary['mean_success_rate_stochastic']:.2f})"
    )


def _returned(summary: Mapping[str, Any], episodes: int) -> str:
    return (
        f"this task has no success, so returns count: mean return {return_text(summary)} of "
        f"{len(summary['seeds'])} seed{'s' if len(summary['seeds']) > 1 else ''}, greedy, in {episodes} episodes"
    )


def return_text(summary: Mapping[str, Any]) -> str:
    """The mean return with its interval."""
    low, high = summary["mean_return_ci95"]
    interval = f" [95% {short(low)} to {short(high)}]" if low <= high else ""  # none: NaN, a single seed
    return short(summary["mean_return"]) + interval


def short(value: float) -> str:
    """A success rate or a return, of whatever scale."""
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.4g}"
