"""The field ``until_decided`` of a sweep file: which samplers are compared, with what error rate, on how many seeds."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any

from lit_maprops.sweep.sweep_file import ALLOTTED, SweepFile
from lit_maprops.system.errors import check, did_you_mean

if TYPE_CHECKING:
    from lit_maprops.trials.decision import Design

FIELD = "until_decided"
# What a field leaves out: 440 seeds see 10 points at shares of one half with a power of 80%, in eight looks.
DEFAULTS: dict[str, Any] = {"baseline": None, "max_seeds": 440, "block": 55, "equal_within": 5.0, "alpha": 0.05}
METRIC = "solved_share"
SAMPLER, ON_POLICY = "model.behavior", "OnPolicy"
MOST_SEEDS, MOST_LOOKS, MOST_ARMS = 100_000, 200, 100
TASK = ("config", "data.env")  # parameters that choose what is played
Arm = dict[str, Any]


@dataclass(frozen=True)
class Decision:
    """A sweep that goes on until its comparisons are decided.

    Args:
        arms: points of the grid: a sampler each, with whatever else is varied.
        baseline: number of the arm that the others are compared with.
        max_seeds: of each arm.
        block: seeds of each arm between looks.
        margin: difference of solved shares within which two arms are called equal.
        alpha: error rate of all verdicts together.
    """

    arms: tuple[Arm, ...]
    baseline: int
    max_seeds: int
    block: int
    margin: float
    alpha: float

    @cached_property
    def design(self) -> "Design":
        """The test."""
        from lit_maprops.trials.decision import Design, looks_of  # not before a sweep starts: numpy

        return Design(looks_of(self.max_seeds, self.block), len(self.arms) - 1, self.margin, self.alpha)

    @property
    def others(self) -> list[int]:
        """Numbers of the arms that are compared with the baseline."""
        return [number for number in range(len(self.arms)) if number != self.baseline]

    def name(self, number: int) -> str:
        """An arm in few words: the values that are varied; with their names, where there are several."""
        varied = [key for key in self.arms[0] if len({repr(arm[key]) for arm in self.arms}) > 1]
        texts = {key: "null" if self.arms[number][key] is None else str(self.arms[number][key]) for key in varied}
        if len(texts) == 1:
            return next(iter(texts.values()))
        return ", ".join(f"{key.rpartition('.')[2]}={text}" for key, text in texts.items())


def with_decision(file: SweepFile) -> SweepFile:
    """The file with the field, all of it by default if it has none."""
    return file if FIELD in file.content else replace(file, content=file.content | {FIELD: {}})


def decision_of(file: SweepFile) -> Decision | None:
    """What the file's field says; None: it has none.

    Raises:
        ConfigError: it cannot be decided so.
    """
    if FIELD not in file.content:
        return None
    given = file.content[FIELD]
    check(isinstance(given, Mapping), f"{file.path}: {FIELD} is {given!r}: give {', '.join(DEFAULTS)}, or {{}}")
    for key in given:
        check(key in DEFAULTS, f"{file.path}: {FIELD}.{key} is not known{did_you_mean(str(key), DEFAULTS)}")
    _check_file(file)
    options = DEFAULTS | dict(given)
    where = f"{file.path}: {FIELD}"
    _check_numbers(where, options)
    arms = _arms(where, file)
    baseline = _baseline(where, options["baseline"], arms)
    margin = float(options["equal_within"]) / 100
    return Decision(arms, baseline, options["max_seeds"], options["block"], margin, float(options["alpha"]))


def _check_file(file: SweepFile) -> None:
    where = f"{file.path}: {FIELD}"
    check(file.is_ours, f"{where} needs runs of this program, whose command names lit_maprops")
    check(file.content["method"] == "grid", f"{where} compares the points of a grid: give method: grid")
    check(
        file.metric in (None, METRIC) and (file.metric is None or file.maximizes),
        f"{where} decides by {METRIC}, goal maximize: leave metric out, or name that one",
    )
    for key in ("early_terminate", "run_cap"):
        check(key not in file.content, f"{where} and {key} cannot go together: max_seeds is the budget; leave one out")
    for flag in ALLOTTED:
        check(flag not in file.flags, f"{where} allots the seeds: leave {flag} out")
    for name, rule in file.content["parameters"].items():
        fixed = isinstance(rule, dict) and ("values" in rule or "value" in rule)
        values = rule.get("values", [rule.get("value")]) if fixed else []
        values = values if isinstance(values, list) else []
        check(bool(values), f"{where}: parameters.{name} has no values: give a list")
        several = len({repr(value) for value in values}) > 1
        check(
            not several or not (name in TASK or name.startswith(f"{TASK[1]}.")),
            f"{where}: {name} has {len(values)} values, runs of different tasks are not compared: "
            "give one value, and a sweep file for each task",
        )


def _check_numbers(where: str, options: Mapping[str, Any]) -> None:
    for key, most in {"max_seeds": MOST_SEEDS, "block": options["max_seeds"]}.items():
        value = options[key]
        whole = isinstance(value, int) and not isinstance(value, bool)
        check(whole and 2 <= value <= most, f"{where}.{key} is {value!r}: give a whole number from 2 to {most}")
    for key, most in {"equal_within": 100.0, "alpha": 0.5}.items():
        value = options[key]
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        what = "points" if key == "equal_within" else "an error rate such as 0.05"
        check(number and 0 < value <= most, f"{where}.{key} is {value!r}: give {what}, above 0 and up to {most:g}")
    looks = -(-options["max_seeds"] // options["block"])
    check(
        looks <= MOST_LOOKS, f"{where}.block is {options['block']}: {looks:,} looks, at most {MOST_LOOKS} can be made"
    )


def _arms(where: str, file: SweepFile) -> tuple[Arm, ...]:
    """The points of the grid, each once, in its order; neither one nor too many of them."""
    rules = file.content["parameters"]
    values = [rules[name].get("values", [rules[name].get("value")]) for name in sorted(rules)]
    size = prod(map(len, values))
    arms: list[Arm] = []
    check(size <= MOST_ARMS, f"{where}: the grid has {size:,} arms: give 2 to {MOST_ARMS} to compare")
    for point in product(*values):
        arm = dict(zip(sorted(rules), point, strict=True))
        if arm not in arms:
            arms.append(arm)
    check(len(arms) > 1, f"{where}: the grid has 1 arm: give 2 to {MOST_ARMS} to compare")
    return tuple(arms)


def _baseline(where: str, given: Any, arms: tuple[Arm, ...]) -> int:
    """The number of the arm that the field names."""
    if given is None:
        wanted = {SAMPLER: ON_POLICY}
    elif isinstance(given, Mapping):
        wanted = dict(given)
    else:
        varied = [key for key in arms[0] if len({repr(arm[key]) for arm in arms}) > 1]
        check(len(varied) == 1, f"{where}.baseline is {given!r}: name the parameters of one arm: {_shown(arms[0])}")
        wanted = {varied[0]: given}
    found = [k for k, arm in enumerate(arms) if all(key in arm and arm[key] == v for key, v in wanted.items())]
    known = "; ".join(_shown(arm) for arm in arms[:4]) + (" ..." if len(arms) > 4 else "")
    check(
        len(found) == 1,
        f"{where}.baseline ({_shown(wanted)}) is {len(found) or 'none'} of the arms: name one of {known}",
    )
    return found[0]


def _shown(arm: Mapping[str, Any]) -> str:
    return "{" + ", ".join(f"{key}: {value}" for key, value in arm.items()) + "}"
