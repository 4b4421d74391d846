"""The words of a command line as flags and values, and values among them that no option can have."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from lit_maprops.run.option_errors import named
from lit_maprops.run.option_loading import load
from lit_maprops.system.errors import ConfigError, check

TEXTS = ("config", "c", "run_name", "runs_dir", "ckpt_path", "trust")  # values that are texts, whatever YAML they are


def flags_of(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Every flag without its dashes, and its value; the next word where the flag's own has none."""
    for place, word in enumerate(words):
        flag, equals, value = word.partition("=")
        if flag.startswith("--"):
            yield flag[2:].removesuffix("+"), value if equals else " ".join(words[place + 1 : place + 2])


def check_values(words: Sequence[str]) -> None:
    """Refuse what the parser would take for a fault of something larger, a class say, or of a value without a name.

    Raises:
        ConfigError: a value has a YAML tag, say, or a key that is no text, or escapes an interpolation: classes'
            arguments are resolved twice.
    """
    for key, value in flags_of(words):
        if key in TEXTS or not key:
            continue
        check(
            "\\${" not in value,
            f"{named(key)} escapes an interpolation, which only names of files may: leave the backslash out",
        )
        try:
            content = load(value)
        except yaml.YAMLError as error:
            if type(error) is yaml.YAMLError:  # refused by ``safe_yaml``; what is no YAML at all is a text
                reason = str(error).removeprefix("line 1 ") if str(error).startswith("line 1 ") else "is no plain value"
                raise ConfigError(f"{named(key)} {reason}: give another, see <help>") from None
            continue
        odd = [str(inner) for inner in _keys(content) if not isinstance(inner, str)]
        check(not odd, f"{named(key)} has the key {', '.join(odd[:1])}, which is no text: quote it, or leave it out")


def _keys(content: Any) -> Iterator[Any]:
    """All keys of what was read, also those inside."""
    if isinstance(content, Mapping):
        yield from content
    for inner in content.values() if isinstance(content, Mapping) else content if isinstance(content, list) else ():
        yield from _keys(inner)
