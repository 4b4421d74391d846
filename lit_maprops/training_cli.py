"""The Lightning side of the command line: parsing, the run's folder, loggers and callbacks."""

import json
import logging
import os
import sys
import warnings
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import Namespace, get_loader, set_loader
from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from tqdm import tqdm

from lit_maprops.callbacks import Checkpoints, EnvStepsBar, Recorder, Summary
from lit_maprops.checkpoint import ours, read_checkpoint
from lit_maprops.cli_errors import EXAMPLE, USER_ERRORS, check_nulls, one_line
from lit_maprops.config import ConfigError, check, check_choice, printable
from lit_maprops.data import MultiAgentData
from lit_maprops.files import write_json
from lit_maprops.module import LitMAPROPS
from lit_maprops.resume import check_resumes
from lit_maprops.run_files import config_files, run_of, with_own_config
from lit_maprops.safe_yaml import load_yaml, read_yaml
from lit_maprops.tracking import MODES, RunFolder, check_environment, end_wandb, wandb_logger

# Of files and of values on the command line.
set_loader("omegaconf+", lambda text: load_yaml(text, get_loader("yaml")), exceptions=(yaml.YAMLError,))
# One training step is one target iteration; logging, checkpoints, evaluation and the bar are ours.
TRAINER_DEFAULTS = {
    "devices": 1,
    "max_epochs": 1,
    "num_sanity_val_steps": 0,
    "check_val_every_n_epoch": None,  # none while fitting: LitMAPROPS evaluates by env steps
    "val_check_interval": 10**9,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
    "logger": False,
}
# What would end the run early, prolong it, or reach into our gradient steps; with the values that do nothing.
REFUSED_TRAINER_OPTIONS: dict[str, tuple[Any, ...]] = {
    "max_epochs": (1,),
    "min_epochs": (None,),
    "max_steps": (-1,),
    "min_steps": (None,),
    "max_time": (None,),
    "fast_dev_run": (False,),
    "overfit_batches": (0.0,),
    "limit_train_batches": (None, 1.0),
    "limit_val_batches": (None, 1.0),
    "limit_test_batches": (None, 1.0),
    "accumulate_grad_batches": (1,),
    "gradient_clip_val": (None,),
    "precision": (None, 32, "32", "32-true"),
    "num_nodes": (1,),
    "reload_dataloaders_every_n_epochs": (0,),
}


def say(message: str) -> None:
    """Print one line for the user; stderr, so that stdout stays parsable."""
    tqdm.write(printable(message), file=sys.stderr)  # leaves a progress bar below it intact


class RunCLI(LightningCLI):
    """Lightning's parser and instantiation, plus the options of a run."""

    def __init__(self, args: list[str]) -> None:
        super().__init__(
            LitMAPROPS,
            MultiAgentData,
            args=args,
            run=False,
            seed_everything_default=0,
            save_config_callback=None,
            trainer_defaults=TRAINER_DEFAULTS,
            parser_kwargs={
                "exit_on_error": False,
                "allow_abbrev": False,
                "parser_mode": "omegaconf+",
                "prog": "lit_maprops",
            },
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the options of a run."""
        parser.add_argument(
            "--run_name",
            type=str | None,
            default=None,
            help="folder of the run inside runs_dir; default: environment-behavior-learner-time",
        )
        parser.add_argument("--runs_dir", type=str, default="runs", help="where runs are written")
        parser.add_argument(
            "--ckpt_path",
            type=str | None,
            default=None,
            help="checkpoint to continue (fit) or evaluate; brings its own config unless --config is given",
        )
        parser.add_argument(
            "--wandb",
            type=str | None,
            default=None,
            help="online, offline or disabled; default: WANDB_MODE, else offline",
        )
        parser.link_arguments("seed_everything", "model.run_seed", compute_fn=int)

    def before_instantiate_classes(self) -> None:
        """Check the options that belong to no class, before anything is built."""
        for name, allowed in REFUSED_TRAINER_OPTIONS.items():
            value = self.config.trainer.get(name)
            check(
                value in allowed,
                f"--trainer.{name} is {value}: leave it out, --model.total_env_steps says how long to train and the "
                "updates take their own gradient steps",
            )
        check_nulls("model", LitMAPROPS, self.config.model)
        check_nulls("data", MultiAgentData, self.config.data)
        check(
            self.config.seed_everything == self.config.model.run_seed,
            "--seed_everything is true: give a number, so that the run can be repeated",
        )
        runs_dir = self.config.runs_dir
        check(runs_dir not in ("", "null") and "\0" not in runs_dir, f"--runs_dir is {runs_dir!r}: give a folder")
        if self.config.wandb is not None:
            check_choice("--wandb", self.config.wandb, list(MODES))
        name = self.config.run_name
        check(
            name is None or (name not in ("", ".", "..") and "/" not in name and name.isprintable()),
            f"--run_name is {name!r}: give the name of one folder, without / and control characters",
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Say in one line what PyYAML makes of tags it cannot read, in values on the command line."""
        try:
            super().parse_arguments(parser, args)
        except AttributeError:
            raise ConfigError("one of the values has a YAML tag (!!...): give a plain one, see --help") from None

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Name the trainer's flags in what Lightning says of its devices, strategy and plugins."""
        try:
            return super().instantiate_trainer(**kwargs)
        except (TypeError, ValueError, ImportError, RuntimeError, MisconfigurationException) as error:
            raise ConfigError(f"--trainer: {one_line(error)}") from None

    def run_path(self) -> Path:
        """The folder of this run: the checkpoint's, or a new one."""
        name, checkpoint = self.config.run_name, self.config.ckpt_path
        if checkpoint is None:
            return Path(self.config.runs_dir) / (name or _default_name(self.config))
        folder = run_of(checkpoint)
        check(
            name in (None, folder.name),
            f"--run_name is {name} and --ckpt_path belongs to {folder.name}: leave --run_name out, a run continues in "
            "its own folder",
        )
        return folder

    def resolved_config(self, run_name: str) -> dict[str, Any]:
        """The configuration as it runs, with every default, as plain YAML types."""
        config = self.config.clone()
        config.run_name = run_name
        for key in ("config", "ckpt_path"):
            config.pop(key, None)
        dumped = self.parser.dump(config, format="json", skip_validation=True, skip_none=False)
        return json.loads(dumped)


def run(args: list[str]) -> int:
    """Run ``fit``, ``validate`` or ``test`` with its options; returns the exit code.

    Raises:
        ConfigError: bad settings, found before anything is written.
    """
    cli = parsed(with_own_config(args[1:]))
    return fit(cli) if args[0] == "fit" else evaluate(cli, args[0])


def parsed(options: list[str]) -> RunCLI:
    """The options of a run, its classes built.

    Raises:
        ConfigError: they do not parse, or a class refuses its arguments.
    """
    quiet_packages()
    for path in config_files(options):
        read_yaml("--config", path, EXAMPLE)
    try:
        return RunCLI(options)
    except ConfigError:
        raise
    except (*USER_ERRORS, ValueError) as error:
        raise ConfigError(one_line(error)) from None


def fit(cli: RunCLI) -> int:
    """Train, from the start or from a checkpoint."""
    model, data, checkpoint = cli.model, cli.datamodule, cli.config.ckpt_path
    check_environment()
    folder = RunFolder(cli.run_path())
    config = cli.resolved_config(folder.name)
    check(
        cli.trainer.world_size == 1,
        "--trainer.devices asks for several devices: seeds run side by side on one, use --trainer.devices 1",
    )
    model.identity = {
        "--data.env": config["data"]["env"],
        "--data.history": config["data"]["history"],
        "--model.behavior": config["model"]["behavior"]["class_path"],
        "--model.learner": config["model"]["learner"]["class_path"],
    }
    model.prepare(data)
    resume_from = None
    if checkpoint is not None:
        content = read_checkpoint(Path(checkpoint))
        check_resumes(model, content)
        resume_from = ours(content)["iteration"] * data.target_batch_size
    folder.open(yaml.safe_dump(config, sort_keys=False), resume_from)
    say(f"run folder: {folder.path}")
    wandb = wandb_logger(cli.config.wandb, folder, config, say)

    recorder, checkpoints = Recorder(folder, say), Checkpoints(folder, say)
    summary = Summary(folder, recorder, config, say)
    trainer: Any = cli.trainer  # its lists of callbacks and loggers are not in its type
    trainer.callbacks += [recorder, checkpoints, EnvStepsBar(), summary]
    trainer.loggers = [folder] if wandb is None else [folder, wandb]
    try:
        trainer.fit(model, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    finally:
        if wandb is not None:
            end_wandb(wandb, say)
    if checkpoints.received and model.iteration < data.iterations:
        say(f"stopped; continue with: python -m lit_maprops fit --ckpt_path {folder.checkpoint}")
        return 128 + checkpoints.received
    return 0 if model.iteration >= data.iterations else 1


def evaluate(cli: RunCLI, command: str) -> int:
    """Evaluate a checkpoint's decentralized policies on fresh episodes; writes ``<command>.json`` beside its run."""
    checkpoint, model = cli.config.ckpt_path, cli.model
    check(checkpoint is not None, f"--ckpt_path is missing: {command} needs the checkpoint of a run")
    run_folder = run_of(checkpoint)
    content = read_checkpoint(Path(checkpoint))
    model.prepare(cli.datamodule)
    check_resumes(model, content)
    getattr(cli.trainer, command)(
        model, datamodule=cli.datamodule, ckpt_path=checkpoint, weights_only=True, verbose=False
    )
    result: dict[str, Any] = {
        "env_steps": ours(content)["iteration"] * cli.datamodule.target_batch_size,
        "episodes": model.eval_episodes,
        "seeds": model.seed_ids,
    }
    for name, evaluation in model.verdict.items():
        result[f"{name}_success_rate"] = evaluation.success_rate.tolist()
        result[f"{name}_return"] = evaluation.episode_return.tolist()
        mean = float(evaluation.success_rate.mean())
        say(f"{command}: {name} policies succeed in {mean:.1%} of {model.eval_episodes} episodes per seed")
    path = run_folder / f"{command}.json"
    write_json(path, result)
    say(f"{command}: written to {path}")
    return 0


def _default_name(config: Namespace) -> str:
    classes = [config.data.env, config.model.behavior, config.model.learner]
    names = ["default" if c is None else c.class_path.rpartition(".")[2] for c in classes]
    # Agents of one sweep can start several runs within a second: the W&B run id tells their folders apart.
    run_id = os.environ.get("WANDB_RUN_ID")
    return "-".join([*names, datetime.now().strftime("%Y%m%d-%H%M%S"), *([run_id] if run_id else [])]).lower()


def quiet_packages() -> None:
    """Keep packages' notes off the terminal; warnings of our own still show."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"(lightning|torchrl|tensordict|torch)\b")
