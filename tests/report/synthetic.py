"""Synthetic run folders, written as fit writes them."""

import base64
import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml

CONFIG: dict[str, Any] = {
    "seed_everything": 0,
    "trainer": {"precision": None, "devices": 1},
    "model": {
        "behavior": {"class_path": "lit_maprops.behavior.OnPolicy", "init_args": {}},
        "learner": {"class_path": "lit_maprops.targets.MAPPO", "init_args": {"learning_rate": 0.001, "hidden": [8]}},
        "num_seeds": 4,
        "first_seed": 0,
        "total_env_steps": 400,
        "solved_threshold": 0.8,
        "sampling_error": "tabular",
    },
    "data": {
        "env": {"class_path": "lit_maprops.envs.MatrixGame", "init_args": {"payoff": "figure1"}},
        "behavior_batch_size": 1,
        "target_batch_size": 100,
    },
    "runs_dir": "runs",
}
ADAPTIVE = {"clip_epsilon": 0.3, "kl_cutoff": 0.05}
DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # ten times faster
GIF = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")  # one pixel


def config_of(sampler: str, changes: dict[str, Any]) -> dict[str, Any]:
    """``changes``: dotted path into the nested configuration -> value."""
    config = copy.deepcopy(CONFIG)
    options = {} if sampler == "OnPolicy" else dict(ADAPTIVE)
    config["model"]["behavior"] = {"class_path": f"lit_maprops.behavior.{sampler}", "init_args": options}
    for path, value in changes.items():
        *parents, last = path.split(".")
        place = config
        for parent in parents:
            place = place[parent]
        place[last] = value
    return config


def write_run(
    folder: Path,
    final: list[float],
    sampler: str = "OnPolicy",
    *,
    finished: bool = True,
    non_finite: list[int] | None = None,
    films: bool = False,
    rows: int = 4,
    evaluations: int = 2,
    joint_tv: float = 0.1,
    joint_tv_se: float = 0.01,
    measure: str = "tv",
    first_visits: float | None = None,
    seen: float | None = None,
    joint_actions: object = None,
    **changes: Any,
) -> Path:
    """A run folder whose seeds end at ``final``; evaluations grow towards it linearly.

    ``joint_tv``: mean of the measure of sampling error that is called ``joint_{measure}``. ``first_visits``, ``seen``
    (joint actions in a state): None leaves their columns out. ``joint_actions``: of summary.json. ``changes``: with
    ``__`` for a dot, such as ``data__target_batch_size=8``.
    """
    folder.mkdir(parents=True)
    config = config_of(sampler, {k.replace("__", "."): v for k, v in changes.items()})
    (folder / "config.yaml").write_text(yaml.dump(config, Dumper=DUMPER))
    names = ["env_steps", "iteration", "wall_seconds", "time/collect", "time/behavior", "time/target"]
    names += [f"sampling_error/{who}_{measure}{base}" for who in ("joint", "agent") for base in ("", "_on_policy")]
    step = np.arange(1, rows + 1)
    columns = [100 * step, step, 10.0 * step, 0 * step + 1, 0 * step + 2, 0 * step + 3]
    columns += [0 * step + joint_tv, 0 * step + 0.2, 0 * step + joint_tv / 2, 0 * step + 0.1]
    names += [f"sampling_error/joint_{measure}_se"]
    columns += [0 * step + joint_tv_se]
    for name, value in {"first_visits": first_visits, "joint_actions_seen": seen}.items():
        if value is not None:
            names.append(f"sampling_error/{name}")
            columns.append(0 * step + value)
    lines = [",".join(names), *(",".join(map(str, row)) for row in zip(*columns, strict=True))]
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
    lines = ["env_steps,seed,greedy_success_rate,stochastic_success_rate,greedy_return,stochastic_return"]
    for k in range(1, evaluations + 1):
        for seed, value in enumerate(final):
            cell = "" if np.isnan(value) else f"{value * k / evaluations:g}"
            lines.append(f"{100 * rows * k // evaluations},{seed},{cell},{cell},0,0")
    (folder / "eval.csv").write_text("\n".join(lines) + "\n")
    if finished:
        summary = {"env_steps": 100 * rows, "seeds": list(range(len(final))), "non_finite_seeds": non_finite or []}
        summary |= {} if joint_actions is None else {"joint_actions": joint_actions}
        (folder / "summary.json").write_text(json.dumps(summary))
    if films:
        for kind in ("success", "failure"):
            (folder / f"{kind}.gif").write_bytes(GIF)
    return folder


def three_samplers(folder: Path) -> Path:
    """OnPolicy solves 1 of 4, MAPROPS 3 of 4, PROPS 2 of 4."""
    write_run(folder / "on_policy", [1, 0, 0, 0.5], films=True)
    write_run(folder / "ma_props", [1, 1, 0, 0.9], "MAPROPS", films=True, joint_tv=0.02)
    write_run(folder / "props", [1, 0, 0, 0.8], "PROPS")
    return folder
