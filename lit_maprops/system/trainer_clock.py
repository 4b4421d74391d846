"""Lightning's counters made to count env steps per seed.

Left alone, the global step counts gradient steps of all optimizers, and what callbacks give loggers as the step counts
batches. Neither has a setter (Lightning 2.6), so the counters themselves are written.
"""

from typing import Any, cast

from lightning.pytorch import Trainer


class TrainerClock:
    """The counters of one Trainer during a fit.

    Args:
        trainer: about to train. Until ``stop`` its ``log_every_n_steps``, by which Lightning counts batches, is 1 in
            batches that loggers get a row of, else 0.
        batch_env_steps: n, env steps per seed of one training step.
    """

    def __init__(self, trainer: Trainer, batch_env_steps: int) -> None:
        self._trainer = cast(Any, trainer)  # what is written has no types
        self._batch_env_steps = batch_env_steps
        self._log_interval: int = self._trainer.log_every_n_steps

    def stop(self) -> None:
        """Give back what was taken."""
        self._trainer.log_every_n_steps = self._log_interval

    def set_epochs(self, epochs: int) -> None:
        """So many epochs are done, those of a run that is continued included."""
        progress = self._trainer.fit_loop.epoch_progress.current
        progress.processed = progress.completed = epochs

    def set(self, env_steps: int) -> None:
        """It is this many env steps."""
        loop = self._trainer.fit_loop.epoch_loop
        loop.manual_optimization.optim_step_progress.total.completed = env_steps
        loop._batches_that_stepped = env_steps

    def start_batch(self, env_steps: int, last: bool) -> None:
        """A batch starts at this many env steps.

        Loggers get a row of it if a multiple of the interval lies in it, or if it is the run's last.
        """
        self.set(env_steps)
        interval, end = self._log_interval, env_steps + self._batch_env_steps
        logs = interval > 0 and (last or end // interval > env_steps // interval)
        self._trainer.log_every_n_steps = int(logs)


def set_limits(trainer: Trainer, batch_env_steps: int) -> None:
    """Let a fit end where its data do, whatever number of epochs the Trainer has; before the fit starts.

    Args:
        trainer: about to fit.
        batch_env_steps: see ``TrainerClock``.
    """
    settings = cast(Any, trainer)
    settings.fit_loop.max_epochs, settings.fit_loop.min_epochs = -1, 0
    if settings.fast_dev_run:  # counts training steps
        settings.fit_loop.epoch_loop.max_steps = int(settings.fast_dev_run) * batch_env_steps
