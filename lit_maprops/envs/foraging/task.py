"""Level-Based Foraging: agents of different levels collect food that is too heavy for one of them alone.

The rules are those of the package lbforaging 2.0.0 (F. Christianos; Papoudakis et al. 2021, arXiv 2006.07869), checked
step by step against it. Two differences, decided here: its time limit says ``done``, ours ``truncated``; and every
episode starts as in a new environment of the package, whose later episodes keep agents off the cells where they stood
when the last one ended. Cells are (row, column) with rows growing southward.
"""

from typing import Annotated

import torch
from torch import Tensor
from typing_extensions import TypeAliasType, override

from lit_maprops.envs.base import Interface, State, Task, Transition
from lit_maprops.envs.foraging import names as foraging_names
from lit_maprops.envs.foraging import render as foraging_render
from lit_maprops.envs.one_hot import one_hot
from lit_maprops.stacked.device_cache import DeviceCache
from lit_maprops.system.argument_types import Cost, Count, NonNegativeInt, Range
from lit_maprops.system.errors import check, check_count

GridSize = TypeAliasType("GridSize", Annotated[int, Range(3, 100)])
UpTo100 = TypeAliasType("UpTo100", Annotated[int, Range(1, 100)])
PlayerLevel = TypeAliasType("PlayerLevel", Annotated[int, Range(1, 40)])

ACTIONS = ["none", "north", "south", "west", "east", "load"]
_MOVES = DeviceCache(
    torch.tensor([[0, 0], [-1, 0], [1, 0], [0, -1], [0, 1], [0, 0]], dtype=torch.int8)
)  # (rows, columns)
_LOAD = ACTIONS.index("load")
_UNSEEN = DeviceCache(torch.tensor([-1, -1, 0], dtype=torch.int8))  # (row, column, level)
_GONE = -8  # row and column of food that is collected or found no place: no agent gets next to it


class Foraging(Task):
    """Foraging on a ``size`` x ``size`` grid; the defaults are Foraging-8x8-2p-2f-coop.

    Actions: none, north, south, west, east, load. What cannot be done (a step off the grid or onto food, loading with
    no food beside) is none. All agents move at once: one that heads for a cell where no other agent heads or stays gets
    there, the others stay. So agents may swap cells, and enter one whose agent then fails to leave it. After the moves,
    agents that load the same food collect it if their levels add up to its level; otherwise each pays ``penalty``. Food
    lies off the border and at least 3 steps apart, so nobody is beside two of them; what finds no place is left out.
    Success is an episode that ends with all food collected.

    Observation of an agent, int8: (row, column, level) of the food it sees, row by row, and then of itself and of other
    agents it sees, by index; (-1, -1, 0) fills up both lists. Positions count from the north-west corner of its window.
    The global state is, decided here, one-hot: row and column of every agent by index and of every food (zeros once
    collected), the levels of the agents, and the levels that the food had at the start (zeros if left out).

    Args:
        name: a name of the package, such as ``Foraging-2s-8x8-2p-2f-coop-v3`` (``-v3`` may be left out), in place of
            ``size``, ``n_agents``, ``max_num_food``, ``force_coop``, ``sight``, ``max_food_level`` (``-ind``: 1) and
            ``penalty`` (``-pen``: 0.1): each of them is null or says the same.
        size: rows and columns (cells); null: 8.
        n_agents: number of agents; null: 2.
        max_num_food: food at the start; null: 2.
        force_coop: all food has the highest level; null: true.
        sight: how far an agent sees in rows and columns (cells); null: the whole grid.
        penalty: cost to each agent of a group that loads food above its level (reward); null: 0.
        min_player_level: agents' levels are uniform from this one
        max_player_level: to this one.
        min_food_level: without ``force_coop``, food's levels are uniform from this one
        max_food_level: to this one; null: the sum of the three lowest levels of agents.
        normalize_reward: all rewards of an episode add up to 1; otherwise an agent gets its level times the food's.
        max_steps: time limit of an episode (steps).
        fixed_start: the first start drawn for a seed serves all its episodes, in training and evaluation.

    Raises:
        ConfigError: an argument is out of range, the name is none, or the two contradict each other.
    """

    renders = True
    observation_dtype = torch.int8

    def __init__(
        self,
        name: str | None = None,
        size: GridSize | None = None,
        n_agents: UpTo100 | None = None,
        max_num_food: UpTo100 | None = None,
        force_coop: bool | None = None,
        sight: NonNegativeInt | None = None,
        penalty: Cost | None = None,
        min_player_level: PlayerLevel = 1,
        max_player_level: PlayerLevel = 2,
        min_food_level: Count = 1,
        max_food_level: UpTo100 | None = None,
        normalize_reward: bool = True,
        max_steps: Count = 50,
        fixed_start: bool = False,
    ) -> None:
        given = {
            "size": size, "n_agents": n_agents, "max_num_food": max_num_food, "force_coop": force_coop,
            "sight": sight, "max_food_level": max_food_level, "penalty": penalty,
        }  # fmt: skip
        rules = foraging_names.settings(name, given)
        self.size, self.n_agents, self.max_num_food = rules["size"], rules["n_agents"], rules["max_num_food"]
        self.force_coop, self.penalty = rules["force_coop"], rules["penalty"]
        self.sight = self.size if rules["sight"] is None else min(rules["sight"], self.size)
        self.min_player_level, self.max_player_level = min_player_level, max_player_level
        self.min_food_level, self.max_food_level = min_food_level, rules["max_food_level"]
        self.normalize_reward, self.max_steps, self.fixed_start = normalize_reward, max_steps, fixed_start
        self._check_ranges()
        self.n_actions = len(ACTIONS)
        self.top_food_level = self.max_food_level or max_player_level * min(3, self.n_agents)
        self.observation_dim = 3 * (self.max_num_food + self.n_agents)
        agent, food = 2 * self.size + max_player_level, 2 * self.size + self.top_food_level
        self.state_dim = self.n_agents * agent + self.max_num_food * food
        self.start_noise = 2 * (self.n_agents + self.max_num_food)
        # Row i: agent i, then the others by index.
        others = [[i, *(j for j in range(self.n_agents) if j != i)] for i in range(self.n_agents)]
        self._self_first = DeviceCache(torch.tensor(others))

    def _check_ranges(self) -> None:
        check(3 <= self.size <= 100, f"<env.size> is {self.size}: give a value from 3 to 100")
        check_count("env.n_agents", self.n_agents, min(100, self.size**2))
        check_count("env.max_num_food", self.max_num_food, 100)
        low, high = self.min_player_level, self.max_player_level
        check(1 <= low <= high, f"<env.min_player_level> is {low}: give a value from 1 to max_player_level {high}")
        low, agents = self.min_food_level, f"{self.n_agents} agents"
        if self.max_food_level is None:
            lowest = self.min_player_level * min(3, self.n_agents)
            check(
                1 <= low <= lowest,
                f"<env.min_food_level> is {low}: give a value from 1 to {lowest}, the least that {agents} may add up "
                f"to, or <env.max_food_level>",
            )
            return
        check_count("env.max_food_level", self.max_food_level, min(100, high * self.n_agents))
        check(
            1 <= low <= self.max_food_level,
            f"<env.min_food_level> is {low}: give a value from 1 to max_food_level {self.max_food_level}",
        )

    @override
    def initial_state(self, noise: Tensor) -> State:
        """Noise is agents' cells, agents' levels, food's cells, food's levels."""
        a, f = self.n_agents, self.max_num_food
        agent_noise, level_noise, food_noise, food_level_noise = noise.split([a, a, f, f], -1)
        levels = self.max_player_level + 1 - self.min_player_level
        level = (level_noise * levels).to(torch.int8) + self.min_player_level
        free = torch.ones((*noise.shape[:-1], self.size**2), dtype=torch.bool, device=noise.device)
        agents = []
        for chance in agent_noise.unbind(-1):
            agents.append(_random_cell(free, chance))
            free = free.scatter(-1, agents[-1].unsqueeze(-1), False)
        food = self._place_food(free, food_noise)
        if self.max_food_level is None:
            highest = level.sort(-1).values[..., :3].sum(-1, keepdim=True, dtype=torch.int8)
        else:
            highest = torch.full_like(level[..., :1], self.max_food_level)
        lowest = highest if self.force_coop else torch.full_like(highest, self.min_food_level)
        food_level = lowest + (food_level_noise * (highest + 1 - lowest)).to(torch.int8)
        placed = food < self.size**2
        return {
            "agents": self._row_column(torch.stack(agents, -1)),
            "agent_level": level,
            "food": torch.where(placed.unsqueeze(-1), self._row_column(food), _GONE),
            "food_level": food_level * placed,
        }

    def _place_food(self, free: Tensor, noise: Tensor) -> Tensor:
        """Cells ``[*B, F]``, ascending, size * size for no place, out of the ``free`` ones ``[*B, size * size]``."""
        cells = torch.arange(self.size**2, device=free.device)
        rows, columns = cells // self.size, cells % self.size
        last = self.size - 1
        free = free & (rows > 0) & (rows < last) & (columns > 0) & (columns < last)
        food = []
        for chance in noise.unbind(-1):
            cell = _random_cell(free, chance)
            food.append(cell)
            row, column = (cell // self.size).unsqueeze(-1), (cell % self.size).unsqueeze(-1)
            free = free & ((rows - row).abs() + (columns - column).abs() > 2)
        return torch.stack(food, -1).sort(-1).values

    def _row_column(self, cells: Tensor) -> Tensor:
        """``[*B, I] -> [*B, I, 2]`` int8; the number after the last cell gives nonsense."""
        return torch.stack([cells // self.size, cells % self.size], -1).to(torch.int8)

    def _number(self, cells: Tensor) -> Tensor:
        """``[*B, 2] -> [*B]`` int16, distinct for all cells of the grid and the ring around it; linear."""
        return cells[..., 0].short() * (self.size + 2) + cells[..., 1]

    @override
    def transition(self, state: State, action: Tensor, noise: Tensor) -> Transition:
        """Nothing is random."""
        agents, food = state["agents"], state["food"]
        here, places = self._number(agents), self._number(food)  # [*B, A], [*B, F]
        target = agents + _MOVES.on(action.device)[action]  # [*B, A, 2]
        there = self._number(target)
        row, column = target.unbind(-1)
        possible = (row >= 0) & (row < self.size) & (column >= 0) & (column < self.size)
        possible &= (there.unsqueeze(-1) != places.unsqueeze(-2)).all(-1)
        goal = torch.where(possible, there, here)
        alone = (goal.unsqueeze(-1) == goal.unsqueeze(-2)).sum(-1, dtype=torch.int8) == 1
        agents = torch.where((possible & alone).unsqueeze(-1), target, agents)

        distance = (here.unsqueeze(-1) - places.unsqueeze(-2)).abs()  # [*B, A, F] of cell numbers
        beside = (distance == 1) | (distance == self.size + 2)
        loads = beside & (action == _LOAD).unsqueeze(-1)
        reward, collected = self._load(loads, state["agent_level"], state["food_level"])
        food = food.masked_fill(collected.unsqueeze(-1), _GONE)
        over = (food[..., 0] < 0).all(-1)
        following = {"agents": agents, "agent_level": state["agent_level"]}
        following |= {"food": food, "food_level": state["food_level"]}
        return Transition(following, reward, over, over)

    def _load(self, loads: Tensor, level: Tensor, food_level: Tensor) -> tuple[Tensor, Tensor]:
        """Who loads what ``[*B, A, F]``, agents' and food's levels -> rewards ``[*B, A]``, collected ``[*B, F]``."""
        group = (loads * level.unsqueeze(-1)).sum(-2, dtype=torch.int16)  # [*B, F]: the sum of its levels
        collected = (group >= food_level) & (group > 0)
        worth = food_level.float()  # [*B, F]: reward per level of an agent
        if self.normalize_reward:
            worth = worth / (group * food_level.sum(-1, keepdim=True, dtype=torch.float32))
        reward = torch.where(collected.unsqueeze(-2), level.unsqueeze(-1) * worth.unsqueeze(-2), -self.penalty)
        return torch.where(loads, reward, 0.0).sum(-1), collected

    @override
    def observe(self, state: State) -> tuple[Tensor, Tensor]:
        """Numbers as in the docstring of the class."""
        first = self._self_first.on(state["agents"].device)
        me, bodies = state["agents"].unsqueeze(-2), state["agents"][..., first, :]  # [*B, A, 1, 2], [*B, A, A, 2]
        food = state["food"].unsqueeze(-3)  # [*B, 1, F, 2]
        corner = (me - self.sight).clamp(min=0)
        near = (((food - me).abs() <= self.sight) & (food >= 0)).all(-1)  # [*B, A, F]
        # Counted from the corner: near the north and west border agents are seen from farther away than food is. That
        # is how the package does it.
        bodies = bodies - corner
        around = ((bodies >= 0) & (bodies <= min(2 * self.sight, self.size))).all(-1)  # [*B, A, A]
        levels = state["food_level"].unsqueeze(-2).expand(near.shape), state["agent_level"][..., first]
        cells = torch.cat([food - corner, bodies], -2)
        things = torch.cat([cells, torch.cat(levels, -1).unsqueeze(-1)], -1)  # [*B, A, F + A, 3]
        return self._closed_up(things, near, around), self._state_vector(state)

    def _closed_up(self, things: Tensor, near: Tensor, around: Tensor) -> Tensor:
        """Seen food, then seen agents, each closed up: ``[*B, A, F + A, 3] -> [*B, A, (F + A) * 3]``."""
        food, last = near.shape[-1], things.shape[-2]
        place = torch.cat([near.cumsum(-1) - 1, around.cumsum(-1) + (food - 1)], -1)
        place = torch.where(torch.cat([near, around], -1), place, last)  # what is not seen goes behind the end
        out = _UNSEEN.on(things.device).repeat(*things.shape[:-2], last + 1, 1)
        out.scatter_(-2, place.unsqueeze(-1).expand(*place.shape, 3), things)
        return out[..., :last, :].flatten(-2)

    def _state_vector(self, state: State) -> Tensor:
        cells = torch.cat([state["agents"], state["food"]], -2)
        vectors = [
            one_hot(cells, 0, self.size).flatten(-2),
            one_hot(state["agent_level"], 1, self.max_player_level + 1),
            one_hot(state["food_level"], 1, self.top_food_level + 1),
        ]
        return torch.cat([vector.flatten(-2) for vector in vectors], -1)

    @override
    def interface(self, agent: int) -> Interface:
        """Lists of what is seen, which close up."""
        food = [f"food {number}" for number in range(self.max_num_food)]
        others = [f"other agent {number}" for number in range(self.n_agents - 1)]
        triples = [f"{part} of {thing}" for thing in [*food, "itself", *others] for part in ("row", "column", "level")]
        return super().interface(agent)._replace(observation=triples, actions=ACTIONS)

    @override
    def state_index(self, state: State) -> Tensor | None:
        """None where the number of states does not fit in 62 bits."""
        cells, levels, food_levels = self.size**2, self.max_player_level, self.top_food_level
        if (cells * levels) ** self.n_agents * ((cells + 1) * (food_levels + 1)) ** self.max_num_food >= 2**62:
            return None
        agents, food = (state[key].long() for key in ("agents", "food"))
        agents = (agents[..., 0] * self.size + agents[..., 1]) * levels + state["agent_level"] - 1
        food = (food[..., 0] * self.size + food[..., 1] + 1).clamp(min=0) * (food_levels + 1) + state["food_level"]
        index = torch.zeros_like(agents[..., 0])
        for agent in agents.unbind(-1):
            index = index * (cells * levels) + agent
        for one in food.unbind(-1):
            index = index * ((cells + 1) * (food_levels + 1)) + one
        return index

    @override
    def render(self, state: State) -> Tensor:
        return foraging_render.draw(
            self.size, state["agents"], state["agent_level"], state["food"], state["food_level"]
        )


def _random_cell(free: Tensor, chance: Tensor) -> Tensor:
    """Uniform over the ``free`` cells ``[*B, cells]`` by ``chance`` ``[*B]``; the number of all cells if none is."""
    count = free.cumsum(-1, dtype=torch.int16)
    skipped = (chance * count[..., -1]).short()
    return (count <= skipped.unsqueeze(-1)).sum(-1)
