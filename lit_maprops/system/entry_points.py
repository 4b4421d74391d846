"""Environments, behavior policies and learners of other installed packages, found by entry points or import paths.

A package registers a class under the class's own name, in the group of its kind (``GROUPS``). Names are read from the
packages' metadata; a package is imported when one of its names is asked for.
"""

import re
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from lit_maprops.system.errors import ConfigError, check, did_you_mean

# By the argument that takes the class.
GROUPS = {
    "data.env": "lit_maprops.envs",
    "model.behavior": "lit_maprops.behaviors",
    "model.learner": "lit_maprops.learners",
}
T = TypeVar("T")
IMPORT_PATH = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)+")


def registered(kind: str) -> dict[str, list[EntryPoint]]:
    """What installed packages register, by name; imports none of them.

    Args:
        kind: a key of ``GROUPS``.
    """
    found: dict[str, list[EntryPoint]] = {}
    for entry in sorted(entry_points(group=GROUPS[kind]), key=package_of):
        found.setdefault(entry.name, []).append(entry)
    return dict(sorted(found.items()))


def package_of(entry: EntryPoint) -> str:
    """Name and version of the package that registers an entry point."""
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else root_of(entry.value)


def packages() -> set[str]:
    """The import packages with entry points of any kind."""
    return {root_of(e.value) for kind in GROUPS for entries in registered(kind).values() for e in entries}


def root_of(path: str) -> str:
    """The import package of an import path, or of an entry point's value."""
    return re.split("[.:]", path, maxsplit=1)[0].strip()


def load(kind: str, name: str, base: type) -> Any:
    """The class that an installed package registers.

    Args:
        kind: a key of ``GROUPS``.
        name: one of ``registered``.
        base: what the class must extend.

    Raises:
        ConfigError: two packages register the name; the package cannot be imported; it is no such class, or has another
            name.
    """
    entries = registered(kind)[name]
    named = f"<{kind}> is {name}, which"
    owners = " and ".join(package_of(entry) for entry in entries)
    path = entries[0].value.replace(":", ".")
    check(len(entries) == 1, f"{named} {owners} register: give the import path of the one you mean, such as {path}")
    found, reason = tried(entries[0].load)
    check(not reason, f"{named} {owners} registers and cannot be imported ({reason}): mend that package")
    is_class = isinstance(found, type) and issubclass(found, base)
    check(is_class, f"{named} {owners} registers and is no {base.__name__}: mend its entry point {entries[0].value}")
    right = found.__name__ == name
    check(right, f"{named} {owners} registers and is the class {found.__name__}: register it under that name")
    return found


def tried(foreign: Callable[[], Any]) -> tuple[Any, str]:
    """What code of somebody else gives, and why it fails, in one line; empty if it does not."""
    try:
        return foreign(), ""
    except (Exception, SystemExit) as error:  # whatever a package raises
        return None, " ".join(f"{type(error).__name__}: {error}".split())


def resolve(argument: str, kind: str, given: str, own: Mapping[str, type[T]], base: Any) -> type[T]:
    """The class that a user names: one of ours, else one of an installed package, else one with this import path.

    Args:
        argument: that has it, for messages, without brackets.
        kind: a key of ``GROUPS``.
        given: the name or import path.
        own: ours by their names.
        base: what the class must extend.

    Raises:
        ConfigError: as ``load``, or there is no such class.
    """
    if given in own:
        return own[given]
    names = registered(kind)
    if given in names:
        return load(kind, given, base)
    if not IMPORT_PATH.fullmatch(given):
        raise ConfigError(f"<{argument}> is {given!r}: choose one of {', '.join([*own, *names])}, or an import path")
    return class_at(argument, given, base)


def class_at(argument: str, given: str, base: Any) -> Any:
    """The class with an import path.

    Args:
        argument: that has it, for messages, without brackets.
        given: the import path.
        base: what the class must extend.

    Raises:
        ConfigError: there is no such class.
    """
    path, _, name = given.rpartition(".")
    module, reason = tried(lambda: import_module(path))
    check(not reason, f"<{argument}> is {given}, which cannot be imported ({reason}): give another, or mend it")
    found: Any = getattr(module, name, None)
    check(found is not None, f"<{argument}> is {given}: {path} has no {name}{did_you_mean(name, vars(module))}")
    fits = isinstance(found, type) and issubclass(found, base)
    check(fits, f"<{argument}> is {given}, which is no {base.__name__}: give a class that extends it")
    return found
