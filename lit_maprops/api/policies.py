"""The trained decentralized policies of a run, to act with."""

from functools import cache
from typing import Any

import torch
from torch import Tensor

from lit_maprops.export.policies import Trained
from lit_maprops.export.programs import AgentPolicy
from lit_maprops.system.errors import check_choice


class Policies:
    """pi_theta_i of every seed i and agent at a checkpoint.

    Args:
        trained: what the checkpoint holds.

    Attributes:
        task: what they were trained in; ``task.interface(agent)`` says what an agent sees and does.
        seeds: the seeds' numbers, R of them.
        env_steps: per seed, at the checkpoint.
    """

    def __init__(self, trained: Trained) -> None:
        self._policies = trained.policies
        self.task, self.seeds, self.env_steps = trained.task, trained.seed_ids, trained.env_steps
        self._agent = cache(self._made)

    def agent(self, seed: int, agent: int) -> AgentPolicy:
        """One agent's policy as a module of plain layers, without the seed dimension.

        Raises:
            ConfigError: there is no such seed or agent.
        """
        return self._agent(seed, agent)

    def _made(self, seed: int, agent: int) -> AgentPolicy:
        check_choice("seed", seed, self.seeds)
        check_choice("agent", agent, list(range(self.task.n_agents)))
        return AgentPolicy(self._policies, self.task, self.seeds.index(seed), agent)

    @torch.no_grad()
    def act(
        self,
        observation: Any,
        seed: int,
        agent: int,
        greedy: bool = True,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """An agent's actions in the units of ``task.interface(agent)``.

        Args:
            observation: the agent's own, ``[*B, O_i]``.
            seed: a seed's number.
            agent: the agent's index.
            greedy: the most probable action instead of a draw.
            generator: of the draws; None: torch's global one.

        Returns:
            ``[*B]`` int64, or ``[*B, D_i]`` float32 for continuous actions.
        """
        policy = self.agent(seed, agent)
        seen = torch.as_tensor(observation, dtype=torch.float32)
        rows = seen.reshape(-1, policy.n_observed)
        action = policy(rows)[-1] if greedy else policy.draw(rows, generator)
        return action.reshape(seen.shape[:-1] + action.shape[1:])
