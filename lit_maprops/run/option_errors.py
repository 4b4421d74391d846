"""What the parser complains about, in one line that names the argument and the fix."""

import argparse
import inspect
import re
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from pydoc import locate
from typing import Any, get_args, get_origin, get_type_hints

import yaml
from jsonargparse import Namespace
from omegaconf.errors import OmegaConfBaseException
from typing_extensions import TypeAliasType

from lit_maprops.behavior import BEHAVIORS, BehaviorPolicy
from lit_maprops.data import MultiAgentData
from lit_maprops.envs import TASKS, Task
from lit_maprops.module import LitMAPROPS
from lit_maprops.run.marks import without_marks
from lit_maprops.system.entry_points import registered, root_of
from lit_maprops.system.errors import ARGUMENT, ConfigError, check, did_you_mean, marked
from lit_maprops.system.memory import is_out_of_memory
from lit_maprops.system.named_code import refusal
from lit_maprops.targets import LEARNERS, Learner

USER_ERRORS = (argparse.ArgumentError, OmegaConfBaseException, yaml.YAMLError)
CLASS_CHOICES: dict[str, dict[str, Any]] = {
    "model.behavior": BEHAVIORS,
    "model.learner": LEARNERS,
    "data.env": TASKS,
}
BASES: dict[str, type] = {"model.behavior": BehaviorPolicy, "model.learner": Learner, "data.env": Task}
OWNERS: dict[str, type] = {"model": LitMAPROPS, "data": MultiAgentData} | BASES  # whose arguments are options
OPTIONS = (
    "config",
    "run_name",
    "runs_dir",
    "ckpt_path",
    "keep",
    "trust",
    "wandb",
    "wandb_group",
    "wandb_job_type",
    "wandb_tags",
    "wandb_artifacts",
    "rank_timeout",
    "seed_everything",
)  # of no class
EXAMPLE = "the output of lit-maprops conf boulderpush"  # a file
TAGGED = "one of the values has a YAML tag (!!...): give a plain one, see <help>"
TYPE_NAMES = {"NoneType": "null", "Sequence": "list", "dict": "keys and values"}


def named(name: str) -> str:
    """The name of an option in angle brackets; as a flag if it is none that an argument can have."""
    name = name.replace(".init_args.", ".")  # which a flag need not say
    marked_name = f"<{name}>"
    return marked_name if ARGUMENT.fullmatch(marked_name) else f"--{name}"


def one_line(error: Exception) -> str:
    """An error of the parser as one line that names the argument and the fix."""
    text = without_marks(marked(error))
    if "is not in bounds" in text:
        return f"<run_seed>: {text}"
    if "--> model.run_seed" in text:
        return "<model.run_seed> cannot be given: it is <seed_everything>, give that"
    required = re.search(r"arguments are required: (.+)", text)
    if required:
        of_class = re.match(r'Parser key "([\w.]+)":\s+Problem with given class_path', text)
        owner = f"{of_class[1]}." if of_class else ""
        names = ", ".join(named(f"{owner}{name}") for name in required[1].split(", "))
        return f"{names} is required: give it, or a <config> that has it, such as boulderpush"
    line = _unknown(text) or _wrong_class(text) or _wrong_type(text) or _wrong_text(text)
    return line or re.sub(r'^Parser key "([\w.]+)":', lambda key: f"{named(key[1])}:", " ".join(text.split()))


def refuse_constructor(error: Exception) -> None:
    """Refuse what the constructor of a class of somebody else's raised; other errors pass.

    Raises:
        ConfigError: names the class and the line that raised.
    """
    if is_out_of_memory(error):
        return
    for frame, _ in traceback.walk_tb(error.__traceback__):
        made: Any = frame.f_locals.get("self") if frame.f_code.co_name == "__init__" else None
        kind = next((key for key, base in BASES.items() if isinstance(made, base)), None)
        if kind is not None and root_of(type(made).__module__) != "lit_maprops":
            described = " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")
            last = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(last.filename).name}:{last.lineno}"
            line = f"<{kind}> {type(made).__name__}: {described} in __init__ ({where}): mend it, or its arguments"
            raise ConfigError(line) from error


def check_nulls(prefix: str, owner: type, given: Namespace) -> None:
    """Refuse null where a class wants a value: the parser takes it for every type.

    Args:
        prefix: of the names of its arguments.
        owner: the class.
        given: its arguments; classes among them by their ``class_path``.
    """
    types: dict[str, Any] = {}
    for kind in reversed(owner.__mro__):  # arguments that are handed on are documented, and typed, by the base class
        types |= get_type_hints(kind.__init__)  # type: ignore[misc]
    for name, value in vars(given).items():
        nullable = name not in types or type(None) in get_args(types[name])
        fix = "give a list, [] for an empty one" if get_origin(types.get(name)) in (list, Sequence) else "give a value"
        check(value is not None or nullable, f"{named(f'{prefix}.{name}')} is null: {fix}, or leave it out")
        if isinstance(value, Namespace) and "init_args" in value:
            inner = locate(value.class_path)
            assert isinstance(inner, type)  # the parser has imported it
            check_nulls(f"{prefix}.{name}", inner, value.init_args)


def _unknown(text: str) -> str | None:
    """The line for an option that does not exist."""
    keys = re.match(r'Parser key "([\w.]+)"', text)
    field = re.search(r"Option '(.*)' is not accepted", text)
    nested = re.search(r"NestedArg\(key='(.+?)', val=", text)
    member = re.match(r"Group '(.+?)' does not accept option '(.+)'", text)
    word = re.match(r"unrecognized arguments: ?([^\s=]*)", text)
    inner = re.search(r"given class_path '[^']+':\s*unrecognized arguments: --([\w.]+)", text)
    if word and not word[1].startswith("--"):
        return f"{word[1]!r} is no option, which start with --: see <help>"
    if member:
        name = f"{member[1]}.{member[2]}"
    elif field or nested:
        found = field or nested
        assert found is not None
        name = f"{keys[1]}.{found[1]}" if keys else found[1]
    elif keys and inner:
        name = f"{keys[1]}.{inner[1]}"
    elif word:
        name = word[1].removeprefix("--")
    else:
        return None
    if name.partition(".")[0] in ("optimizer", "lr_scheduler"):  # Lightning's, of other modules
        return (
            f"{named(name)} is not an option: every learner and behavior policy has its own optimizer, see "
            "<learner.learning_rate>, <behavior.learning_rate> and <help>"
        )
    if name.endswith(".preset"):
        return f"{named(name)} is not an option: give the preset as another <config>, behind the first"
    return f"{named(name)} is not an option{_did_you_mean(name)}: see <help>"


def _wrong_class(text: str) -> str | None:
    """The line for a class that does not exist, or is of another kind."""
    key = next((key for key in CLASS_CHOICES if text.startswith(f'Parser key "{key}"')), None)
    denied = re.search(r"Importing '([\w.]+)' is not allowed", text)
    if denied:
        found = re.match(r'Parser key "([\w.]+)"', text)
        return refusal(f"<{key or (found[1] if found else 'trainer')}>", denied[1])
    missing = re.search(r"given class_path '([^']+)':\s*((?:module .* has no attribute|No module named) \S+)", text)
    if key and missing:
        return f"<{key}> is {missing[1]}, which cannot be imported ({missing[2]}): {_choices(key)}, or an import path"
    if key is None or "given class_path" in text:
        return None
    several = re.search(r"Multiple subclasses with name (\w+)\..*?ambiguity: (.*?)\.\s", f"{text} ", re.DOTALL)
    if several:
        return f"<{key}> is {several[1]}, the name of several classes: give a whole path, {several[2]}"
    given = re.search(r"Expected a path but (.*?) either not", text) or re.search(r"Got value: (.+)", text, re.DOTALL)
    value = "null" if "value: None" in text else _shown(given[1]) if given else "not a class with its init_args"
    return f"<{key}> is {value}: {_choices(key)}"


def _choices(key: str) -> str:
    return f"choose one of {', '.join([*CLASS_CHOICES[key], *registered(key)])}"


def _wrong_type(text: str) -> str | None:
    """The line for a value of the wrong type."""
    value = re.search(r"Given value: (.*)", text, re.DOTALL) or re.search(r"Got value: (.*)", text, re.DOTALL)
    union = re.search(r"Subtypes: \[(.*?)\]\s*Errors:", text, re.DOTALL)
    single = re.search(r"Expected a (<class '[^']+'>)", text)
    choice = re.search(r"Literal\[(.*?)\]", text)
    keys = re.findall(r'[Kk]ey "([\w.]+)"', text.partition("Errors:")[0])
    if value is None or not keys or not (union or single or choice):
        return None
    name, given = named(".".join(dict.fromkeys(keys))), _shown(value[1])
    only_choices = choice and not (union and re.search(r"^\w*(Float|Int|Count)\b", union[1]))
    if choice and only_choices:
        null = " or null" if union and "None" in union[1] else ""
        switch = "true, false, " if union and "bool" in union[1] else ""
        return f"{name} is {given!r}: choose one of {switch}{choice[1].replace(chr(39), '')}{null}"
    found = union or single
    assert found is not None
    names = [_type_name(name) for name in re.findall(r"<class '[^']+'>|[\w.]+(?:\[[^\]]*\])?", found[1])]
    if given.strip("'.-+").lower() in ("nan", "inf", "infinity"):  # of the type, and yet refused
        names = ["a finite number" if name == "float" else name for name in names]
    return f"{name} is {given}: give {' or '.join(names)}"


def _type_name(written: str) -> str:
    plain = re.sub(r"<class '([^']+)'>|.*Literal\['([^']+)'\]", r"\1\2", written)
    name = re.sub(r"\b(?:\w+\.)+(\w+)", r"\1", plain)
    return TYPE_NAMES.get(name) or _ranged_types().get(name, name)


def _ranged_types() -> dict[str, str]:
    """The types of numbers in a range that arguments have, see ``argument_types``, to the plain types behind them."""
    inits = [vars(owner)["__init__"] for kind in _kinds() for owner in kind.__mro__ if "__init__" in vars(owner)]
    hints = [hint for init in inits for hint in getattr(init, "__annotations__", {}).values()]
    parts = [part for hint in hints for part in (hint, *get_args(hint)) if isinstance(part, TypeAliasType)]
    return {part.__name__: get_args(part.__value__)[0].__name__ for part in parts}


def _wrong_text(text: str) -> str | None:
    """The line for what is no configuration at all, an interpolation that leads nowhere, or a key nobody can have."""
    if text.startswith("Unexpected config"):
        return f"<config> holds no keys and values: give a file such as {EXAMPLE}"
    if re.fullmatch(r"'[^']*'", text):  # the KeyError of !!bool
        return TAGGED
    linked = re.match(r'Linked "([\w.]+)" must be given via "([\w.]+)"', text)
    if linked:
        return f"{named(linked[1])} cannot be given: it is {named(linked[2])}, give that"
    empty = re.match(r'Empty nested key: "(.*)"', text, re.DOTALL)
    if empty:
        return f"<config>: the key {_shown(empty[1])!r} has nothing on one side of a dot: see {EXAMPLE}"
    unresolved = re.search(r"full_key: (\S+)", text)
    refused = re.search(r"ConfigError raised while resolving interpolation: (.*)", text)
    if unresolved and refused:
        return f"{named(unresolved[1])} has {refused[1]}"
    if unresolved:
        return f"{named(unresolved[1])} has an interpolation that cannot be resolved: {_shown(text.splitlines()[0])}"
    if "in keys:" in text or "Problems parsing config" in text:
        return f"<config>: {' '.join(text.split())}"
    return None


def _shown(value: str) -> str:
    """A value of the user, on one line and not too long."""
    value = " ".join(value.split())
    return value if len(value) <= 80 else f"{value[:50]} ... {value[-20:]}"


def arguments_of(kind: type) -> set[str]:
    """Names of a class's arguments, those included that it hands on to the classes that it extends."""
    known: set[str] = set()
    for owner in kind.__mro__:
        code = getattr(inspect.unwrap(vars(owner).get("__init__", object.__init__)), "__code__", None)
        known |= set(code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount] if code else ())
    return known


def _kinds() -> list[type]:
    """Everything whose arguments are options."""
    return [kind for base in OWNERS.values() for kind in imported(base)]


def _did_you_mean(name: str) -> str:
    """Where an option of this name is, or one that is like it, as a part of the line."""
    owner, _, field = name.rpartition(".")
    fields = {place: set().union(*map(arguments_of, imported(base))) for place, base in OWNERS.items()}
    holders = [place for place, known in fields.items() if field in known]
    kind = next((kind for kind in CLASS_CHOICES if owner.startswith(f"{kind}.")), None)
    if kind is not None:
        argument = name.removeprefix(f"{kind}.").removeprefix("init_args.").partition(".")[0]
        return " of the chosen class" + ("" if argument in fields[kind] else did_you_mean(argument, fields[kind]))
    if holders:
        at = " or ".join(f"{place}.{field}" for place in holders)
        return " of the chosen class" if owner in holders else f" (did you mean {at}?)"
    return "" if field in OPTIONS else did_you_mean(field, {*OPTIONS, *set().union(*fields.values())})


def imported(kind: Any) -> Iterator[type]:
    """A class and all that extend it, those of other packages included."""
    yield kind
    for extension in kind.__subclasses__():
        yield from imported(extension)
