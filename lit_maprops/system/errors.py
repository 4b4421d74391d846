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


class FolderLost(WriteError):
    """A run's or sweep's folder that was removed, or made anew by another process, while this one was at work."""


class EnvironmentFault(OneLineError, RuntimeError):
    """An environment that broke in the middle of a run; which, where and what to do."""


class SamplerFault(OneLineError, RuntimeError):
    """A sampler of somebody else's that broke in the middle of a run; which, where and what to do."""


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


def check_count(argument: str, value: int, most: int = 1_000_000) -> None:
    """Refuse a number of things outside 1 to ``most``."""
    check(1 <= value <= most, f"<{argument}> is {value}: give a value from 1 to {most:,}")


def check_choice(argument: str, value: object, choices: Sequence[object]) -> None:
    """Refuse a value that is none of ``choices``."""
    check(value in choices, f"<{argument}> is {value!r}: choose one of {', '.join(map(str, choices))}")
