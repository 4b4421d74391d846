"""BoulderPush's starts, state numbers, state vectors and pictures."""

from collections import Counter
from itertools import product

import numpy as np
import pytest
import torch
from boulder_push_oracle import BoulderPushOracle, OracleState
from scipy.stats import chisquare

from lit_maprops.envs import BoulderPush, TaskEnv
from lit_maprops.system.errors import ConfigError

NAMES = ["north", "south", "west", "east"]
SIZES = [(3, 3, 1), (3, 4, 2), (5, 4, 2), (4, 7, 3), (4, 4, 4), (5, 5, 2), (20, 20, 3)]  # height, width, n_agents


def oracle_of(height, width, n_agents):
    return BoulderPushOracle(height, width, n_agents, penalty=0.1)


def as_rows(state):
    """One hashable (direction, boulder, agents) per row of a batch."""
    parts = [state[key].reshape(-1, *state[key].shape[2:]).tolist() for key in ("direction", "boulder", "agents")]
    return [(d, tuple(b), tuple(map(tuple, a))) for d, b, a in zip(*parts, strict=True)]


def start_probabilities(oracle, directions):
    """The probability of every legal start, two agents: direction, then boulder, then agents one by one."""
    cells = set(product(range(oracle.width), range(oracle.height)))
    chances = {}
    for direction in directions:
        boulders = oracle.legal_starts(direction)
        for boulder in boulders:
            free = cells - set(oracle.boulder_cells(OracleState(direction, boulder, [], 0)))
            chance = 1 / (len(directions) * len(boulders) * len(free) * (len(free) - 1))
            chances |= {(direction, boulder, pair): chance for pair in product(free, free) if pair[0] != pair[1]}
    return chances


def assert_distributed(starts, chances):
    counts = Counter(starts)
    assert set(counts) <= set(chances), "an illegal start"
    expected = np.array(list(chances.values())) * len(starts)
    assert expected.min() > 5, "too few starts for the test"
    assert chisquare([counts[start] for start in chances], expected).pvalue > 1e-3


@pytest.mark.parametrize(
    "height, width, direction", [(3, 4, None), (5, 3, None), (4, 4, None), *((3, 4, name) for name in NAMES)]
)
def test_starts_are_uniform(height, width, direction):
    env = TaskEnv(BoulderPush(height=height, width=width, push_direction=direction), 3, [0, 7], 15_000)
    env.reset()
    directions = range(4) if direction is None else [NAMES.index(direction)]
    assert_distributed(as_rows(env.state), start_probabilities(oracle_of(height, width, 2), directions))


def one_step_episodes(task, rows, episodes):
    env = TaskEnv(task, 2, [5, 6], rows)
    current, starts = env.reset(), []
    for _ in range(episodes):
        action = torch.zeros(2, rows, task.n_agents, dtype=torch.int64)
        current = env.step_and_maybe_reset(current.set(("agents", "action"), action))[1]
        starts.append(as_rows(env.state))
    return starts


def test_starts_after_an_episode_are_uniform_and_fresh():
    starts = one_step_episodes(BoulderPush(height=3, width=4, max_steps=1), rows=2000, episodes=15)
    chances = start_probabilities(oracle_of(3, 4, 2), range(4))
    assert_distributed([row for rows in starts for row in rows], chances)
    for feature in (lambda start: start[0], lambda start: start[2][0][0]):
        values = np.array([[feature(row) for row in rows] for rows in starts])
        assert_independent(values[:-1], values[1:])
        assert_independent(values[:, :-1], values[:, 1:])


def assert_independent(first, second):
    """Chi-square test on the pairs of two features over range(4)."""
    pairs = np.stack([first.ravel(), second.ravel()])
    table = np.zeros((4, 4))
    np.add.at(table, (pairs[0], pairs[1]), 1)
    expected = table.sum(1, keepdims=True) * table.sum(0) / table.sum()
    assert chisquare(table.ravel(), expected.ravel(), ddof=6).pvalue > 1e-3


@pytest.mark.parametrize("height, width, n_agents", SIZES)
@pytest.mark.parametrize("extreme", [0.0, 1.0 - 2**-24])
def test_extreme_noise_gives_legal_starts(height, width, n_agents, extreme):
    task = BoulderPush(height=height, width=width, n_agents=n_agents)
    noise = torch.rand(4096, task.start_noise, generator=torch.Generator().manual_seed(0))
    noise = torch.where(torch.rand(noise.shape, generator=torch.Generator().manual_seed(1)) < 0.5, extreme, noise)
    assert_legal(task.initial_state(noise.unsqueeze(0)), oracle_of(height, width, n_agents))


@pytest.mark.parametrize("height, width, n_agents", SIZES)
def test_starts_are_legal(height, width, n_agents):
    env = TaskEnv(BoulderPush(height=height, width=width, n_agents=n_agents), 0, [0], 5000)
    env.reset()
    assert_legal(env.state, oracle_of(height, width, n_agents))


def assert_legal(state, oracle):
    seen = set()
    for direction, boulder, agents in as_rows(state):
        seen.add((direction, boulder))
        cells = [*agents, *oracle.boulder_cells(OracleState(direction, boulder, [], 0))]
        assert len(set(cells)) == 2 * oracle.n_agents
        assert all(0 <= x < oracle.width and 0 <= y < oracle.height for x, y in cells)
    legal = {(direction, boulder) for direction in range(4) for boulder in oracle.legal_starts(direction)}
    assert seen <= legal


def fixed_starts(seed_ids, purpose, run_seed=8, rows=3):
    """The starts of every seed over many short episodes."""
    env = TaskEnv(BoulderPush(size="large", fixed_start=True, max_steps=2), run_seed, seed_ids, rows, purpose)
    current, starts = env.reset(), []
    for step in range(12):
        if step % 2 == 0:
            starts.append(as_rows(env.state))
        action = torch.randint(4, (len(seed_ids), rows, 2), generator=torch.Generator().manual_seed(step))
        current = env.step_and_maybe_reset(current.set(("agents", "action"), action))[1]
    env.reset()
    starts.append(as_rows(env.state))
    return [{row for rows_of in starts for row in rows_of[r * rows : (r + 1) * rows]} for r in range(len(seed_ids))]


def test_fixed_start_is_the_same_for_all_episodes_and_purposes_of_a_seed():
    training = fixed_starts([3, 1, 4, 15, 9], "environment")
    assert all(len(starts) == 1 for starts in training)
    assert training == fixed_starts([3, 1, 4, 15, 9], "evaluation environment")
    assert training[::-1] == fixed_starts([9, 15, 4, 1, 3], "environment", rows=1)
    assert len(set.union(*training)) == 5, "seeds share a start"
    assert set.union(*training).isdisjoint(set.union(*fixed_starts([3, 1, 4, 15, 9], "environment", run_seed=9)))


def test_fixed_starts_are_uniform_over_seeds():
    task = BoulderPush(height=3, width=3, n_agents=2, fixed_start=True)
    env = TaskEnv(task, 1, list(range(6000)), 1)
    env.reset()
    assert_distributed(as_rows(env.state), start_probabilities(oracle_of(3, 3, 2), range(4)))


def test_given_positions_start_every_episode():
    start = [[2, 1], [0, 3], [4, 2]]
    task = BoulderPush(height=4, width=5, push_direction="west", start=start, max_steps=1)
    expected = (2, (2, 1), ((0, 3), (4, 2)))
    assert {row for rows in one_step_episodes(task, rows=4, episodes=5) for row in rows} == {expected}


BAD_STARTS = {
    "no direction": (None, [[2, 1], [0, 3], [4, 2]]),
    "an agent short": ("west", [[2, 1], [0, 3]]),
    "three coordinates": ("west", [[2, 1, 0], [0, 3], [4, 2]]),
    "agents in one cell": ("west", [[2, 1], [0, 3], [0, 3]]),
    "agent under the boulder": ("west", [[2, 1], [0, 3], [2, 2]]),
    "agent off the grid": ("west", [[2, 1], [0, 4], [4, 2]]),
    "x and y mixed up": ("west", [[2, 1], [0, 3], [2, 4]]),
    "boulder off the grid": ("west", [[2, 3], [0, 3], [4, 2]]),
    "boulder on the goal": ("west", [[0, 1], [1, 3], [4, 2]]),
}


@pytest.mark.parametrize("direction, start", BAD_STARTS.values(), ids=BAD_STARTS)
def test_impossible_positions_are_refused(direction, start):
    with pytest.raises(ConfigError, match=r"start.*") as error:
        BoulderPush(height=4, width=5, push_direction=direction, start=start)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("height, width, direction", [(2, 5, "north"), (5, 2, "east"), (5, 2, "south"), (2, 5, None)])
def test_a_grid_too_small_is_refused(height, width, direction):
    with pytest.raises(ConfigError, match=r"") as error:
        BoulderPush(height=height, width=width, n_agents=3, push_direction=direction)
    assert "\n" not in str(error.value)


def all_states(height, width):
    """Every direction, boulder cell and pair of agents' cells, legal or not."""
    cells = torch.tensor(list(product(range(width), range(height))))
    numbers = torch.cartesian_prod(torch.arange(4), *[torch.arange(len(cells))] * 3)
    return {"direction": numbers[:, 0], "boulder": cells[numbers[:, 1]], "agents": cells[numbers[:, 2:]]}


@pytest.mark.parametrize("height, width", [(3, 4), (5, 3)])
def test_state_index_tells_all_states_apart(height, width):
    states, task = all_states(height, width), BoulderPush(height=height, width=width)
    index = task.state_index(states)
    assert index.dtype == torch.int64
    assert index.unique().numel() == index.numel() == 4 * (height * width) ** 3
    order = torch.randperm(index.numel(), generator=torch.Generator().manual_seed(0))
    assert torch.equal(task.state_index({key: value[order] for key, value in states.items()}), index[order])


@pytest.mark.parametrize("height, width", [(12, 12), (4, 60)])
def test_cells_of_large_grids_are_numbered_beyond_the_type_of_their_coordinates(height, width):
    cells = torch.tensor(list(product(range(width), range(height))), dtype=torch.int8)
    numbers = torch.cartesian_prod(torch.arange(4), *[torch.arange(len(cells))] * 2)
    states = {"direction": numbers[:, 0].to(torch.int8), "boulder": cells[numbers[:, 1]]}
    index = BoulderPush(height=height, width=width, n_agents=1).state_index(
        states | {"agents": cells[numbers[:, 2]].unsqueeze(1)}
    )
    assert torch.equal(index.sort().values, torch.arange(4 * (height * width) ** 2))


def test_state_index_of_many_agents_on_a_large_grid():
    task = BoulderPush(size="large", n_agents=5)
    corners = torch.tensor(list(product([(0, 0), (19, 0), (0, 19), (19, 19)], repeat=6)))
    states = {
        "direction": torch.arange(4).repeat_interleave(len(corners)),
        "boulder": corners[:, 0].repeat(4, 1),
        "agents": corners[:, 1:].repeat(4, 1, 1),
    }
    index = task.state_index(states)
    assert (index >= 0).all() and index.unique().numel() == 4 * len(corners)


def test_states_too_many_to_number_have_no_index():
    env = TaskEnv(BoulderPush(size="large", n_agents=7), 0, [0], 2)
    names = env.reset().keys()
    assert "state_index" not in names and not env.task.numbers_states()


def decode(vector, height, width, n_agents):
    """The state behind a documented state vector."""
    blocks = np.split(np.asarray(vector), np.cumsum([4] + [width, height] * (n_agents + 1)))[:-1]
    assert all(block.sum() == 1 and set(block) <= {0.0, 1.0} for block in blocks)
    direction, *numbers = (int(block.argmax()) for block in blocks)
    boulder, *agents = zip(numbers[::2], numbers[1::2], strict=True)
    return direction, boulder, tuple(agents)


@pytest.mark.parametrize("height, width, n_agents", SIZES)
def test_state_vector_decodes_to_the_state(height, width, n_agents):
    task = BoulderPush(height=height, width=width, n_agents=n_agents, sensor_range=1)
    env = TaskEnv(task, 0, [0], 200)
    vectors = env.reset()["state"]
    assert vectors.shape == (1, 200, task.state_dim)
    assert [decode(vector, height, width, n_agents) for vector in vectors[0]] == as_rows(env.state)


def cell_colors(picture, height, width):
    """The color in the middle of every cell: ``{(x, y): (r, g, b)}``."""
    rows, columns = picture.shape[0] // height, picture.shape[1] // width
    middles = picture[rows // 2 :: rows, columns // 2 :: columns].tolist()
    return {(x, y): tuple(middles[y][x]) for x in range(width) for y in range(height)}


def assert_pictured(picture, oracle, direction, boulder, agents):
    colors = cell_colors(picture, oracle.height, oracle.width)
    stones = oracle.boulder_cells(OracleState(direction, boulder, [], 0))
    wall = [lambda x, y: y == 0, lambda x, y: y == oracle.height - 1]
    wall += [lambda x, y: x == 0, lambda x, y: x == oracle.width - 1]
    empty = [cell for cell in colors if cell not in stones and cell not in agents]
    kinds = [{colors[cell] for cell in empty if wall[direction](*cell) == is_wall} for is_wall in (True, False)]
    kinds += [{colors[cell] for cell in stones}] + [{colors[agent]} for agent in agents]
    # On a small grid bodies may cover the whole goal wall.
    assert all(len(kind) == 1 or (position == 0 and not kind) for position, kind in enumerate(kinds))
    assert len(set.union(*kinds)) == sum(map(len, kinds)), "two kinds of cell share a color"
    for red, green, blue in kinds[0]:
        assert green > red and green > blue
    red, green, blue = kinds[2].pop()
    assert max(red, green, blue) - min(red, green, blue) < 20 and red < 160


@pytest.mark.parametrize("height, width, n_agents", [(5, 5, 2), (4, 7, 3), (7, 4, 4), (3, 3, 1)])
def test_pictures_show_goal_boulder_and_agents(height, width, n_agents):
    task, oracle = BoulderPush(height=height, width=width, n_agents=n_agents), oracle_of(height, width, n_agents)
    assert task.renders
    env = TaskEnv(task, 4, [0, 1], 10)
    env.reset()
    pictures = task.render(env.state)
    assert pictures.dtype == torch.uint8 and pictures.dim() == 5
    assert pictures.shape[:2] == (2, 10) and pictures.shape[4] == 3
    assert pictures.shape[2] % height == pictures.shape[3] % width == 0
    for picture, row in zip(pictures.flatten(0, 1), as_rows(env.state), strict=True):
        assert_pictured(picture, oracle, *row)
    alone = {key: value[1, 3] for key, value in env.state.items()}
    assert torch.equal(task.render(alone), pictures[1, 3])


def test_picture_of_a_boulder_on_the_goal():
    task = BoulderPush(height=3, width=5, push_direction="east", start=[[3, 0], [2, 0], [2, 1]])
    done = task.transition(task.initial_state(torch.zeros(5)), torch.tensor([3, 3]), torch.zeros(2))
    assert done.success
    assert_pictured(task.render(done.state), oracle_of(3, 5, 2), 3, (4, 0), [(3, 0), (3, 1)])
