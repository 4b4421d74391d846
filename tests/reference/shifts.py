"""Small tasks whose agents come and go, by import path: ``--data.env shifts.Shifts``."""

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from lit_maprops.envs.base import State, Task, Transition
from lit_maprops.envs.ends import ABSENT, RUNS, TERMINATED, TRUNCATED

AGENTS, ACTIONS, ROOMS, HOURS, SHIFTS = 3, 3, 3, 4, 4
R, A, D, C = RUNS, ABSENT, TERMINATED, TRUNCATED
# Of every shift and hour: who is there, or how it has ended.
PLAN = torch.tensor([
    [[R, R, A], [R, R, A], [R, D, R], [R, D, R], [R, D, R]],
    [[R, R, A], [R, R, A], [R, R, A], [R, C, A], [R, C, A]],  # the third never comes
    [[A, A, R], [R, R, R], [R, R, D], [C, R, D], [C, R, D]],
    [[R, A, R], [D, A, C], [D, R, C], [D, R, C], [D, R, C]],  # in the second hour nobody is there
], dtype=torch.uint8)  # fmt: skip
# Of every room and joint action; eighths, so that sums are exact.
REWARD = torch.randint(-8, 9, (ROOMS, *[ACTIONS] * AGENTS), generator=torch.Generator().manual_seed(3)) / 8


class Shifts(Task):
    """Three agents work in three rooms by one of four plans. The second one's part is over once it takes action 2.

    All who are there are paid the same; the others' actions count for nothing.

    Args:
        flaw: in the last hour of the first plan, the second agent ``acts`` after its end, is ``paid`` then or
            ``vanishes``; ``unknown`` tells an end that is none. Empty: nothing is wrong.
        flawed_seed: the place in the batch of the seed where that happens.
    """

    n_agents, n_actions, observation_dim, state_dim, start_noise = AGENTS, ACTIONS, ROOMS + 1, ROOMS + 1 + 4 * AGENTS, 1
    max_steps, agents_leave, tells_success = HOURS, True, False

    def __init__(self, flaw: str = "", flawed_seed: int = 1) -> None:
        self.flaw, self.flawed_seed = flaw, flawed_seed

    def initial_state(self, noise: Tensor) -> State:
        shift = (noise[..., 0] * SHIFTS).long()
        zero = torch.zeros_like(shift)
        return {"shift": shift, "hour": zero, "room": shift % ROOMS, "end": PLAN.to(shift.device)[shift, zero].clone()}

    def transition(self, state: State, action: Tensor, noise: Tensor) -> Transition:
        shift, hour, there = state["shift"], state["hour"] + 1, state["end"] == RUNS
        taken = torch.where(there, self.numbers(action), 0)
        paid = REWARD.to(hour.device)[(state["room"], *taken.unbind(-1))]
        planned = PLAN.to(hour.device)[shift, hour.clamp(max=HOURS)]
        end = torch.where((state["end"] == TERMINATED) | (state["end"] == TRUNCATED), state["end"], planned)
        end[..., 1][there[..., 1] & (taken[..., 1] == 2)] = TERMINATED
        reward = torch.where(there, paid.unsqueeze(-1), 0.0)
        self.spoil(shift, hour, end, reward)
        over = (hour == HOURS) & (shift == 0)
        room = (state["room"] + taken.sum(-1)) % ROOMS
        following = {"shift": shift, "hour": hour, "room": room, "end": end}
        return Transition(following, reward, over, torch.zeros_like(over))

    def numbers(self, action: Tensor) -> Tensor:
        """The numbers of the actions ``[*B, A]``."""
        return action

    def spoil(self, shift: Tensor, hour: Tensor, end: Tensor, reward: Tensor) -> None:
        """Bring in the flaw."""
        if self.flaw and shift.dim() == 2 and len(shift) > self.flawed_seed:
            here = (shift == 0) & (hour == HOURS) & (torch.arange(len(shift)) == self.flawed_seed).unsqueeze(1)
            if self.flaw == "paid":
                reward[..., 1][here] = 0.5
            else:
                end[..., 1][here] = {"acts": RUNS, "vanishes": TRUNCATED, "unknown": 9}[self.flaw]
                end[..., 0][here & torch.tensor(self.flaw == "vanishes")] = ABSENT

    def observe(self, state: State) -> tuple[Tensor, Tensor]:
        time = state["hour"].unsqueeze(-1) / HOURS
        room = torch.cat([one_hot(state["room"], ROOMS).float(), time], -1)
        there = (state["end"] == RUNS).float().unsqueeze(-1)
        ends = one_hot(state["end"].clamp(max=3).long(), 4).float().flatten(-2)
        return room.unsqueeze(-2) * there, torch.cat([room, ends], -1)

    def agent_ends(self, state: State) -> Tensor:
        return state["end"]

    def state_index(self, state: State) -> Tensor:
        index = (state["shift"] * (HOURS + 1) + state["hour"]) * ROOMS + state["room"]
        for agent in range(AGENTS):
            index = index * 4 + state["end"][..., agent]
        return index


class MaskedShifts(Shifts):
    """As ``Shifts``; whoever is in a room may not take the action of its number."""

    def legal_actions(self, state: State) -> Tensor:
        allowed = torch.arange(ACTIONS) != state["room"].unsqueeze(-1)
        return allowed.unsqueeze(-2).expand(*allowed.shape[:-1], AGENTS, ACTIONS)


class UnequalShifts(Shifts):
    """As ``Shifts``; the first agent has no action 0, the third no action 2."""

    def action_mask(self) -> Tensor:
        return torch.tensor([[False, True, True], [True, True, True], [True, True, False]])


class ContinuousShifts(Shifts):
    """As ``Shifts``, by the first component of every agent's action: below -0.3, up to 0.3, above."""

    continuous_actions, n_actions, action_dim = True, 0, 2

    def action_mask(self) -> Tensor:
        return torch.tensor([[True, False], [True, True], [True, True]])

    def numbers(self, action: Tensor) -> Tensor:
        return (action[..., 0] > -0.3).long() + (action[..., 0] > 0.3)

    def state_index(self, state: State) -> None:
        return None
