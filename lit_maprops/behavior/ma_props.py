"""MA-PROPS (arXiv 2508.01049, section 5.2): a centralized adjustment of the joint target logits."""

from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor
from typing_extensions import override

from lit_maprops import keys
from lit_maprops.behavior.base import Choice
from lit_maprops.behavior.enumerated import EnumeratedPolicy
from lit_maprops.distributions import joint
from lit_maprops.envs import Task
from lit_maprops.stacked.nets import DeltaNet
from lit_maprops.system.argument_types import PositiveInt
from lit_maprops.system.errors import check


class MAPROPS(EnumeratedPolicy):
    """pi_phi(a | s) = softmax(sum_i log pi_theta_i(a_i | o_i) + Delta_phi(s)) over all joint actions.

    Args:
        max_joint_actions: most joint actions (n_actions ** n_agents) allowed.
        **enumerated: arguments of ``EnumeratedPolicy`` and ``AdjustedPolicy``.
    """

    def __init__(self, max_joint_actions: PositiveInt = 100_000, **enumerated: Any) -> None:
        super().__init__(**enumerated)
        self.max_joint_actions = max_joint_actions

    @override
    def columns(self, task: Task) -> tuple[int, ...]:
        """One number for the joint action."""
        return ()

    @override
    def make_adjustment(self, task: Task, generators: list[torch.Generator]) -> DeltaNet:
        """``[R, B, S] -> [R, B, n_joint]``."""
        n_joint, count = joint.count(task.n_agents, task.n_actions)
        check(
            n_joint <= self.max_joint_actions,
            f"<model.behavior> MAPROPS would need {count} joint actions ({task.n_actions} actions to the "
            f"power of {task.n_agents} agents), more than <behavior.max_joint_actions> "
            f"{self.max_joint_actions:,}: use <model.behavior> Autoregressive, or raise the limit if memory allows",
        )
        stack = (len(generators),)
        return self.architecture.adjustment(task.state_dim, n_joint, stack, generators)

    def adjusted(self, joint_target: Tensor, state: Tensor) -> Tensor:
        """log pi_phi of all joint actions: ``[R, B, n_joint]`` and ``[R, B, S]`` -> ``[R, B, n_joint]`` (nats)."""
        return (joint_target + self.net(state)).log_softmax(-1)

    @override
    @torch.no_grad()
    def choose(self, data: TensorDictBase, parameters: Tensor) -> Choice:
        """One categorical over joint actions."""
        target = joint.joint_log_probs(parameters)
        behavior = self.adjusted(target, data.get(keys.STATE))
        index = joint.sample(behavior, self.draw(data))
        return Choice(
            joint.split_joint(index, self.task.n_agents, self.task.n_actions),
            behavior.gather(-1, index.unsqueeze(-1)).squeeze(-1),
            joint.kl_divergence(target, behavior),
        )

    @override
    def experience(self, data: TensorDictBase) -> tuple[Tensor, Tensor, Tensor]:
        """The actions are the joint ones."""
        taken = joint.joint_index(data.get(keys.ACTION), self.task.n_actions)
        return data.get(keys.STATE), joint.joint_log_probs(data.get(keys.PARAMETERS)), taken
