"""Sampling error of continuous actions: how far those in D are from pi_theta, per seed.

Whitened actions z = (u - mean) / std are exactly standard normal under on-policy sampling, whatever the states, so D's
can be compared with N(0, I) all together. The measure is the energy distance (Szekely & Rizzo 2013) between the
empirical distribution of z and the normal one,

    2 E abs(z_i - Z) - E abs(z_i - z_j) - E abs(Z - Z'),   Z, Z' ~ N(0, I), i and j drawn from D with replacement,

0 if and only if they are equal. The terms with Z are closed forms: abs(z - Z) is noncentral chi. n on-policy steps have
the expectation E abs(Z - Z') / n, which the figures beside it (``_on_policy``) scatter around.
"""

import math

import torch
from tensordict import TensorDictBase
from torch import Tensor

from lit_maprops import keys
from lit_maprops.distributions import gaussian
from lit_maprops.distributions.families import Family
from lit_maprops.envs.ends import living
from lit_maprops.stacked.streams import SeedStreams

ROWS_AT_ONCE = 1024  # of D, whose distances to all others stand in memory


def energy_error(data: TensorDictBase, family: Family, streams: SeedStreams) -> dict[str, Tensor]:
    """``joint_energy``, ``agent_energy`` of D ``[R, B]``, and of on-policy actions (``_on_policy``): each ``[R]``.

    The first is that of all J components together, the second the mean of their own components' over agents that have a
    step; both in standard deviations. Takes B^2 operations where there is more than one component. Components of an
    agent that left before the others are those of the on-policy batch.

    Args:
        data: D with ``ACTION`` and ``PARAMETERS``.
        family: of the policies.
        streams: random numbers for the on-policy actions.
    """
    own = gaussian.whiten(data.get(keys.PARAMETERS), data.get(keys.ACTION), family.mask)  # [R, B, J]
    fresh = gaussian.standard_normal(streams.uniform(*own.shape[1:]))
    present = living(data)
    if present is not None:  # of an agent that has left there is nothing to compare
        own = torch.where(present.repeat_interleave(family.mask.sum(-1).to(own.device), -1), own, fresh)
    result = {}
    for suffix, z in {"": own, "_on_policy": fresh}.items():
        result[f"joint_energy{suffix}"] = energy_distance(z)
        of_agents = z.split(family.mask.sum(-1).tolist(), -1)
        each = torch.stack([energy_distance(part) for part in of_agents], -1)
        there = torch.ones_like(each) if present is None else present.any(1).to(each.dtype)
        result[f"agent_energy{suffix}"] = (each * there).sum(-1) / there.sum(-1).clamp(min=1)
    return result


def energy_distance(z: Tensor) -> Tensor:
    """Between the empirical distributions of ``[R, B, J]`` and N(0, I): ``[R]``, not below 0 but for rounding."""
    from scipy.special import gammaln  # of the extra `continuous`

    to_normal = distance_to_normal(z.norm(dim=-1), z.shape[-1]).mean(1)
    between_normals = 2 * math.exp(gammaln((z.shape[-1] + 1) / 2) - gammaln(z.shape[-1] / 2))
    return (2 * to_normal - mean_distance(z) - between_normals).float()


def distance_to_normal(norm: Tensor, dim: int) -> Tensor:
    """E abs(z - Z) for Z ~ N(0, I) in ``dim`` dimensions, given abs(z): the mean of a noncentral chi, any shape."""
    from scipy.special import gammaln, hyp1f1

    factor = math.sqrt(2) * math.exp(gammaln((dim + 1) / 2) - gammaln(dim / 2))
    squares = norm.double().square().cpu().numpy()
    return factor * torch.as_tensor(hyp1f1(-0.5, dim / 2, -0.5 * squares)).to(norm.device)


def mean_distance(z: Tensor) -> Tensor:
    """Mean of abs(z_i - z_j) over all pairs of ``[R, B, J]``, a point and itself included: ``[R]`` float64."""
    rows = z.shape[1]
    if z.shape[-1] == 1:  # by rank: what is at place k exceeds k others and falls short of rows - 1 - k
        ranks = torch.arange(rows, device=z.device).double()
        return (z.double().squeeze(-1).sort(1).values * (2 * ranks - rows + 1)).sum(1) * (2 / rows**2)
    total = torch.zeros(len(z), dtype=torch.float64, device=z.device)
    for part in z.split(ROWS_AT_ONCE, 1):
        # Not by the expansion of the square, which loses small distances.
        distance = torch.cdist(part, z, compute_mode="donot_use_mm_for_euclid_dist")
        total += distance.sum((1, 2), dtype=torch.float64)
    return total / rows**2
