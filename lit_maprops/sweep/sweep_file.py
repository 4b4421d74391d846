"""A W&B sweep file, read and checked: https://docs.wandb.ai/guides/sweeps/sweep-config-keys."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lit_maprops.sweep.results import SUMMARY_NUMBERS
from lit_maprops.system.errors import ConfigError, check, check_choice
from lit_maprops.system.safe_yaml import read_yaml

MOST_RUNS = 100_000
BOUNDS = ("min", "max", "mu", "sigma", "q")  # of distributions; from infinite ones the search draws NaN
METHODS = ["grid", "random", "bayes"]
# Every run has its own folder and continues in it; the sweep gives these.
OURS = ("run_name", "runs_dir", "ckpt_path")
# Flags that say which seeds a run has; a sweep until decided gives them.
ALLOTTED = FIRST_SEED, NUM_SEEDS = "model.first_seed", "model.num_seeds"


@dataclass(frozen=True)
class SweepFile:
    """A sweep file that can be run.

    Args:
        path: where it lies.
        content: as written.
    """

    path: Path
    content: dict[str, Any]

    @property
    def name(self) -> str:
        """The folder of its runs: the file's ``name``, else the file name without .yaml."""
        return str(self.content.get("name", self.path.stem))

    @property
    def command(self) -> list[str]:
        """The command of every run, with macros."""
        return [str(part) for part in self.content["command"]]

    @property
    def run_cap(self) -> int | None:
        """The most runs the file asks for."""
        return self.content.get("run_cap")

    @property
    def metric(self) -> str | None:
        """Name of the number to optimize."""
        return self.content.get("metric", {}).get("name")

    @property
    def maximizes(self) -> bool:
        """Whether more of the metric is better; W&B's default is less."""
        return self.content.get("metric", {}).get("goal") == "maximize"

    @property
    def stops_early(self) -> bool:
        """Whether runs are stopped early."""
        return "early_terminate" in self.content

    @cached_property
    def flags(self) -> set[str]:
        """Every flag the file sets itself, as a parameter or in its command, without hyphens."""
        written = {part.removeprefix("--").split("=")[0] for part in self.command if part.startswith("--")}
        return written | set(self.content["parameters"])

    @property
    def proposed(self) -> dict[str, Any]:
        """Rules of all parameters that its runs may have."""
        allotted = {flag: {"min": 0} for flag in ALLOTTED} if "until_decided" in self.content else {}
        return self.content["parameters"] | allotted

    @property
    def is_ours(self) -> bool:
        """Whether its command is this program."""
        return bool({"lit_maprops", "lit-maprops"} & set(self.command))

    @property
    def meaning(self) -> dict[str, Any]:
        """What must not change between calls: everything but the number of runs and the prose."""
        return {k: v for k, v in self.content.items() if k not in ("run_cap", "description")}


def read_sweep_file(path: Path) -> SweepFile:
    """Read and check a sweep file, all but what needs the package ``sweeps``.

    Raises:
        ConfigError: it is missing, no YAML, or lacks what a sweep needs.
    """
    content = read_yaml("FILE", path, "the output of lit-maprops conf bayes")
    check_choice(f"{path}: method", content.get("method"), METHODS)
    parameters = content.get("parameters")
    check(isinstance(parameters, dict) and bool(parameters), f"{path}: parameters is missing: name the flags to sweep")
    check(
        isinstance(content.get("command"), list) and bool(content["command"]),
        f"{path}: command is missing: give the list of words that start a run, such as lit-maprops conf bayes shows",
    )
    for key, kind in {"metric": dict, "early_terminate": dict, "run_cap": int}.items():
        check(
            key not in content or isinstance(content[key], kind),
            f"{path}: {key} is {content.get(key)!r}: see W&B's docs",
        )
    _check_words(path, content)
    size = _grid_size(content["parameters"]) if content["method"] == "grid" else 1
    check(size <= MOST_RUNS, f"{path}: the grid has {size:,} runs: give fewer values, {MOST_RUNS:,} are the most")
    file = SweepFile(path, content)
    name = file.name
    check(
        name not in ("", ".", "..") and "/" not in name and name.isprintable(),
        f"{path}: name is {name!r}: give the name of one folder, without / and control characters",
    )
    _check_flat(file)
    for flag in OURS:
        check(flag not in file.flags, f"{path}: leave {flag} out, every run of a sweep gets a folder of its own")
    _check_metric(file)
    return file


def _check_flat(file: SweepFile) -> None:
    """Refuse parameters inside of parameters, which would reach our program as one word that no flag takes."""
    for key, parameter in file.content["parameters"].items() if file.is_ours else ():
        if isinstance(parameter, dict) and "parameters" in parameter:
            inner = parameter["parameters"]
            name = next(iter(inner), "...") if isinstance(inner, dict) else "..."
            raise ConfigError(
                f"{file.path}: parameters.{key} has parameters of its own: name each flag, such as {key}.{name}"
            )


def _check_words(path: Path, content: dict[str, Any]) -> None:
    """Refuse what cannot be drawn, remembered in the journal, or given to a process."""
    try:
        text = json.dumps(content)
    except TypeError as error:  # a date
        raise ConfigError(f"{path}: {error}: put it in quotes") from None
    check("\\u0000" not in text, f"{path} holds a null byte, which no command line can: leave it out")
    for name, parameter in content["parameters"].items():
        for key in BOUNDS if isinstance(parameter, dict) else ():
            bound = parameter.get(key, 0)
            fine = not isinstance(bound, (int, float)) or abs(bound) < 1e300
            check(fine, f"{path}: parameters.{name} has {key} {bound}: give a finite number")
    for word in content["command"]:
        check(isinstance(word, (str, int, float)), f"{path}: command has {word!r}: give words")


def _grid_size(parameters: dict[str, Any]) -> int:
    """Points of a grid, without making any; what is no list of values counts as one."""
    size = 1
    for parameter in parameters.values():
        values = parameter.get("values") if isinstance(parameter, dict) else None
        inner = parameter.get("parameters") if isinstance(parameter, dict) else None
        size *= len(values) if isinstance(values, list) else 1
        size *= _grid_size(inner) if isinstance(inner, dict) else 1
    return size


def _check_metric(file: SweepFile) -> None:
    named = file.metric is None or isinstance(file.metric, str)
    check(named, f"{file.path}: metric is {file.metric!r}: give the name of a number that runs report")
    needs = "method bayes" if file.content["method"] == "bayes" else "early_terminate"
    check(
        file.metric is not None or (needs == "early_terminate" and not file.stops_early),
        f"{file.path}: metric is missing: {needs} needs metric: {{name: ..., goal: maximize}}",
    )
    if file.metric is None or not file.is_ours:
        return  # what another program reports, only it knows
    is_column = "/" in file.metric
    check(
        is_column or (file.metric in SUMMARY_NUMBERS and not file.stops_early),
        f"{file.path}: metric {file.metric} is unknown or known only at the end: choose one of "
        + ("" if file.stops_early else f"{', '.join(SUMMARY_NUMBERS)}, or ")
        + "a column of metrics.csv such as eval/greedy_success_rate",
    )
