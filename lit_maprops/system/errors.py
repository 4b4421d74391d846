"""Errors that end the program with one line, and the checks of the user's configuration that several rooms share.

Every message names the flag or the file, and the fix; ``lit_maprops.cli.main`` prints it.
"""

from collections.abc import Sequence


class ConfigError(ValueError):
    """A setting that cannot work, found before anything is written; exit code 2."""


class WriteError(Exception):
    """A file that could not be written in the middle of the work: the disk is full or gone; exit code 1."""


class EnvironmentFault(RuntimeError):
    """An environment that broke in the middle of a run; one line that says which, where and what to do."""


def printable(text: str) -> str:
    """Replace what does not belong on one line of a terminal, in XML or in UTF-8: control characters, broken names."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def check(condition: bool, message: str) -> None:
    """Raise ``ConfigError(message)`` unless ``condition`` holds."""
    if not condition:
        raise ConfigError(message)


def check_at_least(flag: str, value: float, minimum: float) -> None:
    """Refuse ``value < minimum`` (and NaN) under the name of its flag."""
    check(value >= minimum, f"{flag} is {value}: give a value of at least {minimum}")


def check_positive(flag: str, value: float) -> None:
    """Refuse ``value <= 0`` (and NaN) under the name of its flag."""
    check(value > 0, f"{flag} is {value}: give a value above 0")


def check_count(flag: str, value: int, most: int = 1_000_000) -> None:
    """Refuse a number of things outside 1 to ``most`` under the name of its flag."""
    check(1 <= value <= most, f"{flag} is {value}: give a value of at least 1 and at most {most:,}")


def check_layers(flag: str, hidden: Sequence[int] | None) -> None:
    """Refuse hidden layers that are no list of sizes, under the name of their flag."""
    check(hidden is not None, f"{flag} is null: give a list of layer sizes, [] for a table")
    for units in hidden or ():
        check_count(flag, units)


def check_reward(flag: str, *values: float) -> None:
    """Refuse numbers that are not finite in single precision, under the name of their flag."""
    for value in values:
        check(abs(value) < 1e30, f"{flag} is {value}: give a finite number below 1e30")


def check_fraction(flag: str, value: float) -> None:
    """Refuse a value outside [0, 1] under the name of its flag."""
    check(0 <= value <= 1, f"{flag} is {value}: give a value from 0 to 1")


def check_choice(flag: str, value: object, choices: list[str]) -> None:
    """Refuse a value that is none of ``choices`` under the name of its flag."""
    check(value in choices, f"{flag} is {value!r}: choose one of {', '.join(choices)}")
