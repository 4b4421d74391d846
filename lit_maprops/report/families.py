"""Runs that differ in a few numbers only: over delta and epsilon, and over n."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lit_maprops.report.analysis import Group, Setting
from lit_maprops.report.load import Floats
from lit_maprops.report.settings import CLIP_EPSILON, KL_CUTOFF, SAMPLER, TARGET_BATCH, Key, short_names


@dataclass(frozen=True)
class HeatMap:
    """A sampler's runs over delta and epsilon; arrays are ``[len(delta), len(epsilon)]``, NaN where nothing ran.

    ``share`` is that of solved seeds, or their mean return.
    """

    name: str
    delta: list[float]
    epsilon: list[float]
    share: Floats
    seeds: Floats
    errors: dict[str, Floats]


def heat_maps(setting: Setting, columns: Sequence[str]) -> list[HeatMap]:
    """One for every sampler whose runs vary both ``kl_cutoff`` and ``clip_epsilon``, all else being equal."""
    families: dict[Key, dict[tuple[float, float], Group]] = {}
    for group in setting.groups:
        delta, epsilon = group.option(KL_CUTOFF), group.option(CLIP_EPSILON)
        if group.runs and isinstance(delta, (int, float)) and isinstance(epsilon, (int, float)):
            rest = frozenset(item for item in group.key if item[0] not in (KL_CUTOFF, CLIP_EPSILON))
            families.setdefault(rest, {})[float(delta), float(epsilon)] = group
    names = short_names(families, (SAMPLER,))
    return [
        _heat_map(names[rest], cells, columns)
        for rest, cells in families.items()
        if len({d for d, _ in cells}) > 1 and len({e for _, e in cells}) > 1
    ]


def _heat_map(name: str, cells: dict[tuple[float, float], Group], columns: Sequence[str]) -> HeatMap:
    delta, epsilon = sorted({d for d, _ in cells}), sorted({e for _, e in cells})
    share, seeds = np.full((2, len(delta), len(epsilon)), np.nan)
    errors = {column: np.full(share.shape, np.nan) for column in columns}
    for (d, e), group in cells.items():
        cell = delta.index(d), epsilon.index(e)
        if len(group.scores):
            share[cell] = group.solved.mean() if group.judged.tells_solved else group.scores.mean()
        seeds[cell] = len(group.solved) if group.judged.tells_solved else len(group.scores)
        for column, values in errors.items():
            values[cell] = group.error(column)
    return HeatMap(name, delta, epsilon, share, seeds, errors)


def batch_size_families(settings: Sequence[Setting]) -> list[list[tuple[float, Setting]]]:
    """Settings that differ in n only (and in how long they run), as pairs of n and setting; at least three n each."""
    free = (TARGET_BATCH, "model.total_env_steps")
    families: dict[Key, list[tuple[float, Setting]]] = {}
    for setting in settings:
        n = dict(setting.key).get(TARGET_BATCH)
        if isinstance(n, (int, float)):
            rest = frozenset(item for item in setting.key if item[0] not in free)
            families.setdefault(rest, []).append((float(n), setting))
    return [sorted(f, key=lambda pair: pair[0]) for f in families.values() if len({n for n, _ in f}) > 2]
