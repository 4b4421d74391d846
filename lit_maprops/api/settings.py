"""From Python's objects and keyword arguments to the configuration that the command line would have."""

import inspect
import sys
from collections.abc import Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any, Literal, TypedDict

from lit_maprops.behavior import BEHAVIORS, BehaviorPolicy
from lit_maprops.data import MultiAgentData
from lit_maprops.envs import TASKS, Task
from lit_maprops.module import FirstSeed, LitMAPROPS, TotalEnvSteps
from lit_maprops.run.option_classes import packages_in
from lit_maprops.run.option_errors import EXAMPLE, arguments_of
from lit_maprops.run.option_files import run_of
from lit_maprops.system.argument_types import BatchSize, Count, NonNegativeInt, RewardFloat
from lit_maprops.system.arguments import Configurable, plain
from lit_maprops.system.errors import ConfigError, check, did_you_mean
from lit_maprops.system.safe_yaml import read_yaml
from lit_maprops.system.shipped import locate, nothing_there
from lit_maprops.targets import LEARNERS, Learner

Config = dict[str, Any]


class Settings(TypedDict, total=False):
    """Keyword arguments of ``fit`` and ``resume``; what they mean stands with their owners."""

    # LitMAPROPS
    num_seeds: Count
    first_seed: FirstSeed
    run_seed: int
    total_env_steps: TotalEnvSteps
    eval_interval: Count
    eval_episodes: Count
    solved_on: Literal["success", "return"] | None
    solved_threshold: RewardFloat | None
    sampling_error: Literal["tabular", "likelihood", "energy"] | None
    sampling_error_interval: Count
    checkpoint_interval: Count
    on_fault: Literal["stop", "quarantine"]
    engine: Literal["auto", "torch", "native"]
    # MultiAgentData
    num_envs: Count
    behavior_batch_size: BatchSize
    target_batch_size: BatchSize
    history_batches: Count
    history: Literal["fixed", "growing"]
    # the run
    run_name: str | None
    runs_dir: str
    keep: NonNegativeInt
    wandb: str | None
    wandb_group: str | None
    wandb_job_type: str | None
    wandb_tags: Sequence[str]
    wandb_artifacts: Sequence[str]
    trainer: Mapping[str, Any]
    trust: Sequence[str]


OBJECTS = {
    "env": ("data.env", Task, "lm.BoulderPush()"),
    "behavior": ("model.behavior", BehaviorPolicy, "lm.MAPROPS()"),
    "learner": ("model.learner", Learner, "lm.MAPPO()"),
}  # its place in a configuration, its class, an example
REGISTERED: dict[str, type[Configurable]] = {**TASKS, **BEHAVIORS, **LEARNERS}
RENAMED = {"run_seed": "seed_everything"}  # as the command line has it


def _places() -> dict[str, str]:
    """Where a configuration has each keyword argument."""
    owned = {name: "model" for name in inspect.signature(LitMAPROPS.__init__).parameters}
    owned |= {name: "data" for name in inspect.signature(MultiAgentData.__init__).parameters}
    places = {name: f"{owned[name]}.{name}" if name in owned else name for name in Settings.__annotations__}
    return places | RENAMED


PLACES = _places()


def configuration(base: Config, objects: Mapping[str, Any], settings: Mapping[str, Any]) -> Config:
    """A configuration with arguments in place of what it had.

    Args:
        base: to start from; changed.
        objects: by the names of ``OBJECTS``; None: as ``base`` has it.
        settings: keyword arguments, see ``Settings``.

    Raises:
        ConfigError: an argument that does not exist, or that a configuration cannot hold.
    """
    for name, value in objects.items():
        if value is not None:
            place, kind, example = OBJECTS[name]
            check(isinstance(value, kind), f"<{place}> is {_shown(value)}: give an object such as {example}")
            made = specification(f"<{place}>", value)
            _put(base, place, made)
            _trust_what(made, base)
    for name, value in settings.items():
        if name not in PLACES:
            raise ConfigError(_unknown(name, objects))
        if name == "runs_dir" and isinstance(value, Path):
            value = str(value)
        if name == "trainer":
            check(isinstance(value, Mapping), f"<trainer> is {_shown(value)}: give its arguments, {{name: value}}")
            for argument, item in value.items():
                _put(base, f"trainer.{argument}", plain(f"<trainer.{argument}>", item))
            _trust_what(dict(value), base)
        elif name == "trust":
            fits = isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(v, str) for v in value)
            check(fits, f"<trust> is {_shown(value)}: give a list of packages")
            base["trust"] = [*base.get("trust", []), *value]
        else:
            _put(base, PLACES[name], plain(f"<{name}>", value))
    return base


def _trust_what(given: Config, base: Config) -> None:
    """Import paths that the user himself names, beside what a run's folder says, are no words of that folder."""
    if "trust" in base:
        base["trust"] = [*base["trust"], *packages_in(str(given))]


def specification(argument: str, made: Configurable) -> Config:
    """The class of an object and the arguments it was made with.

    Args:
        argument: that the object was given for, marked as in ``lit_maprops.system.errors``.
        made: the object.

    Raises:
        ConfigError: the class cannot be found by its name, or an argument is no plain data.
    """
    owner = argument.strip("<>")
    arguments: Config = {}
    for name, value in made.init_args.items():
        inner = f"<{owner}.{name}>"
        arguments[name] = specification(inner, value) if isinstance(value, Configurable) else plain(inner, value)
    return {"class_path": _class_path(argument, type(made)), "init_args": arguments}


def _class_path(argument: str, kind: type[Configurable]) -> str:
    name = next((name for name, registered in REGISTERED.items() if registered is kind), None)
    if name is not None:
        return name
    path = f"{kind.__module__}.{kind.__qualname__}"
    found: Any = reduce(
        lambda owner, part: getattr(owner, part, None), kind.__qualname__.split("."), sys.modules.get(kind.__module__)
    )
    check(
        found is not None,
        f"{argument} is of the class {path}, which cannot be found by that name: define it at the top level of a "
        "module or notebook",
    )
    check(found is kind, f"{argument} is of an earlier definition of {kind.__name__}: make the object anew")
    return path


def read_configuration(argument: str, given: str | Path) -> Config:
    """What a configuration file holds.

    Args:
        argument: that gave it, marked as in ``lit_maprops.system.errors``.
        given: the file, or the name of one that comes with the package.

    Raises:
        ConfigError: there is no such file, or it holds no configuration.
    """
    path = locate("conf", str(given))
    if path is None:
        raise ConfigError(f"{argument}: {nothing_there('conf', str(given))}")
    content = _nested(read_yaml(argument, path, EXAMPLE))
    check("trust" not in content, f"{argument}: {path} has trust, which is for arguments alone: take it out")
    return content


def laid_over(base: Config, other: Config) -> Config:
    """A configuration with another one's values in place of its own; a class's arguments go with the class.

    Args:
        base: not changed.
        other: values that stand; likewise.
    """
    names = [str(content.get("class_path", "")).rpartition(".")[2] for content in (base, other)]
    if all(names) and names[0] != names[1]:
        return other
    result = base | other
    for name, value in other.items():
        own = base.get(name)
        if isinstance(own, dict) and isinstance(value, dict):
            result[name] = laid_over(own, value)
    return result


def continued(checkpoint: str | Path) -> Config:
    """The configuration of the run that a checkpoint belongs to, to be continued there.

    Raises:
        ConfigError: the checkpoint is missing, or not in a run's folder.
    """
    config = read_configuration("<config>", run_of(str(checkpoint)) / "config.yaml")
    # The folder may have another name by now, and may be somebody else's.
    return config | {"ckpt_path": str(checkpoint), "run_name": None, "trust": []}


def _nested(content: Mapping[Any, Any]) -> Config:
    """Keys with dots, ``model.num_seeds``, as keys of keys, so that there is one place for each setting."""
    result: Config = {}
    for key, value in content.items():
        *owners, name = str(key).split(".")
        value = _nested(value) if isinstance(value, Mapping) and name != "init_args" else value
        own: Any = result
        for owner in owners:
            own = own.setdefault(owner, {})
            check(isinstance(own, dict), f"<config>: {key} is given, and {owner} is no keys and values")
        own[name] = own[name] | value if isinstance(own.get(name), dict) and isinstance(value, dict) else value
    return result


def _put(config: Config, place: str, value: Any) -> None:
    *owners, name = place.split(".")
    for owner in owners:
        config[owner] = config.get(owner) or {}
        check(isinstance(config[owner], dict), f"<config>: {owner} holds no keys and values: see {EXAMPLE}")
        config = config[owner]
    config[name] = value


def _unknown(name: str, objects: Mapping[str, Any]) -> str:
    for owner, value in objects.items():
        if value is not None and name in arguments_of(type(value)):
            return f"{name} is an argument of {owner}: give {owner}={type(value).__name__}({name}=...)"
    return f"{name} is not an argument{did_you_mean(name, [*OBJECTS, *PLACES, 'config', 'callbacks', 'loggers'])}"


def _shown(value: Any) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else f"{value!r:.60}"
