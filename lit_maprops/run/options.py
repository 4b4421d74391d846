"""Lightning's command line with the options of a run: parsed, checked, its classes built."""

import json
import logging
import os
import re
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from contextvars import copy_context
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Checkpoint, ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.plugins.environments import SLURMEnvironment
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from lit_maprops.data import MultiAgentData
from lit_maprops.module import LitMAPROPS
from lit_maprops.run.class_swaps import leave_behind
from lit_maprops.run.new_folder import new_folder
from lit_maprops.run.option_classes import check_trust, import_named, trusted_packages, without_trust
from lit_maprops.run.option_errors import EXAMPLE, TAGGED, USER_ERRORS, check_nulls, one_line, refuse_constructor
from lit_maprops.run.option_files import config_files, run_of, with_own_config, with_shipped_configs
from lit_maprops.run.option_help import RunParser
from lit_maprops.run.option_loading import load
from lit_maprops.run.option_origin import origin
from lit_maprops.run.option_values import marked, read_marked
from lit_maprops.run.option_words import check_values
from lit_maprops.run.place import follow_checkpoint
from lit_maprops.run.strategy import RankTimeout, register_strategy
from lit_maprops.run.wandb_options import add_wandb_options, check_wandb_options
from lit_maprops.system.argument_types import NonNegativeInt, check_value
from lit_maprops.system.errors import ConfigError, check
from lit_maprops.system.files import home_path
from lit_maprops.system.interpolation import without_environment
from lit_maprops.system.named_code import only_of
from lit_maprops.system.safe_yaml import read_yaml
from lit_maprops.system.trainer_options import check_option

# Logging, checkpoints and the bar are the run folder's.
TRAINER_DEFAULTS = {
    "devices": 1,
    "max_epochs": -1,
    "num_sanity_val_steps": 0,
    "log_every_n_steps": 1,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
    "logger": False,
}


class RunCLI(LightningCLI):
    """Lightning's parser and instantiation, plus the options of a run.

    Args:
        args: the options, or what a configuration holds.
        command: ``fit``, ``validate`` or ``test``: what further ranks are to do.

    Attributes:
        notes: lines for the user about the options.
    """

    def __init__(self, args: list[str] | dict[str, Any], command: str = "fit") -> None:
        args = args if isinstance(args, dict) else with_shipped_configs(args)
        self._command = [command, *args]
        self._words = None if isinstance(args, dict) else args
        check_values(self._words or ())
        args = args if isinstance(args, dict) else marked(args)
        super().__init__(
            LitMAPROPS,
            MultiAgentData,
            args=args,
            run=False,
            parser_class=RunParser,
            seed_everything_default=0,
            save_config_callback=None,
            auto_configure_optimizers=False,  # learners and behavior policies have their own
            trainer_defaults=TRAINER_DEFAULTS,
            parser_kwargs={
                "exit_on_error": False,
                "allow_abbrev": False,
                "parser_mode": "omegaconf+",
                "prog": "lit_maprops",
                "command": command,
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
            "--keep",
            type=NonNegativeInt,
            default=0,
            help="older checkpoints to keep beside last.ckpt, the newest ones, as env_steps_N.ckpt",
        )
        parser.add_argument(
            "--trust",
            type=str | None,
            default=None,
            metavar="PACKAGE",
            help="package whose classes the run of --ckpt_path may name in its own config; may be given again",
        )
        add_wandb_options(parser)
        parser.add_argument(
            "--rank_timeout",
            type=float,
            default=1800.0,
            help="seconds that the ranks of several devices wait for each other before they give up",
        )
        parser.link_arguments("seed_everything", "model.run_seed", compute_fn=int)
        run_seed = next(action for action in parser._actions if action.dest == "seed_everything")
        run_seed.help = "run seed: with a seed's number it fixes every random stream of that seed"  # not Lightning's

    def before_instantiate_classes(self) -> None:
        """Check the options that belong to no class, before anything is built."""
        check(self.config.trust is None, "<trust> stands in a configuration: it is for the command line alone")
        for name, value in self.config.trainer.items():
            if value is not None:  # Lightning's default, which is accepted
                check_option(name, value)
        check_value("<keep>", NonNegativeInt, self.config.keep)
        check_value("<rank_timeout>", RankTimeout, self.config.rank_timeout)
        accelerator = self.config.trainer.accelerator
        check(
            accelerator not in ("gpu", "cuda") or torch.cuda.is_available() or torch.backends.mps.is_available(),
            f"<trainer.accelerator> is {accelerator} and torch finds no GPU: use <trainer.accelerator> auto or cpu",
        )
        check_nulls("model", LitMAPROPS, self.config.model)
        check_nulls("data", MultiAgentData, self.config.data)
        check(
            self.config.seed_everything == self.config.model.run_seed,
            "<run_seed> is true: give a number, so that the run can be repeated",
        )
        for name in ("runs_dir", "ckpt_path"):
            if self.config[name] is not None:
                self.config[name] = str(home_path(self.config[name])) if self.config[name] else ""
        runs_dir = self.config.runs_dir
        check(runs_dir not in (None, "", "null") and "\0" not in runs_dir, f"<runs_dir> is {runs_dir!r}: give a folder")
        check_wandb_options(self.config)
        name = self.config.run_name
        check(
            name is None or (name not in ("", ".", "..") and "/" not in name and name.isprintable()),
            f"<run_name> is {name!r}: give the name of one folder, without / and control characters",
        )
        if self.config.ckpt_path is not None:
            follow_checkpoint(self.config, self._words)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Read what is marked; say in one line what PyYAML makes of tags that it cannot read."""
        try:
            super().parse_arguments(parser, args)
        except AttributeError:
            raise ConfigError(TAGGED) from None
        read_marked(self.config, load)
        self.notes = [] if isinstance(args, dict) else leave_behind(self.config, args)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Lightning's, with our strategy for several devices; what it says of devices and plugins names the flag."""
        register_strategy(self._command, self.config.rank_timeout)
        kwargs["default_root_dir"] = self.config.trainer.default_root_dir or self.config.runs_dir
        self._check_no_other_start(Path(kwargs["default_root_dir"]))
        callbacks = self._get(self.config_init, "trainer.callbacks") or []
        given = callbacks if isinstance(callbacks, list) else [callbacks]
        for option, kind in (("enable_checkpointing", Checkpoint), ("enable_progress_bar", ProgressBar)):
            if any(isinstance(callback, kind) for callback in given):
                kwargs[option] = True
        try:
            return super().instantiate_trainer(**kwargs)
        except (TypeError, ValueError, ImportError, RuntimeError, OverflowError, MisconfigurationException) as error:
            line = one_line(error)
            # Lightning writes `devices`, `accelerator='x'` and `Trainer(devices='0')`.
            named = [name for name in vars(self.config.trainer) if re.search(rf"[`(]{name}[`=]", line)]
            named = ["devices"] if isinstance(error, OverflowError) else named
            raise ConfigError(f"<{'.'.join(['trainer', *named[:1]])}>: {line}") from None

    def _check_no_other_start(self, root: Path) -> None:
        """Under SLURM Lightning starts a fit at any hpc_ckpt_*.ckpt in its root folder, whoever wrote it."""
        found = sorted(root.glob("hpc_ckpt_*")) if SLURMEnvironment.detect() and self.config.ckpt_path is None else []
        argument = "<trainer.default_root_dir>" if self.config.trainer.default_root_dir else "<runs_dir>"
        check(
            not found,
            f"{argument} holds {found[0] if found else ''}, at which Lightning would start under SLURM: move it away, "
            "or choose another folder",
        )

    def run_path(self) -> Path:
        """The folder of this run: the checkpoint's, the named one, or one created here so that it is ours alone.

        Of ranks other than the first, which write nothing, a new run's folder is a name only.
        """
        if self.config.ckpt_path is not None:
            return run_of(self.config.ckpt_path)
        name = self.config.run_name
        path = Path(self.config.runs_dir) / (name or _default_name(self.config))
        return path if name or not self.trainer.is_global_zero else new_folder(path)

    @cached_property
    def unset_trainer(self) -> dict[str, Any]:
        """The Trainer's arguments as they are if nobody gives them; a run's configuration holds the others alone."""
        return vars(self.parser.get_defaults().trainer)

    def resolved_config(self, run_name: str | None) -> dict[str, Any]:
        """The configuration as it runs, with every default but the Trainer's, as plain YAML types."""
        config = self.config.clone()
        config.run_name = run_name
        for key in ("config", "ckpt_path", "trust"):
            config.pop(key, None)
        dumped = self.parser.dump(config, format="json", skip_validation=True, skip_none=False)
        plain = json.loads(dumped)
        unset = self.unset_trainer
        plain["trainer"] = {k: v for k, v in plain["trainer"].items() if k not in unset or v != unset[k]}
        return plain


def parsed(
    options: list[str] | dict[str, Any],
    command: str = "fit",
    own: str | None = None,
    trust: Sequence[str] | None = None,
) -> RunCLI:
    """The options of a run, its classes built.

    A run folder may be somebody else's: code that its configuration names and ``options`` do not is imported only if it
    is of a package that ``trusted_packages`` gives.

    Args:
        options: those of the command line, or what a configuration holds.
        command: see ``RunCLI``.
        own: what the run folder's configuration holds; None: found by the checkpoint among the options, if there is one
            and no configuration.
        trust: of what a configuration holds: packages beyond those that a run folder may name; None: it is the user's
            own word and may name any.

    Raises:
        ConfigError: they do not parse, or a class refuses its arguments.
    """
    quiet_packages()
    if isinstance(options, dict):
        check_trust(trust or [])
        return _built(options, command, None if trust is None else trusted_packages([], trust))
    options, trust = without_trust(options)
    words = with_own_config(options) if own is None else ["--config", own, *options]
    contents = [read_yaml("<config>", path, EXAMPLE) for path in config_files(words)]
    import_named(words, contents)
    try:
        return _built(words, command, trusted_packages(options, trust) if len(words) > len(options) else None)
    except ConfigError as error:
        raise ConfigError(error.marked + origin(error.marked, words)) from None


def _built(options: list[str] | dict[str, Any], command: str, trusted: set[str] | None) -> RunCLI:
    """The classes of options, import paths among which must be of trusted packages; None: of any."""
    try:
        with without_environment(), nullcontext() if trusted is None else only_of(trusted):
            # The parser remembers in the context what it built: in one of its own that ends with it, environments too.
            return copy_context().run(RunCLI, options, command)
    except ConfigError:
        raise
    except (*USER_ERRORS, ValueError, ImportError, MisconfigurationException) as error:
        raise ConfigError(one_line(error)) from None
    except Exception as error:  # whatever a constructor of somebody else's raises
        refuse_constructor(error)
        raise


def _default_name(config: Namespace) -> str:
    classes = [config.data.env, config.model.behavior, config.model.learner]
    names = ["default" if c is None else c.class_path.rpartition(".")[2] for c in classes]
    # Agents of one sweep can start several runs within a second: the W&B run id tells their folders apart.
    run_id = os.environ.get("WANDB_RUN_ID")
    return "-".join([*names, datetime.now().strftime("%Y%m%d-%H%M%S"), *([run_id] if run_id else [])]).lower()


def quiet_packages() -> None:
    """Keep packages' notes off the terminal; warnings of our own still show."""
    logging.raiseExceptions = False  # on a full disk packages cannot write their logs: no traceback for each line
    for name in ("lightning.pytorch", "lightning.fabric", "matplotlib.font_manager"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"(lightning|torchrl|tensordict|torch)\b")
