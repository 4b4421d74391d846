"""Classes of other packages that a run's options name: imported by short names, or trusted by import paths."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

import yaml
from lightning.pytorch import callbacks

from lit_maprops.envs.pettingzoo.packages import EXTRA
from lit_maprops.run.option_errors import BASES, CLASS_CHOICES, imported
from lit_maprops.system.entry_points import IMPORT_PATH, load, packages, registered, root_of
from lit_maprops.system.errors import check
from lit_maprops.system.safe_yaml import load_yaml

OWN_PACKAGE = "lit_maprops"
# Lightning's callbacks that take numbers and names alone. Others call what they are given, write where they are told,
# or send a run's figures to an address.
PLAIN_CALLBACKS = (
    callbacks.DeviceStatsMonitor,
    callbacks.EarlyStopping,
    callbacks.GradientAccumulationScheduler,
    callbacks.LearningRateMonitor,
    callbacks.ModelSummary,
    callbacks.RichModelSummary,
    callbacks.RichProgressBar,
    callbacks.StochasticWeightAveraging,
    callbacks.TQDMProgressBar,
    callbacks.Timer,
)
_PLAIN_NAMES = {kind.__name__ for kind in PLAIN_CALLBACKS}
# Arguments below a class's flag that name code, and the one of the Trainer that does not.
FOLDER = "--trainer.default_root_dir"
TRUST = "--trust"
_PATHS = (".name", ".network", ".critic_network")
NAMING = ("", ".class_path", *_PATHS, *(f".init_args{path}" for path in _PATHS))


def import_named(options: list[str], contents: Iterable[Mapping[Any, Any]]) -> None:
    """Import what packages register under the names that the options have: the parser knows imported classes only.

    Args:
        options: those of the command line.
        contents: of the configuration files among them.

    Raises:
        ConfigError: see ``lit_maprops.system.entry_points.load``.
    """
    inline = [settings(value) for flag in ("--config", "-c") for value in values_of(options, flag)]
    by_key = [flat(content) for content in (*contents, *inline)]
    for kind, own in CLASS_CHOICES.items():
        keys = (kind, f"{kind}.class_path")
        given = {value for key in keys for value in values_of(options, f"--{key}")}
        given |= {str(settings(value).get("class_path")) for value in given}
        given |= {str(content[key]) for content in by_key for key in keys if key in content}
        others = given - own.keys()
        for name in sorted(others & registered(kind).keys()) if others else ():  # it reads every package's metadata
            load(kind, name, BASES[kind])


def trusted_packages(options: list[str], trust: Iterable[str] = ()) -> set[str]:
    """The import packages, and single classes, that a run folder's configuration may name.

    Ours, Lightning's plain callbacks, packages with entry points of ours, those of environments, behavior policies and
    learners that the program has imported already, and those that the user's own words name. Never one of Python
    itself.

    Args:
        options: the user's, of the command line.
        trust: packages that the user trusts.
    """
    flags = [f"--{kind}{argument}" for kind in CLASS_CHOICES for argument in NAMING]
    flags += {word.partition("=")[0] for word in options if word.startswith("--trainer.")} - {FOLDER}
    given = " ".join(value for flag in flags for value in values_of(options, flag))
    named = {root_of(path) for path in IMPORT_PATH.findall(given)}
    imported_already = {root_of(kind.__module__) for base in BASES.values() for kind in imported(base)}
    found = {OWN_PACKAGE, *packages(), *named, *imported_already, *trust}
    plain = {f"{path}.{kind.__name__}" for kind in PLAIN_CALLBACKS for path in (callbacks.__name__, kind.__module__)}
    return plain | found - (sys.stdlib_module_names - {"__main__"})


def named_packages(config: Mapping[str, Any]) -> list[str]:
    """The import packages that a run's configuration names and that are to be trusted by name to read it again.

    Args:
        config: with the user's own words, or from them.
    """
    by_key = flat(config)
    named = [by_key.get(f"{kind}{argument}") for kind in CLASS_CHOICES for argument in NAMING]
    named += [path for path in _class_paths(config.get("trainer")) if path.rpartition(".")[2] not in _PLAIN_NAMES]
    roots = {root_of(path) for path in named if isinstance(path, str)} - {OWN_PACKAGE, *EXTRA} - sys.stdlib_module_names
    roots = {root for root in roots if root.isidentifier() and _is_there(root)}
    return sorted(roots - packages()) if roots else []  # it reads every package's metadata


def _class_paths(value: Any) -> list[str]:
    """All of a part of a configuration."""
    if isinstance(value, Mapping):
        own = [value["class_path"]] if isinstance(value.get("class_path"), str) else []
        return [*own, *(path for part in value.values() for path in _class_paths(part))]
    return [path for part in value for path in _class_paths(part)] if isinstance(value, list) else []


def _is_there(package: str) -> bool:
    """Whether it can be imported; of ``__main__``, a script or a notebook, nobody can say from where."""
    return package in sys.modules or find_spec(package) is not None


def packages_in(text: str) -> list[str]:
    """The import packages of this installation, none of Python's own, whose import paths stand in a text."""
    roots = {root_of(path) for path in IMPORT_PATH.findall(text)} - sys.stdlib_module_names - {"__main__"}
    return sorted(root for root in roots if _is_there(root))


def without_trust(options: Sequence[str]) -> tuple[list[str], list[str]]:
    """Options without ``--trust``, which no configuration holds, and the packages that it names.

    Raises:
        ConfigError: see ``check_trust``.
    """
    others: list[str] = []
    trust: list[str] = []
    words = iter(options)
    for word in words:
        if word == TRUST:
            trust.append(next(words, ""))
        elif word.startswith(f"{TRUST}="):
            trust.append(word.partition("=")[2])
        else:
            others.append(word)
    check_trust(trust)
    return others, trust


def trusting(packages: Iterable[str]) -> list[str]:
    """The options of a command that trusts these."""
    return [f"{TRUST}={package}" for package in packages]


def check_trust(trust: Iterable[str]) -> None:
    """Refuse to trust what is no import package of this installation.

    Raises:
        ConfigError: there is none of that name, or it is Python's own.
    """
    for name in trust:
        named = f"<trust> is {name!r}"
        check(name.isidentifier(), f"{named}: give the name of an import package, such as mypkg")
        own = name in sys.stdlib_module_names
        check(not own, f"{named}, which is Python's own and no package of environments or policies: leave it out")
        check(_is_there(name), f"{named} and Python finds no such package: install it, or set PYTHONPATH")


def values_of(options: list[str], flag: str) -> list[str]:
    """All that is given for a flag, in both spellings."""
    after = [value for word, value in pairwise(options) if word == flag]
    return [*after, *(word.partition("=")[2] for word in options if word.startswith(f"{flag}="))]


def settings(text: str) -> Mapping[Any, Any]:
    """Keys and values that are given as a text; nothing if it is a name, a path or no YAML."""
    try:
        content = load_yaml(text)
    except yaml.YAMLError:
        return {}
    return content if isinstance(content, Mapping) else {}


def flat(content: Mapping[Any, Any], prefix: str = "") -> dict[str, Any]:
    """A configuration by its dotted keys."""
    values: dict[str, Any] = {}
    for key, value in content.items():
        values |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return values
