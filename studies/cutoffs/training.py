"""Own error against on-policy's over training, seed by seed, and solved runs on seeds that nothing was chosen on."""

import tempfile
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from lightning.pytorch import Callback, Trainer
from scipy.stats import t

import lit_maprops as lm
from lit_maprops.envs import Task
from lit_maprops.metrics.reliability import wilson_interval
from lit_maprops.system.argument_types import AUTO
from studies.cells import points
from studies.cutoffs.fixed import RUN_SEED, Floats, Rows, kept
from studies.cutoffs.tried import STRONG, Maker
from studies.runs import SOLVED


class Watch(Callback):
    """Keeps own and on-policy's error of every seed, iteration by iteration."""

    def __init__(self, measure: str) -> None:
        self.measure = measure
        self.own: list[Floats] = []
        self.on_policy: list[Floats] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *args: Any) -> None:
        """Called after every target iteration; without a sampling error there is nothing to keep."""
        row = pl_module.row
        name = f"sampling_error/{self.measure}"
        if name in row:
            self.own.append(row[name].numpy().astype(float))
            self.on_policy.append(row[f"{name}_on_policy"].numpy().astype(float))


class Setting(NamedTuple):
    """What is trained."""

    config: str
    samplers: dict[str, Maker]
    measure: str
    early: int  # iterations of the first of two windows
    options: dict[str, Any]
    env: Callable[[], Task] | None = None


def _pair(name: str, kind: type, delta: float, **options: Any) -> dict[str, Maker]:
    return {
        f"{name}, delta {delta:g}": lambda: kind(**options, kl_cutoff=delta),
        f"{name}, **auto**": lambda: kind(**options, kl_cutoff=AUTO),
    }


ON_POLICY: dict[str, Maker] = {"on-policy": lm.OnPolicy}
SMALL = (
    ON_POLICY
    | _pair("PROPS", lm.PROPS, 1.0, **STRONG)
    | _pair("MA-PROPS", lm.MAPROPS, 1.0, **STRONG)
    | _pair("closed form", lm.TabularMAPROPS, 0.3)
)
TEN = {"clip_epsilon": 1.0, "epochs": 8, "hidden": []}
BOULDER = {"clip_epsilon": 1.0, "epochs": 4, "learning_rate": 1e-2, "hidden": [64, 64]}
GAMES = {"figure1": lambda: lm.MatrixGame("figure1"), "3 agents": lambda: lm.Coordination(3, 2)}
GAMES |= {"3x3": lambda: lm.Coordination(2, 3)}


def settings() -> dict[str, Setting]:
    """By the name on the page."""
    found = {}
    for game, env in GAMES.items():
        for n in (8, 32):
            sizes = {"num_seeds": 200, "target_batch_size": n, "total_env_steps": 60 * n, "eval_interval": 60}
            found[f"{game}, n = {n}"] = Setting("matrix_game", SMALL, "joint_tv", 10, sizes, env)
    ten = ON_POLICY | _pair("PROPS", lm.PROPS, 1.0, **TEN, learning_rate=0.02)
    for rate in (0.02, 0.2):
        ten |= _pair(f"Autoregressive at {rate:g}", lm.Autoregressive, 1.0, **TEN, learning_rate=rate)
    ten |= _pair("CoordinationGraph", lm.CoordinationGraph, 1.0, **TEN, learning_rate=0.02)
    found["10x5"] = Setting("coordination_10x5", ten, "pairwise_tv", 20, {"eval_interval": 60, "num_seeds": 16})
    often = {"num_seeds": 24, "sampling_error": "tabular", "sampling_error_interval": 5, "eval_interval": 60}
    boulder = ON_POLICY | _pair("MA-PROPS", lm.MAPROPS, 0.3, **BOULDER)
    found["BoulderPush"] = Setting("boulderpush_reliability", boulder, "joint_tv", 6, often)
    closed = _pair("closed form", lm.TabularMAPROPS, 0.3)
    found["BoulderPush, fewer seeds"] = found["BoulderPush"]._replace(
        samplers=ON_POLICY | closed, options=often | {"num_seeds": 12}
    )
    return found


def measured(name: str, sampler: str) -> dict[str, Any]:
    """One run: own and on-policy's error ``[iterations, R]``, success of every seed; it runs once."""
    slug = "".join(c if c.isalnum() or c in ".-" else "_" for c in f"{name} {sampler}")

    def run() -> dict[str, Any]:
        setting = settings()[name]
        watch, env = Watch(setting.measure), None if setting.env is None else setting.env()
        with tempfile.TemporaryDirectory() as folder:
            where = {"runs_dir": folder, "run_name": "run", "run_seed": RUN_SEED, "wandb": "disabled"}
            options: dict[str, Any] = where | setting.options
            behavior = setting.samplers[sampler]()
            result = lm.fit(setting.config, env=env, behavior=behavior, callbacks=[watch], **options)
            success = result.success_rate.tolist()
        return {
            "own": np.stack(watch.own).tolist(),
            "on_policy": np.stack(watch.on_policy).tolist(),
            "success": success,
        }

    return kept(slug, run)


def window(own: list[list[float]], on_policy: list[list[float]]) -> tuple[str, float, float]:
    """Means over a window of iterations, and their difference with its interval over seeds (Student's t)."""
    first, second = np.mean(own, 0), np.mean(on_policy, 0)
    difference = first - second
    reach = float(t.ppf(0.975, len(first) - 1)) * difference.std(ddof=1) / len(first) ** 0.5
    mean = difference.mean()
    mark = " >" if mean > reach else ""
    text = f"{first.mean():.4f} / {second.mean():.4f}, {mean:+.4f} +- {reach:.4f}{mark}"
    return text, float(first.mean()), float(second.mean())


def training(rows: Rows) -> str:
    """The table of all settings."""
    lines = []
    for name, setting in settings().items():
        base = None
        for sampler in setting.samplers:
            found = measured(name, sampler)
            solved, seeds = sum(rate >= SOLVED for rate in found["success"]), len(found["success"])
            base = (solved, seeds) if base is None else base
            low, high = wilson_interval(solved, seeds)
            gain = points(solved, seeds, *base)
            row: dict[str, object] = {"part": "training", "setting": name, "sampler": sampler, "seeds": seeds}
            row["solved"] = solved
            cells = []
            for label, chosen in (("early", slice(0, setting.early)), ("late", slice(setting.early, None))):
                text, own, on_policy = window(found["own"][chosen], found["on_policy"][chosen])
                cells.append(text)
                row |= {f"{label} error": own, f"{label} error on-policy": on_policy}
            share = f"{solved / seeds:.0%} [{low:.0%}, {high:.0%}]"
            gain = "" if sampler == "on-policy" else gain
            lines.append(f"| {name} | {sampler} | {share} | {gain} | {' | '.join(cells)} |")
            print(lines[-1], flush=True)
            rows.append(row)
    return "\n".join(lines)
