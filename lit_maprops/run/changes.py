"""Which settings a run was trained with, and from which env step on: a run may be continued with others.

config.yaml holds the newest, ``changes.json`` beside it every change. Imports nothing heavy: reports read it.
"""

import json
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

from lit_maprops.system.flat_settings import flatten

FILE = "changes.json"
# Where a run is, how it is tracked and how long its ranks wait: none of what it is trained with.
LABELS = {"wandb_group", "wandb_job_type", "wandb_tags", "wandb_artifacts"}
APART = {"run_name", "runs_dir", "ckpt_path", "keep", "wandb", "rank_timeout"} | LABELS


class Change(NamedTuple):
    """A setting that a run was continued with.

    Attributes:
        env_steps: of the checkpoint from which on it holds (env steps per seed).
        key: the flag, without dashes.
        before: its value until then.
        after: its value from then on.
    """

    env_steps: int
    key: str
    before: Any
    after: Any


def continued_with(
    earlier: Sequence[Change],
    written: Mapping[str, Any],
    given: Mapping[str, Any],
    env_steps: int,
    unset: Mapping[str, Any] | None = None,
) -> list[Change]:
    """The changes of a run that goes on from a checkpoint.

    Changes that were made at that checkpoint or later hold no more: what was trained with them is trained again.

    Args:
        earlier: changes so far.
        written: what config.yaml holds.
        given: the configuration to go on with.
        env_steps: of the checkpoint.
        unset: values of arguments that a configuration leaves out if nobody gives them.
    """
    left_out = flatten(unset or {})
    held: dict[str, Hashable] = flatten(written)
    held |= {key: value for key, value in left_out.items() if key not in held}
    for change in reversed(earlier):
        if change.env_steps >= env_steps:
            held[change.key] = change.before
    now = left_out | flatten(given)
    kept = [change for change in earlier if change.env_steps < env_steps]
    # An option that only one of them has came or went with a version of the package.
    keys = [key for key in held if key in now and key not in APART and held[key] != now[key]]
    return kept + [Change(env_steps, key, held[key], now[key]) for key in keys]


def until(changes: Sequence[Change], newest: Mapping[str, Hashable]) -> dict[str, str]:
    """The values of changed settings in words, by flag: ``1.0 until 480, then 0.001`` (env steps per seed).

    Args:
        changes: of a run.
        newest: its newest settings.
    """
    texts: dict[str, str] = {}
    for change in changes:
        texts[change.key] = f"{texts.get(change.key, '')}{change.before} until {change.env_steps}, then "
    return {key: f"{text}{newest.get(key)}" for key, text in texts.items()}


def parse(text: str) -> list[Change]:
    """The changes that a file holds.

    Raises:
        ValueError: it is no such file.
    """
    try:
        changes = [Change(**change) for change in json.loads(text)["changes"]]
    except (KeyError, TypeError, RecursionError):
        raise ValueError("it is damaged") from None
    if not all(type(c.env_steps) is int and isinstance(c.key, str) for c in changes):
        raise ValueError("it is damaged")
    return changes
