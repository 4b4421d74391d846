"""Pictures of BoulderPush: goal wall green, boulder gray, agents as disks in Okabe-Ito colors."""

import torch
from torch import Tensor

CELL = 32  # pixels
_FLOOR, _GRID, _GOAL, _BOULDER = (250, 248, 242), (214, 208, 196), (168, 219, 190), (110, 108, 104)
_AGENTS = [(0, 114, 178), (213, 94, 0), (204, 121, 167), (86, 180, 233), (230, 159, 0), (0, 0, 0)]


def draw(height: int, width: int, direction: Tensor, boulder: Tensor, agents: Tensor) -> Tensor:
    """Draw every row of a batch.

    Args:
        height: rows of the grid.
        width: columns of the grid.
        direction: push direction, ``[*B]``.
        boulder: cells of the boulder as (x, y), ``[*B, A, 2]``.
        agents: cells of the agents as (x, y), ``[*B, A, 2]``.

    Returns:
        ``[*B, height * 32, width * 32, 3]`` uint8 RGB.
    """
    batch = direction.shape
    rows = zip(
        direction.reshape(-1).tolist(),
        boulder.reshape(-1, *boulder.shape[-2:]).tolist(),
        agents.reshape(-1, *agents.shape[-2:]).tolist(),
        strict=True,
    )
    pictures = torch.stack([_picture(height, width, d, b, a) for d, b, a in rows])
    return pictures.reshape(*batch, height * CELL, width * CELL, 3)


def _picture(height: int, width: int, direction: int, boulder: list[list[int]], agents: list[list[int]]) -> Tensor:
    picture = torch.tensor(_FLOOR, dtype=torch.uint8).repeat(height * CELL, width * CELL, 1)
    goal = torch.tensor(_GOAL, dtype=torch.uint8)
    wall = [slice(0, CELL), slice(-CELL, None)][direction % 2]
    picture[(wall,) if direction < 2 else (slice(None), wall)] = goal
    grid = torch.tensor(_GRID, dtype=torch.uint8)
    picture[::CELL], picture[:, ::CELL] = grid, grid
    for x, y in boulder:
        cell = picture[y * CELL + 2 : (y + 1) * CELL - 1, x * CELL + 2 : (x + 1) * CELL - 1]
        cell[:] = torch.tensor(_BOULDER, dtype=torch.uint8)
    axis = torch.arange(CELL) - (CELL - 1) / 2
    disk = axis.square().unsqueeze(0) + axis.square().unsqueeze(1) < (0.36 * CELL) ** 2
    for agent, (x, y) in enumerate(agents):
        cell = picture[y * CELL : (y + 1) * CELL, x * CELL : (x + 1) * CELL]
        cell[disk] = torch.tensor(_AGENTS[agent % len(_AGENTS)], dtype=torch.uint8)
    return picture
