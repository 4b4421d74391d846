"""The names of the package lbforaging 2.0.0, such as Foraging-2s-8x8-2p-2f-coop-v3, and what they stand for."""

import re
from typing import Any

from lit_maprops.system.errors import check

# lbforaging/__init__.py: sight, size, agents, food, force_coop, food of level 1 for individuals, penalty.
_NAME = re.compile(
    r"(?:lbforaging:)?Foraging(?:-(?P<sight>\d+)s)?-(?P<rows>\d+)x(?P<columns>\d+)-(?P<n_agents>\d+)p"
    r"-(?P<max_num_food>\d+)f(?P<coop>-coop)?(?P<ind>-ind)?(?P<pen>-pen)?(?:-v3)?"
)
_DEFAULTS: dict[str, Any] = {"size": 8, "n_agents": 2, "max_num_food": 2, "force_coop": True, "penalty": 0.0}


def settings(name: str | None, given: dict[str, Any]) -> dict[str, Any]:
    """The arguments of ``Foraging`` that a name stands for.

    Args:
        name: a name, or None.
        given: ``size``, ``n_agents``, ``max_num_food``, ``force_coop``, ``sight`` (cells), ``max_food_level`` and
            ``penalty`` (reward), None where not given.

    Returns:
        The same keys with the name's values, or, without a name, the given ones with defaults for None; ``sight`` and
        ``max_food_level`` may stay None: the whole grid, the sum of the three lowest levels of agents.

    Raises:
        ConfigError: the name is none, or an argument contradicts it.
    """
    if name is None:
        return {key: _DEFAULTS.get(key) if value is None else value for key, value in given.items()}
    named = _parse(name)
    for key, value in given.items():
        check(
            value is None or value == named[key],
            f"<env.{key}> is {value}, but <env.name> {name} has {named[key]}: give another name, or <env.name> null",
        )
    return named


def _parse(name: str) -> dict[str, Any]:
    match = _NAME.fullmatch(name)
    check(
        match is not None and match["rows"] == match["columns"],
        f"<env.name> is {name!r}: give Foraging[-SIGHTs]-SIZExSIZE-AGENTSp-FOODf[-coop][-ind][-pen], such as "
        f"Foraging-8x8-2p-2f-coop",
    )
    assert match is not None  # for mypy; checked above
    size = int(match["rows"])
    return {
        "size": size,
        "n_agents": int(match["n_agents"]),
        "max_num_food": int(match["max_num_food"]),
        "force_coop": bool(match["coop"]),
        "sight": int(match["sight"] or size),
        "max_food_level": 1 if match["ind"] else None,
        "penalty": 0.1 if match["pen"] else 0.0,
    }
