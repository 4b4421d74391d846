"""A configuration trained in this process, on the command line's own path, which is left as it was found."""

import logging
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback
from lightning.pytorch.loggers import Logger
from tqdm import tqdm

from lit_maprops.envs.global_generators import generators_kept
from lit_maprops.report.page import page_maker
from lit_maprops.run.options import parsed
from lit_maprops.run.training import train
from lit_maprops.system.errors import check, printable, with_names
from lit_maprops.system.memory import keep_freed_memory

WAY_ON = 'lm.resume("{folder}"{trust})'
QUIETED = ("lightning.pytorch", "lightning.fabric", "matplotlib.font_manager")


def say(message: str) -> None:
    """Print one line for the user."""
    tqdm.write(printable(with_names(message)), file=sys.stdout)  # leaves a progress bar below it intact


def start(config: dict[str, Any], callbacks: Sequence[Callback], loggers: Sequence[Logger]) -> Path:
    """Train what a configuration says; returns the run's folder.

    Args:
        config: see ``lit_maprops.api.settings``; ``trust``: what the configuration of a run's folder may name.
        callbacks: of Lightning, in addition to the run's own.
        loggers: likewise.

    Raises:
        ConfigError: bad settings, found before anything is written.
        KeyboardInterrupt: the run was interrupted; it was saved before, unless it was told twice.
        SystemExit: another signal stopped the run, which was saved before.
    """
    keep_freed_memory()
    with as_it_was():
        cli = parsed({key: value for key, value in config.items() if key != "trust"}, trust=config.get("trust"))
        check(
            cli.trainer.world_size == 1,
            f"<trainer.devices> makes {cli.trainer.world_size} processes, which only the command line connects: use "
            "one here, or python -m lit_maprops fit",
        )
        try:
            page = page_maker(cli.config.wandb_artifacts)
            code, folder = train(cli, say, WAY_ON, callbacks, loggers, page=page)
        except SystemExit as error:
            if isinstance(error.__context__, KeyboardInterrupt):  # Lightning would end the process
                raise KeyboardInterrupt from None
            raise
    if code == 128 + signal.SIGINT:
        raise KeyboardInterrupt
    if code:
        raise SystemExit(code)
    return folder.path


@contextmanager
def as_it_was() -> Iterator[None]:
    """Give back what a run changes of its process: filters of warnings, loggers' levels, global random numbers."""
    loggers = [logging.getLogger(name) for name in QUIETED]
    levels, raises = [logger.level for logger in loggers], logging.raiseExceptions
    try:
        with warnings.catch_warnings(), generators_kept():
            yield
    finally:
        logging.raiseExceptions = raises
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
