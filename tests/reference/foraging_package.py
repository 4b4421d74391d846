"""Drives the package lbforaging and reads its states as ours: what Foraging is checked against."""

from typing import NamedTuple

import numpy as np
import torch
from lbforaging.foraging.environment import ForagingEnv

from lit_maprops.envs import Foraging

GONE = -8
STEPS = [(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1), (0, 0)]
NONE, NORTH, SOUTH, WEST, EAST, LOAD = range(6)


class Setting(NamedTuple):
    size: int
    n_agents: int
    max_num_food: int
    force_coop: bool = False
    sight: int | None = None
    penalty: float = 0.0
    min_player_level: int = 1
    max_player_level: int = 2
    min_food_level: int = 1
    max_food_level: int | None = None
    normalize_reward: bool = True
    max_steps: int = 10

    def task(self, **overrides):
        return Foraging(**self._asdict() | overrides)

    def package(self):
        return ForagingEnv(
            players=self.n_agents,
            min_player_level=self.min_player_level,
            max_player_level=self.max_player_level,
            min_food_level=self.min_food_level,
            max_food_level=self.max_food_level,
            field_size=(self.size, self.size),
            max_num_food=self.max_num_food,
            sight=self.size if self.sight is None else self.sight,
            max_episode_steps=self.max_steps,
            force_coop=self.force_coop,
            normalize_reward=self.normalize_reward,
            penalty=self.penalty,
        )


class Food(NamedTuple):
    """The food an episode starts with, row by row, filled up to ``max_num_food``."""

    cells: list[tuple[int, int]]
    levels: list[int]

    @classmethod
    def of(cls, env):
        cells = [(int(r), int(c)) for r, c in np.argwhere(env.field)]
        missing = env.max_num_food - len(cells)
        levels = [int(env.field[cell]) for cell in cells]
        return cls(cells + [(GONE, GONE)] * missing, levels + [0] * missing)


def read(env, food):
    """The package's state as plain lists; ``food`` is what the episode started with."""
    left = [cell if cell[0] >= 0 and env.field[cell] else (GONE, GONE) for cell in food.cells]
    agents = [tuple(map(int, player.position)) for player in env.players]
    return agents, [int(player.level) for player in env.players], left, food.levels


def as_state(rows):
    """Ours, ``[rows, ...]`` int8, of a list of ``read``."""
    parts = (torch.tensor(part, dtype=torch.int8) for part in zip(*rows, strict=True))
    return dict(zip(("agents", "agent_level", "food", "food_level"), parts, strict=True))


def put(env, agents, levels, food, food_levels):
    """Start an episode of the package from given cells and levels."""
    env.field = np.zeros(env.field_size, np.int32)
    for cell, level in zip(food, food_levels, strict=True):
        if cell[0] >= 0:
            env.field[tuple(cell)] = level
    for player, cell, level in zip(env.players, agents, levels, strict=True):
        player.setup(tuple(cell), level, env.field_size)
    env._food_spawned = env.field.sum()
    env.current_step, env._game_over = 0, False
    env._gen_valid_moves()


def purposeful(env, rng, randomness):
    """Each agent goes to the nearest food and loads it, or does anything, legal or not, at random."""
    food = np.argwhere(env.field)
    actions = []
    for player in env.players:
        if rng.random() < randomness or not len(food):
            actions.append(int(rng.integers(6)))
            continue
        ways = food - np.array(player.position)
        down, right = ways[np.abs(ways).sum(1).argmin()]
        if abs(down) + abs(right) == 1:
            actions.append(LOAD)
        elif rng.random() * (abs(down) + abs(right)) < abs(down):
            actions.append(SOUTH if down > 0 else NORTH)
        else:
            actions.append(EAST if right > 0 else WEST)
    return actions
