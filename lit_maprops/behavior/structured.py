"""Algorithm 2 for adjustments that never enumerate the joint actions: the joint ratio of each step of D is enough.

The objective is that of ``lit_maprops.behavior.algorithm2``, with the ratio r = pi_phi(a | s) / pi_theta(a | s) of the
joint action taken. Its gradient in log r is r / |D|, and 0 where r < 1 - epsilon; what log r and its gradient are is up
to the adjustment (``Ratios``), and the passes through the network are those of ``lit_maprops.mlp``.

``C`` counts the networks of a seed (1, or one per agent), ``U`` the rows: every step of D.
"""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from tensordict import TensorDictBase
from torch import Tensor

from lit_maprops import keys, mlp
from lit_maprops.behavior import fused
from lit_maprops.behavior.adjusted import AdjustedPolicy
from lit_maprops.behavior.algorithm2 import minibatches_of
from lit_maprops.behavior.base import UpdateStats
from lit_maprops.behavior.samples import Minibatch
from lit_maprops.mlp import size_of, split_layers


class Rows(NamedTuple):
    """D, or a part of it."""

    inputs: Tensor  # [R * C, U, I], input of Delta
    log_target: Tensor  # [R, A, N, U], log pi_theta_i of every action (nats)
    taken: Tensor  # [R, A, U] int64, the joint action
    weight: Tensor  # [R, U], sums to 1 over D

    def entries(self, kept: "Tensor | slice") -> "Rows":
        """Of some of the seeds."""
        inputs = self.inputs.unflatten(0, (len(self.weight), -1))[kept].flatten(0, 1)
        return Rows(inputs, *(tensor[kept] for tensor in self[1:]))

    def take(self, minibatch: Minibatch | None) -> "Rows":
        """A minibatch, rows ``[R, b]``, weighted to stand for all of D; None is all of D."""
        if minibatch is None:
            return self
        rows = minibatch.rows
        copies = rows.repeat_interleave(len(self.inputs) // len(rows), 0).unsqueeze(-1)
        of_agents = rows.unsqueeze(1).expand(-1, self.taken.shape[1], -1)
        of_actions = of_agents.unsqueeze(2).expand(-1, -1, self.log_target.shape[2], -1)
        return Rows(
            self.inputs.gather(1, copies.expand(-1, -1, self.inputs.shape[-1])),
            self.log_target.gather(3, of_actions),
            self.taken.gather(2, of_agents),
            self.weight.gather(1, rows) * minibatch.weight,
        )


class Ratios(NamedTuple):
    """What an adjustment says about rows."""

    log_ratio: Tensor  # [R, U], log r of the joint action taken (nats)
    kl: Tensor  # [R, U], KL(pi_theta || pi_phi) in the row's state, or an estimate of it (nats)
    pull: Callable[[Tensor], Tensor]  # gradient of log_ratio [R, U] -> of Delta [R * C, K, U]


RatiosOf = Callable[[Tensor, Rows], Ratios]  # of Delta [R * C, K, U] (nats)


class RowStore:
    """Collects ``Rows`` step by step, in memory that doubles when it is full."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.rows = 0
        self._stored: list[Tensor] = []

    def append(self, inputs: Tensor, log_target: Tensor, taken: Tensor) -> None:
        """Add ``b`` steps, shaped as in ``Rows``."""
        new, after = [inputs.mT, log_target, taken], self.rows + inputs.shape[1]
        if not self._stored or after > self._stored[0].shape[-1]:
            grown = [tensor.new_empty(*tensor.shape[:-1], max(64, 2 * after)) for tensor in new]
            for larger, old in zip(grown, self._stored, strict=False):
                larger[..., : self.rows] = old[..., : self.rows]
            self._stored = grown
        for stored, tensor in zip(self._stored, new, strict=True):
            stored[..., self.rows : after] = tensor
        self.rows = after

    def samples(self) -> Rows:
        """All steps of D."""
        inputs, log_target, taken = (tensor[..., : self.rows] for tensor in self._stored)
        weight = log_target.new_full((len(taken), self.rows), 1 / self.rows)
        return Rows(inputs.mT, log_target, taken, weight)


class StructuredPolicy(AdjustedPolicy):
    """A behavior policy whose ratio and KL need no table of joint actions; subclasses say how.

    Args:
        clip_epsilon: see ``AdjustedPolicy``; of the joint ratio.
        kl_cutoff: see ``AdjustedPolicy``; of the joint KL.
        epochs: see ``AdjustedPolicy``.
        minibatches: see ``AdjustedPolicy``.
        learning_rate: see ``AdjustedPolicy``.
        hidden: see ``AdjustedPolicy``.
        reset_optimizer: see ``AdjustedPolicy``.
    """

    store: RowStore  # type: ignore[assignment]  # steps stand by themselves here: no table of actions, no merging

    def __init__(
        self,
        clip_epsilon: float = 0.3,
        kl_cutoff: float = 0.05,
        epochs: int = 8,
        minibatches: int = 1,
        learning_rate: float = 3e-3,
        hidden: Sequence[int] = (64, 64),
        reset_optimizer: bool = True,
    ) -> None:
        super().__init__(clip_epsilon, kl_cutoff, epochs, minibatches, learning_rate, hidden, reset_optimizer)
        self.store = RowStore()

    @abstractmethod
    def ratios(self, delta: Tensor, rows: Rows) -> Ratios:
        """Joint ratios under the adjustment ``[R * C, K, U]`` (nats); R may be some of the seeds."""

    @torch.no_grad()
    def extend(self, data: TensorDictBase) -> None:
        """See ``BehaviorPolicy``."""
        inputs, log_target, taken = self.experience(data)
        self.store.append(inputs.flatten(0, -3).float(), log_target, taken)

    @torch.no_grad()
    def update(self, measure: bool = True) -> UpdateStats:
        """See ``BehaviorPolicy``; Algorithm 2, starting from Delta_phi = 0."""
        self.net.zero_last_layer()
        if self.reset_optimizer:
            self.optimizer.reset_state()
        rows = self.store.samples()
        minibatches = minibatches_of(self.minibatch_streams, self.store.rows, self.epochs, self.minibatches)
        trained = fused.trained_of(self.net, self.optimizer, size_of(self.net.shapes))
        copies, longest = len(trained.flat) // self.n_seeds, len(rows.weight[0])
        results = []
        for seeds in mlp.groups(self.n_seeds, copies * longest, self.net.shapes):  # whose activations fit the cache
            entries = slice(seeds.start * copies, seeds.stop * copies)
            group = fused.Trained(*(tensor[entries] for tensor in trained))
            own = [minibatch and minibatch.of(seeds) for minibatch in minibatches]
            results.append(self._train(group, rows.entries(seeds), own, measure))
        stats = {name: torch.cat([result[name] for result in results]) for name in results[0]}
        return stats | {"gradient_steps_allowed": torch.full_like(stats["gradient_steps"], len(minibatches))}

    def _train(
        self, trained: fused.Trained, rows: Rows, minibatches: Sequence[Minibatch | None], measure: bool
    ) -> UpdateStats:
        """Take the gradient steps of some seeds, in place; seeds that stop leave the arithmetic."""
        copies = len(trained.flat) // len(rows.weight)
        alive = torch.arange(len(rows.weight), device=trained.flat.device)
        gradient_steps = torch.full_like(alive, len(minibatches))
        now, own = trained, rows
        for step, chosen in enumerate(minibatches):
            part = own.take(chosen and chosen.of(alive))
            layers = split_layers(now.flat, self.net.shapes)
            x, delta = fused.delta_of(layers, part.inputs)
            ratios = self.ratios(delta, part)
            going = torch.linalg.vecdot(ratios.kl, part.weight) <= self.kl_cutoff  # False for a NaN
            gradient_steps[alive[~going]] = step
            if not bool(going.any()):
                _put_back(trained, now, alive, copies)
                alive = alive[:0]
                break
            ratio = ratios.log_ratio.exp()
            grad = ratios.pull(part.weight * torch.where(ratio > 1 - self.clip_epsilon, ratio, 0.0))
            if not bool(going.all()):
                _put_back(trained, now, alive, copies)
                kept, entries = going.nonzero().flatten(), going.repeat_interleave(copies).nonzero().flatten()
                alive, own = alive[kept], own.entries(kept)
                now, grad = fused.Trained(*(tensor[entries] for tensor in now)), grad[entries]
                x, layers = [tensor[entries] for tensor in x], split_layers(now.flat, self.net.shapes)
            grad = mlp.backward(layers, x, grad, step == 0)  # at Delta = 0 only the last layer has a gradient
            count = step if self.optimizer.lockstep else None
            fused.adam_(now.flat, grad, *now[1:], None, count, self.optimizer.settings)
        else:
            _put_back(trained, now, alive, copies)
        cutoff_hit = torch.ones_like(gradient_steps, dtype=torch.bool).index_fill_(0, alive, False)
        stats = {
            "gradient_steps": gradient_steps,
            "cutoff_hit": cutoff_hit,
            "first_step_cutoff": cutoff_hit & (gradient_steps <= 1),
        }
        return stats | (self._measured(trained, rows) if measure else {})

    def _measured(self, trained: fused.Trained, rows: Rows) -> UpdateStats:
        _, delta = fused.delta_of(split_layers(trained.flat, self.net.shapes), rows.inputs)
        log_ratio, kl, _ = self.ratios(delta, rows)
        clipped = log_ratio.exp() < 1 - self.clip_epsilon
        return {"kl": torch.linalg.vecdot(kl, rows.weight), "ratio_clipped": (rows.weight * clipped).sum(1)}


def _put_back(trained: fused.Trained, now: fused.Trained, alive: Tensor, copies: int) -> None:
    entries = alive.unsqueeze(1) * copies + torch.arange(copies, device=alive.device)
    fused.put_back(trained, now, entries.flatten())


def targets_and_taken(data: TensorDictBase) -> tuple[Tensor, Tensor]:
    """log pi_theta_i ``[R, A, N, b]`` (nats) and the actions taken ``[R, A, b]`` of steps ``[R, b]``."""
    return data.get(keys.PARAMETERS).permute(0, 2, 3, 1), data.get(keys.ACTION).mT
