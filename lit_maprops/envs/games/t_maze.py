"""A T-maze for a team: what was seen at its start decides at its end (after Bakker 2001, RL with LSTM)."""

import torch
from torch import Tensor
from torch.nn.functional import one_hot
from typing_extensions import override

from lit_maprops.envs.base import Interface, State, Task, Transition
from lit_maprops.system.argument_types import Count
from lit_maprops.system.errors import check

FORWARD, LEFT, RIGHT = range(3)
OBSERVATION = ["cue left", "cue right", "in the corridor", "at the junction", "in an arm"]


class TMaze(Task):
    """Every agent walks its own corridor to a junction, and all must take the arm that a cue at the start told.

    Actions: forward, left, right. An agent moves a cell forward in the corridor and turns into an arm at the junction,
    where it stays; what cannot be done does nothing. The cue, left or right with equal chances and the same for all, is
    seen in the first cell only, which nobody comes back to; otherwise an agent sees whether it is in the corridor, at
    the junction or in an arm, not where in the corridor, and nothing of the others. An episode ends when all are in an
    arm: with 1 to every agent (reward), and success, if all are in the one of the cue.

    Policies that remember nothing solve half of the episodes at most: past the first cell the cue changes nothing that
    an agent sees, so agent i, if it turns at all, turns left with one chance p_i whatever the cue was, and success has
    at most the chance (prod p_i + prod (1 - p_i)) / 2 <= 1/2.

    The global state is, decided here, one-hot: the cue, and of every agent by index its cell, the junction's included,
    or its arm.

    Args:
        length: cells of the corridor before the junction.
        n_agents: number of agents.
        max_steps: time limit of an episode (steps); more than ``length``.
    """

    def __init__(self, length: Count = 5, n_agents: Count = 2, max_steps: Count = 20) -> None:
        check(length <= 100, f"<env.length> is {length}: give at most 100 cells")
        told = f"<env.max_steps> is {max_steps} and a corridor of <env.length> {length} takes longer: give more"
        check(max_steps > length, told)
        self.length, self.n_agents, self.max_steps = length, n_agents, max_steps
        self.n_actions, self.observation_dim, self.start_noise = 3, len(OBSERVATION), 1
        self._places = length + 3  # cells, the junction, two arms
        self.state_dim = 2 + n_agents * self._places

    @override
    def initial_state(self, noise: Tensor) -> State:
        cue = (noise[..., 0] >= 0.5).to(torch.int64)
        return {"cue": cue, "place": torch.zeros(*cue.shape, self.n_agents, dtype=torch.int64, device=noise.device)}

    @override
    def transition(self, state: State, action: Tensor, noise: Tensor) -> Transition:
        place, junction = state["place"], self.length
        walks = (place < junction) & (action == FORWARD)
        turns = (place == junction) & (action != FORWARD)
        place = torch.where(turns, junction + action, place + walks)
        over = (place > junction).all(-1)
        success = (place == junction + LEFT + state["cue"].unsqueeze(-1)).all(-1)
        reward = success.float().unsqueeze(-1).expand(place.shape)
        return Transition(state | {"place": place}, reward, over, success)

    @override
    def observe(self, state: State) -> tuple[Tensor, Tensor]:
        place, cue = state["place"], one_hot(state["cue"], 2)
        seen = cue.unsqueeze(-2) * (place == 0).unsqueeze(-1)
        where = torch.stack([(place > 0) & (place < self.length), place == self.length, place > self.length], -1)
        observation = torch.cat([seen, where], -1)
        return observation.float(), torch.cat([cue, one_hot(place, self._places).flatten(-2)], -1).float()

    @override
    def state_index(self, state: State) -> Tensor:
        number = state["cue"]
        for place in state["place"].unbind(-1):
            number = number * self._places + place
        return number

    @override
    def interface(self, agent: int) -> Interface:
        return Interface(f"agent_{agent}", list(OBSERVATION), ["forward", "left", "right"], [], [])
