"""Algorithm 2 for adjustments that never enumerate the actions: the ratio of each step of D is enough.

The objective is that of ``lit_maprops.behavior.algorithm2``, with the ratio r = pi_phi(a | s) / pi_theta(a | s) of the
action taken. Its gradient in log r is r / |D|, and 0 where r < 1 - epsilon; what log r and its gradient are is up to
the adjustment (``Ratios``), and the passes through the network are the network's own (``lit_maprops.stacked.passes``).

``G`` counts what has a ratio, a clip and a stop of its own: R seeds, or for PROPS R seeds times A agents. ``C`` counts
the networks of each (1, or one per agent), ``U`` the rows: every step of D.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lit_maprops.behavior.update import fused
from lit_maprops.behavior.update.minibatches import Minibatch
from lit_maprops.behavior.update.systematic import scale_to
from lit_maprops.stacked.nets import DeltaNet
from lit_maprops.stacked.optimizer import SeedAdam


class Rows(NamedTuple):
    """D, or a part of it."""

    inputs: Tensor  # [G * C, U, I], input of Delta
    facts: tuple[Tensor, ...]  # each [G, ..., U], what else the ratio depends on: pi_theta and the action taken
    weight: Tensor  # [G, U], sums to 1 over D
    # [G * C, K, U], where ``kl_cutoff`` is auto: what systematic sampling wants of each of Delta's outputs, its
    # probability at the next draw, less 1 where the row has taken it
    wanted: Tensor | None = None

    def entries(self, kept: "Tensor | slice") -> "Rows":
        """Some of the G."""
        networks = len(self.weight), -1
        inputs = self.inputs.unflatten(0, networks)[kept].flatten(0, 1)
        wanted = None if self.wanted is None else self.wanted.unflatten(0, networks)[kept].flatten(0, 1)
        return Rows(inputs, tuple(fact[kept] for fact in self.facts), self.weight[kept], wanted)

    def take(self, minibatch: Minibatch | None) -> "Rows":
        """A minibatch, rows ``[G, b]``, weighted to stand for all of D; None is all of D."""
        if minibatch is None:
            return self
        rows = minibatch.rows
        copies = rows.repeat_interleave(len(self.inputs) // len(rows), 0)
        return Rows(
            self.inputs.gather(1, copies.unsqueeze(-1).expand(-1, -1, self.inputs.shape[-1])),
            tuple(_columns(fact, rows) for fact in self.facts),
            self.weight.gather(1, rows) * minibatch.weight,
            self.wanted if self.wanted is None else _columns(self.wanted, copies),
        )


def _columns(fact: Tensor, rows: Tensor) -> Tensor:
    """The columns ``rows`` ``[G, b]`` of ``[G, ..., U]``."""
    between = fact.dim() - 2
    columns = rows.reshape(len(rows), *[1] * between, -1)
    return fact.gather(-1, columns.expand(*fact.shape[:-1], -1))


class Ratios(NamedTuple):
    """What an adjustment says about rows."""

    log_ratio: Tensor  # [G, U], log r of the action taken (nats)
    kl: Tensor  # [G, U], KL(pi_theta || pi_phi) in the row's state, or an estimate of it (nats)
    vjp: Callable[[Tensor], Tensor]  # vector-Jacobian product: gradient of log_ratio [G, U] -> of Delta [G * C, K, U]

    def excess(self, delta: Tensor, rows: Rows) -> Tensor:
        """Mean over D of E_pi_phi[terms of Delta] - E_wanted[them], ``[G]`` (nats), see ``systematic``.

        Args:
            delta: the terms, ``[G * C, K, U]``; these ratios are those of a multiple of it.
            rows: with ``wanted``.
        """
        assert rows.wanted is not None
        taken_less_expected = self.vjp(torch.ones_like(self.log_ratio))  # log r is a term of Delta less log Z
        of_networks = ((taken_less_expected + rows.wanted) * delta).sum(1)
        return -torch.linalg.vecdot(of_networks.unflatten(0, (len(rows.weight), -1)).sum(1), rows.weight)


RatiosOf = Callable[[Tensor, Rows], Ratios]  # of Delta [G * C, K, U]; G may be some of them


class RowStore:
    """Collects ``Rows`` step by step, in memory that doubles when it is full."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.rows = 0
        self._stored: list[Tensor] = []

    def append(self, inputs: Tensor, *facts: Tensor) -> None:
        """Add ``b`` steps, shaped as in ``Rows``."""
        new, after = [inputs.mT, *facts], self.rows + inputs.shape[1]
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
        inputs, *facts = (tensor[..., : self.rows] for tensor in self._stored)
        weight = inputs.new_full((len(facts[0]), self.rows), 1 / self.rows)
        return Rows(inputs.mT, tuple(facts), weight)


@torch.no_grad()
def update_rows(
    net: DeltaNet,
    optimizer: SeedAdam,
    rows: Rows,
    minibatches: Sequence[Minibatch | None],
    ratios_of: RatiosOf,
    clip_epsilon: float,
    kl_cutoff: float,
    measure: bool = True,
) -> dict[str, Tensor]:
    """Train phi on D, as ``lit_maprops.behavior.algorithm2.update_behavior``, from Delta = 0.

    Args:
        net: Delta_phi, which puts out zero.
        optimizer: over ``net``.
        rows: all of D.
        minibatches: ``epochs`` passes over D; None is all of it.
        ratios_of: what the adjustment says about rows.
        clip_epsilon: epsilon.
        kl_cutoff: delta (nats).
        measure: also return ``kl`` and ``ratio_clipped``, which take another forward pass.

    Returns:
        Its statistics, ``[G]``.
    """
    settings = fused.Settings(net.passes, clip_epsilon, kl_cutoff, True, optimizer.lockstep, optimizer.settings)
    trained = fused.trained_of(net, optimizer)
    if trained.flat.device.type != "cpu":
        return _train_masked(trained, rows, minibatches, ratios_of, settings, measure)
    n_groups, longest = rows.weight.shape
    copies = len(trained.flat) // n_groups
    results = []
    for group in net.passes.groups(n_groups, copies * longest, net.flat.device):  # whose activations fit the cache
        networks = slice(group.start * copies, group.stop * copies)
        part = fused.Trained(*(tensor[networks] for tensor in trained))
        own = [minibatch and minibatch.of(group) for minibatch in minibatches]
        results.append(_train(part, rows.entries(group), own, ratios_of, settings, measure))
    return {name: torch.cat([result[name] for result in results]) for name in results[0]}


def _train(
    trained: fused.Trained,
    rows: Rows,
    minibatches: Sequence[Minibatch | None],
    ratios_of: RatiosOf,
    settings: fused.Settings,
    measure: bool,
) -> dict[str, Tensor]:
    """Take the gradient steps of some of the G, in place; those that stop leave the arithmetic."""
    copies = len(trained.flat) // len(rows.weight)
    alive = torch.arange(len(rows.weight), device=trained.flat.device)
    gradient_steps = torch.full_like(alive, len(minibatches))
    now, own = trained, rows
    for step, chosen in enumerate(minibatches):
        part = own.take(chosen and chosen.of(alive))
        layers = settings.passes.layers(now.flat)
        x, delta = fused.delta_of(settings.passes, layers, part.inputs)
        ratios = ratios_of(delta, part)
        going = _within(delta, ratios, part, settings)
        n_going = int(going.sum())  # the one time that a gradient step waits for the device
        if n_going < len(going):
            gradient_steps[alive[~going]] = step
        if not n_going:
            _put_back(trained, now, alive, copies)
            alive = alive[:0]
            break
        ratio = ratios.log_ratio.exp()
        grad = ratios.vjp(part.weight * torch.where(ratio > 1 - settings.clip_epsilon, ratio, 0.0))
        if n_going < len(going):
            _put_back(trained, now, alive, copies)
            kept, networks = going.nonzero().flatten(), going.repeat_interleave(copies).nonzero().flatten()
            alive, own = alive[kept], own.entries(kept)
            now, grad = fused.Trained(*(tensor[networks] for tensor in now)), grad[networks]
            x, layers = [tensor[networks] for tensor in x], settings.passes.layers(now.flat)
        grad = settings.passes.backward(layers, x, grad, step == 0)  # at Delta = 0 only the last layer has a gradient
        fused.adam_(now.flat, grad, *now[1:], None, step if settings.count_steps else None, settings.adam)
    else:
        _put_back(trained, now, alive, copies)
    active = torch.zeros_like(gradient_steps, dtype=torch.bool).index_fill_(0, alive, True)
    _scale_back(trained, rows, ratios_of, settings)
    stats = fused.statistics(gradient_steps, active)
    return stats | (_measured(trained, rows, ratios_of, settings) if measure else {})


def _train_masked(
    trained: fused.Trained,
    rows: Rows,
    minibatches: Sequence[Minibatch | None],
    ratios_of: RatiosOf,
    settings: fused.Settings,
    measure: bool,
) -> dict[str, Tensor]:
    """``_train`` with all of the G in every step, those that stopped masked: it asks an accelerator no questions."""
    copies = len(trained.flat) // len(rows.weight)
    active = torch.ones(len(rows.weight), dtype=torch.bool, device=trained.flat.device)
    gradient_steps = torch.zeros_like(active, dtype=torch.int64)
    layers = settings.passes.layers(trained.flat)
    for step, chosen in enumerate(minibatches):
        part = rows.take(chosen)
        x, delta = fused.delta_of(settings.passes, layers, part.inputs)
        ratios = ratios_of(delta, part)
        active = active & _within(delta, ratios, part, settings)
        gradient_steps += active
        ratio = ratios.log_ratio.exp()
        grad = ratios.vjp(part.weight * torch.where(ratio > 1 - settings.clip_epsilon, ratio, 0.0))
        grad = settings.passes.backward(layers, x, grad, step == 0)
        going = active.repeat_interleave(copies)
        fused.adam_(trained.flat, grad, *trained[1:], going, step if settings.count_steps else None, settings.adam)
    _scale_back(trained, rows, ratios_of, settings)
    stats = fused.statistics(gradient_steps, active)
    return stats | (_measured(trained, rows, ratios_of, settings) if measure else {})


def _within(delta: Tensor, ratios: Ratios, rows: Rows, settings: fused.Settings) -> Tensor:
    """Which of the G go on, ``[G]`` bool; one with a NaN does not."""
    if rows.wanted is not None:
        return ratios.excess(delta, rows) <= 0
    return torch.linalg.vecdot(ratios.kl, rows.weight) <= settings.kl_cutoff


def _scale_back(trained: fused.Trained, rows: Rows, ratios_of: RatiosOf, settings: fused.Settings) -> None:
    """Where ``kl_cutoff`` is auto, scale Delta, in place, to where its excess is 0, if it is above."""
    if rows.wanted is None:
        return
    copies = len(trained.flat) // len(rows.weight)
    _, delta = fused.delta_of(settings.passes, settings.passes.layers(trained.flat), rows.inputs)

    def excess_at(scale: Tensor) -> Tensor:
        return ratios_of(delta * scale.repeat_interleave(copies).view(-1, 1, 1), rows).excess(delta, rows)

    scale = scale_to(excess_at, rows.weight[:, 0]).repeat_interleave(copies)
    trained.flat[:, -settings.passes.last_size :] *= scale.unsqueeze(1)


def _measured(trained: fused.Trained, rows: Rows, ratios_of: RatiosOf, settings: fused.Settings) -> dict[str, Tensor]:
    _, delta = fused.delta_of(settings.passes, settings.passes.layers(trained.flat), rows.inputs)
    log_ratio, kl, _ = ratios_of(delta, rows)
    clipped = log_ratio.exp() < 1 - settings.clip_epsilon
    return {"kl": torch.linalg.vecdot(kl, rows.weight), "ratio_clipped": (rows.weight * clipped).sum(1)}


def _put_back(trained: fused.Trained, now: fused.Trained, alive: Tensor, copies: int) -> None:
    networks = alive.unsqueeze(1) * copies + torch.arange(copies, device=alive.device)
    fused.put_back(trained, now, networks.flatten())
