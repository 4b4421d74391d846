"""Pictures of Foraging: food as green squares, agents as disks in Okabe-Ito colors, each with its level in white."""

import torch
from torch import Tensor

CELL = 32  # pixels
_FLOOR, _GRID, _FOOD, _INK = (250, 248, 242), (214, 208, 196), (0, 158, 115), (255, 255, 255)
_AGENTS = [(0, 114, 178), (213, 94, 0), (204, 121, 167), (86, 180, 233), (230, 159, 0), (0, 0, 0)]
_PIXEL = 3  # pixels per dot of a digit
# Five rows of three dots each, as octal numbers.
_DIGITS = [0o75557, 0o26227, 0o71747, 0o71717, 0o55711, 0o74717, 0o74757, 0o71122, 0o75757, 0o75717]


def draw(size: int, agents: Tensor, agent_level: Tensor, food: Tensor, food_level: Tensor) -> Tensor:
    """Draw every row of a batch; where agents share a cell, the last one is seen.

    Args:
        size: rows and columns of the grid.
        agents: cells of the agents as (row, column), ``[*B, A, 2]``.
        agent_level: ``[*B, A]``.
        food: cells of the food as (row, column), ``[*B, F, 2]``; negative where it is gone.
        food_level: ``[*B, F]``.

    Returns:
        ``[*B, size * 32, size * 32, 3]`` uint8 RGB.
    """
    batch = agents.shape[:-2]
    rows = zip(
        agents.reshape(-1, *agents.shape[-2:]).tolist(),
        agent_level.reshape(-1, agent_level.shape[-1]).tolist(),
        food.reshape(-1, *food.shape[-2:]).tolist(),
        food_level.reshape(-1, food_level.shape[-1]).tolist(),
        strict=True,
    )
    pictures = torch.stack([_picture(size, *row) for row in rows])
    return pictures.reshape(*batch, size * CELL, size * CELL, 3)


def _picture(
    size: int, agents: list[list[int]], agent_level: list[int], food: list[list[int]], food_level: list[int]
) -> Tensor:
    picture = torch.tensor(_FLOOR, dtype=torch.uint8).repeat(size * CELL, size * CELL, 1)
    grid = torch.tensor(_GRID, dtype=torch.uint8)
    picture[::CELL], picture[:, ::CELL] = grid, grid
    square = torch.zeros(CELL, CELL, dtype=torch.bool)
    square[4:-3, 4:-3] = True
    axis = torch.arange(CELL) - CELL / 2
    disk = axis.square().unsqueeze(0) + axis.square().unsqueeze(1) < (0.42 * CELL) ** 2
    for cell, level in zip(food, food_level, strict=True):
        if cell[0] >= 0:
            _stamp(picture, cell, square, _FOOD, level)
    for number, (cell, level) in enumerate(zip(agents, agent_level, strict=True)):
        _stamp(picture, cell, disk, _AGENTS[number % len(_AGENTS)], level)
    return picture


def _stamp(picture: Tensor, cell: list[int], shape: Tensor, color: tuple[int, int, int], level: int) -> None:
    """Paint a shape with its level into its cell, in place."""
    row, column = cell
    inside = picture[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL]
    inside[shape] = torch.tensor(color, dtype=torch.uint8)
    digits = [_DIGITS[int(digit)] for digit in str(level)]
    dots = [[digit >> (3 * (4 - y) + 2 - x) & 1 for digit in digits for x in range(-1, 3)][1:] for y in range(5)]
    ink = torch.tensor(dots, dtype=torch.bool)
    for gap in range(3, ink.shape[1], 4):
        ink[:, gap] = False
    ink = ink.repeat_interleave(_PIXEL, 0).repeat_interleave(_PIXEL if len(digits) < 3 else 2, 1)
    top, left = (CELL - ink.shape[0]) // 2 + 1, (CELL - ink.shape[1]) // 2 + 1
    inside[top : top + ink.shape[0], left : left + ink.shape[1]][ink] = torch.tensor(_INK, dtype=torch.uint8)
