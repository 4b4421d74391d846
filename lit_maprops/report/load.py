"""Find run folders and read them; what cannot be read is named with its reason, never guessed."""

import csv
import json
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from lit_maprops.metrics.reliability import SUCCESS, Criterion
from lit_maprops.report.find import MARKS, LeftOut, find
from lit_maprops.report.settings import TARGET_BATCH, Key, leave_unsaid, planned_env_steps, sampler_key, setting_key
from lit_maprops.report.solved import SOLVED_ON, SOLVED_THRESHOLD, criterion_of, spell_out
from lit_maprops.run.changes import FILE, Change, parse, until
from lit_maprops.system.errors import printable
from lit_maprops.system.flat_settings import flatten
from lit_maprops.system.safe_yaml import load_yaml
from lit_maprops.system.tables import read_table

Floats = NDArray[np.floating]
MOST_STEPS = 10**15  # of env steps, as the program allows; also of any other number
MOST_BYTES = 200_000_000  # of a file that is read as a whole
MOST_METRICS_BYTES = 20_000_000_000  # of metrics.csv, of which rows may be left out
MOST_KEYS = 2_000  # of a configuration
# That are reckoned with: the newest counts.
NUMBERS = {SOLVED_ON, SOLVED_THRESHOLD, "model.total_env_steps", TARGET_BATCH}
OTHERS = ("stochastic_success_rate", "greedy_return", "stochastic_return")
NEEDED = {"metrics.csv": {"env_steps"}, "eval.csv": {"env_steps", "seed", "greedy_success_rate"}}


class Unreadable(Exception):
    """A folder that cannot be used; the message is the reason."""


@dataclass(frozen=True)
class Run:
    """One run folder: R = ``num_seeds`` training runs side by side.

    Attributes:
        path: of the folder.
        name: the folder's name, printable.
        config: flag to value.
        metrics: column to ``[iterations]``.
        env_steps: of each evaluation, per seed, ``[points]``.
        seeds: their numbers, ``[R]``.
        success: greedy success rates (shares), NaN where a seed has none, ``[points, R]``.
        final: the last row of ``success``, 0 where that is NaN, ``[R]``.
        others: ``OTHERS``, likewise: what else was evaluated; NaN all over where eval.csv does not have it.
        nan_seeds: numbers of the seeds whose policies ended in NaN; as in summary.json they count as not solved.
        summary: summary.json; None while the run is unfinished, also after it was given more env steps.
        thinned: each so-maniest row of a very long metrics.csv is in ``metrics``; 1: all are.
    """

    path: Path
    name: str
    config: dict[str, Hashable]
    metrics: dict[str, Floats]
    env_steps: Floats
    seeds: NDArray[np.integer]
    success: Floats
    final: Floats
    others: dict[str, Floats]
    nan_seeds: tuple[int, ...]
    summary: dict[str, Any] | None
    thinned: int = 1
    setting: Key = field(init=False)
    sampler: Key = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "setting", setting_key(self.config))
        object.__setattr__(self, "sampler", sampler_key(self.config))

    @property
    def finished(self) -> bool:
        """Whether the run reached its end."""
        return self.summary is not None

    @property
    def tells_success(self) -> bool:
        """Whether any evaluation has a success rate, or none has anything else either: all seeds ended in NaN."""
        return bool(np.isfinite(self.success).any()) or not np.isfinite(self.others["greedy_return"]).any()

    @property
    def criterion(self) -> Criterion:
        """When a seed counts as solved, by the run's own settings."""
        return criterion_of(self.config, self.tells_success)

    @property
    def solved(self) -> int:
        """Number of seeds whose final greedy success rate, or return, reaches the run's own threshold."""
        return int(self.solved_by(self.criterion).sum())

    def solved_by(self, judged: Criterion) -> NDArray[np.bool_]:
        """Which seeds count as solved at the end, ``[R]``; one that ended in NaN is not."""
        return judged.solved(self.others["greedy_return"][-1] if judged.by_return else self.final)

    def mean(self, column: str) -> float:
        """Mean over training of a column of metrics.csv; NaN where it has no number."""
        values = self.metrics.get(column, np.empty(0))
        values = values[np.isfinite(values)]
        return float(values.mean()) if len(values) else float("nan")


def load_runs(paths: Sequence[str | Path]) -> tuple[list[Run], list[LeftOut]]:
    """Read every run folder at or below ``paths``.

    Returns:
        The runs in order of their paths, and the folders that could not be used.

    Raises:
        ConfigError: a path does not exist or is no folder.
    """
    runs, left_out = [], []
    for folder, is_run in find(paths):
        try:
            if not is_run:
                raise Unreadable(f"not a run folder: it has none of {', '.join(MARKS)}")
            runs.append(read_run(folder))
        except Unreadable as error:
            left_out.append(LeftOut(printable(str(folder)), printable(str(error))))
    runs, repeats = _without_repeats(runs)
    return runs, left_out + repeats


def read_run(folder: Path) -> Run:
    """Read one run folder.

    Raises:
        Unreadable: a file is missing, broken or contradicts another one.
    """
    config = _config(folder / "config.yaml")
    # Trained with several values: another setting, or another sampler, than with either of them.
    config |= {k: printable(v) for k, v in until(_changes(folder / FILE), config).items() if k not in NUMBERS}
    summary = _summary(folder / "summary.json")
    thinned = _every(folder / "metrics.csv")
    metrics, evaluations = _table(folder / "metrics.csv", thinned), _table(folder / "eval.csv")
    _check_numbers(evaluations)
    seeds = np.unique(evaluations["seed"]).astype(int)
    env_steps = np.unique(evaluations["env_steps"])
    rows = len(evaluations["seed"])
    if len(env_steps) * len(seeds) > 2 * rows + len(seeds):  # every evaluation has every seed
        raise Unreadable(f"eval.csv has {rows:,} rows of {len(env_steps):,} evaluations and {len(seeds):,} seeds")
    cells = np.searchsorted(env_steps, evaluations["env_steps"]), np.searchsorted(seeds, evaluations["seed"])
    arranged = {name: np.full((len(env_steps), len(seeds)), np.nan) for name in ("greedy_success_rate", *OTHERS)}
    for name, values in arranged.items():
        values[cells] = evaluations.get(name, np.nan)
        values[np.abs(values) > MOST_STEPS] = np.nan  # no axis can be drawn for it
    seen = np.zeros((len(env_steps), len(seeds)), dtype=bool)
    seen[cells] = True
    if summary is not None and summary["env_steps"] < planned_env_steps(config):
        summary = None  # of an earlier end: the run was given more env steps since
    if summary is not None:
        _check_complete(summary, env_steps, seeds, seen)
    whole = seen.all(1)  # a kill can leave the last evaluation half written
    if not whole.any():
        raise Unreadable("eval.csv: no evaluation is complete")
    env_steps, arranged = env_steps[whole], {name: values[whole] for name, values in arranged.items()}
    success = arranged.pop("greedy_success_rate")
    if config[SOLVED_ON] == SUCCESS and np.isfinite(success).any():
        config[SOLVED_ON] = None  # what null is where success is told
    # An evaluation without any verdict says nothing of a seed; one that ended in NaN has no return either.
    ended = success[-1] if np.isfinite(success[-1]).any() else arranged["greedy_return"][-1]
    return Run(
        path=folder,
        name=printable(folder.resolve().name),
        config=config,
        metrics=metrics,
        env_steps=env_steps,
        seeds=seeds,
        success=success,
        final=np.nan_to_num(success[-1]),
        others=arranged,
        nan_seeds=tuple(int(seed) for seed in seeds[np.isnan(ended)]),
        summary=summary,
        thinned=thinned,
    )


def _check_numbers(evaluations: dict[str, Floats]) -> None:
    for name, most in (("env_steps", MOST_STEPS), ("seed", MOST_STEPS), ("greedy_success_rate", 1)):
        values = evaluations[name][~np.isnan(evaluations[name])]
        if not ((values >= 0) & (values <= most)).all():
            raise Unreadable(f"eval.csv has a {name} outside 0 to {most:,}")
    if (evaluations["seed"] % 1).any():
        raise Unreadable("eval.csv has a seed that is no whole number")


def _check_complete(summary: dict[str, Any], env_steps: Floats, seeds: NDArray[np.integer], seen: Any) -> None:
    if env_steps[-1] < summary["env_steps"] or len(seeds) < len(summary["seeds"]):
        raise Unreadable("eval.csv is truncated: it does not reach the end that summary.json tells")
    if not seen[-1].all():
        raise Unreadable(f"eval.csv is truncated: its last evaluation has {seen[-1].sum()} of {len(seeds)} seeds")


def _config(path: Path) -> dict[str, Hashable]:
    try:
        content = load_yaml(_text(path))
        if not isinstance(content, dict):
            raise Unreadable(f"{path.name} is empty or holds no settings")
        config = {printable(k): printable(v) if isinstance(v, str) else v for k, v in flatten(content).items()}
        spell_out(config)
        leave_unsaid(config)
        if len(config) > MOST_KEYS:
            raise Unreadable(f"{path.name} has {len(config):,} settings, a run has no more than {MOST_KEYS:,}")
    except yaml.YAMLError as error:
        raise Unreadable(f"{path.name} is no YAML: {_first_line(error)}") from None
    except (KeyError, ValueError, RecursionError) as error:
        raise Unreadable(f"{path.name} is no configuration of a run: {_first_line(error)}") from None
    return config


def _changes(path: Path) -> list[Change]:
    try:
        return parse(_text(path)) if path.exists() else []
    except ValueError as error:
        raise Unreadable(f"{path.name} is no history of settings: {_first_line(error)}") from None


def _summary(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        summary = json.loads(_text(path))
        summary["env_steps"] = float(summary["env_steps"])
        if not isinstance(summary["seeds"], list):
            raise TypeError("seeds is no list")
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise Unreadable(f"{path.name} is no summary of a run: {_first_line(error)}") from None
    return dict(summary)


def _every(path: Path) -> int:
    """Of how many rows of a table one is read, so that the memory for it is bounded."""
    size = path.stat().st_size if path.is_file() else 0
    return 1 if size > MOST_METRICS_BYTES else max(1, math.ceil(size / MOST_BYTES))


def _table(path: Path, every: int = 1) -> dict[str, Floats]:
    if every == 1:
        _text(path)  # says what is wrong with an unreadable file
    try:
        table = read_table(path, every)
    except UnicodeDecodeError:
        raise Unreadable(f"{path.name} is no UTF-8 text") from None
    except csv.Error as error:
        raise Unreadable(f"{path.name} is no table: {_first_line(error)}") from None
    missing = NEEDED[path.name] - set(table)
    if missing:
        raise Unreadable(f"{path.name} has no column {', '.join(sorted(missing))}")
    counts = NEEDED[path.name] - {"greedy_success_rate"}
    keep = np.logical_and.reduce([np.abs(table[name]) <= MOST_STEPS for name in counts])
    if not keep.any():
        raise Unreadable(f"{path.name} has no complete row")
    if path.name == "metrics.csv":  # larger is no measurement of ours, and no axis can be drawn for it
        table = {name: np.where(np.abs(values) <= MOST_STEPS, values, np.nan) for name, values in table.items()}
    return {name: values[keep] for name, values in table.items()}


def _text(path: Path) -> str:
    if path.exists() and not path.is_file():  # a pipe would never end
        raise Unreadable(f"{path.name} is no file")
    try:
        if path.stat().st_size > MOST_BYTES:
            raise Unreadable(f"{path.name} has more than {MOST_BYTES:,} bytes")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise Unreadable(f"{path.name} is missing" if not path.exists() else f"{path.name}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise Unreadable(f"{path.name} is no UTF-8 text") from None
    if not text.strip():
        raise Unreadable(f"{path.name} is empty")
    return text


def _without_repeats(runs: list[Run]) -> tuple[list[Run], list[LeftOut]]:
    """Leave out finished runs that repeat seeds of another one: counted twice, they would narrow every interval."""
    owners: dict[tuple[Any, ...], Run] = {}
    repeats: dict[Path, LeftOut] = {}
    for run in sorted((r for r in runs if r.finished), key=lambda run: -len(run.seeds)):
        identities = [
            (run.setting, run.sampler, run.config.get("seed_everything"), seed) for seed in run.seeds.tolist()
        ]
        owner = next((owners[i] for i in identities if i in owners), None)
        if owner is None:
            owners |= dict.fromkeys(identities, run)
        else:
            reason = f"repeats seeds of {owner.name}: same configuration, run seed and seed numbers"
            repeats[run.path] = LeftOut(printable(str(run.path)), reason)
    return [run for run in runs if run.path not in repeats], list(repeats.values())


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
