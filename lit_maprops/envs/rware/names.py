"""The names of the package rware 2.0.0, such as rware-tiny-2ag-v2, and what they stand for."""

import re
from typing import Any

from lit_maprops.system.errors import check

SIZES = {"tiny": (1, 3), "small": (2, 3), "medium": (2, 5), "large": (3, 5)}  # rows and columns of groups of shelves
_REQUESTS = {None: 1.0, "easy": 2.0, "hard": 0.5}  # shelves requested at a time, per agent
_REWARDS = {"indiv": "individual", "global": "global", "twostage": "two_stage"}
# rware/__init__.py: range of the sensors, size, height of the columns, agents, requested shelves, reward.
_NAME = re.compile(
    r"(?:rware:)?rware(?:-(?P<sensor_range>\d+)s)?-(?:(?P<size>tiny|small|medium|large)|(?P<rows>\d+)x(?P<columns>\d+))"
    r"(?:-(?P<height>\d+)h)?-(?P<n_agents>\d+)ag(?:-(?P<difficulty>easy|hard)|-(?P<requests>\d+)req)?"
    r"(?:-(?P<reward>indiv|global|twostage))?(?:-v2)?"
)
_DEFAULTS: dict[str, Any] = {
    "shelf_rows": 1, "shelf_columns": 3, "column_height": 8, "n_agents": 2, "sensor_range": 1,
    "reward_type": "individual",
}  # fmt: skip


def settings(name: str | None, given: dict[str, Any]) -> dict[str, Any]:
    """The arguments of ``RWARE`` that a name stands for.

    Args:
        name: a name, or None.
        given: ``shelf_rows``, ``shelf_columns``, ``column_height`` (cells), ``n_agents``, ``sensor_range`` (cells),
            ``request_queue_size`` and ``reward_type``, None where not given.

    Returns:
        The same keys with the name's values, or, without a name, the given ones with defaults for None.

    Raises:
        ConfigError: the name is none, or an argument contradicts it.
    """
    if name is None:
        rules = {key: _DEFAULTS.get(key) if value is None else value for key, value in given.items()}
        return rules | {"request_queue_size": given["request_queue_size"] or rules["n_agents"]}
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
        match is not None,
        f"<env.name> is {name!r}: give rware[-SENSORs]-SIZE[-HEIGHTh]-AGENTSag[-easy|-hard|-REQUESTSreq][-indiv|"
        f"-global|-twostage], SIZE tiny, small, medium, large or ROWSxCOLUMNS, such as rware-tiny-2ag",
    )
    assert match is not None  # for mypy; checked above
    agents = int(match["n_agents"])
    rows, columns = SIZES[match["size"]] if match["size"] else (int(match["rows"]), int(match["columns"]))
    return {
        "shelf_rows": rows,
        "shelf_columns": columns,
        "column_height": int(match["height"] or 8),
        "n_agents": agents,
        "sensor_range": int(match["sensor_range"] or 1),
        "request_queue_size": int(match["requests"] or agents * _REQUESTS[match["difficulty"]]),
        "reward_type": _REWARDS[match["reward"] or "indiv"],
    }
