"""RWARE, the multi-robot warehouse: robots fetch requested shelves, bring them to a goal and put them back.

The rules are those of the package rware 2.0.0 (F. Christianos; Papoudakis et al. 2021, arXiv 2006.07869), checked step
by step against it. Three differences, decided here: the package's time limit says ``done``, ours ``truncated``; where
equally long queues of robots head for one free cell that of the robot with the lower index goes first, which the
package leaves to the order of a set; and messages between robots and pictures as observations are left out. Cells are
counted row by row from the north-west corner.
"""

from typing import Annotated, Literal

import torch
from torch import Tensor
from typing_extensions import TypeAliasType, override

from lit_maprops.envs.base import Interface, State, Task, Transition
from lit_maprops.envs.one_hot import one_hot
from lit_maprops.envs.rware import names as rware_names
from lit_maprops.envs.rware import render as rware_render
from lit_maprops.envs.rware.movement import movers
from lit_maprops.stacked.device_cache import DeviceCache
from lit_maprops.system.argument_types import Count, Range
from lit_maprops.system.errors import check, check_choice, check_count

ShelfRows = TypeAliasType("ShelfRows", Annotated[int, Range(1, 10)])
ShelfColumns = TypeAliasType("ShelfColumns", Annotated[int, Range(1, 19)])
ColumnHeight = TypeAliasType("ColumnHeight", Annotated[int, Range(1, 15)])
Robots = TypeAliasType("Robots", Annotated[int, Range(1, 100)])
WarehouseSensor = TypeAliasType("WarehouseSensor", Annotated[int, Range(0, 10)])

ACTIONS = ["noop", "forward", "left", "right", "toggle_load"]
_FORWARD, _LEFT, _RIGHT, _TOGGLE = range(1, 5)
DIRECTIONS = ["up", "down", "left", "right"]
REWARDS = ("individual", "global", "two_stage")
_STEPS = DeviceCache(torch.tensor([[-1, 0], [1, 0], [0, -1], [0, 1]]))  # (rows, columns) of each direction
# The direction after each action: [actions, directions].
_TURNS = DeviceCache(torch.tensor([[0, 1, 2, 3], [0, 1, 2, 3], [2, 3, 1, 0], [3, 2, 0, 1], [0, 1, 2, 3]]))
_NOTHING = DeviceCache(torch.tensor([0, 1, 0, 0, 0, 0, 0], dtype=torch.int8))  # what is seen of an empty cell


class RWARE(Task):
    """The multi-robot warehouse; the defaults are rware-tiny-2ag.

    Shelves stand in groups two cells wide and ``column_height`` long, with highways around them, and two goals lie side
    by side in the middle of the last row. A robot turns left or right, goes forward, or loads the shelf it stands below
    and puts it down where it is, not on a highway. All move at once: nobody enters a cell that another one does not
    leave, two do not swap, and a loaded robot does not enter the cell of a shelf that stands. A requested shelf that
    is on a goal after a step is delivered, and another one, drawn uniformly, is requested in its place. Episodes end
    at the time limit only; there is no success: returns are judged.

    Observation of a robot, int8: its column and row, whether it is loaded, where it looks (one-hot: up, down, left,
    right), whether it is on a highway; then, of each cell of the square around it, row by row: whether a robot is
    there, where that one looks (``up`` if there is none), whether there is a shelf, and whether that is requested.
    The global state is, decided here, one-hot: row, column and direction of every robot by index, whether it is loaded
    and whether it has delivered the shelf it carries; then which cells have a shelf, and which of those are requested.

    Args:
        name: a name of the package, such as ``rware-tiny-2ag-easy-v2`` (``-v2`` may be left out), in place of
            ``shelf_rows``, ``shelf_columns``, ``column_height``, ``n_agents``, ``sensor_range``,
            ``request_queue_size`` and ``reward_type``: each of them is null or says the same.
        shelf_rows: groups of shelves from north to south; null: 1.
        shelf_columns: groups of shelves from west to east, odd; null: 3.
        column_height: length of a group (cells); null: 8.
        n_agents: number of robots; null: 2.
        sensor_range: how far a robot sees (cells); null: 1.
        request_queue_size: shelves requested at a time; null: one per robot.
        reward_type: who gets 1 for a delivery: ``individual`` its robot, ``global`` all; ``two_stage``: its robot gets
            0.5, and 0.5 for putting the shelf back. null: individual.
        max_steps: time limit of an episode (steps).
        fixed_start: the first start drawn for a seed serves all its episodes, in training and evaluation.

    Raises:
        ConfigError: an argument is out of range, the name is none, or the two contradict each other.
    """

    renders = True
    tells_success = False
    observation_dtype = torch.int8

    def __init__(
        self,
        name: str | None = None,
        shelf_rows: ShelfRows | None = None,
        shelf_columns: ShelfColumns | None = None,
        column_height: ColumnHeight | None = None,
        n_agents: Robots | None = None,
        sensor_range: WarehouseSensor | None = None,
        request_queue_size: Count | None = None,
        reward_type: Literal["individual", "global", "two_stage"] | None = None,
        max_steps: Count = 500,
        fixed_start: bool = False,
    ) -> None:
        given = {
            "shelf_rows": shelf_rows, "shelf_columns": shelf_columns, "column_height": column_height,
            "n_agents": n_agents, "sensor_range": sensor_range, "request_queue_size": request_queue_size,
            "reward_type": reward_type,
        }  # fmt: skip
        rules = rware_names.settings(name, given)
        self.shelf_rows, self.shelf_columns = rules["shelf_rows"], rules["shelf_columns"]
        self.column_height, self.n_agents = rules["column_height"], rules["n_agents"]
        self.sensor_range, self.reward_type = rules["sensor_range"], rules["reward_type"]
        self.request_queue_size, self.max_steps, self.fixed_start = rules["request_queue_size"], max_steps, fixed_start
        self._check_ranges()
        self.height = (self.column_height + 1) * self.shelf_rows + 2
        self.width = 3 * self.shelf_columns + 1
        self.cells = self.height * self.width
        self.goals = [self.cells - self.width + self.width // 2 + side for side in (-1, 0)]
        highway = self._highways()
        self._highway = DeviceCache(highway)
        self._places = DeviceCache((~highway).nonzero().squeeze(-1))  # of the shelves at the start
        self.shelves = len(self._places.value)
        check(
            self.request_queue_size < self.shelves,
            f"<env.request_queue_size> is {self.request_queue_size}: give fewer than the {self.shelves} shelves, or "
            f"more <env.shelf_columns>",
        )
        check_count("env.n_agents", self.n_agents, self.cells)
        self.n_actions = len(ACTIONS)
        self.observation_dim = 8 + 7 * (2 * self.sensor_range + 1) ** 2
        self.state_dim = self.n_agents * (self.height + self.width + 6) + 2 * self.cells
        self.start_noise, self.step_noise = 2 * self.n_agents + self.request_queue_size, len(self.goals)
        self._lower = DeviceCache(torch.ones(self.n_agents, self.n_agents).tril(-1).bool())

    def _check_ranges(self) -> None:
        check_count("env.shelf_rows", self.shelf_rows, 10)
        columns = self.shelf_columns
        check(columns in range(1, 20, 2), f"<env.shelf_columns> is {columns}: give an odd number from 1 to 19")
        check_count("env.column_height", self.column_height, 15)
        check_count("env.n_agents", self.n_agents, 100)
        check(0 <= self.sensor_range <= 10, f"<env.sensor_range> is {self.sensor_range}: give a value from 0 to 10")
        # A name may ask for none: rware-tiny-1ag-hard.
        check(
            self.request_queue_size >= 1,
            f"<env.request_queue_size> is {self.request_queue_size}: give at least 1, or a name with more agents",
        )
        check_choice("env.reward_type", self.reward_type, REWARDS)
        rows = (self.column_height + 1) * self.shelf_rows + 2
        check(rows <= 120, f"<env.shelf_rows> and <env.column_height> make {rows} rows: give at most 120")

    def _highways(self) -> Tensor:
        """Which cells shelves must not stand on: ``[cells]`` bool."""
        row, column = torch.arange(self.height).unsqueeze(-1), torch.arange(self.width)
        middle = (column == self.width // 2 - 1) | (column == self.width // 2)
        queue = (row > self.height - self.column_height - 3) & middle
        return ((column % 3 == 0) | (row % (self.column_height + 1) == 0) | (row == self.height - 1) | queue).flatten()

    @override
    def initial_state(self, noise: Tensor) -> State:
        """Noise is robots' cells, where they look, and which shelves are requested."""
        a = self.n_agents
        agent_noise, direction_noise, request_noise = noise.split([a, a, self.request_queue_size], -1)
        batch = noise.shape[:-1]
        requested = _picked(torch.zeros((*batch, self.shelves), dtype=torch.bool, device=noise.device), request_noise)[
            1
        ]
        occupied = torch.zeros((*batch, self.cells), dtype=torch.bool, device=noise.device)
        return {
            "agent": _picked(occupied, agent_noise)[0],
            "direction": (direction_noise * len(DIRECTIONS)).long(),
            "carried": torch.full((*batch, a), -1, device=noise.device),
            "delivered": torch.zeros((*batch, a), dtype=torch.bool, device=noise.device),
            "shelf": self._places.on(noise.device).expand(*batch, self.shelves).clone(),
            "requested": requested,
        }

    @override
    def transition(self, state: State, action: Tensor, noise: Tensor) -> Transition:
        """Noise says which shelf is requested next at each of the goals."""
        agent, shelf, carried = state["agent"], state["shelf"], state["carried"]
        loaded = carried >= 0
        standing = self._standing(shelf, carried)  # [*B, cells]: the shelf that stands there, or -1
        there = self._target(agent, state["direction"], action)
        blocked = loaded & (there != agent) & (standing.gather(-1, there) >= 0)
        goes = movers(agent, torch.where(blocked, agent, there), self._lower.on(agent.device))
        agent = torch.where(goes, there, agent)
        direction = _TURNS.on(action.device)[action, state["direction"]]

        toggles = action == _TOGGLE
        puts = toggles & loaded & ~self._highway.on(action.device)[agent]
        shelf = self._moved(shelf, carried, agent)
        carried = torch.where(toggles & ~loaded, standing.gather(-1, agent), carried.masked_fill(puts, -1))
        reward = torch.zeros(agent.shape, device=agent.device)
        if self.reward_type == "two_stage":
            reward = reward + 0.5 * (puts & state["delivered"])
        delivered = state["delivered"] & ~puts
        requested, gained, delivers = self._deliver(agent, carried, state["requested"], noise)
        if self.reward_type == "two_stage":
            delivered = delivered | delivers
        never = torch.zeros(agent.shape[:-1], dtype=torch.bool, device=agent.device)
        following = {"agent": agent, "direction": direction, "carried": carried, "delivered": delivered}
        return Transition(following | {"shelf": shelf, "requested": requested}, reward + gained, never, never)

    def _target(self, agent: Tensor, direction: Tensor, action: Tensor) -> Tensor:
        """The cells that robots head for, their own if they do not go forward or face the wall: ``[*B, A]``."""
        step = _STEPS.on(agent.device)[direction]
        row = (agent // self.width + step[..., 0]).clamp(0, self.height - 1)
        column = (agent % self.width + step[..., 1]).clamp(0, self.width - 1)
        return torch.where(action == _FORWARD, row * self.width + column, agent)

    def _standing(self, shelf: Tensor, carried: Tensor) -> Tensor:
        """Which shelf stands in each cell, -1 for none or one that is carried: ``[*B, cells]``."""
        numbers = torch.arange(self.shelves, device=shelf.device).expand(shelf.shape)
        at = torch.full((*shelf.shape[:-1], self.cells), -1, device=shelf.device).scatter(-1, shelf, numbers)
        held = shelf.gather(-1, carried.clamp(min=0))
        lifted = torch.zeros_like(at, dtype=torch.int8).scatter_add(-1, held, (carried >= 0).to(torch.int8)) > 0
        return at.masked_fill(lifted, -1)

    def _moved(self, shelf: Tensor, carried: Tensor, agent: Tensor) -> Tensor:
        """Cells of the shelves ``[*B, S]`` after those that are ``carried`` ``[*B, A]`` are where their robots are."""
        spare = torch.cat([shelf, shelf[..., :1]], -1)  # the last place is written to by robots without a shelf
        return spare.scatter(-1, torch.where(carried >= 0, carried, self.shelves), agent)[..., : self.shelves]

    def _deliver(
        self, agent: Tensor, carried: Tensor, requested: Tensor, noise: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Goal by goal: requested shelves ``[*B, S]``, rewards and who has delivered, ``[*B, A]``."""
        reward, delivers = torch.zeros(agent.shape, device=agent.device), torch.zeros_like(agent, dtype=torch.bool)
        worth = 0.5 if self.reward_type == "two_stage" else 1.0
        for goal, chance in zip(self.goals, noise.unbind(-1), strict=True):
            wanted = requested.gather(-1, carried.clamp(min=0))
            here = (agent == goal) & (carried >= 0) & wanted  # [*B, A]
            any_here = here.any(-1, keepdim=True)
            new = _picked(requested, chance.unsqueeze(-1))[0]  # drawn while the delivered one is still in the queue
            old = torch.where(here, carried, 0).sum(-1, keepdim=True)
            replaced = requested.scatter(-1, old, False).scatter(-1, new, True)
            requested = torch.where(any_here, replaced, requested)
            reward = reward + worth * (any_here if self.reward_type == "global" else here)
            delivers = delivers | here
        return requested, reward, delivers

    @override
    def observe(self, state: State) -> tuple[Tensor, Tensor]:
        """Numbers as in the docstring of the class."""
        agent, reach = state["agent"], self.sensor_range
        batch, device = agent.shape[:-1], agent.device
        looks = one_hot(state["direction"], 0, len(DIRECTIONS))  # [*B, A, 4]
        blank = _NOTHING.on(device).repeat(*batch, self.cells, 1)
        robots = torch.cat([torch.ones_like(looks[..., :1]), looks], -1)
        blank[..., :5] = blank[..., :5].scatter(-2, agent.unsqueeze(-1).expand(*agent.shape, 5), robots)
        has_shelf = torch.zeros((*batch, self.cells), dtype=torch.int8, device=device)
        has_shelf = has_shelf.scatter(-1, state["shelf"], 1)
        wanted = torch.zeros_like(has_shelf).scatter(-1, state["shelf"], state["requested"].to(torch.int8))
        blank[..., 5], blank[..., 6] = has_shelf, wanted

        row, column = agent // self.width, agent % self.width
        offsets = torch.arange(-reach, reach + 1, device=device)
        rows = row.unsqueeze(-1) + offsets.repeat_interleave(2 * reach + 1)  # [*B, A, cells around]
        columns = column.unsqueeze(-1) + offsets.repeat(2 * reach + 1)
        inside = (rows >= 0) & (rows < self.height) & (columns >= 0) & (columns < self.width)
        around = torch.where(inside, rows * self.width + columns, 0).flatten(-2)
        seen = blank.gather(-2, around.unsqueeze(-1).expand(*around.shape, 7)).unflatten(-2, rows.shape[-2:])
        seen = torch.where(inside.unsqueeze(-1), seen, _NOTHING.on(device)).flatten(-2)
        loaded = (state["carried"] >= 0).to(torch.int8).unsqueeze(-1)
        own = torch.stack([column, row], -1).to(torch.int8)
        highway = self._highway.on(device)[agent].to(torch.int8).unsqueeze(-1)
        each = [one_hot(row, 0, self.height), one_hot(column, 0, self.width), looks, loaded]
        each.append(state["delivered"].to(torch.int8).unsqueeze(-1))
        vector = torch.cat([torch.cat(each, -1).flatten(-2), has_shelf, wanted], -1)
        return torch.cat([own, loaded, looks, highway, seen], -1), vector

    @override
    def interface(self, agent: int) -> Interface:
        own = ["column", "row", "loaded", *(f"looks {way}" for way in DIRECTIONS), "on a highway"]
        reach = range(-self.sensor_range, self.sensor_range + 1)
        parts = ["robot", *(f"robot looks {way}" for way in DIRECTIONS), "shelf", "requested shelf"]
        around = [f"{part} at row {row:+}, column {column:+}" for row in reach for column in reach for part in parts]
        return super().interface(agent)._replace(observation=own + around, actions=ACTIONS)

    @override
    def render(self, state: State) -> Tensor:
        shelf, requested = state["shelf"], state["requested"]
        grid = self.height, self.width
        return rware_render.draw(grid, self.goals, shelf, requested, state["agent"], state["direction"])


def _picked(taken: Tensor, chances: Tensor) -> tuple[Tensor, Tensor]:
    """Uniform over those not ``taken`` ``[*B, I]``, once for each of ``chances`` ``[*B, K]``: which; what is taken."""
    chosen = []
    for chance in chances.unbind(-1):
        count = (~taken).cumsum(-1)
        skipped = (chance * count[..., -1]).long()
        chosen.append((count <= skipped.unsqueeze(-1)).sum(-1))
        taken = taken.scatter(-1, chosen[-1].unsqueeze(-1), True)
    return torch.stack(chosen, -1), taken
