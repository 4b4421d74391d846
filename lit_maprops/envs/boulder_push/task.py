"""BoulderPush: agents must stand side by side behind a boulder and push it together to the wall.

After F. Christianos' grid world "bpush" (checked step by step against recordings of the original).
Coordinates are (x, y) with y growing southward. The boulder is as long as there are agents and lies across its push
direction; its position is that of its north-west cell.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from torch import Tensor
from typing_extensions import TypeAliasType, override

from lit_maprops.envs.base import Interface, State, Task, Transition
from lit_maprops.envs.boulder_push import render as boulder_push_render
from lit_maprops.stacked.device_cache import DeviceCache
from lit_maprops.system.argument_types import Cost, Count, Range, RewardFloat
from lit_maprops.system.errors import check

SensorRange = TypeAliasType("SensorRange", Annotated[int, Range(0, 100)])
DIRECTIONS = ["north", "south", "west", "east"]  # also the actions, in this order
SIZES = {"tiny": 5, "small": 8, "medium": 12, "large": 20}
_MOVES = DeviceCache(torch.tensor([[0, -1], [0, 1], [-1, 0], [1, 0]], dtype=torch.int8))  # (dx, dy) of each direction


class BoulderPush(Task):
    """Cooperative boulder pushing on a ``height`` x ``width`` grid.

    The global state is, decided here, one-hot: push direction, then x and y of the boulder and of every agent by index.
    Cells are int8 (x, y) and pictures uint8, so that a step of many environments stays in the cache.
    Success is an episode that ends with the boulder on the goal row or column.

    Args:
        size: ``tiny`` 5x5, ``small`` 8x8, ``medium`` 12x12 or ``large`` 20x20.
        height: rows; overrides ``size``.
        width: columns; overrides ``size``.
        n_agents: number of agents and length of the boulder.
        penalty: cost to an agent that walks into the boulder (reward).
        incentive: reward to every agent for a successful push.
        push_direction: fixes the direction; None draws it for every episode.
        sensor_range: radius of the observation window (cells).
        max_steps: time limit of an episode (steps).
        fixed_start: the first start drawn for a seed serves all its episodes, in training and evaluation.
        start: fixed positions ``[boulder, agent, agent, ...]`` as (x, y); needs ``push_direction``.
    """

    renders = True
    observation_dtype = torch.uint8

    def __init__(
        self,
        size: Literal["tiny", "small", "medium", "large"] = "tiny",
        height: int | None = None,
        width: int | None = None,
        n_agents: Count = 2,
        penalty: Cost = 0.01,
        incentive: RewardFloat = 0.1,
        push_direction: Literal["north", "south", "west", "east"] | None = None,
        sensor_range: SensorRange = 4,
        max_steps: Count = 50,
        fixed_start: bool = False,
        start: list[list[int]] | None = None,
    ) -> None:
        self.height = SIZES[size] if height is None else height
        self.width = SIZES[size] if width is None else width
        self.direction = None if push_direction is None else DIRECTIONS.index(push_direction)
        self.n_agents, self.n_actions = n_agents, len(DIRECTIONS)
        self.penalty, self.incentive = penalty, incentive
        self.sensor_range, self.max_steps = sensor_range, max_steps
        self._check_grid()
        self.observation_shape = 2, 2 * sensor_range + 1, 2 * sensor_range + 1  # where agents are, where the boulder is
        self.observation_dim = 4 + math.prod(self.observation_shape)
        self.state_dim = 4 + (n_agents + 1) * (self.width + self.height)
        self.start_noise, self.step_noise = 3 + n_agents, n_agents
        self._lower_number = DeviceCache(torch.ones(n_agents, n_agents).tril(-1).bool())  # [A, A]: of the second agent
        self.fixed_start = fixed_start
        self.start = None if start is None else DeviceCache(self._checked_start(start))

    def _check_grid(self) -> None:
        for side, cells in (("height", self.height), ("width", self.width)):
            check(cells <= 120, f"<env.{side}> is {cells}: give at most 120 cells")
        directions = range(4) if self.direction is None else [self.direction]
        for direction in directions:
            along, across = (self.width, self.height) if direction < 2 else (self.height, self.width)
            check(
                along >= self.n_agents and across >= 3 and self.height * self.width >= 2 * self.n_agents,
                f"<env.n_agents> is {self.n_agents} on a grid of {self.height} x {self.width}: the boulder pushed "
                f"{DIRECTIONS[direction]} does not fit; raise <env.height> / <env.width> or lower n_agents",
            )

    def _checked_start(self, start: list[list[int]]) -> Tensor:
        start_of = "<env.start>"
        check(self.direction is not None, f"{start_of} needs a direction: set <env.push_direction>")
        assert self.direction is not None  # for mypy; checked above
        check(
            len(start) == self.n_agents + 1 and all(isinstance(c, Sequence) and len(c) == 2 for c in start),
            f"{start_of} has {len(start)} cells: give the boulder and each of the {self.n_agents} agents as [x, y]",
        )
        (x, y), vertical = start[0], self.direction < 2
        boulder = [(x + i, y) if vertical else (x, y + i) for i in range(self.n_agents)]
        push = _MOVES.value[self.direction].tolist()
        cells = boulder + [tuple(cell) for cell in start[1:]]
        inside = all(0 <= cx < self.width and 0 <= cy < self.height for cx, cy in cells)
        check(
            inside and len(set(cells)) == len(cells),
            f"{start_of} is {start}: boulder and agents must be on the grid in distinct cells",
        )
        ahead, behind = ((x + push[0] * k, y + push[1] * k) for k in (1, -1))
        room = all(0 <= cx < self.width and 0 <= cy < self.height for cx, cy in (ahead, behind))
        check(room, f"{start_of} is {start}: the boulder needs a free row or column before and behind it; move it")
        return torch.tensor(start, dtype=torch.int8)

    @override
    def initial_state(self, noise: Tensor) -> State:
        """Noise is (direction, boulder x, boulder y, one per agent)."""
        batch, device = noise.shape[:-1], noise.device
        if self.direction is None:
            direction = (noise[..., 0] * 4).to(torch.int8)
        else:
            direction = torch.full(batch, self.direction, dtype=torch.int8, device=device)
        if self.start is not None:
            cells = self.start.on(device).expand(*batch, -1, 2)
            return {"direction": direction, "boulder": cells[..., 0, :], "agents": cells[..., 1:, :]}
        vertical = direction < 2
        free_x = torch.where(vertical, self.width - self.n_agents + 1, self.width - 2)
        free_y = torch.where(vertical, self.height - 2, self.height - self.n_agents + 1)
        x = (noise[..., 1] * free_x).to(torch.int8) + ~vertical
        y = (noise[..., 2] * free_y).to(torch.int8) + vertical
        boulder = torch.stack([x, y], -1)
        agents = self._place_agents(self.boulder_cells(direction, boulder), noise[..., 3:])
        return {"direction": direction, "boulder": boulder, "agents": agents}

    def _place_agents(self, boulder_cells: Tensor, noise: Tensor) -> Tensor:
        """Distinct cells, uniform over those that hold neither boulder nor an earlier agent: ``[*B, A, 2]``."""
        n_cells = self.height * self.width
        x, y = boulder_cells.short().unbind(-1)
        taken = y * self.width + x  # [*B, A] cell numbers
        for agent in range(self.n_agents):
            cell = (noise[..., agent] * (n_cells - taken.shape[-1])).short()
            # The k-th free cell: step over every taken cell at or below it, in ascending order.
            for occupied in taken.sort(-1).values.unbind(-1):
                cell = cell + (occupied <= cell)
            taken = torch.cat([taken, cell.unsqueeze(-1)], -1)
        cells = taken[..., self.n_agents :]
        return torch.stack([cells % self.width, cells // self.width], -1).to(torch.int8)

    def boulder_cells(self, direction: Tensor, boulder: Tensor) -> Tensor:
        """The cells of the boulder: ``[*B]``, ``[*B, 2]`` -> ``[*B, A, 2]``."""
        along = torch.arange(self.n_agents, dtype=torch.int8, device=boulder.device)
        vertical = (direction < 2).unsqueeze(-1)
        x, y = boulder[..., :1], boulder[..., 1:]
        return torch.stack([x + along * vertical, y + along * ~vertical], -1)

    def at_goal(self, direction: Tensor, boulder: Tensor) -> Tensor:
        """Whether the boulder lies along the wall it is pushed toward: ``[*B]`` bool."""
        vertical, positive = direction < 2, direction % 2 == 1
        position = torch.where(vertical, boulder[..., 1], boulder[..., 0])
        wall = torch.where(vertical, self.height - 1, self.width - 1) * positive
        return position == wall

    def _number(self, cells: Tensor) -> Tensor:
        """``[*B, 2] -> [*B]`` int16, distinct for all cells of the grid and the ring around it; linear."""
        return cells[..., 1].short() * (self.width + 2) + cells[..., 0]

    @override
    def transition(self, state: State, action: Tensor, noise: Tensor) -> Transition:
        """In a failed push the agents move in ascending order of their noise, equal ones by their number."""
        direction, boulder, agents = state["direction"], state["boulder"], state["agents"]
        moves = _MOVES.on(action.device)
        push = moves[direction.int()]  # [*B, 2]
        body, here = self._number(self.boulder_cells(direction, boulder)), self._number(agents)  # [*B, A]
        behind = body - self._number(push).unsqueeze(-1)
        # As many cells behind the boulder as agents, and agents never share a cell: all inside means all covered.
        in_place = _among(here, behind).all(-1)
        pushed = in_place & (action == direction.unsqueeze(-1)).all(-1)  # [*B]
        pushed = pushed & ~self.at_goal(direction, boulder)  # a step after the end moves no boulder off the grid

        target = agents + moves[action]  # [*B, A, 2]
        there = self._number(target)
        blocked = _among(there, body)  # [*B, A]
        x, y = target.unbind(-1)
        possible = (x >= 0) & (x < self.width) & (y >= 0) & (y < self.height) & ~blocked
        walks = self._walks(here, there, possible, noise)

        ahead = push * pushed.unsqueeze(-1)
        alone = torch.where((walks & ~pushed.unsqueeze(-1)).unsqueeze(-1), target, agents)
        boulder, agents = boulder + ahead, alone + ahead.unsqueeze(-2)
        goal = pushed & self.at_goal(direction, boulder)
        together = (self.incentive + goal.float()).unsqueeze(-1)
        reward = torch.where(pushed.unsqueeze(-1), together, -self.penalty * blocked.float())
        return Transition({"direction": direction, "boulder": boulder, "agents": agents}, reward, goal, goal)

    def _walks(self, here: Tensor, there: Tensor, possible: Tensor, noise: Tensor) -> Tensor:
        """Which agents walk, one after the other; each sees the cells that the earlier ones left or took."""
        own, other = noise.unsqueeze(-1), noise.unsqueeze(-2)
        # Two numbers of single precision are equal once in 2**24 pairs: two agents of one turn could enter one cell.
        turn = torch.where(self._lower_number.on(noise.device), other <= own, other < own).sum(-1)  # [*B, A]
        walked = torch.zeros_like(possible)
        for now in range(self.n_agents):
            mine = turn == now
            goal = (there * mine).sum(-1, keepdim=True, dtype=torch.int16)  # [*B, 1]
            walks = mine & possible & (here != goal).all(-1, keepdim=True)
            here = torch.where(walks, there, here)
            walked = walked | walks
        return walked

    @override
    def observe(self, state: State) -> tuple[Tensor, Tensor]:
        """Direction, then the agents and the boulder window row by row, zero beyond the grid."""
        direction, boulder, agents = state["direction"], state["boulder"], state["agents"]
        facing = direction.long().unsqueeze(-1)  # [*B, 1], also its own column
        cells = torch.cat([agents, self.boulder_cells(direction, boulder)], -2)  # [*B, 2 A, 2]
        side = 2 * self.sensor_range + 1
        x, y = (cells.unsqueeze(-3) - agents.unsqueeze(-2) + self.sensor_range).unbind(-1)  # [*B, A, 2 A]
        window = torch.arange(2 * self.n_agents, device=x.device) // self.n_agents
        column = y.long() * side + x + 4 + window * side**2
        seen = (x >= 0) & (x < side) & (y >= 0) & (y < side)
        # What lies outside of the window goes where a 1 stands anyway.
        columns = torch.where(seen, column, facing.unsqueeze(-1))
        columns = torch.cat([columns, facing.unsqueeze(-1).expand(*columns.shape[:-1], 1)], -1)

        bodies = torch.cat([boulder.unsqueeze(-2), agents], -2)  # [*B, 1 + A, 2]
        first = 4 + torch.arange(1 + self.n_agents, device=x.device) * (self.width + self.height)
        places = bodies + torch.stack([first, first + self.width], -1)
        return _ones_at(columns, self.observation_dim), _ones_at(
            torch.cat([facing, places.flatten(-2)], -1), self.state_dim
        )

    @override
    def interface(self, agent: int) -> Interface:
        """Cells are (x, y) counted from the agent's own, which is (0, 0)."""
        reach = range(-self.sensor_range, self.sensor_range + 1)
        pushes = [f"push direction is {direction}" for direction in DIRECTIONS]
        cells = [f"{thing} at ({x}, {y})" for thing in ("agent", "boulder") for y in reach for x in reach]
        return super().interface(agent)._replace(observation=pushes + cells, actions=DIRECTIONS)

    @override
    def state_index(self, state: State) -> Tensor | None:
        """None where the number of states does not fit in 62 bits."""
        cells = self.width * self.height
        if 4 * cells ** (self.n_agents + 1) >= 2**62:
            return None
        index = state["direction"].long()
        bodies = torch.cat([state["boulder"].unsqueeze(-2), state["agents"]], -2).long()  # y * width is more than int8
        for x, y in (body.unbind(-1) for body in bodies.unbind(-2)):
            index = index * cells + y * self.width + x
        return index

    @override
    def render(self, state: State) -> Tensor:
        cells = self.boulder_cells(state["direction"], state["boulder"])
        return boulder_push_render.draw(self.height, self.width, state["direction"], cells, state["agents"])


def _among(a: Tensor, b: Tensor) -> Tensor:
    """Which of ``a`` ``[*B, I]`` are in ``b`` ``[*B, J]``: ``[*B, I]`` bool."""
    return (a.unsqueeze(-1) == b.unsqueeze(-2)).any(-1)


def _ones_at(columns: Tensor, size: int) -> Tensor:
    """0/1 vectors ``[*B, size]`` uint8 with ones in the ``columns`` ``[*B, J]``."""
    zeros = torch.zeros((*columns.shape[:-1], size), dtype=torch.uint8, device=columns.device)
    return zeros.scatter_(-1, columns, 1)
