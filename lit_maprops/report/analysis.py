"""From runs to what the page shows: settings, the samplers compared within each, and their figures of merit."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from lit_maprops.metrics.reliability import Criterion
from lit_maprops.report import returns, statistics
from lit_maprops.report.decisions import interval_of
from lit_maprops.report.load import Floats, Run
from lit_maprops.report.settings import (
    ENVIRONMENT,
    FIXED_STYLES,
    ON_POLICY,
    SAMPLER,
    Key,
    natural,
    short_names,
)
from lit_maprops.report.statistics import Interval
from lit_maprops.report.svg import STYLES
from lit_maprops.trials.decision import Look

HEADS_OF_A_SETTING = (ENVIRONMENT, "model.learner")


@dataclass(frozen=True)
class Group:
    """The runs of one sampler in one setting.

    Attributes:
        key: class and options.
        name: short, unique within the setting.
        style: number of its color, line and marker, the same for a class in all settings where it can be; 0: on-policy.
        runs: finished ones.
        unfinished: shown in curves only.
        judged: when a seed counts as solved; scores are returns where it says so.
    """

    key: Key
    name: str
    style: int
    runs: tuple[Run, ...]
    unfinished: tuple[Run, ...]
    judged: Criterion
    decided: Interval | None = None  # the difference to on-policy that a sweep until decided ended with

    @property
    def by_return(self) -> bool:
        """Whether scores are returns."""
        return self.judged.by_return

    @property
    def on_policy(self) -> bool:
        """Whether this is the baseline."""
        return self.option(SAMPLER) == ON_POLICY

    def option(self, key: str) -> Hashable:
        """A value of the sampler's configuration; None where it has no such key."""
        return dict(self.key).get(key)

    @cached_property
    def scores(self) -> Floats:
        """Final greedy success rate of every seed, or the return of every seed that has one, ``[seeds]``."""
        if self.by_return:
            final = [run.others["greedy_return"][-1] for run in self.runs]
            return np.concatenate([values[np.isfinite(values)] for values in final]) if final else np.empty(0)
        return np.concatenate([run.final for run in self.runs]) if self.runs else np.empty(0)

    @cached_property
    def solved(self) -> Floats:
        """1 where the seed is solved, else 0, ``[seeds]``."""
        return np.concatenate([run.solved_by(self.judged).astype(float) for run in self.runs] or [np.empty(0)])

    def curve(self) -> tuple[Floats, Floats]:
        """Env steps ``[points]`` and success ``[points, seeds]`` at the evaluations that all finished runs share.

        Returns of the seeds that have one everywhere, if returns are judged; of the end, if no seed has.
        """
        steps = self.runs[0].env_steps
        for run in self.runs[1:]:
            steps = np.intersect1d(steps, run.env_steps)
        if self.by_return:
            rows = [run.others["greedy_return"][np.searchsorted(run.env_steps, steps)] for run in self.runs]
            values = np.concatenate(rows, axis=1)
            whole = np.isfinite(values).all(0)
            return (steps, values[:, whole]) if whole.any() else (steps[-1:], np.nan_to_num(values[-1:]))
        # A seed in NaN has no success from there on.
        parts = [np.nan_to_num(run.success[np.searchsorted(run.env_steps, steps)]) for run in self.runs]
        return steps, np.concatenate(parts, axis=1)

    def error_curve(self, column: str) -> tuple[Floats, Floats, Floats]:
        """Env steps, sampling error and its standard error, ``[points]``.

        Means over the finished runs that measured it, weighted by seeds; the standard error is NaN where a run has
        none (a single seed).
        """
        parts = [(run, run.metrics[column]) for run in self.runs if column in run.metrics]
        steps = np.concatenate([run.metrics["env_steps"] for run, _ in parts] or [np.empty(0)])
        values = np.concatenate([v for _, v in parts] or [np.empty(0)])
        unknown = [np.full(len(v), np.nan) for _, v in parts]
        errors = [run.metrics.get(f"{column}_se", none) for (run, _), none in zip(parts, unknown, strict=True)]
        weights = np.concatenate([np.full(len(v), float(len(run.seeds))) for run, v in parts] or [np.empty(0)])
        fine = np.isfinite(values)
        points, index = np.unique(steps[fine], return_inverse=True)
        total = np.bincount(index, weights[fine])
        mean = np.bincount(index, values[fine] * weights[fine]) / total
        scaled = (np.concatenate(errors or [np.empty(0)]) * weights)[fine]
        return points, mean, np.sqrt(np.bincount(index, scaled**2)) / total

    def first_error(self, column: str, estimates: int) -> float:
        """Mean of the first estimates of a run; NaN where there is none."""
        values = self.error_curve(column)[1][:estimates]
        return float(values.mean()) if len(values) else float("nan")

    def error(self, column: str) -> float:
        """Mean over training and seeds of a sampling-error column; NaN where it was not measured."""
        pairs = [(run.mean(column), len(run.seeds)) for run in self.runs]
        pairs = [pair for pair in pairs if np.isfinite(pair[0])]
        weights = sum(seeds for _, seeds in pairs)
        return sum(value * seeds for value, seeds in pairs) / weights if pairs else float("nan")


@dataclass(frozen=True)
class Result:
    """A group's figures of merit; the last two are against on-policy and None where there is nothing to compare.

    Where returns are judged, IQM and improvement are theirs. ``share`` is that of solved seeds, or without a threshold
    for returns their mean; ``difference`` likewise.
    """

    group: Group
    seeds: int
    share: Interval
    iqm: Interval
    difference: Interval | None
    improvement: Interval | None


@dataclass(frozen=True)
class Setting:
    """Runs that may be compared: same task, learner and sizes.

    Attributes:
        key: what they share.
        name: short.
        groups: by sampler, on-policy first.
    """

    key: Key
    name: str
    groups: tuple[Group, ...]

    @cached_property
    def results(self) -> tuple[Result, ...]:
        """Of the groups with scores; made when asked for, as not every setting is shown."""
        return _results(self.groups)

    @property
    def baseline(self) -> Group | None:
        """The on-policy group, if it has finished runs."""
        return _baseline(self.groups)

    @property
    def by_return(self) -> bool:
        """Whether returns are compared: the task tells no success, or the runs are judged by their returns."""
        return any(group.by_return for group in self.groups)

    @property
    def tells_success(self) -> bool:
        """Whether any run has success rates."""
        return any(run.tells_success for group in self.groups for run in (*group.runs, *group.unfinished))

    @property
    def tells_solved(self) -> bool:
        """Whether there is a share of solved seeds."""
        return all(group.judged.tells_solved for group in self.groups)

    @property
    def seeds(self) -> int:
        """Finished seeds of all groups."""
        return sum(len(group.scores) for group in self.groups)


def by_setting(runs: Sequence[Run], looks: Mapping[Path, Look] | None = None) -> list[Setting]:
    """Group runs by setting and sampler; the settings with the most samplers and seeds come first.

    Args:
        runs: all there are.
        looks: of ``decided_sweeps``.
    """
    settings = short_names({run.setting: None for run in runs}, HEADS_OF_A_SETTING)
    found: dict[Key, dict[Key, list[Run]]] = {}
    for run in runs:
        found.setdefault(run.setting, {}).setdefault(run.sampler, []).append(run)
    result = []
    for key, samplers in found.items():
        names = short_names(samplers, (SAMPLER,))
        order = sorted(names, key=lambda k: (dict(k).get(SAMPLER) != ON_POLICY, natural(names[k])))
        groups = []
        judged = _judged([run for runs_of_one in samplers.values() for run in runs_of_one])
        for sampler, style in zip(order, _styles([str(dict(k).get(SAMPLER)) for k in order]), strict=True):
            done = tuple(run for run in samplers[sampler] if run.finished)
            rest = tuple(run for run in samplers[sampler] if not run.finished)
            groups.append(Group(sampler, names[sampler], style, done, rest, judged))
        if base := _baseline(groups):
            groups = [replace(g, decided=interval_of(looks or {}, g.runs, base.runs)) for g in groups]
        result.append(Setting(key, settings[key], tuple(groups)))
    return sorted(result, key=lambda s: (-min(len(_with_scores(s.groups)), 2), natural(s.name), -s.seeds))


def _judged(runs: Sequence[Run]) -> Criterion:
    """The criterion of the runs of a setting, of which one that tells success says that the task does."""
    return next((run.criterion for run in runs if run.tells_success), runs[0].criterion)


def _styles(classes: Sequence[str]) -> list[int]:
    """A style per sampler; samplers too many to tell apart share their class's."""
    if len(classes) > STYLES:
        kinds = list(dict.fromkeys(classes))
        look = dict(zip(kinds, _styles(kinds), strict=True)) if len(kinds) <= STYLES else {}
        return [look.get(kind, FIXED_STYLES.get(kind, STYLES - 1)) for kind in classes]
    styles: list[int] = []
    kept = {FIXED_STYLES[kind] for kind in classes if kind in FIXED_STYLES}
    free = [style for style in range(1, STYLES) if style not in kept] + [0]
    for kind in classes:
        style = FIXED_STYLES.get(kind)
        styles.append(free.pop(0) if style is None or style in styles else style)
    return styles


def _baseline(groups: Sequence[Group]) -> Group | None:
    return next((group for group in _with_scores(groups) if group.on_policy), None)


def _with_scores(groups: Sequence[Group]) -> list[Group]:
    """Those with a finished run and, where returns count, a return from any."""
    return [group for group in groups if len(group.scores)]


def _results(groups: Sequence[Group]) -> tuple[Result, ...]:
    base, count = _baseline(groups), max(1, len(_with_scores(groups)) - 1)
    results = []
    for group in _with_scores(groups):
        share = group.judged.tells_solved
        difference = improvement = None
        if base is not None and group is not base:
            if share:
                difference = group.decided or statistics.share_difference([group.solved], [base.solved], count)
            else:
                difference = returns.difference(group.scores, base.scores, count)
            if group.by_return:
                improvement = returns.improvement(group.scores, base.scores, count)
            else:
                improvement = statistics.improvement([group.scores], [base.scores], count)
        iqm = statistics.bootstrap(statistics.iqm, [group.scores])
        value = statistics.share(group.solved) if share else returns.mean(group.scores)
        results.append(Result(group, len(group.scores), value, iqm, difference, improvement))
    return tuple(results)


def across(settings: Sequence[Setting]) -> list[Result]:
    """Samplers that ran in every setting, with the settings as strata; empty with fewer than two settings.

    For settings whose tasks tell success: returns of different tasks have no common scale.

    Shares of solved seeds and IQMs count every seed once; differences and probabilities of improvement count every
    setting once.
    """
    if len(settings) < 2:
        return []
    tables = [{group.key: group for group in setting.groups if group.runs} for setting in settings]
    everywhere = [key for key in tables[0] if all(key in table for table in tables)]
    base = next((key for key in everywhere if dict(key)[SAMPLER] == ON_POLICY), None)
    results, count = [], max(1, len(everywhere) - 1)
    for key in everywhere:
        groups = [table[key] for table in tables]
        scores, solved = [g.scores for g in groups], [g.solved for g in groups]
        difference = improvement = None
        if base is not None and key != base:
            others = [table[base] for table in tables]
            difference = statistics.share_difference(solved, [g.solved for g in others], count)
            improvement = statistics.improvement(scores, [g.scores for g in others], count)
        iqm = statistics.bootstrap(statistics.iqm, scores)
        results.append(
            Result(
                groups[0], sum(map(len, scores)), statistics.share(np.concatenate(solved)), iqm, difference, improvement
            )
        )
    return results
