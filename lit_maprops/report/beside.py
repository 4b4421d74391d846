"""Runs of other packages beside ours: one section per task that files of marl-eval have."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist

import numpy as np

from lit_maprops.metrics.reliability import RETURN, SUCCESS, SUCCESS_THRESHOLD, Criterion, share_text
from lit_maprops.metrics.score_interval import score_interval
from lit_maprops.report import figures, statistics
from lit_maprops.report.analysis import Group, Result, Setting
from lit_maprops.report.forms import interval_text, signed_digits, signed_points, three_digits
from lit_maprops.report.load import Run
from lit_maprops.report.marl_eval import Name, Outside, read_marl_eval, same_task
from lit_maprops.report.marl_eval_out import LEARNER, environment_key, tasks_of
from lit_maprops.report.return_figures import returns
from lit_maprops.report.returns import mean as mean_return
from lit_maprops.report.settings import ON_POLICY, SAMPLER, natural, show
from lit_maprops.report.statistics import Interval
from lit_maprops.report.svg import STYLES, Drawing
from lit_maprops.system.errors import check, printable


@dataclass(frozen=True)
class Beside:
    """A section of the page.

    Attributes:
        name: environment and task.
        headline: sentences.
        drawings: figures.
        heads: of the table of differences.
        rows: its text.
        seeds: of the files.
    """

    name: str
    headline: list[str]
    drawings: list[Drawing]
    heads: tuple[str, ...]
    rows: list[list[str]]
    seeds: int


def read_files(paths: Sequence[Path], aliases: Mapping[str, str]) -> list[Outside]:
    """The algorithms of all files.

    Args:
        paths: of the files.
        aliases: ``environment/task`` of a file to the ``environment/task`` that it stands for.

    Raises:
        ConfigError: a file is none of marl-eval's, or an alias names what no file has.
    """
    found = [one for path in paths for one in read_marl_eval(path)]
    known = {"/".join(one.task) for one in found}
    for given, meant in aliases.items():
        check(given in known, f"<alias> {given} is in no file: they have {', '.join(sorted(known)[:10]) or 'nothing'}")
        check("/" in meant, f"<alias> {given}={meant}: give environment and task, such as VMAS/balance")
    return [_renamed(one, aliases.get("/".join(one.task))) for one in found]


def _renamed(one: Outside, meant: str | None) -> Outside:
    if meant is None:
        return one
    environment, _, task = meant.partition("/")
    return Outside(one.file, (environment, task), one.algorithm, one.seeds, one.env_steps, one.success, one.returns)


def check_shared(outside: Sequence[Outside], runs: Sequence[Run]) -> None:
    """Refuse a file that has no task of the other inputs: nothing of it could be compared.

    Raises:
        ConfigError: names the tasks of both, and how to say that two are the same.
    """
    ours = list(dict.fromkeys(tasks_of(runs).values()))
    for path in dict.fromkeys(one.file for one in outside):
        own = list(dict.fromkeys(one.task for one in outside if one.file == path))
        rest = [*ours, *(one.task for one in outside if one.file != path)]
        shared = {same_task(name) for name in own} & {same_task(name) for name in rest}
        theirs, others = (", ".join("/".join(name) for name in names[:3]) for names in (own, list(dict.fromkeys(rest))))
        check(
            bool(shared) or not rest,
            f"report: {path} has no task of the other inputs: it has {theirs}, they have {others}: leave it out, or "
            f"say <alias> {'/'.join(own[0])}={'/'.join((rest or own)[0])} if these are the same",
        )


def beside(outside: Sequence[Outside], settings: Sequence[Setting]) -> list[Beside]:
    """A section per task of the files, with our runs of the same task.

    Args:
        outside: of the files.
        settings: of our runs.
    """
    names = tasks_of([run for setting in settings for group in setting.groups for run in group.runs])
    files: dict[Name, list[Outside]] = {}
    for one in outside:
        files.setdefault(same_task(one.task), []).append(one)
    sections = []
    for task, found in files.items():
        ours = [
            (setting, group)
            for setting in settings
            for group in setting.groups
            if group.runs and same_task(names[environment_key(group.runs[0].config)]) == task
        ]
        sections.append(_section(found, ours))
    return sorted(sections, key=lambda section: natural(section.name))


def _section(outside: Sequence[Outside], ours: Sequence[tuple[Setting, Group]]) -> Beside:
    by_return = any(one.success is None for one in outside) or any(group.by_return for _, group in ours)
    if by_return and any(one.returns is None for one in outside):
        by_return = False  # some have nothing but success: those without are left out
    used = [one for one in outside if (one.returns if by_return else one.success) is not None]
    thresholds = [group.judged.threshold for _, group in ours if not group.by_return]
    threshold = max((known for known in thresholds if known is not None), default=SUCCESS_THRESHOLD)
    judged = Criterion(RETURN, None) if by_return else Criterion(SUCCESS, threshold)
    ours = [(setting, group) for setting, group in ours if by_return or not group.by_return]
    members = [(_our_name(setting, group, ours), group.runs) for setting, group in ours]
    several = len({one.file for one in outside}) > 1
    members += [
        (f"{one.algorithm}, {one.file.name}" if several else one.algorithm, (_as_run(one, threshold),)) for one in used
    ]
    groups = tuple(
        Group(frozenset({(SAMPLER, name)}), name, number % STYLES, runs, (), judged)
        for number, (name, runs) in enumerate(members)
    )
    name = "/".join(outside[0].task)
    results = [_result(group) for group in groups if len(group.scores)]
    setting = Setting(frozenset(), name, groups)
    merits = returns if by_return else figures.reliability
    drawings = [figures.success_curves(setting), *merits(results, name)]
    on_policy = [_our_name(setting, group, ours) for setting, group in ours if group.option(SAMPLER) == ON_POLICY]
    base = next((k for k, result in enumerate(results) if result.group.name in on_policy), 0)
    rows = _differences(results, base, by_return)
    left = [one.algorithm for one in outside if one not in used]
    headline = _headline(outside, bool(ours), by_return, threshold, left, len(results) - 1)
    heads = (
        "algorithm",
        "seeds",
        "mean return" if by_return else "solved",
        f"difference to {results[base].group.name}",
    )
    return Beside(name, headline, drawings, heads, rows, sum(one.seeds for one in outside))


def _our_name(setting: Setting, group: Group, ours: Sequence[tuple[Setting, Group]]) -> str:
    name = f"{show(dict(setting.key).get(LEARNER))}, {group.name}"
    alike = [s for s, g in ours if g.name == group.name and dict(s.key).get(LEARNER) == dict(setting.key).get(LEARNER)]
    return f"{name}, {setting.name.partition(' (')[2].removesuffix(')')}" if len(alike) > 1 else name


def _as_run(one: Outside, threshold: float) -> Run:
    """What the figures ask of a run; what a file does not have is NaN or empty."""
    nothing = np.full((len(one.env_steps), one.seeds), np.nan)
    success, gained = (nothing if values is None else values for values in (one.success, one.returns))
    return Run(
        path=one.file,
        name=printable(one.file.name),
        config={"model.solved_threshold": threshold, SAMPLER: one.algorithm},
        metrics={},
        env_steps=one.env_steps,
        seeds=np.arange(one.seeds),
        success=success,
        final=np.nan_to_num(success[-1]),
        others={"greedy_return": gained, "stochastic_success_rate": nothing, "stochastic_return": nothing},
        nan_seeds=(),
        summary={},
    )


def _result(group: Group) -> Result:
    figure = mean_return(group.scores) if group.by_return else statistics.share(group.solved)
    iqm = statistics.bootstrap(statistics.iqm, [group.scores])
    return Result(group, len(group.scores), figure, iqm, None, None)


def _differences(results: Sequence[Result], base: int, by_return: bool) -> list[list[str]]:
    """Against one algorithm; the intervals hold together with 95% (Bonferroni)."""
    form, signed = (three_digits, signed_digits) if by_return else (share_text, signed_points)
    level = 1 - 0.05 / max(1, len(results) - 1)
    rows = []
    for number, result in enumerate(results):
        text = ""
        if number != base:
            text = interval_text(_difference(result.group, results[base].group, level), signed)
        rows.append([result.group.name, str(result.seeds), interval_text(result.share, form), text])
    return rows


def _difference(x: Group, y: Group, level: float) -> Interval:
    if x.by_return:
        return statistics.welch(x.scores, y.scores, level)
    quantile = NormalDist().inv_cdf(0.5 + level / 2)
    counts = [x.solved.sum()], [len(x.solved)], [y.solved.sum()], [len(y.solved)]
    low, high = score_interval(*counts, quantile=quantile)
    return Interval(float(x.solved.mean() - y.solved.mean()), float(low), float(high))


def _headline(
    outside: Sequence[Outside], ours: bool, by_return: bool, threshold: float, left: Sequence[str], compared: int
) -> list[str]:
    files = ", ".join(dict.fromkeys(printable(one.file.name) for one in outside))
    sentences = [
        f"Of {files}{', beside our runs of the same task' if ours else ''}. Only names and evaluations are in such "
        "files: learners, sizes and the way of evaluating may differ, so a difference is one of whole programs. Their "
        "sampling error, cost, seeds in NaN and unfinished runs are not known and not shown."
    ]
    if by_return:
        sentences.append("Figures are returns (reward) of the last evaluation that all seeds of an algorithm have.")
    else:
        sentences.append(f"A seed is solved when its last success rate reaches {threshold:g}.")
    if left:
        sentences.append(f"Without that figure, so left out: {', '.join(left)}.")
    if compared > 1:
        sentences.append(f"The {compared} intervals of differences hold together with 95% (Bonferroni).")
    return sentences
