"""YAML from anyone: plain data of bounded size, and a single kind of error."""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from lit_maprops.system.errors import ConfigError, check

MOST_DEPTH = 100  # levels of nesting; parsers recurse
MOST_REPEATED = 10_000  # values that aliases may repeat: nine lines of them can ask for a billion
# Numbers as people write them, and YAML 1.2 and the parser read them: to PyYAML alone 1e-3 is a text.
_EXPONENT = re.compile(r"[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+|[-+]?\.[0-9][0-9_]*[eE][-+]?[0-9]+")


class _LOADER(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """PyYAML's safe loader, of its C parser, which is ten times faster, where there is one."""


_LOADER.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+0123456789."))


def load_yaml(text: str, load: Callable[[str], Any] | None = None) -> Any:
    """A YAML text without tags, which could name Python objects and that nobody needs.

    Args:
        text: the YAML.
        load: makes values of it; None: PyYAML's safe loader.

    Raises:
        yaml.YAMLError: it is not valid, has a tag, or is nested or repeats itself without bound.
    """
    try:
        _check_plain(text)
        return yaml.load(text, Loader=_LOADER) if load is None else load(text)
    # A number of thousands of digits, a thirteenth month, half of a surrogate pair; a lone "?".
    except (ValueError, TypeError) as error:
        raise yaml.YAMLError(str(error)) from None


def dump_yaml(content: Any) -> str:
    """A YAML text of plain data that reads back as it was: by PyYAML, and by the parser, whose rules are YAML 1.2's.

    To the parser 25921e05 is a number, to PyYAML's own dumper a text that needs no quotes.
    """
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False)


def flow_yaml(value: Any) -> str:
    """The same on one line, for a value on a command line."""
    text = yaml.dump(value, Dumper=_Dumper, sort_keys=False, default_flow_style=True, width=math.inf)
    return text.removesuffix("\n").removesuffix("\n...")


class _Dumper(yaml.SafeDumper):
    """Quotes texts that either reader would take for something else."""


def _quoted(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # Only here: reports read YAML without the parser.
    from jsonargparse import get_loader

    try:
        same = text == get_loader("yaml")(text)
    except (yaml.YAMLError, ValueError, TypeError):
        same = False
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if same else '"')


_Dumper.add_representer(str, _quoted)


def _check_plain(text: str) -> None:
    sizes: dict[str, int] = {}  # values below each anchor whose value is complete
    anchors: list[tuple[str | None, int]] = []  # of the open collections, with the count of values before each
    values = repeated = 0
    for event in yaml.parse(text, Loader=_LOADER):
        where = f"line {event.start_mark.line + 1}" if event.start_mark else "the text"
        values += 1
        tag = getattr(event, "tag", None)
        if tag:
            raise yaml.YAMLError(f"{where} has the tag {tag}: only plain values are read")
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise yaml.YAMLError(f"{where} has the alias *{event.anchor} of nothing that stands before it")
            repeated += sizes[event.anchor]
            values += sizes[event.anchor]
        elif isinstance(event, yaml.CollectionStartEvent):
            anchors.append((event.anchor, values))
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = anchors.pop()
            sizes |= {anchor: values - before} if anchor else {}
        elif isinstance(event, yaml.ScalarEvent) and event.anchor:
            sizes[event.anchor] = 1
        if len(anchors) > MOST_DEPTH:
            raise yaml.YAMLError(f"{where} is nested more than {MOST_DEPTH} levels deep")
        if repeated > MOST_REPEATED:
            raise yaml.YAMLError(f"{where}: aliases repeat more than {MOST_REPEATED:,} values")


def read_yaml(argument: str, path: Path, example: str) -> dict[Any, Any]:
    """The keys of a YAML file that a user gave.

    Args:
        argument: that gave it, marked as in ``lit_maprops.system.errors``.
        path: of the file.
        example: a file that has what is expected.

    Raises:
        ConfigError: it cannot be read, or is not a YAML text of keys and values.
    """
    try:
        text = path.read_text(encoding="utf-8")
        content = load_yaml(text)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise ConfigError(f"{argument}: {path} cannot be read ({reason}): give a file such as {example}") from None
    except yaml.YAMLError as error:
        reason = " ".join(str(error).replace('in "<unicode string>", ', "").split())
        raise ConfigError(f"{argument}: {path} is not valid YAML: {reason}{_of_tabs(error, text)}") from None
    check(isinstance(content, dict), f"{argument}: {path} holds no keys and values: see {example}")
    return content


def _of_tabs(error: yaml.YAMLError, text: str) -> str:
    """What to do where the line that is no YAML begins with a tab, of which the parser says only that it is wrong."""
    mark, lines = getattr(error, "problem_mark", None), text.splitlines()
    line = lines[mark.line] if mark is not None and mark.line < len(lines) else ""
    return ": put spaces for the tab" if "\t" in line[: len(line) - len(line.lstrip())] else ""
