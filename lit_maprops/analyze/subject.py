"""A checkpoint as the thing to analyze: its policies, critic and D, and how its behavior policy is made."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tensordict import TensorDictBase

from lit_maprops.behavior import BEHAVIORS, BehaviorPolicy, OnPolicy
from lit_maprops.buffer import Buffer
from lit_maprops.envs import Task
from lit_maprops.run.option_errors import EXAMPLE
from lit_maprops.run.option_files import run_of
from lit_maprops.run.options import RunCLI, parsed
from lit_maprops.run.resume import check_resumes
from lit_maprops.system.checkpoint import own_state, read_checkpoint
from lit_maprops.system.entry_points import resolve
from lit_maprops.system.errors import ConfigError
from lit_maprops.system.safe_yaml import dump_yaml, read_yaml
from lit_maprops.targets import Learner

# Nothing is trained: the run's own devices need not be in this machine.
HERE = ["--trainer.accelerator", "cpu", "--trainer.devices", "1"]
# Likewise: parts of the Trainer, which can be of any package.
OF_TRAINING = ("callbacks", "logger", "plugins", "profiler", "strategy")


class Sampler(NamedTuple):
    """A behavior policy to draw batches with."""

    template: BehaviorPolicy  # not built yet
    trained: BehaviorPolicy | None = None  # built; its parameters and Adam moments are taken over


class Subject(NamedTuple):
    """What ``fit`` left in a checkpoint."""

    path: Path
    folder: Path  # of the run
    learner: Learner
    task: Task
    own: Sampler
    retained: TensorDictBase | None  # D's older batches, log pi_theta brought up to date, ``[R, k, T, E]``
    run_seed: int
    seed_ids: list[int]
    num_envs: int
    behavior_batch_size: int  # m
    target_batch_size: int  # n
    env_steps: int


def read_run(checkpoint: Path, classes: Sequence[str] = ()) -> tuple[dict[str, Any], Path, RunCLI]:
    """A checkpoint's content, its run folder, and what the folder's config.yaml makes, not prepared yet.

    Args:
        checkpoint: of a run folder.
        classes: options of a fit that name classes of the run, which the configuration alone may not name
            (``lit_maprops.run.option_classes``).

    Raises:
        ConfigError: the file is missing, damaged, foreign or not in a run folder.
    """
    content = read_checkpoint(checkpoint)
    folder = run_of(str(checkpoint))
    config = read_yaml("<ckpt_path>", folder / "config.yaml", EXAMPLE)
    if isinstance(config.get("trainer"), dict):
        config["trainer"] = {k: v for k, v in config["trainer"].items() if k not in OF_TRAINING}
    try:
        cli = parsed([*classes, *HERE], own=dump_yaml(config))
    except ConfigError as error:
        raise ConfigError(f"<ckpt_path>: config.yaml of {folder}: {error.marked}") from None
    return content, folder, cli


def load(checkpoint: Path, classes: Sequence[str] = ()) -> Subject:
    """Read a checkpoint of a run folder, whose config.yaml says what it was trained with; changes nothing on disk.

    Args:
        checkpoint: of a run folder.
        classes: as ``read_run`` takes them.

    Raises:
        ConfigError: as ``read_run``.
    """
    content, folder, cli = read_run(checkpoint, classes)
    model, data = cli.model, cli.datamodule
    template = copy.deepcopy(model.behavior)
    model.prepare(data)
    check_resumes(model, content)
    model.load_state_dict(content["state_dict"])
    for optimizer, state in zip(model.configure_optimizers(), content["optimizer_states"], strict=True):
        optimizer.load_state_dict(state)
    saved = own_state(content)
    buffer = Buffer(data.target_batch_size // data.num_envs, data.stored_batches, data.history == "growing")
    buffer.load_state_dict(saved["buffer"], model.device)
    model.behavior.source.restore(saved["behavior"].get("draws", {}))
    retained = None
    if buffer.stored_batches:
        buffer.recompute_targets(model.learner.policies.distribution_parameters, data.env.family)
        retained = buffer.trajectories()
    return Subject(
        checkpoint,
        folder,
        model.learner,
        data.env,
        Sampler(template, model.behavior),
        retained,
        model.run_seed,
        model.seed_ids,
        data.num_envs,
        data.behavior_batch_size,
        data.target_batch_size,
        saved["iteration"] * data.target_batch_size,
    )


def samplers_of(subject: Subject, names: list[str]) -> dict[str, Sampler]:
    """On-policy sampling, the checkpoint's own behavior policy as ``own``, and others with their default settings.

    Args:
        subject: the checkpoint.
        names: of behavior policies, ours or of installed packages, or import paths.

    Raises:
        ConfigError: a name that is no behavior policy, or one that cannot serve the task or needs arguments.
    """
    samplers = {"OnPolicy": Sampler(OnPolicy())}
    own = subject.own.template
    if type(own) is not OnPolicy or own.draws != OnPolicy().draws:
        samplers["own"] = subject.own
    for name in names:
        kind = resolve("samplers", "model.behavior", name, BEHAVIORS, BehaviorPolicy)
        if kind is not OnPolicy:  # the run's own has its own settings
            samplers[name] = Sampler(_with_defaults(name, kind))
            # One that cannot serve this task says so before anything is drawn.
            tried = copy.deepcopy(samplers[name].template)
            tried.build(subject.task, subject.run_seed, subject.seed_ids[:1])
            tried.follow(subject.learner)
    return samplers


def _with_defaults(name: str, kind: type[BehaviorPolicy]) -> BehaviorPolicy:
    try:
        return kind()
    except TypeError as error:
        raise ConfigError(f"<samplers> is {name}, which cannot be made without arguments: {error}") from None
