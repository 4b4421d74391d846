"""Objects that know the arguments they were made with, and arguments as the plain data of a configuration."""

import inspect
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any, Self

import numpy as np

from lit_maprops.system.errors import ConfigError

PLAIN = "numbers, texts, lists and keys with values"


class Configurable:
    """A part of a run that can be made anew from its arguments; subclasses write ``__init__`` as usual."""

    _given: tuple[tuple[Any, ...], dict[str, Any]]

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
