"""What D says of the policy behind it, by maximum likelihood."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lit_maprops.distributions import joint
from lit_maprops.metrics import native as native_fits
from lit_maprops.stacked.nets import StackedMLP
from lit_maprops.stacked.optimizer import BETAS, EPS, AdamSettings, SeedAdam
from lit_maprops.stacked.streams import SeedStreams


def fitted_kl(
    features: Tensor,
    logits: Tensor,
    action: Tensor,
    held_out: Tensor,
    hidden: Sequence[int],
    streams: SeedStreams,
    steps: int,
    native: bool = False,
    learning_rate: float = 3e-2,
) -> Tensor:
    """KL(pi_D || pi_theta) of the maximum-likelihood fit, per stack entry.

    Args:
        features: ``[*S, B, F]``; ``S`` is ``(R,)`` or ``(R, A)``.
        logits: log pi_theta of all K actions, ``[*S, B, K]`` (nats).
        action: ``[*S, B]`` int64.
        held_out: rows that decide when to stop, ``[*S, B]`` bool.
        hidden: units of each hidden layer.
        streams: fixes the initial weights.
        steps: most gradient steps.
        native: by the compiled kernel.
        learning_rate: of Adam.

    Returns:
        ``[*S]`` (nats): the fit under which the held-out rows were most likely; 0 where that is pi_theta itself, NaN
        where no row is held out.
    """
    stack = tuple(features.shape[:-2])
    net = StackedMLP(features.shape[-1], hidden, logits.shape[-1], stack, 0.0, streams.new_generators())
    if native:
        adam = AdamSettings(learning_rate, *BETAS, EPS)
        return native_fits.fitted_kl(net, adam, features, logits, action, held_out, steps)
    net = net.to(features.device)
    optimizer = SeedAdam(net.parameters(), learning_rate, stack)
    fit_rows = (~held_out).float()
    best_nll = torch.full(stack, torch.inf, device=features.device)
    best_kl = torch.zeros(stack, device=features.device)
    with torch.enable_grad():
        for _ in range(steps):
            fitted = (logits + net(features)).log_softmax(-1)
            nll = -fitted.gather(-1, action.unsqueeze(-1)).squeeze(-1)  # [*S, B]
            held_nll = (nll.detach() * held_out).sum(-1) / held_out.sum(-1).clamp(min=1)
            better = held_nll < best_nll
            # Of nearly equal policies it may round to less than the 0 that it is.
            kl = joint.kl_divergence(fitted.detach(), logits).mean(-1).clamp(min=0.0)
            best_nll = torch.where(better, held_nll, best_nll)
            best_kl = torch.where(better, kl, best_kl)
            optimizer.zero_grad()
            ((nll * fit_rows).sum(-1) / fit_rows.sum(-1).clamp(min=1)).sum().backward()
            optimizer.step()
    return torch.where(held_out.any(-1), best_kl, torch.nan)
