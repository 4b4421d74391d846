"""Replays all recordings of F. Christianos' bpush through the oracle, plus non-square cases.

Sources: the rules in environments.md, section boulder_push, and boulder_push_reference.npz. The
recordings hold square grids only, so expected values on non-square grids are worked out by hand.
"""

import re
from pathlib import Path

import numpy as np
import pytest
from boulder_push_oracle import EAST, NORTH, SOUTH, WEST, BoulderPushOracle, OracleState

RECORDINGS = Path(__file__).parent / "boulder_push_reference.npz"

# Configuration: (recorded rows, step limit at which the recording cuts an episode).
CONFIGURATIONS = {
    "g5_n2_p0.01_r4": (4258, 50),
    "g8_n2_p0.05_r4": (3186, 50),
    "g8_n3_p0.1_r2": (3592, 50),
    "g8_n4_p0.01_r4": (2756, 50),
    "g12_n3_p0.2_r3": (3201, 60),
}

Rows = dict[str, np.ndarray]


def load(name: str) -> Rows:
    with np.load(RECORDINGS) as file:
        keys = [key for key in file.files if key.startswith(f"{name}/")]
        return {key.split("/")[1]: file[key] for key in keys}


def oracle_for(name: str) -> BoulderPushOracle:
    match = re.fullmatch(r"g(\d+)_n(\d+)_p([\d.]+)_r(\d+)", name)
    assert match is not None
    size, n_agents, penalty, sensor_range = match.groups()
    return BoulderPushOracle(
        int(size),
        int(size),
        int(n_agents),
        float(penalty),
        sensor_range=int(sensor_range),
        max_steps=CONFIGURATIONS[name][1],
    )


def state_at(rows: Rows, row: int, prefix: str = "") -> OracleState:
    x, y = rows[f"{prefix}boulder"][row].tolist()
    return OracleState(
        direction=int(rows["direction"][row]),
        boulder=(x, y),
        agents=[(x, y) for x, y in rows[f"{prefix}agents"][row].tolist()],
        t=int(rows["t"][row]) + (prefix == "next_"),
    )


def is_last_of_episode(rows: Rows, row: int) -> bool:
    episode = rows["episode"]
    return row + 1 == len(episode) or episode[row + 1] != episode[row]


def test_configurations_cover_the_whole_file() -> None:
    with np.load(RECORDINGS) as file:
        assert {key.split("/")[0] for key in file.files} == set(CONFIGURATIONS)


@pytest.mark.parametrize("every", [4, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_recorded_rows_are_reproduced(name: str, every: int) -> None:
    rows, oracle = load(name), oracle_for(name)
    assert len(rows["t"]) == CONFIGURATIONS[name][0]
    for row in range(0, len(rows["t"]), every):
        state, actions = state_at(rows, row), rows["action"][row].tolist()
        order = rows["order"][row].tolist()
        next_state, rewards, terminated, truncated = oracle.step(state, actions, order)
        assert next_state == state_at(rows, row, "next_"), row
        np.testing.assert_allclose(rewards, rows["reward"][row], rtol=0, atol=1e-6)
        # The recorded `done` is the goal alone; an episode that meets the step limit just ends.
        assert terminated == rows["done"][row], row
        assert (terminated or truncated) == is_last_of_episode(rows, row), row
        assert oracle.is_push(state, actions) == all(agent == -1 for agent in order), row
        observation = oracle.observe(state)
        assert observation.dtype == np.float32
        np.testing.assert_array_equal(observation, rows["observation"][row])
        np.testing.assert_array_equal(oracle.observe(next_state), rows["next_observation"][row])


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_recorded_episodes_start_legally(name: str) -> None:
    rows, oracle = load(name), oracle_for(name)
    starts = np.flatnonzero(rows["t"] == 0).tolist()
    assert len(starts) == len(np.unique(rows["episode"]))
    for row in starts:
        state = state_at(rows, row)
        assert state.boulder in oracle.legal_starts(state.direction), row
        assert len(set(state.agents)) == oracle.n_agents, row
        assert not set(state.agents) & set(oracle.boulder_cells(state)), row


def test_legal_starts_on_a_wide_grid() -> None:
    oracle = BoulderPushOracle(height=4, width=6, n_agents=3, penalty=0.1)
    # A row of 3 in a width of 6 starts at x 0..3; y avoids both wall rows, 0 and 3.
    row_starts = {(0, 1), (1, 1), (2, 1), (3, 1), (0, 2), (1, 2), (2, 2), (3, 2)}
    # A column of 3 in a height of 4 starts at y 0..1; x avoids both wall columns, 0 and 5.
    column_starts = {(1, 0), (2, 0), (3, 0), (4, 0), (1, 1), (2, 1), (3, 1), (4, 1)}
    for direction, expected in ((NORTH, row_starts), (SOUTH, row_starts)):
        assert set(oracle.legal_starts(direction)) == expected
    for direction, expected in ((WEST, column_starts), (EAST, column_starts)):
        assert set(oracle.legal_starts(direction)) == expected
    assert len(oracle.legal_starts(NORTH)) == len(oracle.legal_starts(WEST)) == 8


# height, width, direction, boulder, agents, next boulder, next agents, goal reached
PUSHES = [
    # Wide grid: x = 3 is height - 1 but no goal column, x = 5 is.
    (4, 6, EAST, (2, 1), [(1, 1), (1, 2)], (3, 1), [(2, 1), (2, 2)], False),
    (4, 6, EAST, (4, 1), [(3, 2), (3, 1)], (5, 1), [(4, 2), (4, 1)], True),
    (4, 6, SOUTH, (3, 2), [(4, 1), (3, 1)], (3, 3), [(4, 2), (3, 2)], True),
    # Tall grid: y = 3 is width - 1 but no goal row, y = 5 is.
    (6, 4, SOUTH, (2, 2), [(2, 1), (3, 1)], (2, 3), [(2, 2), (3, 2)], False),
    (6, 4, SOUTH, (2, 4), [(2, 3), (3, 3)], (2, 5), [(2, 4), (3, 4)], True),
    (6, 4, NORTH, (1, 1), [(1, 2), (2, 2)], (1, 0), [(1, 1), (2, 1)], True),
    (6, 4, NORTH, (1, 4), [(1, 5), (2, 5)], (1, 3), [(1, 4), (2, 4)], False),
    (6, 4, WEST, (2, 4), [(3, 4), (3, 5)], (1, 4), [(2, 4), (2, 5)], False),
    (6, 4, WEST, (1, 4), [(2, 4), (2, 5)], (0, 4), [(1, 4), (1, 5)], True),
]


@pytest.mark.parametrize("height, width, direction, boulder, agents, next_boulder, next_agents, goal", PUSHES)
def test_push_on_non_square_grids(
    height: int,
    width: int,
    direction: int,
    boulder: tuple[int, int],
    agents: list[tuple[int, int]],
    next_boulder: tuple[int, int],
    next_agents: list[tuple[int, int]],
    goal: bool,
) -> None:
    oracle = BoulderPushOracle(height, width, n_agents=2, penalty=0.2, incentive=0.25)
    state = OracleState(direction, boulder, agents, t=7)
    next_state, rewards, terminated, truncated = oracle.step(state, [direction] * 2, [-1, -1])
    assert next_state == OracleState(direction, next_boulder, next_agents, t=8)
    assert rewards == ([1.25, 1.25] if goal else [0.25, 0.25])
    assert (terminated, truncated) == (goal, False)


# Wide grid 4 x 6, push east, boulder on (2, 1) and (2, 2):
# agents, actions, order, next agents, rewards at penalty 0.2
MOVES = [
    # Both choose east in one line: agent 0 runs into agent 1, agent 1 into the boulder.
    ([(0, 1), (1, 1)], [EAST, EAST], [0, 1], [(0, 1), (1, 1)], [0.0, -0.2]),
    # In position, but only agent 0 pushes: it pays, the other leaves unpunished.
    ([(1, 1), (1, 2)], [EAST, WEST], [0, 1], [(1, 1), (0, 2)], [-0.2, 0.0]),
    # The later one takes a cell that the earlier one left; reversed, it is blocked.
    ([(0, 1), (1, 1)], [EAST, NORTH], [1, 0], [(1, 1), (1, 0)], [0.0, 0.0]),
    ([(0, 1), (1, 1)], [EAST, NORTH], [0, 1], [(0, 1), (1, 0)], [0.0, 0.0]),
    # Both want (5, 2): the first in order takes it.
    ([(4, 2), (5, 3)], [EAST, NORTH], [0, 1], [(5, 2), (5, 3)], [0.0, 0.0]),
    ([(4, 2), (5, 3)], [EAST, NORTH], [1, 0], [(4, 2), (5, 2)], [0.0, 0.0]),
    # East wall beyond x = 5 and south wall beyond y = 3 block without penalty.
    ([(5, 0), (4, 3)], [EAST, SOUTH], [0, 1], [(5, 0), (4, 3)], [0.0, 0.0]),
    # The boulder costs from the front and from its end as well.
    ([(3, 2), (2, 0)], [WEST, SOUTH], [1, 0], [(3, 2), (2, 0)], [-0.2, -0.2]),
    # All choose east on the wrong side: no push, both walk on.
    ([(3, 1), (3, 2)], [EAST, EAST], [0, 1], [(4, 1), (4, 2)], [0.0, 0.0]),
]


@pytest.mark.parametrize("agents, actions, order, next_agents, rewards", MOVES)
def test_moves_on_a_wide_grid(
    agents: list[tuple[int, int]],
    actions: list[int],
    order: list[int],
    next_agents: list[tuple[int, int]],
    rewards: list[float],
) -> None:
    oracle = BoulderPushOracle(height=4, width=6, n_agents=2, penalty=0.2)
    result = oracle.step(OracleState(EAST, (2, 1), agents, t=0), actions, order)
    assert result == (OracleState(EAST, (2, 1), next_agents, t=1), rewards, False, False)


def test_observation_on_a_wide_grid() -> None:
    oracle = BoulderPushOracle(height=4, width=6, n_agents=2, penalty=0.2, sensor_range=1)
    # Boulder on (2, 0) and (2, 1). Agent 0 sees x 0..2, y 0..2; agent 1 sees x -1..1, y 1..3.
    state = OracleState(WEST, (2, 0), [(1, 1), (0, 2)], t=0)
    direction = [0, 0, 1, 0]
    expected = [
        direction + [0, 0, 0, 0, 1, 0, 1, 0, 0] + [0, 0, 1, 0, 0, 1, 0, 0, 0],
        direction + [0, 0, 1, 0, 1, 0, 0, 0, 0] + [0, 0, 0, 0, 0, 0, 0, 0, 0],
    ]
    observation = oracle.observe(state)
    assert observation.dtype == np.float32
    np.testing.assert_array_equal(observation, expected)


def test_step_limit_truncates_unless_the_goal_is_reached() -> None:
    oracle = BoulderPushOracle(height=4, width=6, n_agents=2, penalty=0.2, max_steps=3)
    state = OracleState(EAST, (4, 1), [(3, 1), (3, 2)], t=2)
    assert oracle.step(state, [EAST, WEST], [0, 1])[2:] == (False, True)
    assert oracle.step(state, [EAST, EAST], [0, 1])[2:] == (True, False)
    state.t = 1
    assert oracle.step(state, [EAST, WEST], [0, 1])[2:] == (False, False)
