"""Bias and variance of the policy gradient that a batch gives, per seed.

The estimator is PPO's first step (and REINFORCE's only one), where every ratio is 1: the mean over D of sum_i A_i grad
log pi_theta_i(a_i | o_i), with the learner's own advantages, taken before normalization and without entropy bonus and
gradient clipping, so that it is linear in what D holds. It is compared with the expected gradient of on-policy
batches: exact in one-step games, by enumeration of the joint actions, elsewhere the mean of many on-policy batches of
equal size.

The squared bias is the U-statistic over pairs of batches, whose expectation is exactly the squared norm of (E g - g*),
so it can come out below 0 where there is none. Standard errors: jackknife over batches, given the seed's policies.
"""

from typing import NamedTuple

import torch
from tensordict import TensorDictBase
from torch import Tensor

from lit_maprops import keys
from lit_maprops.distributions import joint
from lit_maprops.envs import MatrixGame, Task
from lit_maprops.targets import TargetPolicies

MOST_ENUMERATED = 100_000  # joint actions


class Reference(NamedTuple):
    """What an estimator should give in expectation."""

    gradient: Tensor  # [R, P]
    variance: Tensor  # [R], expected squared distance of ``gradient`` from the truth; 0 if exact
    episode_return: Tensor  # [R], of the target policies, mean over agents (reward)
    return_variance: Tensor  # [R]
    batches: int  # on-policy batches it is the mean of; 0: exact


class Estimate(NamedTuple):
    """A figure of every seed and its standard error, both ``[R]``."""

    value: Tensor
    error: Tensor


def policy_gradient(policies: TargetPolicies, data: TensorDictBase, advantage: Tensor) -> Tensor:
    """Gradient of mean over steps of sum_i A_i log pi_theta_i, for every entry by itself: ``[R, P]`` (reward).

    P counts the parameters of all of a seed's policies.

    Args:
        policies: for R entries.
        data: ``[R, B]``, as ``policies.rows`` gives it, with ``OBSERVATION``, ``ACTION`` and, where the task has it,
            ``ACTION_MASK``.
        advantage: ``[R, B, A]``, in that order.
    """
    with torch.enable_grad():
        parameters = policies.parameters_in(data)
        log_prob = policies.family.log_prob(parameters, data.get(keys.ACTION))
        objective = (advantage * log_prob).sum(-1).mean(1).sum()
    return _gradient(objective, policies)


def _gradient(objective: Tensor, policies: TargetPolicies) -> Tensor:
    gradients = torch.autograd.grad(objective, list(policies.net.parameters()))
    return torch.cat([gradient.flatten(1) for gradient in gradients], 1)


def _is_one_known_step(task: Task) -> bool:
    """Whether the joint action decides all of an episode: what a subclass of ``MatrixGame`` adds may undo that.

    ``StagedGame`` adds stages; others may draw the start or the payoff. Where legal actions depend on the state, there
    are several states.
    """
    drawn = task.start_noise or task.step_noise
    several = task.max_steps > 1 or task.masks_actions or task.agents_leave
    return isinstance(task, MatrixGame) and not (drawn or several)


def exact_reference(policies: TargetPolicies, task: Task) -> Reference | None:
    """By enumeration of the joint actions of a one-step game; None for other tasks and for too many joint actions.

    Every agent's part is the gradient of its own expected reward.
    """
    if not _is_one_known_step(task) or task.n_actions**task.n_agents > MOST_ENUMERATED:
        return None
    n_joint = task.n_actions**task.n_agents
    device = policies.net.flat.device
    action = joint.split_joint(torch.arange(n_joint, device=device), task.n_agents, task.n_actions)
    start = task.initial_state(torch.zeros(n_joint, task.start_noise, device=device))
    reward = task.transition(start, action, torch.zeros(n_joint, task.step_noise, device=device)).reward  # [K, A]
    n_seeds = policies.net.stack[0]
    observation = task.observe(start)[0][:1].expand(n_seeds, 1, -1, -1)
    with torch.enable_grad():
        parameters = policies.distribution_parameters(observation).expand(-1, n_joint, -1, -1)  # [R, K, A, N]
        log_prob = policies.family.log_prob(parameters, action.expand(n_seeds, -1, -1))  # [R, K, A]
        chance = log_prob.detach().sum(-1, keepdim=True).exp()
        expected = (chance * reward).sum(1, keepdim=True)  # [R, 1, A], a baseline: it changes rounding only
        objective = (chance * (reward - expected) * log_prob).sum()
    gradient = _gradient(objective, policies)
    none = torch.zeros(n_seeds, device=device)
    return Reference(gradient, none, expected.mean((1, 2)), none, 0)


def spread(gradients: Tensor, reference: Reference) -> dict[str, Estimate]:
    """``bias_squared``, ``variance``, ``mse`` (reward^2 per parameter^2, summed over parameters) and ``cosine``.

    Args:
        gradients: of K independent batches, ``[R, K, P]``, K at least 2.
        reference: what they should give; its own error is taken off bias and mean squared error.
    """
    batches = gradients.shape[1]
    off = (gradients - reference.gradient.unsqueeze(1)).double()
    gram = off @ off.mT  # [R, K, K]
    own = gram.diagonal(dim1=1, dim2=2)  # squared distances
    truth = reference.variance.double()
    bias, variance = _from_gram(gram.sum((1, 2)), own.sum(1), batches)
    # Without batch j, for the jackknife: [R, K].
    total = gram.sum((1, 2)).unsqueeze(1) - 2 * gram.sum(2) + own
    left_bias, left_variance = _from_gram(total, own.sum(1, keepdim=True) - own, batches - 1)
    toward = (gradients.double() * reference.gradient.double().unsqueeze(1)).sum(-1)
    length = gradients.double().norm(dim=-1) * reference.gradient.double().norm(dim=-1, keepdim=True)
    cosine = toward / length  # 0 / 0 is NaN: where there is no gradient there is no direction
    return {
        "bias_squared": Estimate(bias - truth, _jackknife(left_bias)),
        "variance": Estimate(variance, _jackknife(left_variance)),
        "mse": mean_of(own, truth),
        "cosine": mean_of(cosine),
    }


def mean_of(values: Tensor, less: Tensor | float = 0.0) -> Estimate:
    """Mean over batches ``[R, K]`` and its standard error; batches with NaN are left out, ``less`` is subtracted."""
    count = (~values.isnan()).sum(1)
    mean = values.nanmean(1)
    variance = (values - mean.unsqueeze(1)).square().nansum(1) / (count - 1).clamp(min=1)
    error = torch.where(count > 1, (variance / count.clamp(min=1)).sqrt(), torch.nan)
    return Estimate(mean - less, error)


def pooled(estimate: Estimate) -> tuple[float, float]:
    """Mean over seeds and its standard error given their policies; seeds with NaN are left out."""
    sound = ~(estimate.value.isnan() | estimate.error.isnan())
    value, error = estimate.value[sound], estimate.error[sound]
    if not len(value):
        return float("nan"), float("nan")
    return float(value.mean()), float(error.square().sum().sqrt() / len(value))


def _from_gram(total: Tensor, own: Tensor, batches: int) -> tuple[Tensor, Tensor]:
    """Mean of the products of different batches, and the trace of their covariance; with one batch NaN."""
    if batches < 2:
        return total * torch.nan, total * torch.nan
    return (total - own) / (batches * (batches - 1)), (own - total / batches) / (batches - 1)


def _jackknife(left_out: Tensor) -> Tensor:
    """Standard error ``[R]`` from the figures without each batch, ``[R, K]``."""
    batches = left_out.shape[1]
    return ((left_out - left_out.mean(1, keepdim=True)).square().sum(1) * (batches - 1) / batches).sqrt()
