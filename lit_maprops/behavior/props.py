"""PROPS (arXiv 2311.08290) for every agent by itself: the decentralized baseline of the paper."""

from collections.abc import Sequence
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor
from typing_extensions import override

from lit_maprops import keys
from lit_maprops.behavior.base import Choice, UpdateStats, choose_independently
from lit_maprops.behavior.enumerated import EnumeratedPolicy
from lit_maprops.behavior.update.row_trainer import RowTrainer
from lit_maprops.behavior.update.rows import Ratios, Rows
from lit_maprops.behavior.update.trainer import DeltaTrainer
from lit_maprops.behavior.whitened import LARGEST, Adjustment
from lit_maprops.distributions import gaussian
from lit_maprops.envs import Task
from lit_maprops.envs.ends import living
from lit_maprops.envs.pictures import check_layers, check_pictures, picture_of
from lit_maprops.stacked.agents import per_agent
from lit_maprops.stacked.nets import DeltaNet
from lit_maprops.system.argument_types import Count
from lit_maprops.system.errors import check

CNN = "behavior.cnn"


class PROPS(EnumeratedPolicy):
    """Each agent's policy adjusted by Delta_phi_i(o_i), each with its own ratio, clip and stop.

    Discrete actions: pi_phi_i(a_i | o_i) = softmax(log pi_theta_i + Delta_phi_i). Continuous ones: Delta_phi_i shifts
    the means, in standard deviations of pi_theta_i, and the log standard deviations. The ratio of each step of D is
    then all there is (``lit_maprops.behavior.update.rows``), and the options that save arithmetic are refused. Where
    agents come and go, each learns from its own steps.

    Args:
        cnn: convolutions before the hidden layers of Delta_phi, ``[channels, kernel, stride]`` each, of the picture in
            an observation (``Task.observation_shape``), as the policies have them; empty: they see its numbers.
        **enumerated: arguments of ``EnumeratedPolicy`` and ``AdjustedPolicy``.
    """

    continuous = True

    def __init__(self, *, cnn: Sequence[Sequence[Count]] = (), **enumerated: Any) -> None:
        super().__init__(**enumerated)
        check_layers(CNN, cnn)
        self.architecture = self.architecture._replace(cnn=[list(layer) for layer in cnn])

    @override
    def identity(self) -> dict[str, Any]:
        return super().identity() | {"cnn": self.architecture.cnn}

    @override
    def make_adjustment(self, task: Task, generators: list[torch.Generator]) -> DeltaNet:
        """One network per seed and agent."""
        check_pictures(CNN, self.architecture.cnn, task)
        stack = (len(generators), task.n_agents)
        sizes = task.observation_dim, task.family.outputs
        return self.architecture.adjustment(*sizes, stack, generators, picture_of(task))

    @override
    def make_trainer(self, task: Task) -> DeltaTrainer:
        if not task.continuous_actions:
            return super().make_trainer(task)
        used = self.cost_options.used()
        check(
            not used,
            f"{', '.join(f'<behavior.{name}>' for name in used)} would save arithmetic on tables of actions and "
            f"{type(task).__name__} has continuous actions: leave the default",
        )
        shape = (self.n_seeds, task.n_agents)
        parts = self.net, self.optimizer, self.minibatch_streams, self.settings
        return RowTrainer(*parts, self.ratios, shape, weight=_of_own_steps if task.agents_leave else None)

    def adjusted(self, parameters: Tensor, observation: Tensor, present: Tensor | None = None) -> Tensor:
        """Parameters of pi_phi_i from those of pi_theta_i.

        Args:
            parameters: of pi_theta_i, ``[R, *B, A, K]``.
            observation: ``[R, *B, A, O]``.
            present: which agents are there, ``[R, *B, A]`` bool; None: all.

        Returns:
            ``[R, *B, A, K]``.
        """
        delta = per_agent(self.net, observation)
        if present is not None and self.task.continuous_actions:  # of discrete ones an absent agent has but one
            delta = delta * present.unsqueeze(-1)
        if not self.task.continuous_actions:
            return (parameters + delta).log_softmax(-1)
        exists = self.family.mask_on(delta.device)
        shift, wider = gaussian.split(delta.clamp(-LARGEST, LARGEST) * torch.cat([exists, exists], -1))
        mean, log_std = gaussian.split(parameters)
        return torch.cat([mean + log_std.exp() * shift, log_std + wider], -1)

    @override
    @torch.no_grad()
    def choose(self, data: TensorDictBase, parameters: Tensor) -> Choice:
        behavior = self.adjusted(parameters, data.get(keys.OBSERVATION), living(data))
        return choose_independently(self.family, parameters, behavior, self.draw(data))

    @override
    def experience(self, data: TensorDictBase) -> tuple[Tensor, ...]:
        """Every agent's own actions.

        Where agents may leave, also which steps are theirs. Of continuous actions, the facts of ``Rows``: whitened
        actions, and which components exist, ``[R * A, D, b]``.
        """
        observation, parameters, action = (
            data.get(key).transpose(1, 2) for key in (keys.OBSERVATION, keys.PARAMETERS, keys.ACTION)
        )
        present = living(data)
        if not self.task.continuous_actions:
            return observation, parameters, action, *(() if present is None else (present.mT,))
        z = gaussian.standardized(parameters, action).mT.flatten(0, 1)
        exists = self.family.mask_on(z.device).repeat(len(data), 1).unsqueeze(-1).expand_as(z)
        if present is not None:
            exists = exists & present.transpose(1, 2).flatten(0, 1).unsqueeze(1)
        return observation, z, exists.float()

    def ratios(self, delta: Tensor, rows: Rows) -> Ratios:
        """Every agent's own ratios of continuous actions, for ``update_rows``; exact."""
        z, exists = rows.facts
        return Adjustment.of(delta * exists.repeat(1, 2, 1), z.shape[1]).ratios(z, exists)

    @override
    def update(self, measure: bool = True) -> UpdateStats:
        """Statistics are means over agents, the joint KL their sum (independent agents)."""
        stats = super().update(measure)
        joint_kl = {"kl": stats["kl"].sum(-1)} if measure else {}
        return {name: value.float().mean(-1) for name, value in stats.items()} | joint_kl


def _of_own_steps(rows: Rows) -> Tensor:
    """Weights ``[G, U]`` of steps in which the agent is there: a mean over D is one over those."""
    own = rows.facts[1].amax(1)
    return own / own.sum(1, keepdim=True).clamp(min=1)
