"""An adjustment for many agents that couples pairs of them along a graph without cycles."""

from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor
from typing_extensions import override

from lit_maprops import keys
from lit_maprops.behavior.base import Choice
from lit_maprops.behavior.message_passing import Edge, Forest, Messages
from lit_maprops.behavior.structured import StructuredPolicy, targets_and_taken
from lit_maprops.behavior.update.rows import Ratios, Rows
from lit_maprops.behavior.update.samples import fingerprint
from lit_maprops.behavior.update.systematic import counts_in_state, next_draw
from lit_maprops.envs import Task
from lit_maprops.stacked.nets import DeltaNet
from lit_maprops.system.errors import check

EDGES = "<behavior.edges>"


class CoordinationGraph(StructuredPolicy):
    """pi_phi(a | s) proportional to pi_theta(a | s) exp(sum_i Delta_i(s, a_i) + sum_edges Delta_ij(s, a_i, a_j)).

    Coordination graphs are due to Guestrin et al. 2002, with networks to Böhmer et al. 2020 (as Q-functions). On a
    graph without cycles the normalizer, the marginals, draws and KL(pi_theta || pi_phi) are exact by message passing,
    at n_actions**2 operations per edge. One network per seed puts out all terms.

    Args:
        edges: ``chain`` (agent i with i + 1), ``tree`` (binary: agent i with (i - 1) // 2), ``star`` (agent 0 with
            every other) or a list of pairs of agents, which must close no cycle and leave no agent out; several
            components are fine.
        **adjusted: arguments of ``StructuredPolicy``.
    """

    def __init__(self, *, edges: str | list[list[int]] = "chain", **adjusted: Any) -> None:
        super().__init__(**adjusted)
        if isinstance(edges, str):
            check(
                edges in ("chain", "tree", "star"),
                f"{EDGES} is {edges!r}: choose one of chain, tree, star, or give pairs such as [[0, 1], [1, 2]]",
            )
        self.edges = edges

    @override
    def identity(self) -> dict[str, Any]:
        return super().identity() | {"edges": self.edges}

    @override
    def make_adjustment(self, task: Task, generators: list[torch.Generator]) -> DeltaNet:
        """``[R, B, S]`` -> unary terms, then the edges' in the forest's order."""
        self.forest = Forest(task.n_agents, graph_edges(self.edges, task.n_agents))
        self.n_terms = task.n_agents * task.n_actions + len(self.forest.edges) * task.n_actions**2
        return self.architecture.adjustment(task.state_dim, self.n_terms, (len(generators),), generators)

    @override
    def experience(self, data: TensorDictBase) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs ``[R, b, S]``, the others as ``targets_and_taken``."""
        return data.get(keys.STATE), *targets_and_taken(data)

    def _terms(self, delta: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs ``[R, K, U]`` -> Delta_i ``[R, A, N, U]`` and Delta_ij ``[R, edges, N, N, U]``, parent first."""
        n_agents, n_actions = self.task.n_agents, self.task.n_actions
        unary, pair = delta.split([n_agents * n_actions, len(self.forest.edges) * n_actions**2], 1)
        return unary.unflatten(1, (n_agents, n_actions)), pair.unflatten(1, (-1, n_actions, n_actions))

    def _evaluated(self, delta: Tensor, log_target: Tensor) -> tuple[Messages, Tensor]:
        """The messages, and KL(pi_theta || pi_phi) ``[R, U]`` = log Z - E[sum of all terms] under pi_theta (nats)."""
        unary, pair = self._terms(delta)
        messages, target = Messages(self.forest, log_target + unary, pair), log_target.exp()
        parents, children = self.forest.ends.on(target.device)
        of_pair = target[:, parents].unsqueeze(3) * target[:, children].unsqueeze(2)
        return messages, messages.log_z - (target * unary).sum((1, 2)) - (of_pair * pair).sum((1, 2, 3))

    def _places_of(self, action: Tensor) -> Tensor:
        """Where the terms of joint actions ``[R, A, U]`` stand among the outputs: ``[R, A + edges, U]`` int64."""
        n_agents, n_actions = self.task.n_agents, self.task.n_actions
        parents, children = self.forest.ends.on(action.device)
        pair = action[:, parents] * n_actions + action[:, children]
        within = torch.cat([action, pair], 1)
        of_edges = n_agents * n_actions + n_actions**2 * torch.arange(len(parents), device=action.device)
        first = torch.cat([n_actions * torch.arange(n_agents, device=action.device), of_edges])
        return within + first.unsqueeze(1)

    @override
    def ratios(self, delta: Tensor, rows: Rows) -> Ratios:
        """Exact."""
        log_target, action = rows.facts
        messages, kl = self._evaluated(delta, log_target)
        taken = self._places_of(action)

        def vjp(grad: Tensor) -> Tensor:
            expected = torch.cat([marginal.flatten(1, -2) for marginal in messages.marginals()], 1)
            grad = grad.unsqueeze(1)
            return expected.mul_(-grad).scatter_add_(1, taken, grad.expand_as(taken))

        return Ratios(delta.gather(1, taken).sum(1) - messages.log_z, kl, vjp)

    @override
    def wanted(self, rows: Rows) -> Tensor:
        """Of every agent's actions and of every edge's pairs of them, in the state."""
        log_target, action = rows.facts
        target = log_target.exp()
        held = target.new_zeros(len(action), self.n_terms, action.shape[-1]).scatter_(1, self._places_of(action), 1.0)
        counts = self._terms(counts_in_state(fingerprint(rows.inputs), held))
        parents, children = self.forest.ends.on(target.device)
        of_pair = target[:, parents].unsqueeze(3) * target[:, children].unsqueeze(2)
        unary, pair = next_draw(target, counts[0]), next_draw(of_pair.flatten(2, 3), counts[1].flatten(2, 3))
        return torch.cat([unary.flatten(1, 2), pair.flatten(1, 2)], 1) - held

    @override
    @torch.no_grad()
    def choose(self, data: TensorDictBase, parameters: Tensor) -> Choice:
        """Exact backward sampling and KL."""
        delta = self.delta(data.get(keys.STATE))
        messages, kl = self._evaluated(delta, parameters.permute(0, 2, 3, 1))
        action = messages.sample(self.draw(data))
        log_ratio = delta.gather(1, self._places_of(action.mT)).sum(1) - messages.log_z
        log_target = parameters.gather(-1, action.unsqueeze(-1)).squeeze(-1).sum(-1)
        return Choice(action, log_target + log_ratio, kl)


def graph_edges(edges: str | list[list[int]], n_agents: int) -> list[Edge]:
    """The pairs of agents that ``edges`` names.

    Raises:
        ConfigError: they are no pairs, or name an agent that is not there, the same agent or pair twice, close a cycle
            or leave an agent out.
    """
    if isinstance(edges, str):
        parent = {"chain": lambda agent: agent - 1, "tree": lambda agent: (agent - 1) // 2, "star": lambda agent: 0}
        return [(parent[edges](agent), agent) for agent in range(1, n_agents)]
    pairs: list[Edge] = []
    component = list(range(n_agents))  # a number that connected agents share
    for edge in edges:
        check(len(edge) == 2, f"{EDGES} holds {edge}: give pairs of agents, such as [[0, 1], [1, 2]]")
        i, j = edge
        for agent in edge:
            check(
                agent in range(n_agents),
                f"{EDGES} holds {edge} and there is no agent {agent}: the {n_agents} agents are 0 to {n_agents - 1}",
            )
        check(i != j, f"{EDGES} holds {edge}, an agent with itself: give pairs of different agents")
        check((i, j) not in pairs and (j, i) not in pairs, f"{EDGES} holds {edge} twice: give every pair once")
        check(
            component[i] != component[j],
            f"{EDGES} has a cycle, closed by {edge}: leave that edge out, or use <model.behavior> Autoregressive, "
            "which couples all agents",
        )
        component = [component[i] if number == component[j] else number for number in component]
        pairs.append((i, j))
    left_out = sorted(set(range(n_agents)) - {agent for pair in pairs for agent in pair})
    check(
        n_agents == 1 or not left_out,
        f"{EDGES} leaves out agent {', '.join(map(str, left_out))}: give every agent an edge, or use chain",
    )
    return pairs
