"""The progress bar of a fit."""

import sys
import warnings
from time import perf_counter
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from tqdm import TqdmWarning, tqdm

from lit_maprops.metrics.reliability import RETURN
from lit_maprops.module import LitMAPROPS
from lit_maprops.run.callbacks import in_notebook, own_module

BAR_LEGEND = "the bar: env steps of each seed x seeds, env steps/s over all seeds, success or return of episodes"


class EnvStepsBar(Callback):
    """A progress bar in env steps, with their rate and the success, or else the return, of finished training episodes.

    In a terminal or a notebook; silent elsewhere. Its rate is that of the run's last line: since the fit began, over
    all seeds.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the bar."""
        module = own_module(pl_module)
        shown = sys.stderr.isatty() or in_notebook()
        if shown:
            tqdm.write(BAR_LEGEND, file=sys.stderr)
        self._started, self._first = perf_counter(), module.env_steps
        self._bar = _bar_class()(
            total=module.data.iterations * module.data.target_batch_size,
            initial=module.env_steps,
            unit_scale=True,
            disable=not shown,
            dynamic_ncols=True,
            bar_format=f"{{percentage:3.0f}}%|{{bar}}| {{n_fmt}}/{{total_fmt}} x {_seeds(module)}{{postfix}}, "
            "{remaining} left",
        )

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Advance the bar."""
        module = own_module(pl_module)
        rate = (module.env_steps - self._first) * module.num_seeds / (perf_counter() - self._started)
        known = ""
        for name, figure in (("success", "train/success_rate"), ("return", "train/episode_return")):
            if name == "success" and module.solved_on == RETURN:
                continue
            values = module.row[figure]
            if not bool(values.isnan().all()):
                known = f", {name} {float(values.nanmean()):.2f}"
                break  # the return only where there is no success
        self._bar.set_postfix_str(f"{tqdm.format_sizeof(rate)}/s{known}", refresh=False)
        self._bar.update(module.env_steps - self._bar.n)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the finished bar on the screen."""
        self._bar.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave the bar where it stood."""
        if hasattr(self, "_bar"):
            self._bar.close()


def _seeds(module: LitMAPROPS) -> str:
    return f"{module.num_seeds} seed{'s' if module.num_seeds > 1 else ''}"


def _bar_class() -> Any:
    """The bar of a terminal, or that of a notebook where its widgets are installed."""
    if not in_notebook():
        return tqdm
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TqdmWarning)  # of widgets that are not there: the other bar will do
        from tqdm.auto import tqdm as notebook_bar
    return notebook_bar
