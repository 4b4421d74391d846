"""Stateless games: one step per episode, state and observation are the constant 1."""

from typing import Annotated

import torch
from torch import Tensor
from typing_extensions import TypeAliasType, override

from lit_maprops.distributions.joint import joint_index
from lit_maprops.envs.base import Interface, State, Task, Transition
from lit_maprops.envs.games.payoffs import named_payoff, payoff_names
from lit_maprops.stacked.device_cache import DeviceCache
from lit_maprops.system.argument_types import Count, Range, RewardFloat
from lit_maprops.system.errors import check

Nested = list  # a nested list of numbers, as a config file gives it


class OneStepGame(Task):
    """A game whose every episode is one step from the only state."""

    observation_dim = state_dim = max_steps = 1

    @override
    def initial_state(self, noise: Tensor) -> State:
        """The only state."""
        return {"episode": torch.zeros(noise.shape[:-1], dtype=torch.int64, device=noise.device)}

    @override
    def observe(self, state: State) -> tuple[Tensor, Tensor]:
        """The constant 1."""
        one = torch.ones((*state["episode"].shape, 1), device=state["episode"].device)
        return one.unsqueeze(-2).expand(*one.shape[:-1], self.n_agents, 1), one

    @override
    def interface(self, agent: int) -> Interface:
        return super().interface(agent)._replace(observation=["constant 1"])

    @override
    def state_index(self, state: State) -> Tensor:
        """Always 0."""
        return torch.zeros_like(state["episode"])


SeveralActions = TypeAliasType("SeveralActions", Annotated[int, Range(2, 1_000_000)])


class MatrixGame(OneStepGame):
    """A one-shot game given by its payoffs.

    Success is a joint action that maximizes the sum of the agents' payoffs.

    Args:
        payoff: a name (``figure1``, ``stag``, ``climbing``, ``penalty_100``, ``no_conflict_1``, ...) or a nested list:
            ``n_agents`` levels deep for a payoff all agents share, one level deeper, ending in ``n_agents`` numbers,
            for a payoff per agent.
        n_agents: number of agents; only needed to read a nested list.
    """

    def __init__(self, payoff: str | Nested = "figure1", n_agents: Count = 2) -> None:
        if isinstance(payoff, str):
            check(
                payoff in payoff_names(),
                f"<env.payoff> is {payoff!r}: choose one of figure1, stag, climbing, penalty_0, penalty_25, "
                "penalty_50, penalty_75, penalty_100, no_conflict_1 to no_conflict_21, or give a nested list",
            )
            check(
                n_agents == 2,
                f"<env.n_agents> is {n_agents}: the named games are for 2 agents; give <env.payoff> as a list",
            )
            tensor = named_payoff(payoff)
        else:
            tensor = _payoff_tensor(payoff, n_agents)
        self._set_payoff(tensor)

    def _set_payoff(self, tensor: Tensor) -> None:
        self.n_agents, self.n_actions = tensor.shape[-1], tensor.shape[0]
        self.payoff = tensor.flatten(0, -2)  # [n_joint, n_agents]
        total = self.payoff.sum(-1)
        self.is_best = total == total.max()  # [n_joint]
        self._payoff, self._is_best = DeviceCache(self.payoff), DeviceCache(self.is_best)

    @override
    def transition(self, state: State, action: Tensor, noise: Tensor) -> Transition:
        """Every step ends its episode."""
        joint = joint_index(action, self.n_actions)
        payoff, is_best = self._payoff.on(joint.device), self._is_best.on(joint.device)
        return Transition(dict(state), payoff[joint], torch.ones_like(joint, dtype=torch.bool), is_best[joint])


class Coordination(MatrixGame):
    """n agents, k actions each: ``rewards[j]`` to all if every agent chooses action j, else ``miscoordination``.

    With ten agents and five actions, uniform policies agree once in two million steps: nothing can be learned from
    that. ``partial`` (decided here) pays for agreement in part; its best joint actions are the same.

    Args:
        n_agents: number of agents.
        n_actions: actions of each agent.
        rewards: reward of agreeing on action j; default 1, 0.8, 0.6, ... (never below 0).
        miscoordination: reward of every other joint action.
        partial: pay the largest of ``rewards[j]`` times the share of agents that choose j instead; needs rewards of at
            least 0 and no ``miscoordination``.
    """

    def __init__(
        self,
        n_agents: Count = 3,
        n_actions: SeveralActions = 2,
        rewards: list[RewardFloat] | None = None,
        miscoordination: RewardFloat = 0.0,
        partial: bool = False,
    ) -> None:
        if rewards is None:
            rewards = [max(0.0, round(1.0 - 0.2 * j, 10)) for j in range(n_actions)]
        check(
            len(rewards) == n_actions,
            f"<env.rewards> has {len(rewards)} numbers: give one for each of the {n_actions} actions",
        )
        self.n_agents, self.n_actions = n_agents, n_actions
        check(
            not partial or (miscoordination == 0 and min(rewards) >= 0),
            "<env.partial> pays shares of <env.rewards>: give rewards of at least 0 and <env.miscoordination> 0",
        )
        self.partial = partial
        self.rewards = DeviceCache(torch.tensor(rewards, dtype=torch.float32))
        self.miscoordination = miscoordination
        possible = [*rewards, miscoordination] if n_agents > 1 else rewards
        self.best = DeviceCache(torch.tensor(max(possible), dtype=torch.float32))

    @override
    def transition(self, state: State, action: Tensor, noise: Tensor) -> Transition:
        """Computed from the rule, not a table, so that any number of agents fits in memory."""
        agreed = (action == action[..., :1]).all(-1)
        rewards = self.rewards.on(action.device)
        if self.partial:
            chosen = action.unsqueeze(-1) == torch.arange(self.n_actions, device=action.device)  # [*B, A, N]
            reward = (rewards * (chosen.sum(-2) / self.n_agents)).max(-1).values
        else:
            agreement = rewards[action[..., 0]]
            reward = torch.where(agreed, agreement, torch.full_like(agreement, self.miscoordination))
        return Transition(
            dict(state),
            reward.unsqueeze(-1).expand(*reward.shape, self.n_agents),
            torch.ones_like(agreed),
            reward >= self.best.on(reward.device),
        )


def _payoff_tensor(payoff: Nested, n_agents: int) -> Tensor:
    shape_help = (
        f"give {n_agents} nested levels of equal length for a shared payoff, or one more level that ends in "
        f"{n_agents} numbers (set <env.n_agents> to the number of agents)"
    )
    try:
        tensor = torch.tensor(payoff, dtype=torch.float32)
    except (ValueError, TypeError, OverflowError):
        tensor = torch.zeros(())
    if tensor.dim() == n_agents and tensor.dim() > 0:
        tensor = tensor.unsqueeze(-1).expand(*tensor.shape, n_agents).clone()
    fits = (
        tensor.dim() == n_agents + 1
        and tensor.shape[-1] == n_agents
        and len(set(tensor.shape[:-1])) == 1
        and tensor.numel() > 0
    )
    check(fits, f"<env.payoff> has the wrong rank or shape: {shape_help}")
    check(bool(tensor.isfinite().all()), "<env.payoff> holds NaN or infinity: give finite numbers")
    return tensor
