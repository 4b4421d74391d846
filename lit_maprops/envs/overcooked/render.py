"""Pictures of Overcooked: counters, pots that fill up with onions, agents as disks with what they hold inside."""

import torch
from torch import Tensor

CELL = 32  # pixels
_COLORS = {
    " ": (250, 248, 242), "X": (196, 170, 138), "P": (70, 70, 70), "O": (240, 228, 66), "D": (205, 205, 215),
    "S": (168, 219, 190),
}  # fmt: skip
_GRID, _INK, _READY = (150, 140, 126), (255, 255, 255), (0, 158, 115)
_ONION, _DISH, _SOUP = (230, 190, 20), (245, 245, 255), (0, 158, 115)
_AGENTS = [(0, 114, 178), (213, 94, 0)]
_NOSES = [
    (slice(1, 9), slice(14, 18)), (slice(23, 31), slice(14, 18)),
    (slice(14, 18), slice(23, 31)), (slice(14, 18), slice(1, 9)),
]  # fmt: skip


def draw(
    kitchen: list[str], pots: list[int], agent: Tensor, facing: Tensor, held: Tensor, lying: Tensor, pot: Tensor
) -> Tensor:
    """Draw every row of a batch.

    Args:
        kitchen: the rows of the grid, without agents.
        pots: cells of the pots, counted row by row.
        agent: cells of the agents, ``[*B, 2]``.
        facing: where they look: north, south, east, west, ``[*B, 2]``.
        held: what they hold: 0 nothing, 1 onion, 2 dish, more: soup, ``[*B, 2]``.
        lying: the same of every cell, ``[*B, cells]``.
        pot: onions of every pot, and 20 more once the soup is ready, ``[*B, P]``.

    Returns:
        ``[*B, rows * 32, columns * 32, 3]`` uint8 RGB.
    """
    floor = torch.stack([_paint(_COLORS[cell]) for row in kitchen for cell in row])
    parts = (value.reshape(-1, value.shape[-1]).tolist() for value in (agent, facing, held, lying, pot))
    pictures = torch.stack([_picture(floor, pots, *row) for row in zip(*parts, strict=True)])
    rows, columns = len(kitchen), len(kitchen[0])
    pictures = pictures.unflatten(1, (rows, columns)).transpose(2, 3)  # [rows of the batch, rows, CELL, columns, ...]
    return pictures.reshape(*agent.shape[:-1], rows * CELL, columns * CELL, 3)


def _paint(color: tuple[int, int, int]) -> Tensor:
    cell = torch.tensor(color, dtype=torch.uint8).repeat(CELL, CELL, 1)
    cell[0], cell[:, 0] = torch.tensor(_GRID, dtype=torch.uint8), torch.tensor(_GRID, dtype=torch.uint8)
    return cell


def _picture(
    floor: Tensor, pots: list[int], agent: list[int], facing: list[int], held: list[int], lying: list[int],
    pot: list[int],
) -> Tensor:  # fmt: skip
    picture = floor.clone()
    axis = torch.arange(CELL) - CELL / 2
    distance = axis.square().unsqueeze(0) + axis.square().unsqueeze(1)
    for cell, item in enumerate(lying):
        _item(picture[cell], item, distance)
    for cell, onions in zip(pots, pot, strict=True):
        color = _READY if onions >= 20 else _ONION
        for number in range(onions % 20):
            picture[cell, 12:20, 4 + 9 * number : 11 + 9 * number] = torch.tensor(color, dtype=torch.uint8)
    for number, (cell, way, item) in enumerate(zip(agent, facing, held, strict=True)):
        picture[cell][distance < (0.42 * CELL) ** 2] = torch.tensor(_AGENTS[number], dtype=torch.uint8)
        picture[cell][_NOSES[way]] = torch.tensor(_INK, dtype=torch.uint8)
        _item(picture[cell], item, distance)
    return picture


def _item(cell: Tensor, item: int, distance: Tensor) -> None:
    if item:
        color = (_ONION, _DISH, _SOUP)[min(item, 3) - 1]
        cell[distance < (0.2 * CELL) ** 2] = torch.tensor(color, dtype=torch.uint8)
