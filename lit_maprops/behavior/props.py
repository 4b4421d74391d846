"""PROPS (arXiv 2311.08290) for every agent by itself: the decentralized baseline of the paper."""

import torch
from tensordict import TensorDictBase
from torch import Tensor

from lit_maprops import keys
from lit_maprops.behavior.adjusted import AdjustedPolicy
from lit_maprops.behavior.base import Choice, UpdateStats, choose_independently
from lit_maprops.envs import Task
from lit_maprops.nets import StackedMLP
from lit_maprops.targets.policies import agent_network, per_agent


class PROPS(AdjustedPolicy):
    """pi_phi_i(a_i | o_i) = softmax(log pi_theta_i + Delta_phi_i(o_i)), each agent with its own ratio, clip and stop.

    Arguments as ``AdjustedPolicy``.
    """

    def make_adjustment(self, task: Task, generators: list[torch.Generator]) -> StackedMLP:
        """See ``AdjustedPolicy``; one network per seed and agent."""
        return agent_network(task, self.hidden, task.n_actions, False, 0.0, generators)

    def adjusted(self, logits: Tensor, observation: Tensor) -> Tensor:
        """log pi_phi_i of all actions: ``[R, *B, A, N]`` and ``[R, *B, A, O]`` -> ``[R, *B, A, N]`` (nats)."""
        return (logits + per_agent(self.net, observation)).log_softmax(-1)

    @torch.no_grad()
    def choose(self, data: TensorDictBase, parameters: Tensor) -> Choice:
        """See ``BehaviorPolicy``."""
        behavior = self.adjusted(parameters, data.get(keys.OBSERVATION))
        return choose_independently(self.family, parameters, behavior, self.draw(data, *self.family.uniforms))

    def experience(self, data: TensorDictBase) -> tuple[Tensor, Tensor, Tensor]:
        """See ``AdjustedPolicy``; every agent's own actions."""
        return tuple(data.get(key).transpose(1, 2) for key in (keys.OBSERVATION, keys.PARAMETERS, keys.ACTION))

    def update(self, measure: bool = True) -> UpdateStats:
        """See ``BehaviorPolicy``; statistics are means over agents, the joint KL their sum (independent agents)."""
        stats = super().update(measure)
        joint_kl = {"kl": stats["kl"].sum(-1)} if measure else {}
        return {name: value.float().mean(-1) for name, value in stats.items()} | joint_kl
