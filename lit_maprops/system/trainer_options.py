"""What every argument of Lightning's Trainer means for a run, and the values that are refused.

One table for Python and the command line. An epoch is ``eval_interval`` target iterations, Lightning's steps are env
steps per seed, and a fit ends at ``total_env_steps``.
"""

from collections.abc import Callable
from numbers import Integral
from typing import Any, NamedTuple, TypeVar

from lightning.pytorch import LightningDataModule, Trainer

from lit_maprops.system.errors import ConfigError, check

Data = TypeVar("Data", bound=LightningDataModule)

LENGTH = "<model.total_env_steps> says how long to train"
GRADIENTS = "the updates take their own gradient steps"
BATCHES = "a target batch is collected anew in every iteration"


class Option(NamedTuple):
    """One argument of the Trainer."""

    meaning: str  # for a run
    accepts: Callable[[Any], bool] = lambda value: True
    instead: str = ""  # what a refusal says after "leave it out"
    built: Callable[[Trainer], Any] | None = None  # reads its value from a Trainer


def _one_of(*values: Any) -> Callable[[Any], bool]:
    return lambda value: any(type(value) is type(fine) and value == fine for fine in values)


def _whole(value: Any) -> bool:
    """A number of batches, or all of them."""
    return value is None or value == 1.0 or (isinstance(value, Integral) and not isinstance(value, bool))


def _attribute(name: str) -> Callable[[Trainer], Any]:
    return lambda trainer: getattr(trainer, name)


OPTIONS: dict[str, Option] = {
    # where
    "accelerator": Option("the device of networks and environments"),
    "strategy": Option("how several devices are used: leave it at auto"),
    "devices": Option("processes, which split the seeds; from Python one, several by the command line"),
    "num_nodes": Option("machines; several by the command line"),
    "precision": Option(
        "32 bit only",
        _one_of(None, 32, "32", "32-true"),
        "log-probabilities and their ratios need 32 bits",
        _attribute("precision"),
    ),
    "plugins": Option("as Lightning has it"),
    "sync_batchnorm": Option("nothing: no network has batch normalization"),
    "use_distributed_sampler": Option("nothing: there is no data set to split"),
    # how long
    "max_epochs": Option("nothing: a fit ends at total_env_steps"),
    "min_epochs": Option("refused", _one_of(None, 0, 1), LENGTH, lambda trainer: trainer.fit_loop.min_epochs),
    "max_steps": Option("env steps per seed after which a fit stops early; the rest can be continued"),
    "min_steps": Option("refused", _one_of(None), LENGTH, lambda trainer: trainer.fit_loop.epoch_loop.min_steps),
    "max_time": Option("time after which a fit stops early; the rest can be continued"),
    "fast_dev_run": Option("so many target iterations (True: one), one evaluation, no checkpoints"),
    "limit_train_batches": Option(
        "target iterations per epoch, a whole number", _whole, "give a whole number", _attribute("limit_train_batches")
    ),
    "limit_val_batches": Option(
        "0: no evaluation by Lightning's validation", _whole, "give 0 or 1", _attribute("limit_val_batches")
    ),
    "limit_test_batches": Option("0: no test", _whole, "give 0 or 1", _attribute("limit_test_batches")),
    "limit_predict_batches": Option("nothing: there is no prediction"),
    "overfit_batches": Option("refused", _one_of(0, 0.0), BATCHES, _attribute("overfit_batches")),
    "reload_dataloaders_every_n_epochs": Option(
        "refused", _one_of(0), BATCHES, _attribute("reload_dataloaders_every_n_epochs")
    ),
    "val_check_interval": Option(
        "target iterations between Lightning's validations, which report the newest evaluation; 1.0: an epoch",
        _whole,
        "give a whole number of target iterations; <model.eval_interval> says when policies are evaluated",
        _attribute("val_check_interval"),
    ),
    "check_val_every_n_epoch": Option("epochs between Lightning's validations, which report the newest evaluation"),
    "num_sanity_val_steps": Option("evaluations of one episode before the fit"),
    # gradient steps
    "accumulate_grad_batches": Option("refused", _one_of(1), GRADIENTS, _attribute("accumulate_grad_batches")),
    "gradient_clip_val": Option(
        "refused", _one_of(None), f"{GRADIENTS}; see <learner.max_grad_norm>", _attribute("gradient_clip_val")
    ),
    "gradient_clip_algorithm": Option(
        "refused", _one_of(None), f"{GRADIENTS}; see <learner.max_grad_norm>", _attribute("gradient_clip_algorithm")
    ),
    "detect_anomaly": Option("autograd's anomaly mode"),
    "deterministic": Option("deterministic algorithms of torch; a CPU run is deterministic without"),
    "benchmark": Option("cuDNN's benchmark mode"),
    "inference_mode": Option("as Lightning has it, for validate and test"),
    # what is said
    "logger": Option("Lightning's loggers get every logged row, env steps on the horizontal axis"),
    "callbacks": Option("callbacks see the metrics, evaluations as validations, and env steps as the global step"),
    "log_every_n_steps": Option("env steps per seed between the rows that loggers get"),
    "enable_checkpointing": Option("Lightning's own checkpoints, at the end of every epoch"),
    "enable_progress_bar": Option("Lightning's progress bar"),
    "enable_model_summary": Option("Lightning's table of networks"),
    "enable_autolog_hparams": Option("as Lightning has it"),
    "default_root_dir": Option("where Lightning's loggers and callbacks write"),
    "profiler": Option("Lightning's profilers"),
    "barebones": Option("no logging, no bar, no checkpoints"),
    "model_registry": Option("as Lightning has it"),
}


def check_option(name: str, value: Any) -> None:
    """Refuse a value with which a run would not do what the argument says.

    Raises:
        ConfigError: says what holds instead.
    """
    option = OPTIONS.get(name)
    if option is not None:
        check(option.accepts(value), f"<trainer.{name}> is {value}: leave it out, {option.instead}")


def check_trainer(trainer: Trainer, kind: type[Data], processes: int) -> Data:
    """Refuse a Trainer that was built with such a value, has other data, or makes other processes than are connected.

    Args:
        trainer: about to fit, validate or test.
        kind: of its data module.
        processes: that share the run.

    Returns:
        The data module.

    Raises:
        ConfigError: says what to change.
    """
    for name, option in OPTIONS.items():
        if option.built is not None:
            check_option(name, option.built(trainer))
    check(
        trainer.world_size == processes,
        f"<trainer.devices> makes {trainer.world_size} processes, which only the command line connects: use one "
        "here, or python -m lit_maprops fit",
    )
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    if not isinstance(data, kind):
        raise ConfigError(f"<datamodule> is {type(data).__name__}: give the Trainer datamodule={kind.__name__}(...)")
    return data
