"""A benchmark file, read and checked: which tasks, which samplers, and how many seeds."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lit_maprops.system.errors import check, check_choice, did_you_mean
from lit_maprops.system.safe_yaml import read_yaml
from lit_maprops.system.shipped import locate, nothing_there

SHIPPED = Path(__file__).with_name("cooperative.yaml")
MOST_SEEDS = 10_000  # of a cell
FLAG = re.compile(r"(model|data)(\.\w+)+")
NAME = re.compile(r"[\w.-]+")
ACTIONS = ["discrete", "continuous"]
METRICS = ["solved", "return"]
OF_FILE = {"name", "version", "run_seed", "seeds", "flags", "learners", "samplers", "tasks"}
OF_SAMPLER = {"actions", "flags", "tasks"}
OF_TASK = {"about", "config", "flags", "learners", "actions", "metric", "needs", "block", "seconds", "left_out"}
Flags = dict[str, Any]


@dataclass(frozen=True)
class Sampler:
    """A sampler of the list.

    Attributes:
        name: its class, as ``model.behavior`` takes it.
        actions: the only kind it is for; None: both.
        flags: of its own.
        tasks: the only ones it is for; empty: all.
    """

    name: str
    actions: str | None
    flags: Flags
    tasks: tuple[str, ...]


@dataclass(frozen=True)
class Task:
    """A task of the list.

    Attributes:
        name: in tables.
        about: one sentence.
        config: name of the shipped configuration it starts from.
        flags: what it changes there.
        learners: that train on it.
        actions: ``discrete`` or ``continuous``.
        metric: ``solved``, the share of solved seeds, or ``return``, the mean return of the greedy policies.
        needs: packages, as they are imported.
        block: seeds of a cell's first run.
        seconds: that such a run takes, roughly, until this machine has measured one; they decide what can still end.
        left_out: sampler to the reason why it is not measured here.
    """

    name: str
    about: str
    config: str
    flags: Flags
    learners: tuple[str, ...]
    actions: str
    metric: str
    needs: tuple[str, ...]
    block: int
    seconds: float
    left_out: dict[str, str]


@dataclass(frozen=True)
class BenchmarkFile:
    """The whole list.

    Attributes:
        path: where it lies.
        name: the folder of its runs.
        version: results of different versions are not put side by side.
        run_seed: of every run; a cell's seeds are numbered from 0 on.
        seeds: of every cell, where the command line gives no other number.
        flags: of every run.
        samplers: by name.
        tasks: by name.
    """

    path: Path
    name: str
    version: int
    run_seed: int
    seeds: int
    flags: Flags
    samplers: dict[str, Sampler]
    tasks: dict[str, Task]


def read_benchmark_file(path: Path = SHIPPED) -> BenchmarkFile:
    """Read and check a benchmark file.

    Raises:
        ConfigError: it is missing, is no YAML, lacks a key, or has one that is not known.
    """
    content = read_yaml("FILE", path, "cooperative.yaml of the package")
    _check_keys(str(path), content, OF_FILE, OF_FILE)
    name = content["name"]
    check(isinstance(name, str) and bool(NAME.fullmatch(name)), f"{path}: name is {name!r}: give the name of a folder")
    for key, most in {"version": 10**6, "run_seed": 2**31, "seeds": MOST_SEEDS}.items():
        _check_number(f"{path}: {key}", content[key], 0 if key == "run_seed" else 1, most)
    learners = _names(f"{path}: learners", content["learners"])
    samplers = {str(k): _sampler(path, str(k), v) for k, v in _mapping(path, "samplers", content["samplers"]).items()}
    tasks = {
        str(k): _task(path, str(k), v, learners, samplers) for k, v in _mapping(path, "tasks", content["tasks"]).items()
    }
    flags = _flags(f"{path}: flags", content["flags"])
    return BenchmarkFile(path, name, content["version"], content["run_seed"], content["seeds"], flags, samplers, tasks)


def _sampler(path: Path, name: str, content: Any) -> Sampler:
    where = f"{path}: samplers.{name}"
    check(bool(NAME.fullmatch(name)), f"{where}: give the name of a behavior policy")
    content = _mapping(path, f"samplers.{name}", content or {}, empty=True)
    _check_keys(where, content, OF_SAMPLER)
    actions = content.get("actions")
    if actions is not None:
        check_choice(f"{where}.actions", actions, ACTIONS)
    tasks = _names(f"{where}.tasks", content.get("tasks", []), empty=True)
    return Sampler(name, actions, _flags(f"{where}.flags", content.get("flags", {})), tasks)


def _task(path: Path, name: str, content: Any, learners: tuple[str, ...], samplers: Mapping[str, Sampler]) -> Task:
    where = f"{path}: tasks.{name}"
    check(bool(NAME.fullmatch(name)), f"{where}: give a name of letters, digits, _, - and .")
    content = _mapping(path, f"tasks.{name}", content)
    _check_keys(where, content, OF_TASK, {"about", "config", "block", "seconds"})
    for key in ("about", "config"):
        check(isinstance(content[key], str), f"{where}.{key} is {content[key]!r}: give a text")
    given = content["config"]
    check(locate("conf", given) is not None, f"{where}.config: {nothing_there('conf', given)}")
    _check_number(f"{where}.block", content["block"], 1, MOST_SEEDS)
    check(
        isinstance(content["seconds"], (int, float)) and 0 < content["seconds"] < 10**6,
        f"{where}.seconds is {content['seconds']!r}: give the seconds of its first run, roughly",
    )
    actions, metric = content.get("actions", "discrete"), content.get("metric", "solved")
    check_choice(f"{where}.actions", actions, ACTIONS)
    check_choice(f"{where}.metric", metric, METRICS)
    left_out = {
        str(k): str(v) for k, v in _mapping(path, f"tasks.{name}.left_out", content.get("left_out", {}), True).items()
    }
    for sampler in left_out:
        check(
            sampler in samplers, f"{where}.left_out names {sampler}{did_you_mean(sampler, samplers)}, no sampler here"
        )
    return Task(
        name=name,
        about=content["about"],
        config=given,
        flags=_flags(f"{where}.flags", content.get("flags", {})),
        learners=_names(f"{where}.learners", content["learners"]) if "learners" in content else learners,
        actions=actions,
        metric=metric,
        needs=_names(f"{where}.needs", content.get("needs", []), empty=True),
        block=content["block"],
        seconds=float(content["seconds"]),
        left_out=left_out,
    )


def _check_keys(where: str, content: Mapping[Any, Any], known: set[str], needed: Iterable[str] = ()) -> None:
    for key in content:
        check(
            key in known,
            f"{where} has the key {key!r}{did_you_mean(str(key), known)}: known are {', '.join(sorted(known))}",
        )
    missing = [key for key in sorted(needed) if key not in content]
    check(not missing, f"{where} lacks {', '.join(missing)}")


def _check_number(where: str, value: Any, least: int, most: int) -> None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    check(whole and least <= value <= most, f"{where} is {value!r}: give a whole number from {least} to {most:,}")


def _mapping(path: Path, key: str, value: Any, empty: bool = False) -> dict[Any, Any]:
    check(isinstance(value, dict) and (empty or bool(value)), f"{path}: {key} is {value!r}: give keys and values")
    return dict(value)


def _names(where: str, value: Any, empty: bool = False) -> tuple[str, ...]:
    fine = isinstance(value, list) and (empty or bool(value)) and all(isinstance(v, str) for v in value)
    check(fine and all(NAME.fullmatch(v) for v in value), f"{where} is {value!r}: give a list of names")
    return tuple(value)


def _flags(where: str, value: Any) -> Flags:
    check(isinstance(value, dict), f"{where} is {value!r}: give flags and values, such as model.total_env_steps: 960")
    for flag in value:
        check(
            isinstance(flag, str) and bool(FLAG.fullmatch(flag)),
            f"{where} has {flag!r}: give flags that begin with model or data, such as model.total_env_steps",
        )
    return dict(value)
