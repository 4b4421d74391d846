"""``fit``, ``resume`` and ``load_run``."""

from collections.abc import Sequence
from functools import reduce
from pathlib import Path
from typing import Unpack

from lightning.pytorch import Callback
from lightning.pytorch.loggers import Logger

from lit_maprops.api.result import RunResult
from lit_maprops.api.settings import Settings, configuration, continued, laid_over, read_configuration
from lit_maprops.api.start import start
from lit_maprops.behavior import BehaviorPolicy
from lit_maprops.envs import Task
from lit_maprops.run.option_classes import check_trust, named_packages
from lit_maprops.system.errors import check
from lit_maprops.system.files import home_path
from lit_maprops.targets import Learner


def fit(
    config: str | Path | Sequence[str | Path] | None = None,
    *,
    env: Task | None = None,
    behavior: BehaviorPolicy | None = None,
    learner: Learner | None = None,
    ckpt_path: str | Path | None = None,
    callbacks: Sequence[Callback] = (),
    loggers: Sequence[Logger] = (),
    **settings: Unpack[Settings],
) -> RunResult:
    """Train, and write the run's folder as ``python -m lit_maprops fit`` does: the same settings give the same bits.

    Objects are made anew from the arguments they were made with, which must be plain data; what is done to them
    afterwards plays no part. An object takes the place of all that ``config`` says of its kind.

    Args:
        config: file of a configuration, or the name of one that comes with the package (``boulderpush``). Of several
            each is laid over those before it, as presets are: ``["boulderpush", "mappo_paper"]``.
        env: the task; required, as the other two, unless ``config`` has it.
        behavior: pi_phi, the sampler.
        learner: pi_theta and how it learns.
        ckpt_path: checkpoint to continue, which brings its run's configuration unless ``config`` is given; ``resume``
            takes a run's newest.
        callbacks: of Lightning.
        loggers: of Lightning, each of which gets a row per target iteration.
        **settings: arguments of ``LitMAPROPS`` and ``MultiAgentData``; ``run_name``, the folder inside ``runs_dir``
            (default: ``runs``); ``keep``: older checkpoints that stay; ``wandb``: online, offline or disabled (default:
            WANDB_MODE, else offline), ``wandb_group``, ``wandb_job_type``, ``wandb_tags``, and ``wandb_artifacts``, a
            list of what the W&B run keeps: ``report``, ``checkpoints``; ``trainer``: arguments of Lightning's Trainer
            by their names; ``trust``: packages whose classes the configuration of a run that is continued may name,
            beyond those that this program has imported.

    Raises:
        ConfigError: settings that cannot work, found before anything is written.
        KeyboardInterrupt: the run was interrupted and saved; ``resume`` continues it.

    Example:
        >>> import lit_maprops as lm
        >>> run = lm.fit(env=lm.MatrixGame("climbing"), behavior=lm.MAPROPS(), learner=lm.IPPO(), num_seeds=16)
        >>> run.solved_share, run.solved_interval
    """
    if config is None:
        base = {} if ckpt_path is None else continued(ckpt_path)
    else:
        given = [config] if isinstance(config, (str, Path)) else config
        base = reduce(laid_over, [read_configuration("<config>", each) for each in given], {})
        base |= {"ckpt_path": None if ckpt_path is None else str(ckpt_path)}
    objects = {"env": env, "behavior": behavior, "learner": learner}
    made = configuration(base, objects, settings)
    trust = made["trust"] if "trust" in made else named_packages(made)  # the program's own words, or a folder's
    return RunResult(start(made, callbacks, loggers), trust)


def resume(
    folder: str | Path,
    *,
    behavior: BehaviorPolicy | None = None,
    learner: Learner | None = None,
    callbacks: Sequence[Callback] = (),
    loggers: Sequence[Logger] = (),
    **settings: Unpack[Settings],
) -> RunResult:
    """Continue a run at its newest checkpoint, bit for bit; see ``RunResult.resume``."""
    return load_run(folder).resume(behavior=behavior, learner=learner, callbacks=callbacks, loggers=loggers, **settings)


def load_run(folder: str | Path, trust: Sequence[str] = ()) -> RunResult:
    """The run in a folder, finished or not.

    Args:
        folder: that ``fit`` wrote.
        trust: packages that its configuration may name, beyond those that this program has imported; the folder may be
            somebody else's.

    Raises:
        ConfigError: it is no run's folder, or ``trust`` is no list of packages.
    """
    check(not isinstance(trust, str), f"<trust> is {trust!r}: give a list of packages")
    check_trust(trust)
    return RunResult(home_path(folder), trust)
