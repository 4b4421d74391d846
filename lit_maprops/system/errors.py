"""Errors that end the program with one line, and the checks of arguments that several rooms share.

A message names each argument in angle brackets, by who has it: ``<behavior.kl_cutoff>``, ``<data.num_envs>``. In Python
the name stands alone, ``kl_cutoff``; the command line shows the flag instead (``lit_maprops.run.flags``).
"""

import difflib
import re
from collections.abc import Iterable, Sequence

ARGUMENT = re.compile(r"<((?:[a-z][\w-]*\.)*)([a-z][\w-]*)>")


def with_names(marked: str) -> str:
    """A message as Python shows it: ``<behavior.kl_cutoff>`` as ``kl_cutoff``."""
    return ARGUMENT.sub(r"\2", marked)


class OneLineError(Exception):
    """An error whose message is one line for the user: what it is, the true cause, the fix.

    Attributes:
        marked: the message with its arguments in angle brackets, for messages that quote this one.
    """

    def __init__(self, marked: str) -> None:
        super().__init__(marked)
        self.marked = marked

    def __str__(self) -> str:
        return with_names(self.marked)


class ConfigError(OneLineError, ValueError):
    """A setting that cannot work, found before anything is written; exit code 2."""


class WriteError(OneLineError):
    """A file that could not be written in the middle of the work: the disk is full or gone; exit code 1."""


class EnvironmentFault(OneLineError, RuntimeError):
    """An environment that broke in the middle of a run; which, where and what to do."""


def marked(error: BaseException) -> str:
    """The message of an error, with its arguments in angle brackets if it is one of ours."""
    return error.marked if isinstance(error, OneLineError) else str(error)


def printable(text: str) -> str:
    """Replace what does not belong on one line of a terminal, in XML or in UTF-8: control characters, broken names."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """The name among ``known`` that ``given`` is most like, in parentheses; empty if none is."""
    close = difflib.get_close_matches(given, known, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def check(condition: bool, message: str) -> None:
    """Raise ``ConfigError(message)`` unless ``condition`` holds."""
    if not condition:
        raise ConfigError(message)


def check_at_least(argument: str, value: float, minimum: float) -> None:
    """Refuse ``value < minimum`` (and NaN); ``argument`` names it, without brackets."""
    check(value >= minimum, f"<{argument}> is {value}: give a value of at least {minimum}")


def check_positive(argument: str, value: float) -> None:
    """Refuse ``value <= 0`` (and NaN)."""
    check(value > 0, f"<{argument}> is {value}: give a value above 0")


def check_count(argument: str, value: int, most: int = 1_000_000) -> None:
    """Refuse a number of things outside 1 to ``most``."""
    check(1 <= value <= most, f"<{argument}> is {value}: give a value of at least 1 and at most {most:,}")


def check_layers(argument: str, hidden: Sequence[int] | None) -> None:
    """Refuse hidden layers that are no list of sizes."""
    check(hidden is not None, f"<{argument}> is null: give a list of layer sizes, [] for a table")
    for units in hidden or ():
        check_count(argument, units)


def check_reward(argument: str, *values: float) -> None:
    """Refuse numbers that are not finite in single precision."""
    for value in values:
        check(abs(value) < 1e30, f"<{argument}> is {value}: give a finite number below 1e30")


def check_fraction(argument: str, value: float) -> None:
    """Refuse a value outside [0, 1]."""
    check(0 <= value <= 1, f"<{argument}> is {value}: give a value from 0 to 1")


def check_choice(argument: str, value: object, choices: Sequence[object]) -> None:
    """Refuse a value that is none of ``choices``."""
    check(value in choices, f"<{argument}> is {value!r}: choose one of {', '.join(map(str, choices))}")
