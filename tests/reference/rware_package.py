"""Drives the package rware and reads its states as ours: what RWARE is checked against."""

from collections import deque

import networkx as nx
import numpy as np
import torch
from rware.warehouse import Action, Direction, RewardType, Warehouse

UP, DOWN, LEFT, RIGHT = range(4)
STEPS = {UP: (0, -1), DOWN: (0, 1), LEFT: (-1, 0), RIGHT: (1, 0)}  # (x, y)
CLOCKWISE = [UP, RIGHT, DOWN, LEFT]
REWARDS = {"individual": RewardType.INDIVIDUAL, "global": RewardType.GLOBAL, "two_stage": RewardType.TWO_STAGE}
KEYS = ("agent", "direction", "carried", "delivered", "shelf", "requested")
DTYPES = dict(zip(KEYS, [torch.int64] * 3 + [torch.bool, torch.int64, torch.bool], strict=True))


class Draws:
    """In place of the package's generator: draws the next request, and says which uniform number would have."""

    def __init__(self, seed):
        self.rng, self.chances = np.random.default_rng(seed), []

    def choice(self, items, size=None, replace=True):
        if size is not None:
            return self.rng.choice(items, size=size, replace=replace)
        number = int(self.rng.integers(len(items)))
        self.chances.append((number + 0.5) / len(items))
        return items[number]


def package(task, seed=0):
    """The package's environment with a task's rules."""
    env = Warehouse(
        shelf_columns=task.shelf_columns, column_height=task.column_height, shelf_rows=task.shelf_rows,
        n_agents=task.n_agents, msg_bits=0, sensor_range=task.sensor_range,
        request_queue_size=task.request_queue_size, max_inactivity_steps=None, max_steps=task.max_steps,
        reward_type=REWARDS[task.reward_type],
    )  # fmt: skip
    env._np_random = Draws(seed)
    return env


def read(env):
    """The package's state as plain lists in the order of ``KEYS``."""
    width = env.grid_size[1]
    cell = lambda thing: int(thing.y) * width + int(thing.x)  # noqa: E731
    carried = [-1 if agent.carrying_shelf is None else agent.carrying_shelf.id - 1 for agent in env.agents]
    return (
        [cell(agent) for agent in env.agents], [agent.dir.value for agent in env.agents], carried,
        [bool(agent.has_delivered) for agent in env.agents], [cell(shelf) for shelf in env.shelfs],
        [shelf in env.request_queue for shelf in env.shelfs],
    )  # fmt: skip


def as_state(rows):
    """Ours, ``[rows, ...]``, of a list of ``read``."""
    parts = zip(KEYS, zip(*rows, strict=True), strict=True)
    return {key: torch.tensor(part, dtype=DTYPES[key]) for key, part in parts}


def put(env, row):
    """Start an episode of the package from a row of ``read``."""
    env.reset()
    width = env.grid_size[1]
    for agent, cell, direction in zip(env.agents, row[0], row[1], strict=True):
        agent.y, agent.x = divmod(cell, width)
        agent.dir = Direction(direction)
    env.request_queue = [shelf for shelf, wanted in zip(env.shelfs, row[5], strict=True) if wanted]
    env._recalc_grid()


def by_index(longest_path, ties):
    """``dag_longest_path`` whose choice among equally long paths is that of the agents' order, not of a set's."""

    def path(graph, order):
        again = nx.DiGraph()
        again.add_edges_from(sorted(graph.edges, key=lambda edge: order[edge[0]]))
        ours, theirs = longest_path(again), longest_path(graph)
        assert len(ours) == len(theirs)
        ties.append(ours != theirs)
        return ours

    return path


def purposeful(env, rng, randomness):
    """Each robot fetches the nearest requested shelf, delivers it and puts it back, or does anything at random."""
    return [
        int(rng.integers(len(Action))) if rng.random() < randomness else _wish(env, agent).value for agent in env.agents
    ]


def _wish(env, agent):
    here, held = (agent.x, agent.y), agent.carrying_shelf
    standing = {(s.x, s.y) for s in env.shelfs} - {(a.x, a.y) for a in env.agents if a.carrying_shelf}
    if held is None:
        ends, walls = {(s.x, s.y) for s in env.request_queue} & standing, set()
    elif held in env.request_queue:
        ends, walls = set(env.goals), standing
    else:
        rows, columns = np.nonzero(env.highways == 0)
        ends, walls = set(zip(columns.tolist(), rows.tolist(), strict=True)) - standing, standing
    if here in ends and not (held and held in env.request_queue):
        return Action.TOGGLE_LOAD
    way = _first_step(env.grid_size, here, ends, walls)
    if way is None or way == agent.dir.value:
        return Action.FORWARD
    turn = (CLOCKWISE.index(way) - CLOCKWISE.index(agent.dir.value)) % 4
    return Action.LEFT if turn == 3 else Action.RIGHT


def _first_step(size, here, ends, walls):
    """The direction of the first step of a shortest way."""
    queue, seen = deque([(here, None)]), {here}
    while queue:
        (x, y), first = queue.popleft()
        if (x, y) in ends:
            return first
        for way, (dx, dy) in STEPS.items():
            cell = x + dx, y + dy
            if cell not in seen and cell not in walls and 0 <= cell[0] < size[1] and 0 <= cell[1] < size[0]:
                seen.add(cell)
                queue.append((cell, way if first is None else first))
    return None
