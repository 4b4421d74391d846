"""The commands fit, validate and test: the run's folder, loggers and callbacks around Lightning's trainer."""

import sys
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning.pytorch.loggers import WandbLogger
from tqdm import tqdm

from lit_maprops.module import LitMAPROPS
from lit_maprops.run.callbacks import Checkpoints, EnvStepsBar, Recorder
from lit_maprops.run.failures import one_line_failures
from lit_maprops.run.flags import with_flags
from lit_maprops.run.folder import RunFolder
from lit_maprops.run.option_files import run_of, with_own_config
from lit_maprops.run.options import RunCLI, parsed
from lit_maprops.run.resume import check_resumes
from lit_maprops.run.strategy import RankStrategy, ranks_of
from lit_maprops.run.summary import Summary
from lit_maprops.run.wandb_run import check_environment, wandb_logger
from lit_maprops.system.checkpoint import DurableCheckpointIO, own_state, read_checkpoint
from lit_maprops.system.errors import WriteError, check, printable
from lit_maprops.system.files import write_json


def say(message: str) -> None:
    """Print one line for the user; stderr, so that stdout stays parsable."""
    tqdm.write(printable(with_flags(message)), file=sys.stderr)  # leaves a progress bar below it intact


def _hush(message: str) -> None:
    """What every rank but the first does instead."""


def run(args: list[str]) -> int:
    """Run ``fit``, ``validate`` or ``test`` with its options; returns the exit code.

    Raises:
        ConfigError: bad settings, found before anything is written.
    """
    cli = parsed(with_own_config(args[1:]), args[0])
    return fit(cli) if args[0] == "fit" else evaluate(cli, args[0])


def fit(cli: RunCLI) -> int:
    """Train, from the start or from a checkpoint."""
    model, data, checkpoint = cli.model, cli.datamodule, cli.config.ckpt_path
    check_environment()
    model.ranks, first = ranks_of(cli.trainer, model, data.num_envs), cli.trainer.is_global_zero
    tell = say if first else _hush
    config = cli.resolved_config(cli.config.run_name)
    model.identity = {
        "--data.env": config["data"]["env"],
        "--data.history": config["data"]["history"],
        "--model.behavior": config["model"]["behavior"]["class_path"],
        "--model.learner": config["model"]["learner"]["class_path"],
    }
    model.prepare(data)
    resume_from = None if checkpoint is None else _env_steps_of(checkpoint, cli)
    folder = RunFolder(cli.run_path())
    config["run_name"] = folder.name
    if first:  # the only rank that writes
        folder.open(yaml.safe_dump(config, sort_keys=False), resume_from)
    if isinstance(cli.trainer.strategy, RankStrategy):
        cli.trainer.strategy.name_run(folder.name)
    tell(f"run folder: {folder.path}")
    given = list(cli.trainer.loggers)  # by --trainer.logger
    own_wandb = first and not any(isinstance(logger, WandbLogger) for logger in given)
    wandb = wandb_logger(cli.config.wandb, folder, config, say) if own_wandb else None

    recorder, checkpoints = Recorder(folder, tell), Checkpoints(folder, tell)
    summary = Summary(folder, recorder, config, tell)
    trainer: Any = cli.trainer  # its lists of callbacks and loggers are not in its type
    trainer.strategy.checkpoint_io = DurableCheckpointIO()
    trainer.callbacks += [recorder, checkpoints, EnvStepsBar(), summary] if first else [checkpoints, summary]
    trainer.loggers = [logger for logger in (folder, wandb) if first and logger is not None] + given
    for logger in given:
        logger.log_hyperparams(config)
    code = 1  # of a run that an exception ends
    try:
        with one_line_failures(model, folder.path):
            trainer.fit(model, datamodule=data, ckpt_path=checkpoint, weights_only=True)
        number = checkpoints.received if model.iteration < data.iterations else None
        code = 128 + number if number else 0
    except WriteError as error:
        kept = folder.checkpoint.exists()
        way = (
            f"make room, then {_way_on(folder)}" if kept else "no checkpoint was saved yet, give the same command again"
        )
        raise WriteError(f"{error.marked}; {way}") from None
    finally:
        if wandb is not None:
            wandb.end(code)
        folder.close()
    if code:
        tell(f"stopped; {_way_on(folder)}")
        return code
    if model.iteration < data.iterations:
        done = f"{model.env_steps:,} of {data.iterations * data.target_batch_size:,} env steps"
        tell(f"stopped at {done} by --trainer.max_steps, --trainer.max_time or a callback; {_way_on(folder)}")
    return 0


def _env_steps_of(checkpoint: str, cli: RunCLI) -> int:
    """How far a checkpoint is, which must be one that this model can continue (env steps per seed)."""
    content = read_checkpoint(Path(checkpoint))
    check_resumes(cli.model, content)
    return own_state(content)["iteration"] * cli.datamodule.target_batch_size


def _way_on(folder: RunFolder) -> str:
    return f"continue with: python -m lit_maprops fit --ckpt_path {folder.checkpoint}"


def evaluate(cli: RunCLI, command: str) -> int:
    """Evaluate a checkpoint's decentralized policies on fresh episodes; writes ``<command>.json`` beside its run."""
    checkpoint, model = cli.config.ckpt_path, cli.model
    check(checkpoint is not None, f"--ckpt_path is missing: {command} needs the checkpoint of a run")
    run_folder = run_of(checkpoint)
    content = read_checkpoint(Path(checkpoint))
    model.ranks = ranks_of(cli.trainer, model, cli.datamodule.num_envs)
    model.prepare(cli.datamodule)
    check_resumes(model, content)
    with one_line_failures(model, run_folder):
        getattr(cli.trainer, command)(
            model, datamodule=cli.datamodule, ckpt_path=checkpoint, weights_only=True, verbose=False
        )
    if not cli.trainer.is_global_zero:
        return 0
    result: dict[str, Any] = {
        "env_steps": own_state(content)["iteration"] * cli.datamodule.target_batch_size,
        "episodes": model.eval_episodes,
        "seeds": model.seed_ids,
    }
    for name, evaluation in model.evaluation_result.items():
        result[f"{name}_success_rate"] = evaluation.success_rate.tolist()
        result[f"{name}_return"] = evaluation.episode_return.tolist()
        mean = evaluation.mean_success_rate
        say(f"{command}: {name} policies succeed in {mean:.1%} of {model.eval_episodes} episodes per seed")
    missing = _without_figure(model)
    if missing:
        numbers = ", ".join(map(str, missing))
        say(f"{command}: seed {numbers}: no figure, counted as 0: the policies gave NaN, or it is quarantined")
    path = run_folder / f"{command}.json"
    write_json(path, result)
    say(f"{command}: written to {path}")
    return 0


def _without_figure(model: LitMAPROPS) -> list[int]:
    """Numbers of the seeds that validate or test could not evaluate."""
    rates = torch.stack([evaluation.success_rate for evaluation in (model.evaluation_result or {}).values()])
    return [seed for seed, lost in zip(model.seed_ids, rates.isnan().any(0).tolist(), strict=True) if lost]
