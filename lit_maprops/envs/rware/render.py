"""Pictures of RWARE: shelves brown, requested ones green, goals dark, robots as disks with a bar where they look."""

import torch
from torch import Tensor

CELL = 24  # pixels
_FLOOR, _GRID, _GOAL = (250, 248, 242), (214, 208, 196), (70, 70, 70)
_SHELF, _REQUESTED, _INK = (176, 148, 116), (0, 158, 115), (255, 255, 255)
_AGENTS = [(0, 114, 178), (213, 94, 0), (204, 121, 167), (86, 180, 233), (230, 159, 0), (0, 0, 0)]
_BARS = [
    (slice(2, 11), slice(10, 14)), (slice(13, 22), slice(10, 14)),
    (slice(10, 14), slice(2, 11)), (slice(10, 14), slice(13, 22)),
]  # fmt: skip


def draw(
    size: tuple[int, int], goals: list[int], shelf: Tensor, requested: Tensor, agent: Tensor, direction: Tensor
) -> Tensor:
    """Draw every row of a batch.

    Args:
        size: rows and columns of the grid.
        goals: cells of the goals, counted row by row.
        shelf: cells of the shelves, ``[*B, S]``.
        requested: which of them are requested, ``[*B, S]`` bool.
        agent: cells of the agents, ``[*B, A]``.
        direction: where they look: up, down, left, right, ``[*B, A]``.

    Returns:
        ``[*B, rows * 24, columns * 24, 3]`` uint8 RGB.
    """
    parts = (value.reshape(-1, value.shape[-1]).tolist() for value in (shelf, requested, agent, direction))
    pictures = [_picture(size, goals, *row) for row in zip(*parts, strict=True)]
    return torch.stack(pictures).reshape(*shelf.shape[:-1], size[0] * CELL, size[1] * CELL, 3)


def _picture(
    size: tuple[int, int],
    goals: list[int],
    shelf: list[int],
    requested: list[bool],
    agent: list[int],
    direction: list[int],
) -> Tensor:
    rows, columns = size
    picture = torch.tensor(_FLOOR, dtype=torch.uint8).repeat(rows * CELL, columns * CELL, 1)
    grid = torch.tensor(_GRID, dtype=torch.uint8)
    picture[::CELL], picture[:, ::CELL] = grid, grid

    def cell(number: int) -> Tensor:
        row, column = divmod(number, columns)
        return picture[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL]

    for goal in goals:
        cell(goal)[1:, 1:] = torch.tensor(_GOAL, dtype=torch.uint8)
    for number, wanted in zip(shelf, requested, strict=True):
        cell(number)[2:-1, 2:-1] = torch.tensor(_REQUESTED if wanted else _SHELF, dtype=torch.uint8)
    axis = torch.arange(CELL) - CELL / 2
    disk = axis.square().unsqueeze(0) + axis.square().unsqueeze(1) < (0.36 * CELL) ** 2
    for robot, (number, way) in enumerate(zip(agent, direction, strict=True)):
        cell(number)[disk] = torch.tensor(_AGENTS[robot % len(_AGENTS)], dtype=torch.uint8)
        cell(number)[_BARS[way]] = torch.tensor(_INK, dtype=torch.uint8)
    return picture
