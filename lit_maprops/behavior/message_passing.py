"""Exact sums over joint actions of a forest-shaped model: sum-product message passing (Pearl 1982).

The model of ``A`` agents with ``N`` actions each: p(a) is proportional to prod_i psi_i(a_i) prod_edges exp f(a_p, a_c),
p the parent and c the child of an edge. Messages go up from the children, all edges of one depth at a time; marginals
and samples come back down. ``U`` counts rows (states), which share the forest and nothing else.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from lit_maprops.distributions import joint
from lit_maprops.stacked.device_cache import DeviceCache

Edge = tuple[int, int]  # (parent, child)


class Forest:
    """A graph without cycles, every component rooted at its center, so that messages take few steps.

    Args:
        n_agents: its nodes.
        pairs: its edges, which close no cycle.

    Attributes:
        roots: one agent of every component.
        edges: (parent, child), level by level from the roots down.
        ends: parents and children of the edges.
        levels: how many edges each level has.
    """

    def __init__(self, n_agents: int, pairs: list[Edge]) -> None:
        neighbors: list[list[int]] = [[] for _ in range(n_agents)]
        for i, j in pairs:
            neighbors[i].append(j)
            neighbors[j].append(i)
        roots: list[int] = []
        levels: list[list[Edge]] = []
        placed: set[int] = set()
        for agent in range(n_agents):
            if agent in placed:
                continue
            component = [agent, *(child for level in _levels_below(agent, neighbors) for _, child in level)]
            root = min(component, key=lambda node: (len(_levels_below(node, neighbors)), node))
            roots.append(root)
            placed.update(component)
            for depth, level in enumerate(_levels_below(root, neighbors)):
                levels += [[]] if depth == len(levels) else []
                levels[depth] += level
        self.edges = [edge for level in levels for edge in level]
        self.levels = [len(level) for level in levels]
        self.roots = DeviceCache(torch.tensor(roots))
        self.ends = DeviceCache(torch.tensor(self.edges, dtype=torch.int64).reshape(-1, 2).T.contiguous())  # [2, edges]


def _levels_below(root: int, neighbors: list[list[int]]) -> list[list[Edge]]:
    levels: list[list[Edge]] = []
    level = [(root, child) for child in neighbors[root]]
    while level:
        levels.append(level)
        level = [(child, far) for parent, child in level for far in neighbors[child] if far != parent]
    return levels


class _Level(NamedTuple):
    """What the way up leaves for the way down, of the edges of one depth."""

    parents: Tensor  # [k] int64
    children: Tensor  # [k] int64
    weight: Tensor  # [R, k, N (parent), N (child), U], proportional to p(a_p, a_c) given a_p, up to ``total``
    total: Tensor  # [R, k, N (parent), U], its sum over the child's actions


class Messages:
    """The upward pass.

    Args:
        forest: of the agents.
        log_psi: ``[R, A, N, U]`` (nats); -inf for actions that cannot be.
        pair: f of every edge in the forest's order, ``[R, edges, N (parent), N (child), U]`` (nats).

    Attributes:
        log_z: log of the sum over all joint actions, ``[R, U]`` (nats).
    """

    def __init__(self, forest: Forest, log_psi: Tensor, pair: Tensor) -> None:
        self.forest, self._levels = forest, list[_Level]()
        belief, weight, last = log_psi.clone(), pair.exp(), len(forest.edges)
        roots, ends = forest.roots.on(belief.device), forest.ends.on(belief.device)
        for count in reversed(forest.levels):
            edges = slice(last - count, last)
            parents, children = ends[:, edges]
            below = belief[:, children]
            scale = below.logsumexp(2, keepdim=True)
            of_edge = weight[:, edges] * (below - scale).exp().unsqueeze(2)
            total = of_edge.sum(3)
            belief.index_add_(1, parents, total.log() + scale)
            self._levels.insert(0, _Level(parents, children, of_edge, total))
            last -= count
        at_roots = belief[:, roots]
        log_z = at_roots.logsumexp(2, keepdim=True)
        self.log_z = log_z.sum((1, 2))
        self._at_roots = (at_roots - log_z).exp()  # [R, roots, N, U]
        self._shape = belief.shape

    def marginals(self) -> tuple[Tensor, Tensor]:
        """p(a_i) of every agent ``[R, A, N, U]`` and p(a_p, a_c) of every edge ``[R, edges, N, N, U]``."""
        single = self._at_roots.new_empty(self._shape)
        single[:, self.forest.roots.on(single.device)] = self._at_roots
        pairs = [single.new_empty(len(single), 0, *single.shape[2:3], *single.shape[2:])]
        for parents, children, weight, total in self._levels:
            pairs.append(weight * (single[:, parents] / total).unsqueeze(3))
            single[:, children] = pairs[-1].sum(2)
        return single, torch.cat(pairs, 1)

    def sample(self, uniform: Tensor) -> Tensor:
        """Draw joint actions, parents before children: ``[R, U, A]``, uniform on [0, 1), -> ``[R, U, A]`` int64."""
        action = torch.zeros_like(uniform, dtype=torch.int64)
        roots = self.forest.roots.on(uniform.device)
        action[..., roots] = joint.sample(self._at_roots.permute(0, 3, 1, 2).log(), uniform[..., roots])
        for parents, children, weight, _ in self._levels:
            weight = weight.permute(0, 4, 1, 2, 3)  # [R, U, k, N (parent), N (child)]
            of_parent = action[..., parents].unsqueeze(-1).unsqueeze(-1).expand(*weight.shape[:3], 1, weight.shape[-1])
            chances = weight.gather(3, of_parent).squeeze(3)
            action[..., children] = joint.sample(chances.log(), uniform[..., children])
        return action
