"""A matrix game in stages: the climbing and penalty games of Claus & Boutilier 1998 with states, decided here."""

from typing import Annotated, Literal

import torch
from torch import Tensor
from typing_extensions import TypeAliasType, override

from lit_maprops.distributions.joint import joint_index
from lit_maprops.envs.base import Interface, State, Transition
from lit_maprops.envs.games.matrix_game import MatrixGame, Nested
from lit_maprops.stacked.device_cache import DeviceCache
from lit_maprops.system.argument_types import Count, Range
from lit_maprops.system.errors import check_count

Stages = TypeAliasType("Stages", Annotated[int, Range(1, 100)])


class StagedGame(MatrixGame):
    """A matrix game that is played in stages, whose actions mean something else in each.

    In stage s, counted from 0, action a of agent i stands for action (a + s (i + 1)) mod ``n_actions`` of the game, so
    what is best must be found, and agreed on, stage by stage. Agents observe the stage, one-hot; the global state says
    beside it whether every joint action so far was best. Success is an episode of nothing but best joint actions, those
    that maximize the sum of payoffs.

    Args:
        payoff: of one stage, as for ``MatrixGame``.
        n_agents: number of agents; only needed to read a nested list.
        stages: stages of an episode.
        advance: ``always``: every episode goes through all stages; ``best``: it ends with the first joint action that
            is not best, so that later stages are seen only by agents that agree on the earlier ones.
    """

    def __init__(
        self,
        payoff: str | Nested = "climbing",
        n_agents: Count = 2,
        stages: Stages = 3,
        advance: Literal["always", "best"] = "always",
    ) -> None:
        super().__init__(payoff, n_agents)
        check_count("env.stages", stages, 100)
        self.stages, self.advance = stages, advance
        self.observation_dim, self.state_dim, self.max_steps = stages, stages + 1, stages
        self._shift = DeviceCache(torch.arange(1, self.n_agents + 1))  # per stage, of each agent's actions

    @override
    def initial_state(self, noise: Tensor) -> State:
        """The first stage."""
        stage = torch.zeros(noise.shape[:-1], dtype=torch.int64, device=noise.device)
        return {"stage": stage, "flawless": torch.ones_like(stage, dtype=torch.bool)}

    @override
    def transition(self, state: State, action: Tensor, noise: Tensor) -> Transition:
        """One stage; nothing is random."""
        stage = state["stage"]
        meant = (action + stage.unsqueeze(-1) * self._shift.on(action.device)) % self.n_actions
        joint = joint_index(meant, self.n_actions)
        is_best = self._is_best.on(joint.device)[joint]
        flawless, last = state["flawless"] & is_best, stage == self.stages - 1
        over = last if self.advance == "always" else last | ~is_best
        following = {"stage": (stage + 1).clamp(max=self.stages - 1), "flawless": flawless}
        return Transition(following, self._payoff.on(joint.device)[joint], over, last & flawless)

    @override
    def observe(self, state: State) -> tuple[Tensor, Tensor]:
        """The stage, one-hot; and whether all was best so far."""
        stage = state["stage"].unsqueeze(-1) == torch.arange(self.stages, device=state["stage"].device)
        vector = torch.cat([stage, state["flawless"].unsqueeze(-1)], -1).float()
        return stage.float().unsqueeze(-2).expand(*stage.shape[:-1], self.n_agents, self.stages), vector

    @override
    def interface(self, agent: int) -> Interface:
        return super().interface(agent)._replace(observation=[f"stage {number}" for number in range(self.stages)])

    @override
    def state_index(self, state: State) -> Tensor:
        """Of the stage and whether all was best so far."""
        return 2 * state["stage"] + state["flawless"].long()
