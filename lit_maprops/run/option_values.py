"""Values on the command line: each reaches the class that it is for as what it is.

The parser hands ``--data.env.options.level null`` to the class's own parser as Python writes it: ``None``, a text. So
such values travel with a mark, as texts that it leaves alone, and are read where they arrive. A sweep's values are
known exactly, however they are spelled: see ``lit_maprops.system.sweep_values``.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, get_args

import yaml
from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

from lit_maprops.run.marks import EXACT, WRITTEN
from lit_maprops.run.option_errors import CLASS_CHOICES
from lit_maprops.system.safe_yaml import flow_yaml, load_yaml
from lit_maprops.system.sweep_values import sweep_values


def marked(options: Iterable[str]) -> list[str]:
    """The words of a command line, with marks on the values inside classes' arguments."""
    exact = sweep_values()
    words: list[str] = []
    flag = None  # whose value the next word is
    for word in options:
        if flag is not None and not word.startswith("--"):
            words.append(_value(flag, word, exact))
            flag = None
            continue
        name, equals, value = word.partition("=")
        flag = name.removeprefix("--") if name.startswith("--") else None
        words.append(f"{name}={_value(flag, value, exact)}" if flag and equals else word)
        flag = None if equals else flag
    return words


def _value(flag: str, text: str, exact: Mapping[str, Any]) -> str:
    known = flag in exact and (str(exact[flag]) == text or (exact[flag] is None and text == "null"))
    if _is_inside(flag):
        return f"{EXACT}{flow_yaml(exact[flag])}" if known else f"{WRITTEN}{text}"
    return _spelled(exact[flag]) if known else text


def _is_inside(flag: str) -> bool:
    """Whether it is a key inside an argument of a class, such as ``data.env.options.level``."""
    keys = (flag.removeprefix(f"{kind}.") for kind in CLASS_CHOICES if flag.startswith(f"{kind}."))
    names = (key.removeprefix("init_args.") for key in keys)
    return any("." in name and not name.startswith("dict_kwargs.") and not name.endswith("+") for name in names)


def _spelled(value: Any) -> str:
    """A value as the parser wants it for an argument of that type; it takes texts as they are."""
    return value if isinstance(value, str) else flow_yaml(value)


class ValueParser(LightningArgumentParser):
    """Lightning's, whose parsers of single classes read marked values; those inside a plain dict stay marked."""

    def parse_args(self, args: Any = None, *more: Any, **kwargs: Any) -> Namespace:
        """Parse, see above."""
        if args is not None and getattr(self, "_inner_parser", False):
            args = [self._unmarked(word) for word in args]
        return super().parse_args(args, *more, **kwargs)

    def _unmarked(self, word: str) -> str:
        flag, _, value = word.partition("=")
        if value[:1] not in (WRITTEN, EXACT) or self._holds(flag.removeprefix("--")):
            return word
        return f"{flag}={value[1:] if value.startswith(WRITTEN) else _spelled(load_yaml(value[1:]))}"

    def _holds(self, key: str) -> bool:
        """Whether it is a key inside a plain dict, which holds values of any type as they are."""
        hints = (getattr(action, "_typehint", None) for action in self._actions if key.startswith(f"{action.dest}."))
        return any(dict in (hint, *get_args(hint)) for hint in hints)


def read_marked(value: Any, load: Callable[[str], Any]) -> Any:
    """A configuration with the values of the texts that are still marked.

    Args:
        value: the configuration, or a part of it.
        load: makes a value of a text.
    """
    if isinstance(value, Namespace):
        for key, inner in vars(value).items():
            value[key] = read_marked(inner, load)
        return value
    if isinstance(value, dict):
        return {key: read_marked(inner, load) for key, inner in value.items()}
    if not isinstance(value, str) or value[:1] not in (WRITTEN, EXACT):
        return value
    text = value[1:]
    if value.startswith(EXACT):
        return load_yaml(text)
    try:
        return text if text.strip() in ("", "-") else load(text)
    except yaml.YAMLError:  # a text that is no YAML
        return text
