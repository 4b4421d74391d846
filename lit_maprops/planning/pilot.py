"""What finished runs say for a plan: how often they solve, how returns spread over seeds, how long a seed takes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lit_maprops.metrics.reliability import wilson_interval
from lit_maprops.report.load import Run, load_runs
from lit_maprops.report.settings import ENVIRONMENT, ON_POLICY, SAMPLER, show
from lit_maprops.system.errors import ConfigError, check

SHARE, RETURN = METRICS = ("solved_share", "mean_return")


@dataclass(frozen=True)
class Pilot:
    """Finished runs of one setting.

    Attributes:
        sampler: the class of the baseline, on-policy if it is there.
        seeds: of the baseline.
        value: of the metric, over them.
        interval: 95% Wilson interval of a share; None: of returns.
        deviation: standard deviation of a seed's return; 0 for a share.
        seconds: of a seed of the baseline, and of every other sampler.
    """

    sampler: str
    seeds: int
    value: float
    interval: tuple[float, float] | None
    deviation: float
    seconds: tuple[float, ...]


def read_pilot(paths: Sequence[str | Path], metric: str) -> Pilot:
    """Read the runs.

    Raises:
        ConfigError: no run is finished, they are of different tasks or settings, or none has the metric.
    """
    runs, left_out = load_runs(paths)
    runs = [run for run in runs if run.finished]
    places = ", ".join(str(path) for path in paths)
    why = f" ({left_out[0].path}: {left_out[0].reason})" if left_out else ""
    check(bool(runs), f"<pilot> {places} holds no finished run{why}: give folders that fit wrote, such as runs")
    _check_alike(runs)
    samplers: dict[object, list[Run]] = {}
    for run in runs:
        samplers.setdefault(run.sampler, []).append(run)
    first = [key for key, own in samplers.items() if own[0].config.get(SAMPLER) == ON_POLICY]
    check(
        len(first) == 1 or len(samplers) == 1,
        f"<pilot> {places} has {len(samplers)} samplers and no OnPolicy among them: give runs of OnPolicy, too",
    )
    base = (first or list(samplers))[0]
    told = [run for run in samplers[base] if run.tells_success]
    if metric == SHARE and not told:
        raise ConfigError(
            f"<metric>: no run of OnPolicy in <pilot> has {SHARE}, the task tells no success: give {RETURN}"
            if first
            else f"<metric>: no run in <pilot> has {SHARE}, the task tells no success: give {RETURN}"
        )
    seconds = (base, *(key for key in samplers if key != base))
    of_base = samplers[base]
    name = show(of_base[0].config.get(SAMPLER))
    times = tuple(_seconds(samplers[key]) for key in seconds)
    if metric == SHARE:
        solved, seeds = sum(run.solved for run in of_base), sum(len(run.seeds) for run in of_base)
        return Pilot(name, seeds, solved / seeds, wilson_interval(solved, seeds), 0.0, times)
    values = np.concatenate([run.others["greedy_return"][-1] for run in of_base])
    values = values[np.isfinite(values)]
    check(
        len(values) > 1, f"<metric>: <pilot> {places} has {len(values)} seeds with a return: two at least have a spread"
    )
    deviation = float(values.std(ddof=1))
    check(deviation > 0, "<pilot>: all seeds have the same return, no difference is too small to see: give <spread>")
    return Pilot(name, len(values), float(values.mean()), None, deviation, times)


def _check_alike(runs: Sequence[Run]) -> None:
    """Refuse runs of several tasks, or that differ in more than the sampler."""
    for run in runs[1:]:
        odd = sorted({key for key, _ in run.setting ^ runs[0].setting})
        if not odd:
            continue
        of_task = [key for key in odd if key == ENVIRONMENT or key.startswith(f"{ENVIRONMENT}.")]
        shown = ", ".join((of_task or odd)[:3])
        what = "are of different tasks" if of_task else "differ in more than the sampler"
        raise ConfigError(f"<pilot>: {runs[0].name} and {run.name} {what} ({shown}): give runs that can be compared")


def _seconds(runs: Sequence[Run]) -> float:
    """Wall time of a seed."""
    walls = [float(run.metrics["wall_seconds"][-1]) for run in runs if "wall_seconds" in run.metrics]
    seeds = [len(run.seeds) for run in runs if "wall_seconds" in run.metrics]
    return sum(walls) / sum(seeds) if seeds else float("nan")
