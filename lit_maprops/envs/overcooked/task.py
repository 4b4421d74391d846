"""Overcooked: two cooks put three onions into a pot, cook them, and serve the soup on a dish.

The rules are those of the package overcooked-ai 1.1.0 (Carroll et al. 2019, arXiv 1910.05789), checked step by step
against recordings of it. There a pot starts to cook when an agent with empty hands uses it, with one to three onions in
it; in the paper, and in JaxMARL, it starts by itself with the third. Left out: tomatoes and other orders than soups of
three onions. Cells are counted row by row from the north-west corner.
"""

from typing import Literal

import torch
from torch import Tensor
from typing_extensions import override

from lit_maprops.envs.base import Interface, State, Task, Transition
from lit_maprops.envs.one_hot import one_hot
from lit_maprops.envs.overcooked import render as overcooked_render
from lit_maprops.envs.overcooked.layouts import LAYOUTS
from lit_maprops.stacked.device_cache import DeviceCache
from lit_maprops.system.argument_types import Count, NonNegativeFloat

ACTIONS = ["north", "south", "east", "west", "stay", "interact"]
_STAY, _INTERACT = 4, 5
_ONION, _DISH, _SOUP = 1, 2, 2  # what is held or lies somewhere; _SOUP + k: a soup of k onions; 0: nothing
_FULL, _COOK_TIME, _WORTH = 3, 20, 20.0  # onions, steps, reward
_POTTING, _DISH_PICKUP, _SOUP_PICKUP = 3.0, 3.0, 5.0  # shaped rewards
_HURRY = 40  # steps to the end from which on observations say so
_STATIC = "PXOTDS"  # the layers of the observation that never change
LAYERS = [
    *("own place", "other's place", *(f"{who} facing {way}" for who in ("own", "other's") for way in ACTIONS[:4])),
    *("pot", "counter", "onions", "tomatoes", "dishes", "serving"),
    *("onions in pot", "tomatoes in pot", "onions in soup", "tomatoes in soup", "cook time left", "soup done"),
    *("dish", "onion", "tomato", "hurry"),
]  # fmt: skip


class Overcooked(Task):
    """Overcooked in one of five kitchens, with two agents.

    Actions: north, south, east, west, stay, interact. A move turns the agent, and takes it to the next cell if that is
    free; if both would end in one cell, or swap, neither moves. Interacting, the first agent before the second, is with
    what lies ahead: take an onion or a dish, put down on an empty counter or take from it, put an onion into a pot that
    is not full and not cooking, with empty hands start a pot that has onions, take a ready soup with a dish (20 steps
    later), serve. Both agents get 20 for a soup of three onions, 0 for others. Every episode starts alike.

    Observation of an agent, int8: the package's lossless encoding, 26 layers of the size of the kitchen, its own layers
    before the other agent's; ``LAYERS`` names them. The global state is, decided here, one-hot: row, column and
    direction of each agent and what it holds, what lies on every counter, onions and cook time left of every pot; and
    whether less than 40 steps are left.

    Args:
        layout: ``cramped_room``, ``asymmetric_advantages``, ``coordination_ring``, ``forced_coordination`` or
            ``counter_circuit`` (the package's counter_circuit_o_1order).
        shaping: weight of the package's shaped reward, each agent's own: 3 for an onion put into a pot, 3 for a dish
            taken while it is of use, 5 for a soup taken. 0: returns are 20 for each soup, as published ones are.
        success_soups: an episode is a success if it serves at least so many soups of three onions.
        max_steps: time limit of an episode (steps).
    """

    renders = True
    observation_dtype = torch.int8
    n_agents, n_actions = 2, len(ACTIONS)

    def __init__(
        self,
        layout: Literal[
            "cramped_room", "asymmetric_advantages", "coordination_ring", "forced_coordination", "counter_circuit"
        ] = "cramped_room",
        shaping: NonNegativeFloat = 0.0,
        success_soups: Count = 1,
        max_steps: Count = 400,
    ) -> None:
        rows = LAYOUTS[layout]
        self.layout, self.shaping, self.success_soups, self.max_steps = layout, shaping, success_soups, max_steps
        self.height, self.width = len(rows), len(rows[0])
        kitchen = "".join(rows)
        self.start = [kitchen.index("1"), kitchen.index("2")]
        self.kitchen = [row.replace("1", " ").replace("2", " ") for row in rows]
        kitchen = "".join(self.kitchen)
        self.cells = len(kitchen)
        self.pots = [cell for cell, kind in enumerate(kitchen) if kind == "P"]
        static = torch.tensor([[one == kind for one in kitchen] for kind in _STATIC])
        self._kinds = {kind: DeviceCache(static[number]) for number, kind in enumerate(_STATIC)}
        self._static = DeviceCache(static.to(torch.int8))
        self._free = DeviceCache(torch.tensor([kind == " " for kind in kitchen]))
        self._counters = DeviceCache(torch.tensor([cell for cell, kind in enumerate(kitchen) if kind == "X"]))
        self._pots = DeviceCache(torch.tensor(self.pots))
        order = [self.pots.index(cell) if cell in self.pots else 0 for cell in range(self.cells)]
        self._pot_of = DeviceCache(torch.tensor(order))
        self._ahead = DeviceCache(torch.tensor([-self.width, self.width, 1, -1, 0, 0]))
        self.observation_shape = len(LAYERS), self.height, self.width
        self.observation_dim = len(LAYERS) * self.cells
        counters, pots = len(self._counters.value), len(self.pots)
        agent = self.height + self.width + 4 + _SOUP + _FULL
        self.state_dim = 2 * agent + (_SOUP + _FULL) * counters + (_FULL + _COOK_TIME + 1) * pots + 1

    @override
    def initial_state(self, noise: Tensor) -> State:
        """Nothing is random."""
        batch, device = noise.shape[:-1], noise.device

        def zeros(size: int, dtype: torch.dtype = torch.int8) -> Tensor:
            return torch.zeros((*batch, size), dtype=dtype, device=device)

        agent = torch.stack([torch.full(batch, cell, device=device) for cell in self.start], -1)
        held, onions, clock = zeros(2), zeros(len(self.pots)), zeros(1, torch.int32).squeeze(-1)
        state = {"agent": agent, "facing": zeros(2, torch.int64), "held": held, "lying": zeros(self.cells)}
        return state | {"onions": onions, "cooked": onions - 1, "clock": clock, "soups": torch.zeros_like(clock)}

    @override
    def transition(self, state: State, action: Tensor, noise: Tensor) -> Transition:
        """Nothing is random."""
        now = {key: value.clone() for key, value in state.items() if key != "step"}
        idle = now["cooked"] < 0
        busy = (~idle | ((now["onions"] > 0) & (now["onions"] < _FULL))).sum(-1)  # pots that a dish is of use for
        shaped, served = [], []
        for number in range(self.n_agents):
            own, soup = self._interact(now, number, action[..., number] == _INTERACT, busy)
            shaped.append(own)
            served.append(soup)
        self._move(now, action)
        cooked = now["cooked"]
        now["cooked"] = cooked + ((cooked >= 0) & (cooked < _COOK_TIME))
        now["clock"] = now["clock"] + 1
        soups = torch.stack(served, -1).sum(-1)
        now["soups"] = now["soups"] + soups.to(torch.int32)
        reward = _WORTH * soups.unsqueeze(-1) + self.shaping * torch.stack(shaped, -1)
        success = (now["clock"] >= self.max_steps) & (now["soups"] >= self.success_soups)
        return Transition(now, reward, torch.zeros_like(success), success)

    def _interact(self, now: State, number: int, uses: Tensor, busy: Tensor) -> tuple[Tensor, Tensor]:
        """One agent uses what is ahead of it; changes ``now``.

        Args:
            now: the state so far in this step.
            number: of the agent.
            uses: whether it interacts, ``[*B]`` bool.
            busy: pots that a dish is of use for, ``[*B]``, when the step began.

        Returns:
            Its shaped reward ``[*B]`` float32, and whether it serves a soup of three onions, ``[*B]`` bool.
        """
        device = uses.device
        place = now["agent"][..., number] + self._ahead.on(device)[now["facing"][..., number]]
        held = now["held"][..., number]
        pot, counter, onion, _, dish, serving = (uses & self._kinds[kind].on(device)[place] for kind in _STATIC)
        ahead = place.unsqueeze(-1)
        there = now["lying"].gather(-1, ahead).squeeze(-1)
        useful = (now["lying"] != _DISH).all(-1) & ((now["held"] == _DISH).sum(-1) < busy)
        swaps = counter & ((held > 0) ^ (there > 0))
        now["lying"].scatter_(-1, ahead, torch.where(swaps, held, there).unsqueeze(-1))

        index = self._pot_of.on(device)[place].unsqueeze(-1)
        onions, cooked = now["onions"].gather(-1, index).squeeze(-1), now["cooked"].gather(-1, index).squeeze(-1)
        starts = pot & (held == 0) & (onions > 0) & (cooked < 0)
        takes = pot & (held == _DISH) & (cooked >= _COOK_TIME)
        adds = pot & (held == _ONION) & (cooked < 0) & (onions < _FULL)
        now["onions"].scatter_(-1, index, (onions + adds).masked_fill(takes, 0).unsqueeze(-1))
        now["cooked"].scatter_(-1, index, cooked.masked_fill(starts, 0).masked_fill(takes, -1).unsqueeze(-1))

        gets_onion, gets_dish, serves = onion & (held == 0), dish & (held == 0), serving & (held > _SOUP)
        worth = serves & (held == _SOUP + _FULL)
        after = torch.where(swaps, there, held).masked_fill(gets_onion, _ONION).masked_fill(gets_dish, _DISH)
        after = torch.where(takes, _SOUP + onions, after).masked_fill(adds | serves, 0)
        now["held"][..., number] = after
        shaped = _POTTING * adds + _DISH_PICKUP * (gets_dish & useful) + _SOUP_PICKUP * takes
        return shaped, worth

    def _move(self, now: State, action: Tensor) -> None:
        """Both agents turn and move; changes ``now``."""
        old = now["agent"]
        target = old + self._ahead.on(action.device)[action]
        new = torch.where(self._free.on(action.device)[target], target, old)
        meet = new[..., 0] == new[..., 1]
        swap = (new[..., 0] == old[..., 1]) & (new[..., 1] == old[..., 0])
        now["agent"] = torch.where((meet | swap).unsqueeze(-1), old, new)
        now["facing"] = torch.where(action < _STAY, action, now["facing"])

    @override
    def observe(self, state: State) -> tuple[Tensor, Tensor]:
        """Layers and numbers as in the docstring of the class."""
        agent, cooked, onions = state["agent"], state["cooked"], state["onions"]
        batch, pots = agent.shape[:-1], self._pots.on(agent.device)
        places = one_hot(agent, 0, self.cells)  # [*B, 2, cells]
        facing = one_hot(state["facing"], 0, 4)
        looks = places.unsqueeze(-2) * facing.unsqueeze(-1)  # [*B, 2, 4, cells]
        things = state["lying"].scatter(-1, agent, state["held"])
        soups = (things - _SOUP).clamp(min=0)

        def at_pots(values: Tensor) -> Tensor:
            layer = torch.zeros((*batch, self.cells), dtype=torch.int8, device=agent.device)
            return layer.scatter(-1, pots.expand(values.shape), values.to(torch.int8))

        left = (_COOK_TIME - cooked) * (cooked >= 0)
        hurry = (self.max_steps - state["clock"] < _HURRY).to(torch.int8).unsqueeze(-1)
        none = torch.zeros_like(things)
        objects = [
            *(at_pots(onions * (cooked < 0)), none, at_pots(onions * (cooked >= 0)) + soups, none, at_pots(left)),
            *(at_pots(cooked >= _COOK_TIME) + (soups > 0), things == _DISH, things == _ONION, none),
            hurry.expand(things.shape),
        ]
        common = torch.cat(
            [
                self._static.on(agent.device).expand(*batch, len(_STATIC), self.cells),
                torch.stack([layer.to(torch.int8) for layer in objects], -2),
            ],
            -2,
        )
        own_first = [(places, looks), (places.flip(-2), looks.flip(-3))]
        seen = [torch.cat([where, look.flatten(-3, -2), common], -2).flatten(-2) for where, look in own_first]
        return torch.stack(seen, -2), self._state_vector(state, facing, left, hurry)

    def _state_vector(self, state: State, facing: Tensor, left: Tensor, hurry: Tensor) -> Tensor:
        lying = state["lying"][..., self._counters.on(left.device)]
        parts = [
            one_hot(state["agent"] // self.width, 0, self.height),
            one_hot(state["agent"] % self.width, 0, self.width),
            facing,
            one_hot(state["held"], 1, 1 + _SOUP + _FULL),
            one_hot(lying, 1, 1 + _SOUP + _FULL),
            one_hot(state["onions"], 1, 1 + _FULL),
            one_hot(left, 1, 1 + _COOK_TIME),
            one_hot(state["cooked"], _COOK_TIME, 1 + _COOK_TIME),  # ready
        ]
        return torch.cat([*(part.flatten(-2) for part in parts), hurry], -1)

    @override
    def interface(self, agent: int) -> Interface:
        cells = [f"row {row}, column {column}" for row in range(self.height) for column in range(self.width)]
        observation = [f"{layer} at {cell}" for layer in LAYERS for cell in cells]
        return super().interface(agent)._replace(observation=observation, actions=ACTIONS)

    @override
    def render(self, state: State) -> Tensor:
        pot = state["onions"] + 20 * (state["cooked"] >= _COOK_TIME)
        agent, facing, held = state["agent"], state["facing"], state["held"]
        return overcooked_render.draw(self.kitchen, self.pots, agent, facing, held, state["lying"], pot)
