"""Gradient steps that a KL cutoff allows: by the exact KL, as here, and by an estimate on D's actions, as elsewhere."""

import copy
import math
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from lit_maprops.behavior import MAPROPS
from lit_maprops.behavior.algorithm2 import clipped_loss, log_ratio_and_kl, plain_mlp
from lit_maprops.behavior.base import UpdateStats
from lit_maprops.behavior.update.samples import Samples
from lit_maprops.behavior.update.table_trainer import TableTrainer
from lit_maprops.stacked.nets import StackedMLP
from lit_maprops.stacked.optimizer import SeedAdam


def estimated_kl(log_ratio: Tensor, share: Tensor) -> Tensor:
    """Mean over D of r - 1 - log r, ``[G, K, U]`` twice ``-> [G]`` (nats): what the PROPS authors' code stops by."""
    return (share * (log_ratio.exp() - 1 - log_ratio)).sum((1, 2))


def steps_made(net: StackedMLP, samples: Samples, behavior: MAPROPS, epochs: int) -> tuple[Tensor, Tensor]:
    """Full-batch gradient steps of one update from Delta = 0 until either KL exceeds the cutoff, ``[G]`` each.

    Args:
        net: Delta_phi; it stays as it is.
        samples: all of D.
        behavior: whose update it is: epsilon, delta, Adam's settings.
        epochs: most steps.
    """
    twin = copy.deepcopy(net)
    twin.zero_output()
    optimizer = SeedAdam(twin.parameters(), behavior.learning_rate, twin.stack, eps=behavior.adam_epsilon)
    made = torch.full((2, len(samples.inputs)), epochs)
    for step in range(epochs):
        log_ratio, kl = log_ratio_and_kl(plain_mlp(twin.layers(), samples.inputs).mT, samples.target, samples.visits)
        reached = torch.stack([kl, estimated_kl(log_ratio, samples.share)]).detach() > behavior.settings.kl_cutoff
        made = torch.where(reached, made.clamp(max=step), made)
        if bool((made <= step).all()):
            break
        optimizer.zero_grad()
        clipped_loss(log_ratio.exp(), samples.share, behavior.clip_epsilon).sum().backward()
        optimizer.step()
    return made[0], made[1]


class Watched(MAPROPS):
    """MA-PROPS that counts, at every ``every``-th update, the steps that either stop would allow.

    Args:
        every: updates between counts.
        most: steps allowed in these counts; the updates themselves make ``epochs``.
        **enumerated: arguments of ``MAPROPS``.
    """

    def __init__(self, every: int, most: int, **enumerated: Any) -> None:
        super().__init__(**enumerated)
        self.every, self.most, self.updates = every, most, 0
        self.counts: list[Tensor] = []  # [2, R] each

    @override
    def update(self, measure: bool = True) -> UpdateStats:
        self.updates += 1
        if self.updates % self.every == 0:
            trainer = self.delta_trainer
            assert isinstance(trainer, TableTrainer) and isinstance(self.net, StackedMLP)  # its default
            with torch.enable_grad():
                self.counts.append(torch.stack(steps_made(self.net, trainer.store.samples(), self, self.most)))
        return super().update(measure)

    def figures(self) -> dict[str, float]:
        """Mean steps by either stop, how many more the exact one allows, and how often that is none, 1, 2, more.

        Updates that neither stop ends within ``most`` steps say nothing and are left out.
        """
        exact, estimate = torch.cat(self.counts, 1)
        ended = torch.minimum(exact, estimate) < self.most
        exact, estimate = exact[ended].double(), estimate[ended].double()
        more = exact - estimate
        return {
            "updates": float(ended.sum()),
            "exact": float(exact.mean()) if len(exact) else math.nan,
            "estimate": float(estimate.mean()) if len(exact) else math.nan,
            "fewer": float((more < 0).double().mean()),
            "same": float((more == 0).double().mean()),
            "one_or_two": float(((more > 0) & (more <= 2)).double().mean()),
            "more": float((more > 2).double().mean()),
        }
