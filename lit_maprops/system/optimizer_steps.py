"""Whether anybody can notice the optimizer steps of a fit, which Lightning announces at 0.4 ms each (Lightning 2.6)."""

from collections.abc import Sequence
from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.precision import Precision
from lightning.pytorch.profilers import PassThroughProfiler

HOOK = "on_before_optimizer_step"


def steps_are_heard(trainer: Trainer, module: LightningModule, callbacks: Sequence[Callback] = ()) -> bool:
    """Whether a step must go through Lightning: for a callback, the module itself, a profiler or a precision.

    A behavior update is one step, and small games make one at every env step: announcing them to nobody would be a
    twentieth of the run. ``callbacks`` are those that the trainer does not have yet.
    """
    announced = any(_overrides(callback, Callback) for callback in [*cast(Any, trainer).callbacks, *callbacks])
    plain = type(trainer.precision_plugin) is Precision and type(cast(Any, trainer).profiler) is PassThroughProfiler
    return announced or _overrides(module, LightningModule) or not plain


def _overrides(heard_by: object, base: type) -> bool:
    return getattr(type(heard_by), HOOK) is not getattr(base, HOOK)
