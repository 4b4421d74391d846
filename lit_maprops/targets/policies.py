"""pi_theta: one decentralized policy per agent, seeing its own observation only."""

import copy
from collections.abc import Sequence

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import Tensor
from torch.nn.functional import one_hot

from lit_maprops import keys
from lit_maprops.envs import Task
from lit_maprops.stacked.nets import StackedMLP

POLICY_GAIN = 0.01  # last layer: nearly uniform actions at the start, as is usual for PPO


class TargetPolicies(TensorDictModuleBase):
    """The agents' policies for R seeds, of the task's family.

    ``hidden=[]`` makes them tables, which start uniform or with means of 0. Shared parameters tell agents apart by a
    one-hot index appended to the observation.

    Args:
        task: sizes of observations and actions.
        hidden: units of each hidden layer.
        share_parameters: one network for all agents of a seed instead of one per agent.
        generators: one per seed; they fix the initial weights.
        initial_std: see ``Family.from_outputs``.
    """

    in_keys = [keys.OBSERVATION]  # noqa: RUF012
    out_keys = [keys.PARAMETERS]  # noqa: RUF012

    def __init__(
        self,
        task: Task,
        hidden: Sequence[int],
        share_parameters: bool,
        generators: Sequence[torch.Generator],
        initial_std: float | None = None,
    ) -> None:
        super().__init__()
        self.family, self.initial_std = task.family, initial_std
        gain = POLICY_GAIN if hidden else 0.0
        self.net = agent_network(task, hidden, self.family.outputs, share_parameters, gain, generators)

    def repeated(self, times: int) -> "TargetPolicies":
        """A copy for ``R * times`` entries, every seed's policies ``times`` times in a row."""
        twin = copy.deepcopy(self)
        twin.net = self.net.repeated(times)
        return twin

    def distribution_parameters(self, observation: Tensor) -> Tensor:
        """What determines pi_theta_i(. | o_i), ``keys.PARAMETERS``: ``[R, *B, A, O] -> [R, *B, A, K]``."""
        return self.family.from_outputs(per_agent(self.net, observation), self.initial_std)

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write ``PARAMETERS`` from ``OBSERVATION``."""
        return tensordict.set(keys.PARAMETERS, self.distribution_parameters(tensordict.get(keys.OBSERVATION)))


def agent_network(
    task: Task,
    hidden: Sequence[int],
    out_dim: int,
    share_parameters: bool,
    out_gain: float,
    generators: Sequence[torch.Generator],
) -> StackedMLP:
    """A network per (seed, agent), or with ``share_parameters`` one per seed that also sees the agent's index."""
    n_seeds = len(generators)
    in_dim = task.observation_dim + (task.n_agents if share_parameters else 0)
    stack = (n_seeds,) if share_parameters else (n_seeds, task.n_agents)
    return StackedMLP(in_dim, hidden, out_dim, stack, out_gain, generators)


def per_agent(net: StackedMLP, observation: Tensor) -> Tensor:
    """Apply an ``agent_network``: ``[R, *B, A, O] -> [R, *B, A, out_dim]``."""
    batch = observation.shape[1:-2]
    n_seeds, n_agents = observation.shape[0], observation.shape[-2]
    if len(net.stack) == 2:
        x = observation.reshape(n_seeds, -1, n_agents, observation.shape[-1]).transpose(1, 2)
        return net(x).transpose(1, 2).reshape(n_seeds, *batch, n_agents, -1)
    identity = one_hot(torch.arange(n_agents, device=observation.device), n_agents).float()
    x = torch.cat([observation, identity.expand(*observation.shape[:-1], n_agents)], -1)
    return net(x.reshape(n_seeds, -1, x.shape[-1])).reshape(n_seeds, *batch, n_agents, -1)
