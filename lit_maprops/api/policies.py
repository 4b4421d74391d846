"""The trained decentralized policies of a run, to act with."""

from functools import cache
from typing import Any

import torch
from torch import Tensor

from lit_maprops.export.policies import Trained
from lit_maprops.export.programs import AgentPolicy
from lit_maprops.system.errors import check, check_choice


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

    def __repr__(self) -> str:
        what = f"{self.task.n_agents} agents of {self.task.title}, {len(self.seeds)} seeds"
        return f"<Policies of {what}, at {self.env_steps:,} env steps: act(observation, seed, agent)>"

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
        action_mask: Any = None,
    ) -> Tensor:
        """An agent's actions in the units of ``task.interface(agent)``.

        Args:
            observation: the agent's own, ``[*B, O_i]``.
            seed: a seed's number.
            agent: the agent's index.
            greedy: the most probable action instead of a draw.
            generator: of the draws; None: torch's global one.
            action_mask: which of the agent's actions are legal, ``[*B, N_i]``; for tasks whose states say so.

        Returns:
            ``[*B]`` int64, or ``[*B, D_i]`` float32 for continuous actions.

        Raises:
            ConfigError: no or a needless ``action_mask``, or one without a legal action; the policies remember.
        """
        policy = self.agent(seed, agent)
        check(
            not policy.remembered,
            "act() takes single steps and these policies remember: call agent(seed, agent) with observation and memory",
        )
        seen = torch.as_tensor(observation, dtype=torch.float32)
        rows = seen.reshape(-1, policy.n_observed)
        legal = self._legal(policy, action_mask, len(rows))
        action = policy(rows, legal)[-1] if greedy else policy.draw(rows, generator, legal)
        return action.reshape(seen.shape[:-1] + action.shape[1:])

    def _legal(self, policy: AgentPolicy, action_mask: Any, rows: int) -> Tensor | None:
        title = type(self.task).__name__
        check(
            policy.masked or action_mask is None,
            f"action_mask is given and in {title} an agent's actions are always legal: leave it out",
        )
        if not policy.masked:
            return None
        shape = f"[*B, {policy.n_actions}]"
        check(action_mask is not None, f"action_mask is missing, which actions are legal in {title}: give {shape}")
        legal = torch.as_tensor(action_mask, dtype=torch.bool)
        fits = legal.shape[-1:] == (policy.n_actions,) and legal.numel() == rows * policy.n_actions
        check(fits, f"action_mask has shape {list(legal.shape)}: give {shape}, B as of the observation")
        legal = legal.reshape(rows, -1)
        check(bool(legal.any(-1).all()), "action_mask leaves no legal action: one at least must be")
        return legal
