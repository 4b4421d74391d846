"""The paper's failure signature "PROPS outperforms MA-PROPS", and which of its two causes the figures support.

Either the task needs no joint coordination, or it has too many joint actions for D (arXiv 2508.01049). The joint
sampling error tells them apart: MA-PROPS lowers it more than PROPS does, as it is meant to, and PROPS solves more all
the same; or it does not, and D holds few of the joint actions in a state. Thresholds are decided here.
"""

import math
from collections.abc import Iterator, Sequence

from lit_maprops.metrics.reliability import share_text
from lit_maprops.report import returns
from lit_maprops.report.analysis import Group, Setting
from lit_maprops.report.error_figures import BASELINE, FIRST_ESTIMATES, JOINT, PREFIX
from lit_maprops.report.forms import interval_text, signed_digits, signed_points
from lit_maprops.report.load import MOST_STEPS
from lit_maprops.report.settings import SAMPLER
from lit_maprops.report.statistics import share_difference
from lit_maprops.run.diagnosis import FEWEST_ESTIMATES, MATTERS, STANDARD_ERRORS, Comparison, RunningMeans

SEEN = f"{PREFIX}joint_actions_seen"
FEW_SEEN = 0.5  # of the joint actions: D holds less than half of them in a state
MOST_NOTES = 6


def props_notes(setting: Setting) -> list[str]:
    """One for each pair of finished PROPS and MAPROPS with the same options of which PROPS did better, by an interval.

    Where there is one of each, their options may differ: tuned samplers do.
    """
    notes, pairs = [], _pairs(setting.groups)
    for props, joint in pairs:
        if not setting.tells_solved:
            difference = returns.difference(props.scores, joint.scores, len(pairs))
            what, form, unit = "returned more than", signed_digits, ""
        else:
            difference = share_difference([props.solved], [joint.solved], len(pairs))
            what, form, unit = "solved more seeds than", signed_points, " points"
        if difference.beats(0) == 1:
            size = interval_text(difference, form).replace(" [", f"{unit} [")
            notes.append(f"{props.name} {what} {joint.name}: {size}. {_cause(props, joint)}")
    return notes[:MOST_NOTES]


def _pairs(groups: Sequence[Group]) -> list[tuple[Group, Group]]:
    def of(kind: str) -> list[Group]:
        return [group for group in groups if group.option(SAMPLER) == kind and len(group.scores)]

    props, joint = of("PROPS"), of("MAPROPS")
    alike = [(p, j) for p in props for j in joint if _same_options(dict(p.key), dict(j.key))]
    return list(zip(props, joint, strict=True)) if len(props) == len(joint) == 1 else alike


def _same_options(a: dict, b: dict) -> bool:
    return all(a[key] == b[key] for key in (a.keys() & b.keys()) - {SAMPLER})


def _cause(props: Group, joint: Group) -> str:
    measured = [(measure, _compared(props, measure), _compared(joint, measure)) for measure in JOINT]
    enough = [found for found in measured if min(found[1].estimates, found[2].estimates) >= FEWEST_ESTIMATES]
    if not enough:
        return (
            f"Why is not known: the joint sampling error of both must be estimated {FEWEST_ESTIMATES} times (model."
            "sampling_error, model.sampling_error_interval)."
        )
    measure, of_props, of_joint = enough[0]
    figures = f"({measure}: {joint.name} {_beside(of_joint)}, {props.name} {_beside(of_props)})"
    if _lowers_more(of_joint, of_props):
        return (
            f"{joint.name} took more off the joint sampling error {figures}, and that did not help: this task does "
            "not need joint coordination of the samples."
        )
    seen, there_are = joint.first_error(SEEN, FIRST_ESTIMATES), _joint_actions(joint)
    text = f"{joint.name} took no more off the joint sampling error {figures}"
    if not math.isfinite(seen) or there_are is None:
        return f"{text}; how many joint actions D held is not known."
    held = f"D held {seen:.3g} of {there_are:,} joint actions in a state (first {FIRST_ESTIMATES} estimates)"
    if seen < FEW_SEEN * there_are:
        return f"{text}, and {held}: too many joint actions for D. Raise data.target_batch_size, or stay with PROPS."
    return (
        f"{text}, although {held}: neither too many joint actions nor a task without need of coordination. Look at "
        "the behavior updates (behavior/kl_reached, behavior/cutoff_share)."
    )


def _compared(group: Group, measure: str) -> Comparison:
    """Its sampling error beside on-policy's while policies are not nearly deterministic, as warnings count it."""
    means = RunningMeans()
    for run in group.runs:
        columns = (PREFIX + measure, PREFIX + measure + BASELINE, "target/entropy")
        known = {name: run.metrics[name].tolist() for name in columns if name in run.metrics}
        for row in _rows(known):
            means.add(row)
    return means.compared(measure)


def _rows(columns: dict[str, list[float]]) -> Iterator[dict[str, float]]:
    for values in zip(*columns.values(), strict=True):
        yield dict(zip(columns, values, strict=True))


def _lowers_more(joint: Comparison, props: Comparison) -> bool:
    """Whether the first takes more off on-policy's error, by as much as a warning asks for."""
    if not (joint.on_policy > 0 and props.on_policy > 0):
        return False
    least = max(MATTERS, STANDARD_ERRORS * math.hypot(*(c.standard_error / c.on_policy for c in (joint, props))))
    own, other = (-c.difference / c.on_policy for c in (joint, props))  # shares that are taken off
    return own > MATTERS and own - other > least


def _beside(found: Comparison) -> str:
    change = found.difference / found.on_policy if found.on_policy > 0 else math.nan
    sign = "\N{MINUS SIGN}" if change < 0 else "+"
    relative = "" if math.isnan(change) else f", {sign}{share_text(abs(change))}"
    return f"{found.own:.3g} beside on-policy's {found.on_policy:.3g}{relative}"


def _joint_actions(group: Group) -> int | None:
    """How many there are, as summary.json says, which may be anybody's."""
    given = [(run.summary or {}).get("joint_actions") for run in group.runs]
    return next((count for count in given if type(count) is int and 0 < count <= MOST_STEPS), None)
