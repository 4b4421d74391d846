"""A fit with everything around it: the run's folder, loggers, callbacks, and how it ends."""

import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from shlex import quote
from typing import Any

from lightning.pytorch import Callback
from lightning.pytorch.loggers import Logger, WandbLogger

from lit_maprops.run.bar import EnvStepsBar
from lit_maprops.run.callbacks import Checkpoints, Recorder, Say
from lit_maprops.run.end_media import PageMaker
from lit_maprops.run.failures import one_line_failures
from lit_maprops.run.folder import RunFolder
from lit_maprops.run.option_classes import named_packages
from lit_maprops.run.options import RunCLI
from lit_maprops.run.resume import check_resumes
from lit_maprops.run.strategy import RankStrategy, ranks_of
from lit_maprops.run.summary import Summary
from lit_maprops.run.wandb_options import WandbOptions
from lit_maprops.run.wandb_run import Tracker, check_environment, offline_runs, wandb_logger
from lit_maprops.system.arguments import plain
from lit_maprops.system.checkpoint import DurableCheckpointIO, own_state, read_checkpoint
from lit_maprops.system.errors import FolderLost, WriteError, check


def train(
    cli: RunCLI,
    say: Say,
    way_on: str,
    callbacks: Sequence[Callback] = (),
    loggers: Sequence[Logger] = (),
    next_step: str | None = None,
    page: PageMaker | None = None,
) -> tuple[int, RunFolder]:
    """Train, from the start or from a checkpoint; writes the run's folder.

    Args:
        cli: the run's settings, its classes built.
        say: prints one line.
        way_on: how a run that stopped is continued, with ``{folder}`` or ``{checkpoint}`` for its path, and ``{flags}``
            or ``{trust}`` for the packages that it names and that must be trusted again, on the command line or not.
        callbacks: in addition to those of ``cli``.
        loggers: likewise.
        next_step: what to do with a finished run, with ``{runs}`` for the folder of runs; said last.
        page: makes the report of a finished run, for its W&B run.

    Returns:
        0, or 128 and the signal that stopped the run; and the run's folder.

    Raises:
        ConfigError: bad settings, found before anything is written.
        WriteError: the disk is full or gone; says how to go on.
    """
    config = _prepare(cli, callbacks)
    with closing(RunFolder(cli.run_path())) as folder:
        code = _train(cli, folder, config, say, way_on, callbacks, loggers, page)
        if next_step is not None and not code and cli.model.iteration >= cli.datamodule.iterations:
            tell: Say = say if cli.trainer.is_global_zero else _hush
            synced = offline_runs(folder)
            then = f"; wandb sync {synced}" if synced else ""
            tell(f"next: {next_step.format(runs=quote(str(folder.path.parent)))}{then}")
        return code, folder


def _train(
    cli: RunCLI,
    folder: RunFolder,
    config: dict[str, Any],
    say: Say,
    way_on: str,
    callbacks: Sequence[Callback],
    loggers: Sequence[Logger],
    page: PageMaker | None,
) -> int:
    first = cli.trainer.is_global_zero
    tell: Say = say if first else _hush
    checkpoint = cli.config.ckpt_path
    if first and checkpoint is not None:
        folder.hold()  # before the checkpoint is read: who is at work there may write another one
    resume_from, rows = (None, None) if checkpoint is None else _place_of(checkpoint, cli)
    config["run_name"] = folder.name
    if first:  # the only rank that writes
        folder.open(config, resume_from, rows, {"trainer": cli.unset_trainer})
    if isinstance(cli.trainer.strategy, RankStrategy):
        cli.trainer.strategy.name_run(folder.name)
    for line in (*cli.notes, cli.model.choose_engines(cli.trainer).line(), f"run folder: {folder.path}"):
        tell(line)
    planned = cli.datamodule.iterations * cli.datamodule.target_batch_size
    if resume_from == planned:
        tell(f"already finished: all {planned:,} env steps are trained; raise <model.total_env_steps> to train on")
    given = [*cli.trainer.loggers, *loggers]
    tracked = first and not any(isinstance(logger, WandbLogger) for logger in given)
    shown = config | ({"changes": [change._asdict() for change in folder.changes]} if folder.changes else {})
    wandb = wandb_logger(cli.config.wandb, folder, shown, say) if tracked else None
    unheard = WandbOptions.of(config).given
    if wandb is not None:
        wandb.page = page
    elif unheard:
        tell(f"no W&B run of this run's own: {', '.join(f'<{name}>' for name in unheard)} without effect")
    for logger in given:
        logger.log_hyperparams(config)
    own_loggers = [logger for logger in (folder, wandb) if first and logger is not None]
    trainer: Any = cli.trainer  # its lists of callbacks and loggers are not in its type
    trainer.loggers = [*own_loggers, *given]
    checkpoints = _add_callbacks(trainer, folder, config, tell, callbacks)
    way_on = f"continue with: {_filled(way_on, folder, named_packages(config))}"
    return _fit(cli, folder, checkpoints, wandb, tell, way_on)


def _filled(way_on: str, folder: RunFolder, named: list[str]) -> str:
    flags = "".join(f" --trust {package}" for package in named)
    trust = f", trust={json.dumps(named)}" if named else ""
    return way_on.format(folder=folder.path, checkpoint=folder.checkpoint, flags=flags, trust=trust)


def _hush(message: str) -> None:
    """What every rank but the first does instead of saying something."""


def _prepare(cli: RunCLI, callbacks: Sequence[Callback]) -> dict[str, Any]:
    """Check that the settings go together, and build the networks; returns the resolved configuration."""
    check_environment()
    model, data = cli.model, cli.datamodule
    model.ranks = ranks_of(cli.trainer, model, data.num_envs)
    config = cli.resolved_config(cli.config.run_name)
    model.identity = {
        "--data.env": config["data"]["env"],
        "--data.history": config["data"]["history"],
        "--model.behavior": config["model"]["behavior"]["class_path"],
        "--model.learner": config["model"]["learner"]["class_path"],
    }
    for part, networks in (("learner", model.learner.networks.identity()), ("behavior", model.behavior.identity())):
        own = {f"--model.{part}.{name}": plain(f"<{part}.{name}>", value) for name, value in networks.items()}
        model.identity |= own
    model.prepare(data)
    model.choose_engines(cli.trainer, callbacks)
    return config


def _place_of(checkpoint: str, cli: RunCLI) -> tuple[int, dict[str, int] | None]:
    """How far a checkpoint is (env steps per seed), which this model must be able to continue, and its tables' rows."""
    content = read_checkpoint(Path(checkpoint))
    check_resumes(cli.model, content)
    done = own_state(content)["iteration"] * cli.datamodule.target_batch_size
    planned = cli.datamodule.iterations * cli.datamodule.target_batch_size
    check(
        done <= planned,
        f"<model.total_env_steps> makes {planned:,} env steps and the run has done {done:,}: give at least as many",
    )
    return done, Recorder.rows_of(content)


def _add_callbacks(
    trainer: Any, folder: RunFolder, config: dict[str, Any], tell: Say, given: Sequence[Callback]
) -> Checkpoints:
    """The run's own callbacks after those of its user, whose stops are then saved."""
    recorder, checkpoints = Recorder(folder, tell), Checkpoints(folder, tell, config["keep"])
    summary = Summary(folder, recorder, config, tell)
    own = [recorder, checkpoints, EnvStepsBar(), summary] if trainer.is_global_zero else [checkpoints, summary]
    trainer.strategy.checkpoint_io = DurableCheckpointIO()
    trainer.callbacks += [*given, *own]
    return checkpoints


def _fit(
    cli: RunCLI, folder: RunFolder, checkpoints: Checkpoints, wandb: Tracker | None, tell: Say, way_on: str
) -> int:
    """Lightning's fit, and what is said at its end; returns the exit code."""
    model, data = cli.model, cli.datamodule
    code = 1  # of a run that an exception ends
    try:
        with one_line_failures(model, folder.path):
            cli.trainer.fit(model, datamodule=data, ckpt_path=cli.config.ckpt_path, weights_only=True)
        number = checkpoints.received if model.iteration < data.iterations else None
        code = 128 + number if number else 0
    except FolderLost:
        raise
    except WriteError as error:
        folder.check_held()  # it may have been removed in the middle of a write
        again = "no checkpoint was saved yet, start the run again"
        way = f"make room, then {way_on}" if folder.checkpoint.exists() else again
        raise WriteError(f"{error.marked}; {way}") from None
    finally:
        if wandb is not None:
            wandb.end(code)
        checkpoints.give_back()
    if code:
        tell(f"stopped; {way_on}")
    elif model.iteration < data.iterations:
        done = f"{model.env_steps:,} of {data.iterations * data.target_batch_size:,} env steps"
        tell(f"stopped at {done}, by a limit of the Trainer or a callback; {way_on}")
    return code
