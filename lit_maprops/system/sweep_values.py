"""The values that a sweep gives a run, exactly: the words of a command line have no types."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

OURS = "LIT_MAPROPS_SWEEP_VALUES"  # from the sweep command: JSON
AGENTS = "WANDB_SWEEP_PARAM_PATH"  # from W&B's agent: a YAML file


def for_environment(values: Mapping[str, Any]) -> dict[str, str]:
    """The variable that hands values, by the names of their flags, to a run."""
    return {OURS: json.dumps(values)}


def sweep_values() -> dict[str, Any]:
    """Values by the names of their flags; empty outside of sweeps."""
    try:
        if OURS in os.environ:
            return dict(json.loads(os.environ[OURS]))
        if AGENTS in os.environ:
            content = yaml.safe_load(Path(os.environ[AGENTS]).read_text(encoding="utf-8"))  # as PyYAML wrote it
            return {key: given["value"] for key, given in content.items() if isinstance(given, Mapping)}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError):
        pass  # left by an agent that is gone: the words stand for themselves
    return {}
