"""Samplers and settings that the parts of studies/many_agents share, and figures that are measured once."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lit_maprops.behavior import BEHAVIORS, BehaviorPolicy
from lit_maprops.metrics.reliability import mean_interval
from lit_maprops.system.files import write_json
from studies import ROOT

Setting = tuple[float, float]  # learning rate, KL cutoff (nats)
Rows = list[dict[str, object]]

COMPARED = ("PROPS", "Autoregressive", "CoordinationGraph")
SCALED = ("PROPS", "Autoregressive", "CoordinationGraph", "MAPROPS")
RUN_SEED = 73
N_ACTIONS, AGENTS = 5, 10
SIZES = {32: 64, 128: 32}  # n: seeds


def setting_name(setting: Setting) -> str:
    """For tables and folders."""
    return f"rate {setting[0]:g}, delta {setting[1]:g}"


def kept(name: str, run_missing: bool, measure: Callable[[], Any]) -> Any:
    """What ``measure`` gave when it was first called; it is not called again."""
    path = ROOT / "runs" / "many_agents" / f"{name}.json"
    if not path.exists():
        if not run_missing:
            raise SystemExit(f"{path} is missing: run without --page")
        print("many_agents", name, flush=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, measure())
    return json.loads(path.read_text())


def sampler_of(name: str, setting: Setting | None) -> BehaviorPolicy:
    """A behavior policy with the configuration's epsilon and epochs, linear in its inputs."""
    kind, _, edges = name.partition(", ")
    made: Callable[..., BehaviorPolicy] = BEHAVIORS[kind]
    if setting is None:
        return made()
    options: dict[str, Any] = {"clip_epsilon": 1.0, "epochs": 8, "hidden": []} | ({"edges": edges} if edges else {})
    return made(learning_rate=setting[0], kl_cutoff=setting[1], **options)


def interval(values: NDArray[np.floating], digits: int = 4) -> str:
    """Mean over seeds with its 95% interval."""
    low, high = mean_interval(values[None])
    return f"{values.mean():.{digits}f} [{low[0]:.{digits}f}, {high[0]:.{digits}f}]"
