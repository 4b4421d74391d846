"""Arguments of constructors: checked against their types, kept, and as the plain data of a configuration."""

import functools
import inspect
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import Any, ClassVar, Concatenate, ParamSpec, Self, get_type_hints

import numpy as np

from lit_maprops.system.argument_types import check_value
from lit_maprops.system.errors import ConfigError

PLAIN = "numbers, texts, lists and keys with values"
P = ParamSpec("P")


def checked(owner: str) -> Callable[[Callable[Concatenate[Any, P], None]], Callable[Concatenate[Any, P], None]]:
    """Let an ``__init__`` refuse arguments that are not of their types, see ``argument_types``, before it starts.

    Args:
        owner: who has the arguments, as messages name it: ``behavior``, ``data``, ...; empty for nobody.
    """

    def wrap(init: Callable[Concatenate[Any, P], None]) -> Callable[Concatenate[Any, P], None]:
        signature = inspect.signature(init)
        prefix = f"{owner}." if owner else ""

        @functools.wraps(init)
        def checking(self: Any, *args: P.args, **kwargs: P.kwargs) -> None:
            try:
                given = signature.bind(self, *args, **kwargs).arguments
            except TypeError:  # the call below says it in Python's own words
                given = {}
            for name, hint in _hints(init).items():
                if name in given:
                    check_value(f"<{prefix}{name}>", hint, given[name])
            init(self, *args, **kwargs)

        return checking

    return wrap


@functools.cache
def _hints(init: Callable[..., None]) -> dict[str, Any]:
    """Of the arguments that are spelled out; those that are handed on are checked where they arrive."""
    plain_kinds = {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}
    hints = get_type_hints(init, include_extras=True)
    return {n: hints[n] for n, p in inspect.signature(init).parameters.items() if n in hints and p.kind in plain_kinds}


class Configurable:
    """A part of a run that can be made anew from its arguments; subclasses write ``__init__`` as usual.

    Attributes:
        argument_owner: who has the arguments, as messages name it.
    """

    argument_owner: ClassVar[str] = ""
    _given: tuple[tuple[Any, ...], dict[str, Any]]

    def __init_subclass__(cls, **options: Any) -> None:
        """Check the arguments of every class by itself: one that hands some on checks those where they arrive."""
        super().__init_subclass__(**options)
        init = vars(cls).get("__init__")
        if init is not None:
            type.__setattr__(cls, "__init__", checked(cls.argument_owner)(init))

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Keep the arguments, of the class that is made and not of those that it extends."""
        made = super().__new__(cls)
        object.__setattr__(made, "_given", (args, kwargs))  # nn.Module's own would want its __init__ first
        return made

    def __init__(self) -> None:
        # Else a class without an __init__ would take any arguments: object's accepts them beside a __new__.
        super().__init__()

    @property
    def init_args(self) -> dict[str, Any]:
        """The arguments by their names, without those left to their defaults."""
        args, kwargs = self._given
        signature = inspect.signature(type(self).__init__)
        given = signature.bind(self, *args, **kwargs).arguments
        result: dict[str, Any] = {}
        for name, value in list(given.items())[1:]:
            kind = signature.parameters[name].kind
            if kind is inspect.Parameter.VAR_POSITIONAL:
                raise ConfigError(f"<{name}> of {type(self).__name__} has no names: give arguments by their names")
            result |= value if kind is inspect.Parameter.VAR_KEYWORD else {name: value}
        return result


def plain(argument: str, value: Any) -> Any:
    """A value as a configuration holds it; NumPy's numbers and arrays become Python's.

    Args:
        argument: that it was given for, marked as in ``lit_maprops.system.errors``.
        value: of the argument.

    Raises:
        ConfigError: a configuration cannot hold it.
    """
    if isinstance(value, (np.generic, np.ndarray)):
        value = value.tolist()
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    if isinstance(value, (list, tuple)):
        return [plain(argument, item) for item in value]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: plain(argument, item) for key, item in value.items()}
    raise ConfigError(f"{argument} holds a {type(value).__name__}, which a configuration cannot: give {PLAIN} only")
