"""What a run leaves behind: its folder, metrics.csv, eval.csv and the Weights & Biases run.

The x-axis of everything is env_steps (per seed). ``metrics.csv`` has one row per target iteration (means over seeds),
``eval.csv`` one per evaluation and seed. W&B is offline unless the user is logged in and asks for online.
"""

import contextlib
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.loggers import Logger, WandbLogger
from numpy.typing import NDArray

from lit_maprops.config import ConfigError, check
from lit_maprops.files import read_table, write_atomically

EVAL_COLUMNS = (
    "env_steps",
    "seed",
    "greedy_success_rate",
    "stochastic_success_rate",
    "greedy_return",
    "stochastic_return",
)
MODES = ("online", "offline", "disabled")
WANDB_INIT_SECONDS = 20
WANDB_FINISH_SECONDS = 30  # for uploads at the end of a run; the rest stays on disk for `wandb sync`
WANDB_WRITE_SECONDS = 600  # for an offline run's own file, which a busy machine may be slow to write


class RunFolder(Logger):
    """The folder of one run, and the logger that writes its CSV files.

    Args:
        path: ``runs_dir/run_name``; created by ``open``.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.history: list[dict[str, float]] = []  # the rows of metrics.csv
        self._columns: list[str] = []

    @property
    def name(self) -> str:
        """The run's name."""
        return self.path.name

    @property
    def version(self) -> str:
        """Unused by us; Lightning wants one."""
        return ""

    @property
    def checkpoint(self) -> Path:
        """The newest checkpoint."""
        return self.path / "checkpoints" / "last.ckpt"

    def open(self, config: str, resume_from: int | None) -> None:
        """Create the folder, or cut an existing one back to where its checkpoint was taken.

        Args:
            config: the resolved configuration, written to config.yaml.
            resume_from: env steps of the checkpoint the run continues from; None for a new run.

        Raises:
            ConfigError: the folder cannot be written, or holds another run.
        """
        try:
            if resume_from is None and self.path.exists() and any(self.path.iterdir()):
                way = f", or continue it with --ckpt_path {self.checkpoint}" if self.checkpoint.exists() else ""
                raise ConfigError(f"--run_name: {self.path} already holds a run: choose another --run_name{way}")
            self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self.path / "config.yaml", config)
            if resume_from is not None:
                self.history = self._rewind("metrics.csv", resume_from)
                self._columns = list(self.history[0]) if self.history else []
                self._rewind("eval.csv", resume_from)
        except OSError as error:
            raise ConfigError(
                f"--runs_dir: {self.path} cannot be written ({error.strerror or error}): choose another folder "
                "or --run_name"
            ) from None

    def _rewind(self, name: str, env_steps: int) -> list[dict[str, float]]:
        """Drop the rows after ``env_steps``: the resumed run writes them again."""
        if not (self.path / name).exists():
            return []
        table = read_table(self.path / name)
        rows = [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]
        rows = [row for row in rows if row["env_steps"] <= env_steps]
        lines = [",".join(table), *(",".join(_cell(v) for v in row.values()) for row in rows)]
        write_atomically(self.path / name, "\n".join(lines) + "\n")
        return rows

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append one row to metrics.csv; a column that comes later (a figure measured now and then) is put in."""
        row = dict(metrics)
        self.history.append(row)
        new = [name for name in row if name not in self._columns]
        self._columns += new
        if new and len(self.history) > 1:
            self._rewrite(self.history)
        else:
            self._append("metrics.csv", self._columns, [row])

    def _rewrite(self, rows: list[dict[str, float]]) -> None:
        cells = (",".join(_cell(row.get(column, math.nan)) for column in self._columns) for row in rows)
        write_atomically(self.path / "metrics.csv", "\n".join([",".join(self._columns), *cells]) + "\n")

    def log_evaluation(self, rows: list[dict[str, float]]) -> None:
        """Append one evaluation to eval.csv: a row per seed with ``EVAL_COLUMNS``."""
        self._append("eval.csv", list(EVAL_COLUMNS), rows)

    def _append(self, name: str, columns: list[str], rows: list[dict[str, float]]) -> None:
        path = self.path / name
        is_new = not path.exists()
        with path.open("a", newline="") as file:
            if is_new:
                file.write(",".join(columns) + "\n")
            for row in rows:
                file.write(",".join(_cell(row.get(column, math.nan)) for column in columns) + "\n")

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: config.yaml has them."""

    def mean(self, column: str) -> float | None:
        """Mean of a column of metrics.csv over the run; None where it has no number."""
        values = [row.get(column, math.nan) for row in self.history]
        numbers = [value for value in values if math.isfinite(value)]
        return float(np.mean(numbers)) if numbers else None

    def success_curve(self) -> tuple[NDArray[np.integer], NDArray[np.floating]]:
        """Evaluations so far: env steps ``[points]`` and greedy success rates ``[points, seeds]``."""
        table = read_table(self.path / "eval.csv")
        env_steps = np.unique(table["env_steps"]).astype(int)
        return env_steps, table["greedy_success_rate"].reshape(len(env_steps), -1)


def _cell(value: float) -> str:
    if isinstance(value, float) and math.isnan(value):
        return ""
    # repr round-trips, so a rewound file keeps its numbers.
    return repr(int(value)) if float(value).is_integer() else repr(float(value))


def check_environment() -> None:
    """Refuse W&B's variables where their values could not serve, before a run has its folder.

    Raises:
        ConfigError: names the variable.
    """
    mode, seconds = os.environ.get("WANDB_MODE"), os.environ.get("WANDB_FINISH_TIMEOUT", "1")
    check(not mode or mode in MODES, f"WANDB_MODE is {mode!r}: set it to one of {', '.join(MODES)}, or give --wandb")
    try:
        finite = 0 <= float(seconds) < math.inf
    except ValueError:
        finite = False
    check(finite, f"WANDB_FINISH_TIMEOUT is {seconds!r}: set it to a number of seconds")
    for name in ("WANDB_PROJECT", "WANDB_RUN_ID"):
        value = os.environ.get(name, "")
        fine = value.isprintable() and not set(value) & set("/\\#?%:") and len(value) <= 128
        check(fine, f"{name} is {value!r}: set it to at most 128 characters without / \\ # ? % :")


def finish_wandb(logger: WandbLogger, folder: RunFolder, summary: Mapping[str, Any]) -> None:
    """Put the end of a run on its W&B page: scalars for sweeps to optimize, the figure and the films.

    Args:
        logger: of the run.
        folder: of the run, with its figures drawn.
        summary: of the run; its numbers become W&B summary values.
    """
    import wandb

    numbers = {k: v for k, v in summary.items() if isinstance(v, (int, float))}
    media: dict[str, Any] = {"env_steps": summary["env_steps"]}
    for path in sorted(folder.path.glob("*.png")):
        media[f"figures/{path.stem}"] = wandb.Image(str(path))
    for path in sorted(folder.path.glob("*.gif")):
        media[f"films/{path.stem}"] = wandb.Video(str(path), format="gif")
    logger.experiment.log(media)
    logger.experiment.summary.update(numbers)


def end_wandb(logger: WandbLogger, say: Callable[[str], None]) -> None:
    """End the W&B run; nothing that goes wrong there may cost a run that is complete on disk."""
    try:
        logger.experiment.finish()
    except Exception as error:  # of its own classes, of sockets, of a service process that died
        say(f"W&B: the end of the run could not be sent ({type(error).__name__}); `wandb sync` sends what is on disk")


def wandb_logger(
    mode: str | None, folder: RunFolder, config: Mapping[str, Any], say: Callable[[str], None]
) -> WandbLogger | None:
    """Start the W&B run inside the run's folder; never prompts, never waits longer than ``WANDB_INIT_SECONDS``.

    Under ``wandb agent`` it is the run the agent announced (WANDB_RUN_ID). Its finish is bounded too
    (WANDB_FINISH_TIMEOUT, else ``WANDB_FINISH_SECONDS``): a server that dies while the run trains cannot keep the
    program from ending. Offline there is no server to wait for, only the run's file (``WANDB_WRITE_SECONDS``).

    Args:
        mode: ``online``, ``offline`` or ``disabled``; None takes WANDB_MODE, else online under ``wandb agent``
            (WANDB_SWEEP_ID is set), else offline.
        folder: of the run.
        config: shown on the W&B page.
        say: told when online falls back to offline.

    Returns:
        None if disabled.
    """
    import wandb

    mode = mode or os.environ.get("WANDB_MODE") or ("online" if os.environ.get("WANDB_SWEEP_ID") else "offline")
    if mode == "disabled":
        return None
    if mode == "online" and not wandb.login(prompt=False, verify=False):
        say("W&B: not logged in, tracking offline (run `wandb login`, or set WANDB_API_KEY)")
        mode = "offline"
    upload_seconds = float(os.environ.get("WANDB_FINISH_TIMEOUT", WANDB_FINISH_SECONDS))

    # A resumed run continues its own W&B run; the folder names end in the id. A new one takes WANDB_RUN_ID if set.
    known = sorted({p.name.rpartition("-")[2] for p in folder.path.glob("wandb/*run-*-*")})

    def start(mode: Any) -> Any:
        settings = wandb.Settings(
            silent=True,
            init_timeout=WANDB_INIT_SECONDS,
            finish_timeout=WANDB_WRITE_SECONDS if mode == "offline" else upload_seconds,
            console="off",
        )
        return wandb.init(
            project=os.environ.get("WANDB_PROJECT", "lit_maprops"),
            name=folder.name,
            dir=folder.path,
            mode=mode,
            config=dict(config),
            settings=settings,
            id=known[-1] if known else None,
            resume="allow" if known else None,
        )

    try:
        run = start(mode)
    except (wandb.Error, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        say(f"W&B: {mode} failed ({reason}), tracking offline")
        with contextlib.suppress(Exception):
            wandb.teardown()
        run = start("offline")
    run.define_metric("env_steps")
    run.define_metric("*", step_metric="env_steps")
    return WandbLogger(experiment=run)
