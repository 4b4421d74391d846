"""Slow, obvious scalar oracle of boulder_push: one environment, plain Python.

Written from the rules in environments.md, section boulder_push; checked against the recordings of
F. Christianos' bpush in boulder_push_reference.npz. Cells are (x, y); y grows to the south.
"""

from dataclasses import dataclass

import numpy as np

Cell = tuple[int, int]

NORTH, SOUTH, WEST, EAST = range(4)
OFFSETS: list[Cell] = [(0, -1), (0, 1), (-1, 0), (1, 0)]
GOAL_REWARD = 1.0


@dataclass
class OracleState:
    """One state: push direction, top-left boulder cell, agent cells, and steps taken."""

    direction: int
    boulder: Cell
    agents: list[Cell]
    t: int


def shifted(cell: Cell, direction: int) -> Cell:
    """The neighboring cell of `cell` in `direction`, which may lie off the grid."""
    dx, dy = OFFSETS[direction]
    return (cell[0] + dx, cell[1] + dy)


class BoulderPushOracle:
    """Rules of boulder_push on a `height` x `width` grid for a single environment."""

    def __init__(
        self,
        height: int,
        width: int,
        n_agents: int,
        penalty: float,
        incentive: float = 0.1,
        sensor_range: int = 4,
        max_steps: int = 50,
    ) -> None:
        self.height = height
        self.width = width
        self.n_agents = n_agents
        self.penalty = penalty
        self.incentive = incentive
        self.sensor_range = sensor_range
        self.max_steps = max_steps

    def boulder_cells(self, state: OracleState) -> list[Cell]:
        """The cells under the boulder: a row for north or south, a column for west or east."""
        x, y = state.boulder
        if state.direction in (NORTH, SOUTH):
            return [(x + i, y) for i in range(self.n_agents)]
        return [(x, y + i) for i in range(self.n_agents)]

    def legal_starts(self, direction: int) -> list[Cell]:
        """Every top-left boulder cell that a reset may draw for `direction`."""
        if direction in (NORTH, SOUTH):
            xs = range(0, self.width - self.n_agents + 1)
            ys = range(1, self.height - 1)
        else:
            xs = range(1, self.width - 1)
            ys = range(0, self.height - self.n_agents + 1)
        return [(x, y) for x in xs for y in ys]

    def step(
        self, state: OracleState, actions: list[int], order: list[int]
    ) -> tuple[OracleState, list[float], bool, bool]:
        """Next state, rewards, terminated (goal reached), truncated (limit reached, no goal).

        `order` lists the agents in the order in which they move; a push ignores it.
        """
        if self.is_push(state, actions):
            next_state = self._push(state)
            terminated = self.at_goal(next_state)
            reward = self.incentive + (GOAL_REWARD if terminated else 0.0)
            rewards = [reward] * self.n_agents
        else:
            next_state, rewards = self._move_one_by_one(state, actions, order)
            terminated = False
        truncated = not terminated and next_state.t >= self.max_steps
        return next_state, rewards, terminated, truncated

    def is_push(self, state: OracleState, actions: list[int]) -> bool:
        """Whether all agents choose the push direction with every cell behind occupied."""
        if any(action != state.direction for action in actions):
            return False
        # The cell behind a boulder cell is the one from which a step in the push direction hits it.
        backward = {NORTH: SOUTH, SOUTH: NORTH, WEST: EAST, EAST: WEST}[state.direction]
        return all(shifted(cell, backward) in state.agents for cell in self.boulder_cells(state))

    def at_goal(self, state: OracleState) -> bool:
        """Whether the boulder lies on the wall row or column that it is pushed toward."""
        x, y = state.boulder
        if state.direction == NORTH:
            return y == 0
        if state.direction == SOUTH:
            return y == self.height - 1
        if state.direction == WEST:
            return x == 0
        return x == self.width - 1

    def _push(self, state: OracleState) -> OracleState:
        return OracleState(
            direction=state.direction,
            boulder=shifted(state.boulder, state.direction),
            agents=[shifted(agent, state.direction) for agent in state.agents],
            t=state.t + 1,
        )

    def _move_one_by_one(
        self, state: OracleState, actions: list[int], order: list[int]
    ) -> tuple[OracleState, list[float]]:
        if sorted(order) != list(range(self.n_agents)):
            raise ValueError(f"order must be a permutation of the agents, got {order}")
        boulder = self.boulder_cells(state)
        agents = list(state.agents)
        rewards = [0.0] * self.n_agents
        for agent in order:
            target = shifted(agents[agent], actions[agent])
            if target in boulder:
                rewards[agent] -= self.penalty
            elif self._on_grid(target) and target not in agents:
                agents[agent] = target
        return OracleState(state.direction, state.boulder, agents, state.t + 1), rewards

    def _on_grid(self, cell: Cell) -> bool:
        x, y = cell
        return 0 <= x < self.width and 0 <= y < self.height

    def observe(self, state: OracleState) -> np.ndarray:
        """Observations, float32 [n_agents, 4 + 2 (2r+1)^2]: direction, agents, boulder."""
        one_hot = [0, 0, 0, 0]
        one_hot[state.direction] = 1
        boulder = self.boulder_cells(state)
        rows = []
        for agent in state.agents:
            rows.append(one_hot + self._window(agent, state.agents) + self._window(agent, boulder))
        return np.array(rows, dtype=np.float32)

    def state_vector(self, state: OracleState) -> np.ndarray:
        """lit_maprops' global state, float32: one-hot direction, then one-hot x and y of the boulder and each agent."""
        hot = [state.direction == direction for direction in range(4)]
        for x, y in [state.boulder, *state.agents]:
            hot += [x == column for column in range(self.width)] + [y == row for row in range(self.height)]
        return np.array(hot, dtype=np.float32)

    def _window(self, center: Cell, occupied: list[Cell]) -> list[int]:
        """0/1 of the square around `center`, north row first, each row from west to east."""
        reach = range(-self.sensor_range, self.sensor_range + 1)
        values = []
        for dy in reach:
            for dx in reach:
                values.append(1 if (center[0] + dx, center[1] + dy) in occupied else 0)
        return values
