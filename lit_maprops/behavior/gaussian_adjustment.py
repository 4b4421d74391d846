"""A centralized adjustment of the joint Gaussian: MA-PROPS for continuous actions."""

from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor
from typing_extensions import override

from lit_maprops import keys
from lit_maprops.behavior.base import Choice
from lit_maprops.behavior.structured import StructuredPolicy
from lit_maprops.behavior.update.rows import Ratios, Rows
from lit_maprops.behavior.whitened import Adjustment
from lit_maprops.distributions import gaussian
from lit_maprops.envs import Task
from lit_maprops.envs.ends import living
from lit_maprops.stacked.device_cache import DeviceCache
from lit_maprops.stacked.nets import DeltaNet


class GaussianAdjustment(StructuredPolicy):
    """pi_phi(u | s) is one Gaussian over the components of all agents, pi_theta's adjusted by Delta_phi(s).

    As in appendix D of arXiv 2508.01049, Delta_phi shifts means and log standard deviations; the shifts of the means
    are in standard deviations of pi_theta (decided here: one learning rate then suits all of them). Ratio and KL are
    exact (``lit_maprops.behavior.whitened``). A diagonal Gaussian stays a product over the agents: it sees every
    agent's actions in D, but it cannot coordinate the agents' noise, so no correlation that D has by accident is made
    up for. With ``correlated`` it can, at J (J - 1) / 2 more outputs for J components.

    Args:
        correlated: adjust the correlations between components, too.
        **adjusted: arguments of ``StructuredPolicy``.
    """

    discrete, continuous = False, True

    def __init__(self, *, correlated: bool = False, **adjusted: Any) -> None:
        super().__init__(**adjusted)
        self.correlated = correlated

    @override
    def columns(self, task: Task) -> tuple[int, ...]:
        """One for each component that exists."""
        return (int(task.action_mask().sum()),)

    @override
    def make_adjustment(self, task: Task, generators: list[torch.Generator]) -> DeltaNet:
        """``[R, B, S]`` -> the outputs of ``Adjustment``."""
        (self.n_components,) = (n,) = self.columns(task)
        sizes = task.action_mask().sum(-1)
        self._owner = DeviceCache(torch.arange(task.n_agents).repeat_interleave(sizes))  # of each component
        outputs = 2 * n + (n * (n - 1) // 2 if self.correlated else 0)
        return self.architecture.adjustment(task.state_dim, outputs, (len(generators),), generators)

    @override
    def experience(self, data: TensorDictBase) -> tuple[Tensor, ...]:
        """Inputs ``[R, b, S]``, whitened joint actions ``[R, J, b]`` and, where agents may leave, which are there."""
        facts = self._whitened(data.get(keys.PARAMETERS), data.get(keys.ACTION)), self._present(data)
        return data.get(keys.STATE), *(fact for fact in facts if fact is not None)

    def _present(self, data: TensorDictBase) -> Tensor | None:
        """1 for the components of agents that are there, else 0: ``[R, J, b]``; None if all always are."""
        present = living(data)
        if present is None:
            return None
        return present.index_select(-1, self._owner.on(present.device)).mT.float()

    def _whitened(self, parameters: Tensor, action: Tensor) -> Tensor:
        return gaussian.whiten(parameters, action, self.family.mask).mT

    @override
    def ratios(self, delta: Tensor, rows: Rows) -> Ratios:
        """Exact."""
        z, *present = rows.facts
        adjustment = Adjustment.of(delta, self.n_components)
        return adjustment.of_those(*present).ratios(z, *present) if present else adjustment.ratios(z)

    @override
    @torch.no_grad()
    def choose(self, data: TensorDictBase, parameters: Tensor) -> Choice:
        """Exact."""
        delta = self.delta(data.get(keys.STATE))
        adjustment, present = Adjustment.of(delta, self.n_components), self._present(data)
        adjustment = adjustment if present is None else adjustment.of_those(present)
        noise = gaussian.standard_normal(self.draw(data))  # [R, E, J]
        drawn = adjustment.draw(noise.mT).mT
        action = gaussian.unwhiten(parameters, drawn, self.family.mask)
        log_ratio = adjustment.log_ratio(self._whitened(parameters, action))
        return Choice(action, self.family.log_prob(parameters, action).sum(-1) + log_ratio, adjustment.kl())
