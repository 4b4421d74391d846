"""Which of the files given with --config a refused option stands in."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lit_maprops.run.option_files import given_configs
from lit_maprops.run.option_words import flags_of
from lit_maprops.system.errors import ARGUMENT
from lit_maprops.system.safe_yaml import read_yaml
from lit_maprops.system.shipped import locate

FIRST = re.compile(rf"{ARGUMENT.pattern}|--([\w.]+)")


def origin(message: str, words: Sequence[str]) -> str:
    """What to add to a line about an option that no flag has given; empty where that is not known.

    Args:
        message: names its arguments in angle brackets, or as flags; its first is the one that is refused.
        words: of the command line.
    """
    first = FIRST.search(message)
    if first is None:
        return ""
    path = (first[3] or f"{first[1]}{first[2]}").split(".")
    if any(flag.rpartition(".")[2] == path[-1] for flag, _ in flags_of(words)):
        return ""
    paths = {given: locate("conf", given) for given in given_configs(words)}
    read = [(given, read_yaml("<config>", file, given)) for given, file in paths.items() if file and file.is_file()]
    holders = [given for given, content in read if _holds(content, path)]
    return f" (it stands in {holders[-1]})" if holders else ""


def _holds(content: Any, path: Sequence[str]) -> bool:
    """Whether a file gives an option; classes' arguments stand a level deeper, below ``init_args``."""
    return any(names[-len(path) :] == list(path) for names in _paths(content, []))


def _paths(content: Any, above: list[str]) -> Iterator[list[str]]:
    for key, value in content.items() if isinstance(content, Mapping) else ():
        here = [*above, *(name for name in str(key).split(".") if name != "init_args")]
        yield here
        yield from _paths(value, here)
