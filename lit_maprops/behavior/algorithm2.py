"""Algorithm 2 of arXiv 2508.01049 (v2 calls the method CoSER): one update of the behavior policy phi on the buffer D.

The objective is that of PROPS (arXiv 2311.08290, eq. 5): maximize the mean over D of

    min(-r, -clip(r, 1 - epsilon, 1 + epsilon)),   r = pi_phi(a | s) / pi_theta(a | s),

which pushes joint actions down in proportion to how often D holds them, so that those D lacks are pushed up. At
Delta = 0 its gradient in the logits is pi_theta - d_D; an action with r < 1 - epsilon gets none.

This is the plain form, by autograd: the one to read, and the oracle of ``behavior.update.fused``, which runs.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from lit_maprops.behavior.update.minibatches import Minibatch
from lit_maprops.behavior.update.samples import Samples
from lit_maprops.behavior.update.systematic import scale_to
from lit_maprops.stacked.mlp import Layers
from lit_maprops.stacked.nets import StackedMLP
from lit_maprops.stacked.optimizer import SeedAdam


def log_ratio_and_kl(delta: Tensor, target: Tensor, visits: Tensor) -> tuple[Tensor, Tensor]:
    """Log r of every action ``[G, K, U]`` and KL(pi_theta || pi_phi) averaged over D ``[G]`` (nats).

    Args:
        delta: the adjustment, ``[G, K, U]``.
        target: pi_theta, ``[G, K, U]``; illegal actions have 0.
        visits: share of D's steps in each row, ``[G, U]``.
    """
    log_ratio = delta - torch.logsumexp(target.log() + delta, 1, keepdim=True)
    return log_ratio, -((target * log_ratio).sum(1) * visits).sum(-1)


def clipped_loss(ratio: Tensor, share: Tensor, clip_epsilon: float) -> Tensor:
    """The negative PROPS objective, averaged over D: ``[G, K, U]``, twice ``-> [G]``."""
    return (share * torch.maximum(ratio, ratio.clamp(1 - clip_epsilon, 1 + clip_epsilon))).sum((1, 2))


def excess(delta: Tensor, log_ratio: Tensor, samples: Samples) -> Tensor:
    """Mean over D of E_pi_phi[Delta] - E_wanted[Delta] ``[G]``, where pi_phi is ``log_ratio`` from pi_theta (nats)."""
    assert samples.wanted is not None
    beyond = samples.target * log_ratio.exp() - samples.wanted
    return ((beyond * delta).sum(1) * samples.visits).sum(-1)


def _scale_back(net: StackedMLP, delta: Tensor, samples: Samples) -> None:
    def excess_at(scale: Tensor) -> Tensor:
        scaled = delta * scale.view(-1, 1, 1)
        return excess(delta, log_ratio_and_kl(scaled, samples.target, samples.visits)[0], samples)

    scale = scale_to(excess_at, samples.visits[:, 0])
    weight, bias = net.layers()[-1]
    weight *= scale.view(-1, 1, 1)
    if bias is not None:
        bias *= scale.view(-1, 1)


def plain_mlp(layers: Layers, x: Tensor) -> Tensor:
    """Tanh MLPs as one writes them: ``[G, U, in] -> [G, U, out]``."""
    for number, (weight, bias) in enumerate(layers):
        x = torch.bmm(x if number == 0 else x.tanh(), weight.mT)
        if bias is not None:
            x = x + bias.unsqueeze(1)
    return x


def update_behavior(
    net: StackedMLP,
    optimizer: SeedAdam,
    samples: Samples,
    minibatches: Iterable[Minibatch | None],
    clip_epsilon: float,
    kl_cutoff: float,
    last_layer: bool = False,
) -> dict[str, Tensor]:
    """Train phi on D until the minibatches end or, entry by entry, KL(pi_theta || pi_phi) exceeds the cutoff.

    The KL is that of the minibatch at hand, measured before its gradient step; the step that crossed the cutoff is
    kept, as in the paper. An entry with a NaN stops too. Samples with ``wanted`` (``kl_cutoff: auto``) stop where the
    excess of the minibatch is above 0 instead, and Delta is then scaled back to where that of all of D is 0
    (``behavior.update.systematic``).

    Args:
        net: Delta_phi; with ``last_layer`` only its last layer, on samples whose inputs are its features.
        optimizer: over ``net``.
        samples: all of D.
        minibatches: ``epochs`` passes over D; None is all of it.
        clip_epsilon: epsilon.
        kl_cutoff: delta (nats).
        last_layer: see ``net``.

    Returns:
        Per entry ``[*stack]``: ``kl`` reached (nats, after the last step), ``gradient_steps`` used, ``cutoff_hit``
        (stopped before the minibatches ended), ``first_step_cutoff`` (after one step at most) and ``ratio_clipped``,
        the share of D with r < 1 - epsilon.
    """

    def delta_of(part: Samples) -> Tensor:
        return plain_mlp(net.layers()[-1:] if last_layer else net.layers(), part.inputs).mT

    active = torch.ones(net.stack, dtype=torch.bool, device=optimizer.device)
    gradient_steps = torch.zeros_like(active, dtype=torch.int64)
    for minibatch in minibatches:
        part = samples.take(minibatch)
        delta = delta_of(part)
        log_ratio, kl = log_ratio_and_kl(delta, part.target, part.visits)
        within = kl <= kl_cutoff if part.wanted is None else excess(delta, log_ratio, part) <= 0
        active = active & within.unflatten(0, net.stack)
        if not active.any():
            break
        optimizer.zero_grad()
        clipped_loss(log_ratio.exp(), part.share, clip_epsilon).sum().backward()
        optimizer.step(active=active)
        gradient_steps += active
    with torch.no_grad():
        if samples.wanted is not None:
            _scale_back(net, delta_of(samples), samples)
        log_ratio, kl = log_ratio_and_kl(delta_of(samples), samples.target, samples.visits)
    clipped = (samples.share * (log_ratio.exp() < 1 - clip_epsilon)).sum((1, 2))
    return {
        "kl": kl.unflatten(0, net.stack),
        "gradient_steps": gradient_steps,
        "cutoff_hit": ~active,
        "first_step_cutoff": ~active & (gradient_steps <= 1),
        "ratio_clipped": clipped.unflatten(0, net.stack),
    }
