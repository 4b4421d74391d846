"""Sampling error: how far the actions in D are from the proportions pi_theta gives them, per seed.

Two estimators. Where states can be told apart exactly (``tabular``), the total variation between d_D(. | s) and
pi_theta(. | s), averaged over the states of D weighted by their visits. Elsewhere (``likelihood``), KL(pi_D ||
pi_theta), pi_D fitted to D by maximum likelihood, averaged over the states of D. Both for joint actions and, as the
mean over agents, for each agent's own actions: zero error of every agent does not imply zero joint error. Total
variation also for every pair of agents: with so many joint actions that hardly any occurs twice, the joint figure is
near 1 whatever the sampler, and pairs are what can still be told apart.

Each figure stands beside that of an on-policy batch of the same size from the same theta. Decided here: that batch
holds fresh on-policy actions in the very states of D, so that the two differ by the sampler alone; for stateless games
it is simply an on-policy batch. Continuous actions: ``lit_maprops.metrics.energy``.

An agent that left before the others has no choice left, so it adds nothing to joint figures; those of agents and pairs
are means over the steps that are theirs.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from tensordict import TensorDictBase
from torch import Tensor

from lit_maprops import keys
from lit_maprops.distributions import joint
from lit_maprops.distributions.families import Family
from lit_maprops.envs import Task
from lit_maprops.envs.ends import agents_with_steps, living, weights
from lit_maprops.metrics.energy import energy_error
from lit_maprops.metrics.likelihood import fitted_kl
from lit_maprops.stacked.streams import SeedStreams
from lit_maprops.system.errors import check
from lit_maprops.system.extras import install

ESTIMATORS = ["tabular", "likelihood", "energy"]
REQUIRED_KEYS = (keys.OBSERVATION, keys.STATE, keys.ACTION, keys.PARAMETERS)


def required_keys(task: Task) -> list[Any]:
    """What ``estimate`` reads of D."""
    index = [keys.STATE_INDEX] if task.numbers_states() else []
    return [*REQUIRED_KEYS, *index, *([keys.END] if task.agents_leave else [])]


def check_estimator(kind: str | None, task: Task, remembers: bool = False) -> None:
    """Refuse an estimator that cannot serve a task.

    Args:
        kind: of the estimator; None: there is none.
        task: of the run.
        remembers: policies do, so that they differ between visits of a state.

    Raises:
        ConfigError: names one that can.
    """
    name = type(task).__name__
    check(
        kind in (None, "energy") or not task.continuous_actions,
        f"<model.sampling_error> is {kind} and {name} has continuous actions: use energy or null",
    )
    check(
        kind != "energy" or task.continuous_actions,
        f"<model.sampling_error> is energy and {name} has discrete actions: use tabular, likelihood or null",
    )
    check(
        kind != "energy" or find_spec("scipy") is not None,
        f"<model.sampling_error> energy needs the package scipy: {install('continuous')}, or use null",
    )
    check(
        kind != "tabular" or task.numbers_states(),
        f"<model.sampling_error> is tabular and {name} cannot number its states here: use likelihood or null",
    )
    check(
        kind != "tabular" or not remembers,
        "<model.sampling_error> is tabular, which takes a policy to be the same whenever it comes to a state, and with "
        "<learner.memory> it is not: use likelihood or null",
    )
    n_joint, count = joint.count(task.n_agents, task.n_actions)
    check(
        kind != "tabular" or n_joint < 2**63,
        f"<model.sampling_error> is tabular and {count} joint actions cannot be numbered: use likelihood or null",
    )


def estimate(
    kind: str,
    data: TensorDictBase,
    family: Family,
    streams: SeedStreams,
    hidden: Sequence[int],
    native: bool = False,
) -> dict[str, Tensor]:
    """The figures of one of ``ESTIMATORS`` for D ``[R, B]``: each ``[R]``; arguments as the estimators'."""
    if kind == "tabular":
        return tabular_error(data, streams)
    if kind == "energy":
        return energy_error(data, family, streams)
    return likelihood_error(data, streams, hidden, native=native)


def tabular_error(data: TensorDictBase, streams: SeedStreams) -> dict[str, Tensor]:
    """``joint_tv``, ``agent_tv``, ``pairwise_tv`` of D ``[R, B]``, and of on-policy actions: each ``[R]``.

    The latter end in ``_on_policy``. ``pairwise_tv`` is the mean over all pairs of agents of the total variation of
    their two actions; with fewer than three agents there is no more than ``joint_tv`` and it is left out.

    Args:
        data: D with ``STATE_INDEX``, ``ACTION`` and ``PARAMETERS``.
        streams: random numbers for the on-policy actions.
    """
    logits, present = data.get(keys.PARAMETERS), living(data)
    states = _states_of(data.get(keys.STATE_INDEX).squeeze(-1))
    result = {}
    for suffix, action in _own_and_on_policy(data, streams).items():
        log_prob = logits.gather(-1, action.unsqueeze(-1)).squeeze(-1)  # [R, B, A]
        taken = joint.joint_index(action, logits.shape[-1])
        result[f"joint_tv{suffix}"] = _variation(states, taken, log_prob.sum(-1))
        per_agent = [_variation(states, action[..., i], log_prob[..., i]) for i in range(action.shape[-1])]
        result[f"agent_tv{suffix}"] = _mean_over_agents(torch.stack(per_agent, -1), data)
        if action.shape[-1] > 2:
            result[f"pairwise_tv{suffix}"] = _pairwise_variation(states, action, log_prob, logits.shape[-1], present)
    return result


def _mean_over_agents(figure: Tensor, data: TensorDictBase) -> Tensor:
    """Means over D ``[R, B]`` of figures ``[R, A]`` that are 0 where an agent is not there, as one of its own steps."""
    weight = weights(data)
    if weight is None:
        return figure.mean(-1)
    return (figure * weight.amax(1)).sum(-1) / agents_with_steps(weight, figure.shape[-1])


def _pairwise_variation(
    states: "_Numbered", action: Tensor, log_prob: Tensor, n_actions: int, present: Tensor | None = None
) -> Tensor:
    """Mean over pairs of agents of ``total_variation`` of their actions: ``[R]``.

    Args:
        states: of D.
        action: ``[R, B, A]`` int64.
        log_prob: log pi_theta_i of them, ``[R, B, A]`` (nats).
        n_actions: of each agent.
        present: which agents have not left, ``[R, B, A]`` bool, the same in equal states; None: all. A pair is compared
            where both are there; one that never meets is none.
    """
    n_agents, total = action.shape[-1], torch.zeros(len(action), device=action.device)
    pairs: Tensor | int = 0
    for first in range(n_agents - 1):  # with each of the agents after it, which stand in for more seeds
        others = slice(first + 1, None)
        pair = action[..., first, None] * n_actions + action[..., others]
        joint_log_prob = log_prob[..., first, None] + log_prob[..., others]
        scale: Tensor | float = 1.0
        met: Tensor | int = n_agents - 1 - first
        if present is not None:  # elsewhere they have no choice, which adds 0
            both = present[..., first, None] & present[..., others]
            pair, joint_log_prob = torch.where(both, pair, 0), torch.where(both, joint_log_prob, 0.0)
            scale, met = both.shape[1] / both.sum(1).clamp(min=1), both.any(1).sum(-1)
        rows = [tensor.transpose(1, 2).flatten(0, 1) for tensor in (pair, joint_log_prob)]
        of_pairs = _variation(states.repeated(pair.shape[-1]), *rows)
        total += (of_pairs.unflatten(0, (len(action), -1)) * scale).sum(1)
        pairs = pairs + met
    return total / (pairs if isinstance(pairs, int) else pairs.clamp(min=1))


def total_variation(state: Tensor, action: Tensor, log_prob: Tensor) -> Tensor:
    """0.5 sum_a abs(d_D(a | s) - pi(a | s)), averaged over states weighted by visits.

    Only actions that occur are enumerated: those that do not contribute their whole probability, 1 - sum over the
    others. So the number of joint actions does not matter.

    Args:
        state: numbers of the states, ``[R, B]`` int64.
        action: numbers of the actions, ``[R, B]`` int64.
        log_prob: log pi(action | state), ``[R, B]`` (nats); equal for equal (state, action) of a seed.

    Returns:
        ``[R]``, in [0, 1].
    """
    return _variation(_states_of(state), action, log_prob)


class _Numbered(NamedTuple):
    """What stands in rows, by numbers without gaps."""

    size: int  # how many different ones there are
    number: Tensor  # of each row, ``[R, B]`` int64

    def repeated(self, times: int) -> "_Numbered":
        """Of every seed ``times`` copies in a row, which share nothing: ``[R * times, B]``."""
        copy = self.size * torch.arange(times, device=self.number.device).unsqueeze(-1)
        return _Numbered(self.size * times, (self.number.unsqueeze(1) + copy).flatten(0, 1))


def _states_of(state: Tensor) -> _Numbered:
    """The states of every seed, ``[R, B]``; seeds share none."""
    seed = torch.arange(len(state), device=state.device).unsqueeze(1).expand_as(state)
    return _numbered(_Numbered(len(state), seed), state)


def _variation(states: _Numbered, action: Tensor, log_prob: Tensor) -> Tensor:
    """``total_variation``, of states that are numbered already: that takes as long as all the rest."""
    in_state = states.number
    pairs, in_pair = _numbered(states, action)
    visits = torch.bincount(in_state.flatten(), minlength=states.size).double()
    count = torch.bincount(in_pair.flatten(), minlength=pairs).double()
    # Rows of a pair agree, so any of them may write.
    state_of_pair = _any_of(pairs, in_pair, in_state)
    prob = _any_of(pairs, in_pair, log_prob.exp().double())
    zeros = torch.zeros(states.size, dtype=torch.float64, device=action.device)
    deviation = zeros.index_add(0, state_of_pair, (count / visits[state_of_pair] - prob).abs())
    unseen = 1 - zeros.index_add(0, state_of_pair, prob)
    variation = 0.5 * (deviation + unseen.clamp(min=0))  # [states]
    return variation[in_state].mean(1).float()


def _numbered(group: _Numbered, value: Tensor) -> _Numbered:
    """The distinct pairs of a row's group and value, ``[R, B]`` each."""
    low, high = (int(end) for end in value.aminmax())
    span, compact = high - low + 1, value - low
    if group.size * span >= 2**63:  # products would overflow
        present, compact = torch.unique(value, return_inverse=True)
        span = len(present)
    distinct, number = torch.unique(group.number * span + compact, return_inverse=True)
    return _Numbered(len(distinct), number)


def _any_of(count: int, number: Tensor, value: Tensor) -> Tensor:
    out = torch.zeros(count, dtype=value.dtype, device=value.device)
    return out.scatter(0, number.flatten(), value.flatten())


def likelihood_error(
    data: TensorDictBase,
    streams: SeedStreams,
    hidden: Sequence[int],
    max_joint_actions: int = 100_000,
    steps: int = 100,
    native: bool = False,
) -> dict[str, Tensor]:
    """``joint_kl`` and ``agent_kl`` of D ``[R, B]``, and of on-policy actions (``_on_policy``): each ``[R]`` (nats).

    pi_D is the target's logits plus a network that starts at zero, as MA-PROPS' and PROPS' adjustments, fitted to four
    fifths of D; of all steps the fit counts that makes the remaining fifth most likely. That is conservative: what does
    not carry over to held-out samples counts as 0, so compare samplers by it rather than read it absolutely.

    Where there are more than ``max_joint_actions``, the joint pi_D is autoregressive, agent after agent, and its KL the
    sum over agents of that of their actions given the earlier agents', averaged over D (chain rule).

    Args:
        data: D with ``REQUIRED_KEYS``.
        streams: random numbers for the on-policy actions, the split and the initial weights.
        hidden: units of each hidden layer of the fitted networks.
        max_joint_actions: most joint actions that are enumerated.
        steps: most full-batch gradient steps of a fit.
        native: fit by the compiled kernel, on the CPU.
    """
    own = streams, steps, native
    logits, n_agents = data.get(keys.PARAMETERS), data.get(keys.ACTION).shape[-1]
    n_actions = logits.shape[-1]
    observation = data.get(keys.OBSERVATION).transpose(1, 2)  # [R, A, B, O]
    result = {}
    for suffix, action in _own_and_on_policy(data, streams).items():
        held_out = streams.permutation(action.shape[1]) < action.shape[1] // 5  # [R, B]
        of_agents = logits.transpose(1, 2), action.mT, held_out.unsqueeze(1).expand(-1, n_agents, -1)
        agent = fitted_kl(observation, *of_agents, hidden, *own)
        result[f"agent_kl{suffix}"] = _mean_over_agents(agent, data)
        if n_actions**n_agents <= max_joint_actions:
            result[f"joint_kl{suffix}"] = fitted_kl(
                data.get(keys.STATE),
                joint.joint_log_probs(logits),
                joint.joint_index(action, n_actions),
                held_out,
                hidden,
                *own,
            )
        else:
            earlier = joint.earlier_actions(action, n_actions).transpose(1, 2)  # [R, A, B, .]
            state = data.get(keys.STATE).unsqueeze(1).expand(-1, n_agents, -1, -1)
            given = torch.cat([state.float(), earlier], -1)
            result[f"joint_kl{suffix}"] = fitted_kl(given, *of_agents, hidden, *own).sum(-1)
    return result


def _own_and_on_policy(data: TensorDictBase, streams: SeedStreams) -> dict[str, Tensor]:
    logits = data.get(keys.PARAMETERS)
    fresh = joint.sample(logits, streams.uniform(*logits.shape[1:3]))
    return {"": data.get(keys.ACTION), "_on_policy": fresh}
