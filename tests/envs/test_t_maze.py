"""The T-maze step by step against a plain re-implementation, and the bound on policies without memory."""

import itertools
import random

import pytest
import torch

from lit_maprops.envs import TMaze
from lit_maprops.envs.games.t_maze import FORWARD, LEFT, RIGHT
from lit_maprops.system.errors import ConfigError


class Walk:
    """One episode in Python."""

    def __init__(self, length: int, agents: int, cue: str) -> None:
        self.length, self.cue = length, cue
        self.cell: list[int | str] = [0] * agents  # a cell's number, or the arm's name

    def step(self, actions: tuple[int, ...]) -> tuple[float, bool]:
        for agent, action in enumerate(actions):
            cell = self.cell[agent]
            if isinstance(cell, int) and cell < self.length and action == FORWARD:
                self.cell[agent] = cell + 1
            elif cell == self.length and action != FORWARD:
                self.cell[agent] = {LEFT: "left", RIGHT: "right"}[action]
        over = all(isinstance(cell, str) for cell in self.cell)
        return float(all(cell == self.cue for cell in self.cell)), over

    def seen(self, agent: int) -> list[float]:
        cell = self.cell[agent]
        cue = [float(cell == 0 and self.cue == side) for side in ("left", "right")]
        corridor = isinstance(cell, int) and 0 < cell < self.length
        return [*cue, float(corridor), float(cell == self.length), float(isinstance(cell, str))]


@pytest.mark.parametrize(("length", "agents"), [(1, 1), (3, 2), (5, 3)])
def test_every_step_is_that_of_a_walk(length: int, agents: int) -> None:
    task, rng = TMaze(length, agents, max_steps=40), random.Random(0)
    ended = {0.0: 0, 1.0: 0}
    for episode in range(60):
        cue = ("left", "right")[episode % 2]
        state = task.initial_state(torch.tensor([0.25 + 0.5 * (episode % 2)]))
        walk, over = Walk(length, agents, cue), False
        while not over:
            observation, _ = task.observe(state)
            assert observation.tolist() == [walk.seen(agent) for agent in range(agents)]
            actions = tuple(rng.randrange(3) for _ in range(agents))
            found = task.transition(state, torch.tensor(actions), torch.zeros(0))
            state = found.state
            reward, over = walk.step(actions)
            assert found.reward.tolist() == [reward] * agents
            assert (bool(found.terminated), bool(found.success)) == (over, reward == 1)
        ended[reward] += 1
    assert min(ended.values()) > 3


def test_states_are_numbered_and_told_apart() -> None:
    task = TMaze(2, 2)
    cue, first, second = (
        axis.flatten() for axis in torch.meshgrid(*(torch.arange(n) for n in (2, 5, 5)), indexing="ij")
    )
    state = {"cue": cue, "place": torch.stack([first, second], -1)}
    assert len(task.state_index(state).unique()) == 50 == len(task.observe(state)[1].unique(dim=0))


@pytest.mark.parametrize("length", [1, 3])
def test_without_memory_half_is_the_most(length: int) -> None:
    """All deterministic policies of an observation by enumeration, and random ones by dynamic programming."""
    task = TMaze(length, 2, max_steps=length + 3)
    seen = [0, 1, 2, 3]  # cues, corridor, junction: what an agent sees before it is in an arm
    best = 0.0
    tables = [torch.eye(3)[list(actions)] for actions in itertools.product(range(3), repeat=len(seen))]
    tables += list(torch.rand(60, len(seen), 3, generator=torch.Generator().manual_seed(0)).softmax(-1).square())
    tables = [table / table.sum(-1, keepdim=True) for table in tables]
    arms = torch.stack([_arms(task, table) for table in tables])  # [P, cue, arm]
    for one, other in itertools.product(range(len(arms)), repeat=2):
        best = max(best, float(0.5 * (arms[one] * arms[other]).diagonal().sum()))
    assert best == 0.5


def _arms(task: TMaze, table: torch.Tensor) -> torch.Tensor:
    """Chances ``[cue, arm]`` that an agent has come to each arm when time is up."""
    found = []
    for cue in range(2):
        chance = torch.zeros(task.length + 3)
        chance[0] = 1
        for _ in range(task.max_steps):
            following = chance.clone()
            for cell in range(task.length + 1):
                kind = cue if cell == 0 else 2 if cell < task.length else 3
                forward, left, right = (chance[cell] * table[kind]).tolist()
                if cell < task.length:
                    following[cell] -= forward
                    following[cell + 1] += forward
                else:
                    following[cell] -= left + right
                    following[cell + 1] += left
                    following[cell + 2] += right
            chance = following
        found.append(chance[-2:])
    return torch.stack(found)


def test_memory_solves_all() -> None:
    """A policy of the cue and of what is seen."""
    task = TMaze(4, 3)
    state = task.initial_state(torch.tensor([[0.1], [0.9]]))
    for _ in range(4):
        state = task.transition(state, torch.full((2, 3), FORWARD), torch.zeros(2, 0)).state
    end = task.transition(state, torch.tensor([[LEFT] * 3, [RIGHT] * 3]), torch.zeros(2, 0))
    assert end.success.all() and end.terminated.all() and (end.reward == 1).all()


def test_a_corridor_too_long_is_refused() -> None:
    with pytest.raises(ConfigError, match="max_steps is 5 and a corridor of"):
        TMaze(5, max_steps=5)
