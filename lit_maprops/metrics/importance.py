"""Off-policy bias of what D says about the return: ordinary and importance-weighted means over episodes (Precup 2000).

The weight of an episode is the product over its steps of pi_theta(a | s) / pi_phi(a | s), pi_phi as it was at that
step: although phi learns from earlier samples, each factor has mean 1 given the past, so weighted means are unbiased.
The effective sample size of N episodes is (sum w)^2 / sum w^2 (Kish 1965): N for equal weights, 1 if one is all.
"""

from typing import NamedTuple

import torch
from tensordict import TensorDictBase
from torch import Tensor

from lit_maprops import keys


class Episodes(NamedTuple):
    """Finished episodes, where they end: each ``[R, T, E]``."""

    ended: Tensor  # bool: an episode that is counted ends here
    returns: Tensor  # undiscounted, mean over agents (reward)
    log_weight: Tensor  # sum of log pi_theta - log pi_phi (nats); NaN if phi is no distribution that covers pi_theta


def episodes_of(data: TensorDictBase, from_start: bool) -> Episodes:
    """Episodes that end in ``[R, T, E]``, steps in time order; what the end of the data cuts off is left out.

    Args:
        data: with rewards, ends and log-probabilities of joint actions.
        from_start: the first step of every environment begins an episode; otherwise the first end is left out.
    """
    reward = data.get(("next", *keys.REWARD)).mean((-1, -2))  # [R, T, E]
    done = data.get(("next", keys.DONE)).squeeze(-1)
    log_ratio = data.get(keys.TARGET_LOG_PROB) - data.get(keys.BEHAVIOR_LOG_PROB)
    log_ratio = torch.where(data.get(keys.BEHAVIOR_KL).isnan(), torch.nan, log_ratio)
    ended, returns, log_weight = torch.zeros_like(done), torch.zeros_like(reward), torch.zeros_like(reward)
    so_far, ratio_so_far = torch.zeros_like(reward[:, 0]), torch.zeros_like(reward[:, 0])
    whole = torch.full_like(done[:, 0], from_start)
    for t in range(done.shape[1]):
        so_far, ratio_so_far = so_far + reward[:, t], ratio_so_far + log_ratio[:, t]
        ended[:, t] = done[:, t] & whole
        returns[:, t], log_weight[:, t] = so_far, ratio_so_far
        whole = whole | done[:, t]
        so_far = torch.where(done[:, t], 0.0, so_far)
        ratio_so_far = torch.where(done[:, t], 0.0, ratio_so_far)
    return Episodes(ended, returns, log_weight)


def return_estimates(*parts: Episodes) -> dict[str, Tensor]:
    """Of each entry's episodes, all parts together: each ``[R]``; NaN where no episode ended.

    ``monte_carlo``: the plain mean, what a learner without correction sees. ``importance``: sum w G / N.
    ``self_normalized``: sum w G / sum w. ``effective_sample_size``: (sum w)^2 / sum w^2. ``episodes``: N.
    """
    ended = torch.cat([part.ended.flatten(1) for part in parts], 1)
    returns = torch.cat([part.returns.flatten(1) for part in parts], 1).double()
    log_weight = torch.cat([part.log_weight.flatten(1) for part in parts], 1).double()
    weight = torch.where(ended, log_weight.exp(), 0.0)
    returns = torch.where(ended, returns, 0.0)
    count, total = ended.sum(1), weight.sum(1)
    weighted = (weight * returns).sum(1)
    return {
        "monte_carlo": returns.sum(1) / count,
        "importance": weighted / count,
        "self_normalized": weighted / total,
        "effective_sample_size": total.square() / weight.square().sum(1),
        "episodes": count.double(),
    }
