"""Finished runs as a file of the package marl-eval, for its plots and for others' pages.

Every evaluation gives one number per seed and figure, the mean over its episodes: eval.csv has no single episodes.
``absolute_metrics`` holds the last evaluation, decided here: the protocol's ten times as many episodes of the best
policy are not played, and the best of several noisy evaluations would be too high.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lit_maprops.report.load import Floats, Run
from lit_maprops.report.marl_eval import Name
from lit_maprops.report.settings import ENVIRONMENT, SAMPLER, Config, Key, short_names, show

LEARNER = "model.learner"
NAMED = ("name", "scenario", "payoff", "size")  # arguments of environments that name a task
LAST = "absolute_metrics"


def task_of(config: Config) -> Name:
    """Environment and task of a run: the class, and what it calls the task, as BenchMARL does."""
    environment = show(config.get(ENVIRONMENT))
    given = (config.get(f"{ENVIRONMENT}.{key}") for key in NAMED)
    name = next((value for value in given if isinstance(value, str)), environment)
    return environment, name.rpartition(".")[2] if "." in name and "/" not in name else name


def tasks_of(runs: Sequence[Run]) -> dict[Key, Name]:
    """A task's name for the environment of every run; what differs between those of one name is added to it."""
    families: dict[Name, list[Key]] = {}
    for run in runs:
        key = environment_key(run.config)
        family = families.setdefault(task_of(run.config), [])
        family += [] if key in family else [key]
    found = {}
    for (environment, task), keys in families.items():
        for key, name in short_names(keys, (ENVIRONMENT,)).items():
            details = name.partition(" (")[2].removesuffix(")")
            found[key] = (environment, f"{task} {details}" if details else task)
    return found


def environment_key(config: Config) -> Key:
    """What identifies the environment of a run."""
    return frozenset((k, v) for k, v in config.items() if k == ENVIRONMENT or k.startswith(f"{ENVIRONMENT}."))


def algorithms_of(runs: Sequence[Run]) -> dict[Key, str]:
    """A name for the learner, sampler and settings of every run: ``MAPPO MAPROPS``, and what differs from others."""
    keys = {algorithm_key(run): None for run in runs}
    names = short_names(keys, (LEARNER, SAMPLER))
    return {key: name.replace(", ", " ") for key, name in names.items()}  # marl-eval takes no commas


def algorithm_key(run: Run) -> Key:
    """All that identifies a run but its environment."""
    return (run.setting | run.sampler) - environment_key(run.config)


def as_marl_eval(runs: Sequence[Run]) -> tuple[dict[str, Any], list[str]]:
    """The content of a file, and what a reader should know of it.

    Args:
        runs: of which the finished ones count.
    """
    runs = [run for run in runs if run.finished]
    tasks, content, notes = tasks_of(runs), {}, []
    for environment in sorted({name for name, _ in tasks.values()}):
        own = [run for run in runs if tasks[environment_key(run.config)][0] == environment]
        figures, skips = _figures(own)
        notes += [f"{environment}: {note}" for note in skips]
        by_task: dict[str, list[Run]] = {}
        for run in own:
            by_task.setdefault(tasks[environment_key(run.config)][1], []).append(run)
        content[environment] = {task: _task(found, figures) for task, found in by_task.items()}
        notes += _uneven(environment, content[environment])
    return content, notes


def _figures(runs: Sequence[Run]) -> tuple[list[str], list[str]]:
    """Which figures all runs of an environment have, as marl-eval wants it, and what is left out."""
    whole = all(np.isfinite(run.others["greedy_return"]).all() for run in runs)
    tells = [run.tells_success for run in runs]
    if whole:
        return ["return", *(["success_rate"] if all(tells) else [])], (
            ["not all of its tasks tell success: returns only"] if any(tells) and not all(tells) else []
        )
    if all(tells):
        return ["success_rate"], ["seeds that ended in NaN have no return: success rates only, 0 of those seeds"]
    return ["return"], ["seeds that ended in NaN have no return and are left out"]


def _task(runs: Sequence[Run], figures: Sequence[str]) -> dict[str, Any]:
    names = algorithms_of(runs)
    found: dict[str, dict[str, Any]] = {}
    for run in runs:
        seeds = found.setdefault(names[algorithm_key(run)], {})
        columns = {"return": run.others["greedy_return"], "success_rate": np.nan_to_num(run.success)}
        for place, seed in enumerate(run.seeds.tolist()):
            chosen = {name: columns[name][:, place] for name in figures}
            if all(np.isfinite(values).all() for values in chosen.values()):
                name = f"seed_{seed}"
                seeds[name if name not in seeds else f"seed_{_free(seeds)}"] = _seed(run.env_steps, chosen)
    return found


def _free(seeds: dict[str, Any]) -> int:
    """A number that no seed has: runs of several run seeds number their seeds alike."""
    return 1 + max(int(name.removeprefix("seed_")) for name in seeds)


def _seed(env_steps: Floats, columns: dict[str, Floats]) -> dict[str, Any]:
    steps: dict[str, Any] = {
        f"step_{k + 1}": {"step_count": int(count), **{name: [float(v[k])] for name, v in columns.items()}}
        for k, count in enumerate(env_steps)
    }
    return steps | {LAST: {name: [float(values[-1])] for name, values in columns.items()}}


def _uneven(environment: str, tasks: dict[str, Any]) -> list[str]:
    """marl-eval wants equal algorithms, numbers of seeds and evaluations in all tasks of an environment."""
    all_runs = [runs for found in tasks.values() for runs in found.values()]
    kinds = {
        "algorithms": len({frozenset(found) for found in tasks.values()}),
        "numbers of seeds": len({len(runs) for runs in all_runs}),
        "numbers of evaluations": len({len(run) for runs in all_runs for run in runs.values()}),
    }
    odd = ", ".join(what for what, number in kinds.items() if number > 1)
    return [f"{environment} has different {odd}: marl-eval's plots want equal ones"] if odd else []
