"""Records steps of the package overcooked-ai 1.1.0 into overcooked_reference.npz: what Overcooked is checked against.

The package wants pygame, IPython and ipywidgets, which its rules do not use, so it is none of the test dependencies:

    pip install --no-deps --target FOLDER overcooked-ai==1.1.0
    PYTHONPATH=FOLDER python tests/reference/record_overcooked.py

Every kitchen: episodes of random actions from random states. Codes: 0 nothing, 1 onion, 2 dish, 2 + k soup
of k onions.
"""

from pathlib import Path

import numpy as np

# counter_circuit of the package is another kitchen, with tomatoes.
NAMES = {
    "cramped_room": "cramped_room",
    "asymmetric_advantages": "asymmetric_advantages",
    "coordination_ring": "coordination_ring",
    "forced_coordination": "forced_coordination",
    "counter_circuit": "counter_circuit_o_1order",
}
EPISODES, STEPS, HORIZON = 120, 14, 45
INTERACTIONS = 0.45  # share of the actions


def record(name, rng):
    """One kitchen: arrays of states, actions, rewards, next states and what is seen of these."""
    from overcooked_ai_py.mdp.actions import Action
    from overcooked_ai_py.mdp.overcooked_mdp import OvercookedGridworld

    mdp = OvercookedGridworld.from_layout_name(NAMES[name])
    start = mdp.get_standard_start_state()
    rows = [(read(mdp, start), [4, 4], [0, 0], [0, 0], read(mdp, start), look(mdp, start))]  # row 0: how episodes begin
    for _ in range(EPISODES):
        state = random_state(mdp, rng)
        for step in range(STEPS):
            chances = [*[(1 - INTERACTIONS) / 5] * 5, INTERACTIONS]
            action = [5, 5] if step == 0 and rng.random() < 0.7 else [int(a) for a in rng.choice(6, size=2, p=chances)]
            following, infos = mdp.get_state_transition(state, [Action.INDEX_TO_ACTION[a] for a in action])
            rewards = infos["sparse_reward_by_agent"], infos["shaped_reward_by_agent"]
            rows.append((read(mdp, state), action, *rewards, read(mdp, following), look(mdp, following)))
            state = following
    before, action, sparse, shaped, after, seen = zip(*rows, strict=True)
    return {
        "state": np.array(before, np.int8), "action": np.array(action, np.int8), "sparse": np.array(sparse, np.int8),
        "shaped": np.array(shaped, np.int8), "next_state": np.array(after, np.int8), "seen": np.array(seen, np.int8),
    }  # fmt: skip


def code(thing):
    """The number of what is held or lies somewhere."""
    if thing is None:
        return 0
    return {"onion": 1, "dish": 2}.get(thing.name) or 2 + len(thing.ingredients)


def read(mdp, state):
    """Cells, directions and hands of both, what lies in every cell, onions and steps cooked of every pot, the time."""
    from overcooked_ai_py.mdp.actions import Direction

    pots = mdp.get_pot_locations()
    soups = [state.objects.get(pot) for pot in pots]
    cells = [(x, y) for y in range(mdp.height) for x in range(mdp.width)]
    return [
        *(player.position[1] * mdp.width + player.position[0] for player in state.players),
        *(Direction.DIRECTION_TO_INDEX[player.orientation] for player in state.players),
        *(code(player.held_object) for player in state.players),
        *(0 if cell in pots else code(state.objects.get(cell)) for cell in cells),
        *(0 if soup is None else len(soup.ingredients) for soup in soups),
        *(-1 if soup is None else soup._cooking_tick for soup in soups),
        state.timestep,
    ]


def look(mdp, state):
    """Both agents' observations as layers, rows, columns."""
    return [layers.transpose(2, 1, 0) for layers in mdp.lossless_state_encoding(state, HORIZON)]


def random_state(mdp, rng):
    """Agents anywhere, anything in their hands, on counters and in pots."""
    from overcooked_ai_py.mdp.actions import Direction
    from overcooked_ai_py.mdp.overcooked_mdp import ObjectState, OvercookedState, PlayerState, SoupState

    def thing(position):
        kind = rng.choice(["none", "onion", "dish", "soup"], p=[0.4, 0.25, 0.2, 0.15])
        if kind == "soup":
            return SoupState.get_soup(position, num_onions=int(rng.integers(1, 4)), finished=True)
        return None if kind == "none" else ObjectState(str(kind), position)

    free = mdp.get_valid_player_positions()
    ways = [(place, way) for place in free for way in Direction.ALL_DIRECTIONS]
    # Otherwise soups are hardly ever taken or served.
    task = rng.choice(["serve", "take", "any"], p=[0.25, 0.25, 0.5])
    goals = mdp.get_serving_locations() if task == "serve" else mdp.get_pot_locations()
    busy = [(place, way) for place, way in ways if (place[0] + way[0], place[1] + way[1]) in goals]
    first = ways[rng.integers(len(ways))] if task == "any" else busy[rng.integers(len(busy))]
    others = [(place, way) for place, way in ways if place != first[0]]
    second = others[rng.integers(len(others))]
    soup = SoupState.get_soup(first[0], num_onions=3, finished=True)
    held = {"serve": soup, "take": ObjectState("dish", first[0]), "any": thing(first[0])}[task]
    players = [PlayerState(*first, held), PlayerState(*second, thing(second[0]))][:: int(rng.choice([1, -1]))]
    share, objects = rng.choice([0.0, 0.2, 0.6]), {}
    for counter in mdp.get_counter_locations():
        lying = thing(counter) if rng.random() < share else None
        if lying is not None:
            objects[counter] = lying
    for pot in mdp.get_pot_locations():
        onions = int(rng.integers(0, 4))
        if onions:
            tick = int(rng.choice([-1, rng.integers(1, 21), 20]))
            objects[pot] = SoupState.get_soup(pot, num_onions=onions, cooking_tick=tick)
    return OvercookedState(players, objects, all_orders=mdp.start_all_orders, timestep=int(rng.integers(0, 10)))


if __name__ == "__main__":
    generator = np.random.default_rng(0)
    arrays = {f"{name}/{key}": value for name in NAMES for key, value in record(name, generator).items()}
    np.savez_compressed(Path(__file__).with_name("overcooked_reference.npz"), **arrays)
