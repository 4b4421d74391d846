"""Types of arguments that say which values are allowed; the help and the reference show their names.

To mypy and to the parser they are the plain types; ``checked`` (``lit_maprops.system.arguments``) enforces the ranges.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Union, get_args, get_origin

import numpy as np
from typing_extensions import TypeAliasType

from lit_maprops.system.errors import ConfigError, check

AUTO: Final = "auto"  # in place of a number: the program finds it


@dataclass(frozen=True)
class Range:
    """Numbers that an argument may have; NaN is in none.

    Attributes:
        low: the least.
        high: the greatest; infinity: any, infinity included.
        strict: neither of the two itself.
    """

    low: float = -inf
    high: float = inf
    strict: bool = False

    def __contains__(self, value: float) -> bool:
        if self.strict:
            return self.low < value < self.high or value == self.high == inf
        return self.low <= value <= self.high

    def __str__(self) -> str:
        """What to give instead of a value outside."""
        if self.high == inf:
            return f"a value above {self.low}" if self.strict else f"a value of at least {self.low}"
        if self.low == -self.high:
            return f"a finite number below {self.high:.0e}".replace("e+", "e")
        words = "between {:,} and {:,}" if self.strict else "from {:,} to {:,}"
        return f"a value {words.format(self.low, self.high)}"


PositiveInt = TypeAliasType("PositiveInt", Annotated[int, Range(1)])
Count = TypeAliasType("Count", Annotated[int, Range(1, 1_000_000)])  # beyond, it is a slip
NonNegativeInt = TypeAliasType("NonNegativeInt", Annotated[int, Range(0)])
BatchSize = TypeAliasType("BatchSize", Annotated[int, Range(1, 10**9)])
PositiveFloat = TypeAliasType("PositiveFloat", Annotated[float, Range(0, strict=True)])
LearningRate = TypeAliasType("LearningRate", Annotated[float, Range(0, 1e30, strict=True)])  # in single precision
AdamEpsilon = TypeAliasType("AdamEpsilon", Annotated[float, Range(1e-30, 1e30)])  # above 0 in single precision
NonNegativeFloat = TypeAliasType("NonNegativeFloat", Annotated[float, Range(0)])
ClosedUnitInterval = TypeAliasType("ClosedUnitInterval", Annotated[float, Range(0, 1)])
RewardFloat = TypeAliasType("RewardFloat", Annotated[float, Range(-1e30, 1e30, strict=True)])  # in single precision
Cost = TypeAliasType("Cost", Annotated[float, Range(0, 1e30)])  # a reward that is subtracted

# Keyword arguments of something else. Of the values in a plain dict the parser makes nothing: a text "007" in a
# configuration stays a text, which it would not in dict[str, Any].
if TYPE_CHECKING:
    Options = dict[str, Any]
else:
    Options = dict

_KINDS: dict[Any, tuple[Any, str]] = {
    bool: ((bool, np.bool_), "true or false"),
    int: (Integral, "an int"),
    float: (Real, "a float"),
    str: (str, "a text"),
}


def check_value(argument: str, hint: Any, value: Any) -> None:
    """Refuse a value that is not of its type; of other types than numbers, choices and lists nothing is known.

    Args:
        argument: that it was given for, marked as in ``lit_maprops.system.errors``.
        hint: the annotation of the argument.
        value: that was given.

    Raises:
        ConfigError: names the argument, the value and what to give instead.
    """
    origin = get_origin(hint)
    if isinstance(hint, TypeAliasType):
        check_value(argument, hint.__value__, value)
    elif origin is Annotated:
        kind, *limits = get_args(hint)
        check_value(argument, kind, value)
        for limit in limits:
            check(not isinstance(limit, Range) or value in limit, f"{argument} is {value}: give {limit}")
    elif origin is Literal:
        choices = get_args(hint)
        check(value in choices, f"{argument} is {value!r}: choose one of {', '.join(map(str, choices))}")
    elif origin in (Union, UnionType):
        kinds = _without_word(argument, [kind for kind in get_args(hint) if kind is not NoneType], value)
        if len(kinds) == 1 and not (value is None and NoneType in get_args(hint)):
            check_value(argument, kinds[0], value)
    elif origin in (list, Sequence):
        check(
            isinstance(value, Sequence) and not isinstance(value, str),
            f"{argument} is {value!r}: give a list, [] for an empty one",
        )
        for item in value:
            check_value(argument, get_args(hint)[0], item)
    elif hint in _KINDS:
        _check_plain(argument, hint, value)


def _check_plain(argument: str, hint: Any, value: Any) -> None:
    kind, words = _KINDS[hint]
    if hint is str and isinstance(value, type):
        words = f"its import path as a text, {f'{value.__module__}.{value.__qualname__}'!r}"
        raise ConfigError(f"{argument} is the class {value.__name__}: give {words}")
    fits = isinstance(value, kind) and isinstance(value, _KINDS[bool][0]) == (hint is bool)
    check(fits, f"{argument} is {value!r}: give {words}")


def _without_word(argument: str, kinds: list[Any], value: Any) -> list[Any]:
    """What is left to check of a float, or true and false, or a word in its place; nothing if the value is the word."""
    words = [word for kind in kinds if get_origin(kind) is Literal for word in get_args(kind)]
    if len(kinds) != 2 or not words:
        return kinds
    if not isinstance(value, bool) and value in words:
        return []
    switch = bool in kinds
    fits = isinstance(value, bool) if switch else isinstance(value, Real) and not isinstance(value, bool)
    choices = f"choose one of true, false, {', '.join(words)}" if switch else f"give a float or {' or '.join(words)}"
    check(fits, f"{argument} is {value!r}: {choices}")
    return [kind for kind in kinds if get_origin(kind) is not Literal]
