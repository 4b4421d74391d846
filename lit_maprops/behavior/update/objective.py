"""The objective of Algorithm 2 on tables of actions, written out; ``G``, ``K`` and ``U`` as in ``Samples``."""

import torch
from torch import Tensor
from torch.nn.functional import threshold

from lit_maprops.behavior.update.samples import Samples


def weights_and_kl(delta: Tensor, samples: Samples) -> tuple[Tensor, Tensor, Tensor]:
    """exp(Delta) ``[G, K, U]``, its mean under pi_theta ``[G, 1, U]`` and KL(pi_theta || pi_phi) over D ``[G]`` (nats).

    With w = exp(Delta) and z its mean, r = w / z and KL = log z - sum_k pi_theta(k) Delta(k).
    """
    weight = delta.exp()
    total = (samples.target * weight).sum(1, keepdim=True)
    of_state = total.log().sub_((samples.target * delta).sum(1, keepdim=True)).squeeze(1)
    return weight, total, torch.linalg.vecdot(of_state, samples.visits)


def gradient_of_delta(weight: Tensor, total: Tensor, samples: Samples, clip_epsilon: float) -> Tensor:
    """Gradient of the negative PROPS objective, ``[G, K, U]``: u - pi_phi sum_k u, where u is d_D r if not clipped."""
    ratio = weight / total
    unclipped = samples.share * threshold(ratio, 1 - clip_epsilon, 0.0)
    return unclipped.addcmul_(ratio.mul_(samples.target), unclipped.sum(1, keepdim=True), value=-1)


def excess(delta: Tensor, weight: Tensor, total: Tensor, samples: Samples) -> Tensor:
    """Mean over D of E_pi_phi[Delta] - E_wanted[Delta], ``[G]`` (nats), see ``systematic``.

    Args:
        delta: ``[G, K, U]``.
        weight: what pi_phi is made of, see ``weights_and_kl``: of ``delta`` or of a multiple of it.
        total: likewise.
        samples: with ``wanted``.
    """
    assert samples.wanted is not None
    behavior = samples.target * weight / total
    return torch.linalg.vecdot(((behavior - samples.wanted) * delta).sum(1), samples.visits)
