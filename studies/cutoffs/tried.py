"""Ways to keep MA-PROPS from overshooting near determinism that ``kl_cutoff: auto`` was chosen from."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from lit_maprops.behavior import MAPROPS, BehaviorPolicy, OnPolicy, TabularMAPROPS
from lit_maprops.behavior.base import UpdateStats
from lit_maprops.behavior.update import fused
from lit_maprops.behavior.update.samples import Samples
from lit_maprops.behavior.update.systematic import scale_to
from lit_maprops.behavior.update.table_trainer import TableTrainer
from lit_maprops.system.argument_types import AUTO

Maker = Callable[[], BehaviorPolicy]
STRONG: dict[str, Any] = {"clip_epsilon": 1.0, "epochs": 8, "learning_rate": 1.0, "hidden": []}
WEAK: dict[str, Any] = {"clip_epsilon": 0.3, "epochs": 8, "learning_rate": 0.5, "hidden": []}
PLAIN = 1e3  # so large an epsilon that Adam's step is a multiple of the mean gradient so far
SCALES = [0.0, *(2.0**-k for k in range(6, -1, -1))]


class ScaledBack(MAPROPS):
    """Delta is scaled after every update; subclasses say by how much."""

    delta_trainer: TableTrainer

    def scale(self, delta: Tensor, samples: Samples) -> Tensor:
        """``[G]``, of Delta ``[G, K, U]``, all rows of which are one state."""
        raise NotImplementedError

    @override
    @torch.no_grad()
    def update(self, measure: bool = True) -> UpdateStats:
        stats = super().update(measure)
        samples, flat = self.delta_trainer.store.samples(), self.net.flat.detach()
        passes = self.net.passes
        _, delta = fused.delta_of(passes, passes.layers(flat), samples.inputs)
        flat[:, -passes.last_size :] *= self.scale(delta, samples).unsqueeze(1)
        return stats


class WithinCutoff(ScaledBack):
    """A trust region: the step that crossed the cutoff is scaled back until the exact KL is the cutoff."""

    def cutoff(self, samples: Samples) -> Tensor:
        """``[G]`` (nats)."""
        return torch.full_like(samples.visits[:, 0], float(self.kl_cutoff))

    @override
    def scale(self, delta: Tensor, samples: Samples) -> Tensor:
        cutoff = self.cutoff(samples)
        return scale_to(
            lambda scale: fused.weights_and_kl(delta * scale.view(-1, 1, 1), samples)[2] - cutoff, delta[:, 0, 0]
        )


class LikelyActions(WithinCutoff):
    """The cutoff is at most (exp(H) - 1) / (2 N), H pi_theta's entropy, N the steps of D: the mean of a chi-square."""

    @override
    def cutoff(self, samples: Samples) -> Tensor:
        target = samples.target[:, :, 0]
        likely = torch.special.entr(target).sum(1).exp()
        least = super().cutoff(samples)
        return torch.minimum(least, (likely - 1) / (2 * self.delta_trainer.store.steps))


class LeastDeviation(ScaledBack):
    """The scale, of ``SCALES``, with the least expected squared deviation of D's counts after the next draw."""

    @override
    def scale(self, delta: Tensor, samples: Samples) -> Tensor:
        steps, target = self.delta_trainer.store.steps, samples.target[:, :, 0]
        lacks = target * (steps + 1) - samples.share.sum(2) * steps
        gains = []
        for scale in SCALES:
            weight, total, _ = fused.weights_and_kl(delta * scale, samples)
            gains.append(((samples.target * weight / total)[:, :, 0] * lacks).sum(1))
        tied = 1e-6 * torch.arange(len(SCALES))  # the smaller of equal ones
        return torch.tensor(SCALES)[(torch.stack(gains, 1) - tied).argmax(1)]


def _ma_props(kind: type = MAPROPS, **options: Any) -> Maker:
    return lambda: kind(**(STRONG | options))


def tried() -> dict[str, Maker]:
    """What was tried, by its name on the page."""
    fixed = {f"fixed delta {delta:g}": _ma_props(kl_cutoff=delta) for delta in (1.0, 0.1, 0.01, 0.001)}
    return {
        "on-policy": OnPolicy,
        **fixed,
        "delta 1, the last step scaled back to it": _ma_props(WithinCutoff, kl_cutoff=1.0),
        "delta 0.05, the last step scaled back to it": _ma_props(WithinCutoff, kl_cutoff=0.05),
        "delta 0.05, plain gradient steps": _ma_props(kl_cutoff=0.05, learning_rate=PLAIN, adam_epsilon=PLAIN),
        "no cutoff, plain gradient steps": _ma_props(kl_cutoff=math.inf, learning_rate=PLAIN, adam_epsilon=PLAIN),
        "delta (exp(entropy) - 1) / 2N": _ma_props(LikelyActions, kl_cutoff=1.0),
        "closed form, delta 0.3": TabularMAPROPS,
        "delta 1, least expected deviation": _ma_props(LeastDeviation, kl_cutoff=1.0),
        "**auto**": _ma_props(kl_cutoff=AUTO),
        "**auto**, rate 0.1": _ma_props(kl_cutoff=AUTO, learning_rate=0.1),
        "**auto**, epsilon 0.3": _ma_props(kl_cutoff=AUTO, clip_epsilon=0.3),
        "**auto**, closed form": lambda: TabularMAPROPS(kl_cutoff=AUTO),
    }
