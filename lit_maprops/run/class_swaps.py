"""Values that a configuration gives for one class, when another class takes its place.

The parser keeps every value that the new class has an argument for. Some of these mean something else there: a step
size of plain gradient ascent is not one of Adam, and a penalty is another one in every environment.
"""

import inspect
from collections.abc import Sequence
from typing import Any

from jsonargparse import Namespace

from lit_maprops.run.option_classes import flat, settings
from lit_maprops.run.option_errors import BASES, EXAMPLE, imported
from lit_maprops.run.option_files import config_files, given_configs
from lit_maprops.run.option_words import flags_of
from lit_maprops.system.safe_yaml import read_yaml

# Arguments that belong to a class, by the kind of class; None: all of them. Those of behavior policies mean the same in
# each: one clip, one KL in nats, one Adam.
OWN: dict[str, set[str] | None] = {"model.learner": {"learning_rate", "hidden"}, "data.env": None}


def leave_behind(config: Namespace, words: Sequence[str]) -> list[str]:
    """Put a class's own defaults in place of what was given for the class that it replaces.

    Two classes share a value if one constructor takes it for both: ``IPPO`` and ``MAPPO`` do. What the command line
    gives stands, wherever it stands there.

    Args:
        config: what the options were parsed to; changed in place.
        words: the options.

    Returns:
        A line for each kind of class, that names what was left behind.
    """
    sources = [*_contents(words), _command_line(words)]
    return [line for kind, own in OWN.items() for line in _left_behind(config, kind, own, sources)]


def _left_behind(config: Namespace, kind: str, own: set[str] | None, sources: Sequence[dict[str, Any]]) -> list[str]:
    chosen, owner = _owners(kind, sources)
    final, known = _named(kind, chosen), config.get(kind)
    left: dict[str, tuple[str, Any, Any]] = {}
    for argument, name in owner.items():
        former = _named(kind, name)
        if final is None or former is None or (own is not None and argument not in own):
            continue
        definer, takes = _definer(final, argument), _definer(former, argument)
        if definer is None or takes is None or definer is takes or argument not in known.init_args:
            continue
        value, default = known.init_args[argument], _default(definer, argument)
        if default is not inspect.Parameter.empty and value != default:
            known.init_args[argument] = default
            left[argument] = (former.__name__, value, default)
    if final is None or not left:
        return []
    formers = " and ".join(dict.fromkeys(name for name, _, _ in left.values()))
    given = ", ".join(f"{argument} {_shown(value)}" for argument, (_, value, _) in left.items())
    taken = ", ".join(_shown(default) for _, _, default in left.values())
    fix = ", ".join(f"<{kind}.{argument}>" for argument in left)
    return [
        f"note: {given}, given for {formers}, is left out: <{kind}> {final.__name__} has {taken}; give {fix} for others"
    ]


def _shown(value: Any) -> str:
    return "null" if value is None else str(value)


def _owners(kind: str, sources: Sequence[dict[str, Any]]) -> tuple[str | None, dict[str, str | None]]:
    """The class that is chosen in the end, and for which class each argument was given last; None: not known."""
    chosen: str | None = None
    owner: dict[str, str | None] = {}
    for source in sources:
        names = [str(source[key]) for key in (kind, f"{kind}.class_path") if key in source]
        chosen = names[-1] if names else chosen
        for key in source:
            argument = key.removeprefix(f"{kind}.").removeprefix("init_args.").partition(".")[0]
            if key.startswith(f"{kind}.") and argument != "class_path":
                owner[argument] = chosen
    return chosen, owner


def _contents(words: Sequence[str]) -> list[dict[str, Any]]:
    """The configurations, in order, by their dotted keys."""
    return [
        flat(settings(given) or {key: value for path in config_files(["--config", given])
                                 for key, value in read_yaml("<config>", path, EXAMPLE).items()})
        for given in given_configs(words)
    ]  # fmt: skip


def _command_line(words: Sequence[str]) -> dict[str, Any]:
    """What flags give, by their dotted keys."""
    given: dict[str, Any] = {}
    for key, value in flags_of(words):
        inner = settings(value)
        given |= flat(inner, f"{key}.") if inner else {key: value}
    return given


def _named(kind: str, name: str | None) -> type | None:
    """The class of a name or import path; None if that is not clear."""
    if name is None:
        return None
    short, root = name.rpartition(".")[2], name.partition(".")[0]
    found = {each for each in imported(BASES[kind]) if each.__name__ == short}
    if len(found) > 1:
        found = {each for each in found if each.__module__.partition(".")[0] == root}
    return found.pop() if len(found) == 1 else None


def _definer(kind: type, argument: str) -> type | None:
    """The class whose constructor takes an argument: ``kind`` or one that it extends."""
    for owner in kind.__mro__:
        init = vars(owner).get("__init__")
        if init is not None and argument in inspect.signature(init).parameters:
            return owner
    return None


def _default(owner: type, argument: str) -> Any:
    default = inspect.signature(vars(owner)["__init__"]).parameters[argument].default
    return list(default) if isinstance(default, tuple) else default
