"""An adjustment for many agents that choose in order: each sees the actions of those before it."""

import torch
from tensordict import TensorDictBase
from torch import Tensor
from typing_extensions import override

from lit_maprops import keys
from lit_maprops.behavior.base import Choice
from lit_maprops.behavior.structured import StructuredPolicy, targets_and_taken
from lit_maprops.behavior.update.rows import Ratios, Rows
from lit_maprops.behavior.update.samples import fingerprint
from lit_maprops.behavior.update.systematic import TINY, counts_in_state, next_draw
from lit_maprops.distributions import joint
from lit_maprops.envs import Task
from lit_maprops.stacked.nets import DeltaNet


class Autoregressive(StructuredPolicy):
    """pi_phi(a | s) = prod_i softmax(log pi_theta_i + Delta_i(s, a_1 .. a_(i-1))): exact, no table of joint actions.

    One network per agent; its inputs are the state and the earlier agents' actions, one-hot. So a log-probability takes
    n_agents small networks with n_actions outputs; only the first layer's width grows with the agents, by n_actions
    each. ``hidden: []`` makes Delta_i linear in those inputs: for one state, a table of every pair of agents, for two
    agents all of MA-PROPS.

    KL(pi_theta || pi_phi) is sum_i E[KL(pi_theta_i || pi_phi_i(. | a_1 .. a_(i-1)))] over prefixes from pi_theta (chain
    rule). Each term is exact, prefixes are not enumerated. Decided here: while choosing they are drawn from pi_theta,
    which is unbiased; the stop of an update takes D's own, which cost nothing extra and whose proportions are
    pi_theta's up to the sampling error. Delta is trained on just those, so the stop overstates the KL rather than
    understates it.

    Arguments as ``StructuredPolicy``.
    """

    @override
    def make_adjustment(self, task: Task, generators: list[torch.Generator]) -> DeltaNet:
        """One network per seed and agent."""
        inputs = task.state_dim + (task.n_agents - 1) * task.n_actions
        stack = len(generators), task.n_agents
        return self.architecture.adjustment(inputs, task.n_actions, stack, generators)

    @override
    def experience(self, data: TensorDictBase) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs ``[R, A, b, S + (A - 1) N]``, the others as ``targets_and_taken``."""
        return self._inputs(data.get(keys.STATE), data.get(keys.ACTION)), *targets_and_taken(data)

    def _inputs(self, state: Tensor, action: Tensor) -> Tensor:
        """States ``[R, b, S]`` and actions ``[R, b, A]`` -> ``[R, A, b, S + (A - 1) N]`` float32."""
        earlier = joint.earlier_actions(action, self.task.n_actions).transpose(1, 2)
        return torch.cat([state.float().unsqueeze(1).expand(*earlier.shape[:3], -1), earlier], -1)

    @override
    def ratios(self, delta: Tensor, rows: Rows) -> Ratios:
        """The KL is that of the rows' own prefixes."""
        log_target, taken = rows.facts
        target = log_target.exp()  # [R, A, N, U]
        delta = delta.unflatten(0, target.shape[:2])
        log_ratio = delta - (target * delta.exp()).sum(2, keepdim=True).log()
        taken = taken.unsqueeze(2)

        def vjp(grad: Tensor) -> Tensor:
            grad = grad.unsqueeze(1).unsqueeze(2)  # of an agent's log r: one-hot - pi_phi_i
            of_delta = (target * log_ratio.exp()).mul_(-grad)
            return of_delta.scatter_add_(2, taken, grad.expand_as(taken)).flatten(0, 1)

        return Ratios(log_ratio.gather(2, taken).sum((1, 2)), -(target * log_ratio).sum((1, 2)), vjp)

    @override
    def wanted(self, rows: Rows) -> Tensor:
        """Of an agent's action: what D is short of in the state, and what it is short of given the earlier actions.

        Of the two ratios to pi_theta the one further from 1 where both are above or both below it, else their product.
        Decided here: prefixes soon differ in every step, and counts of them alone would leave most of an agent's own
        proportions uncorrected; where they hardly differ, the product would correct twice.
        """
        log_target, taken = rows.facts
        target, taken = log_target.exp().flatten(0, 1), taken.flatten(0, 1).unsqueeze(1)  # [R A, N, U], [R A, 1, U]
        held = torch.zeros_like(target).scatter_(1, taken, 1.0)
        inputs, size = rows.inputs, self.task.state_dim
        a, b = (
            torch.where(target > 0, next_draw(target, counts_in_state(fingerprint(seen), held)) / target, 1.0)
            for seen in (inputs[..., :size], inputs)
        )
        further = torch.where((a > 1) & (b > 1), torch.maximum(a, b), torch.minimum(a, b))
        wanted = target * torch.where((a - 1) * (b - 1) > 0, further, a * b)
        total = wanted.sum(1, keepdim=True)
        # Actions of which D has enough by one count or the other may be all there are.
        return torch.where(total > 0, wanted / total.clamp(min=TINY), target) - held

    @override
    @torch.no_grad()
    def choose(self, data: TensorDictBase, parameters: Tensor) -> Choice:
        """Agent by agent. The KL is unbiased: exact but for one prefix drawn from pi_theta."""
        state, n_agents = data.get(keys.STATE), self.task.n_agents
        flat, passes = self.net.flat.detach(), self.net.passes
        inputs = self._inputs(state, torch.zeros_like(parameters[..., 0], dtype=torch.int64))[:, 0]  # no earlier action
        chosen, log_prob = [], torch.zeros_like(parameters[..., 0, 0])
        uniform = self.draw(data)
        for agent in range(n_agents):
            _, delta = passes.forward(passes.layers(flat[:, agent]), inputs)
            behavior = (parameters[:, :, agent] + delta.mT).log_softmax(-1)  # [R, E, N]
            action = joint.sample(behavior, uniform[..., agent]).unsqueeze(-1)
            log_prob = log_prob + behavior.gather(-1, action).squeeze(-1)
            chosen.append(action)
            if agent + 1 < n_agents:
                inputs.scatter_(2, state.shape[-1] + agent * self.task.n_actions + action, 1.0)
        prefix = joint.sample(parameters, self.action_streams.uniform(inputs.shape[1], n_agents))
        adjusted = parameters + self.net(self._inputs(state, prefix)).transpose(1, 2)  # [R, E, A, N]
        kl = joint.kl_divergence(parameters, adjusted.log_softmax(-1)).sum(-1)
        return Choice(torch.cat(chosen, -1), log_prob, kl)
