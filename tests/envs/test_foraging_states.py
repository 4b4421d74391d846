"""Foraging's starts, names, state numbers, state vectors, pictures and refusals."""

import re
from collections import Counter
from itertools import combinations, product

import gymnasium
import numpy as np
import pytest
import torch
from foraging_package import GONE, Food, Setting, as_state, purposeful, put, read
from scipy.stats import chi2_contingency, chisquare

from lit_maprops.envs import Foraging, TaskEnv
from lit_maprops.stacked.device_cache import DeviceCache
from lit_maprops.system.errors import ConfigError

KEYS = ("agents", "agent_level", "food", "food_level")
SIZES = [(3, 1, 1), (4, 2, 1), (5, 2, 2), (6, 9, 4), (8, 2, 2), (20, 3, 7)]  # size, n_agents, max_num_food


def freeze(value):
    return tuple(map(freeze, value)) if isinstance(value, list | tuple) else int(value)


def as_rows(state):
    """One hashable (agents, levels, food, food levels) per row of a batch with two dimensions."""
    return list(zip(*(freeze(state[key].flatten(0, 1).tolist()) for key in KEYS), strict=True))


def starts(task, rows):
    env = TaskEnv(task, 3, [0, 7], rows // 2)
    env.reset()
    return as_rows(env.state)


# What the package's starts are compared in: features with few enough values for a chi-square test.
def food_and_levels(start):
    return start[2:]


def levels(start):
    return tuple(start[1]), tuple(start[3])


def first_agent_and_food(start):
    return start[0][0], start[2][0]


def places_of_agents(start):
    return start[0][-1]


COMPARED = {
    "coop": (Setting(4, 2, 1, True), 1600),
    "two food in a small field": (Setting(5, 2, 2), 800),
    "own levels": (Setting(6, 3, 2, max_player_level=3, max_food_level=4, min_food_level=2), 1200),
}


@pytest.mark.every(6)
@pytest.mark.parametrize("feature", [food_and_levels, levels, first_agent_and_food, places_of_agents])
@pytest.mark.parametrize("name", COMPARED)
def test_starts_are_distributed_as_in_the_package(name, feature, packages_starts):
    ours = Counter(map(feature, starts(COMPARED[name][0].task(), 40_000)))
    theirs = Counter(map(feature, packages_starts(name)))
    assert set(theirs) <= set(ours) and len(theirs) > 1
    table = np.array([[ours[value], theirs[value]] for value in ours], dtype=float)
    rare = table.sum(1) * table[:, 1].sum() / table.sum() < 5
    table = np.vstack([table[~rare], table[rare].sum(0)])
    assert chi2_contingency(table[table.sum(1) > 0]).pvalue > 1e-3


@pytest.fixture(scope="module")
def packages_starts():
    """Starts of new environments of the package: later episodes of one keep agents off the cells of the last."""
    cache = {}

    def of(name):
        if name not in cache:
            setting, count = COMPARED[name]
            cache[name] = []
            for seed in range(count):
                env = setting.package()
                env.reset(seed=seed)
                cache[name].append(freeze(read(env, Food.of(env))))
        return cache[name]

    return of


def start_chances(size, n_food):
    """The chance of every start of one agent and its food, by going through all orders in which food is placed."""
    cells = list(product(range(size), repeat=2))
    inner = [cell for cell in cells if min(cell) > 0 and max(cell) < size - 1]
    chances = Counter()

    def place(agent, food, chance):
        far = [c for c in inner if c != agent and all(abs(c[0] - r) + abs(c[1] - q) > 2 for r, q in food)]
        if len(food) == n_food or not far:
            missing = [(GONE, GONE)] * (n_food - len(food))
            chances[agent, tuple(sorted(food) + missing)] += chance
        else:
            for cell in far:
                place(agent, [*food, cell], chance / len(far))

    for agent in cells:
        place(agent, [], 1 / len(cells))
    return chances


@pytest.mark.every(2)
@pytest.mark.parametrize("size, n_food", [(3, 1), (4, 1), (5, 2), (5, 3)])
def test_starts_have_the_chances_of_an_enumeration(size, n_food):
    chances = start_chances(size, n_food)
    assert sum(chances.values()) == pytest.approx(1)
    seen = Counter(
        (start[0][0], start[2]) for start in starts(Foraging(size=size, n_agents=1, max_num_food=n_food), 60_000)
    )
    assert set(seen) <= set(chances)
    expected = np.array(list(chances.values())) * 60_000
    assert chisquare([seen[start] for start in chances], expected).pvalue > 1e-3


def test_the_package_keeps_agents_off_the_cells_of_the_last_episode():
    """The one difference of the starts, which the class names."""
    env = Setting(4, 2, 1).package()
    env.reset(seed=0)
    for _ in range(60):
        before = [player.position for player in env.players]
        env.reset()
        assert env.players[0].position not in before


@pytest.mark.parametrize("size, n_agents, n_food", SIZES)
@pytest.mark.parametrize("extreme", [0.0, 1.0 - 2**-24])
def test_extreme_noise_gives_legal_starts(size, n_agents, n_food, extreme):
    task = Foraging(size=size, n_agents=n_agents, max_num_food=n_food, force_coop=False)
    noise = torch.rand(1024, task.start_noise, generator=torch.Generator().manual_seed(0))
    noise = torch.where(torch.rand(noise.shape, generator=torch.Generator().manual_seed(1)) < 0.5, extreme, noise)
    for agents, agent_level, food, food_level in as_rows(task.initial_state(noise.unsqueeze(0))):
        lying = [cell for cell in food if cell != (GONE, GONE)]
        assert len({*agents, *lying}) == n_agents + len(lying) and list(food) == lying + [(GONE, GONE)] * (
            n_food - len(lying)
        )
        assert lying == sorted(lying) and all(0 < x < size - 1 for cell in lying for x in cell)
        assert all(0 <= x < size for cell in agents for x in cell) and set(agent_level) <= {1, 2}
        assert all(abs(a[0] - b[0]) + abs(a[1] - b[1]) > 2 for a, b in combinations(lying, 2))
        assert [level > 0 for level in food_level] == [cell in lying for cell in food]
        assert max(food_level) <= sum(sorted(agent_level)[:3])


def test_every_registered_name_means_what_the_package_says():
    registered = {name: spec.kwargs for name, spec in gymnasium.registry.items() if re.match("Foraging-(?!grid)", name)}
    assert len(registered) == 15 * 8 * 4 * 2 * 2
    for name, kwargs in registered.items():
        kwargs = dict(kwargs)
        assert not kwargs.pop("grid_observation")
        size = kwargs.pop("field_size")[0]
        settings = {
            "size": size,
            "n_agents": kwargs.pop("players"),
            "max_steps": kwargs.pop("max_episode_steps"),
            **kwargs,
        }
        for given in (name, name.removesuffix("-v3")):
            task = Foraging(given)
            assert {key: getattr(task, key) for key in settings} == settings, given


def test_names_the_package_forms_without_registering_them():
    task = Foraging("lbforaging:Foraging-3s-8x8-2p-3f-coop-ind-pen")
    assert (task.sight, task.max_num_food, task.max_food_level, task.penalty) == (3, 3, 1, 0.1)


def test_defaults_are_the_well_known_name():
    def values(task: Foraging) -> dict:
        return {
            k: v.on(torch.device("cpu")) if isinstance(v, DeviceCache) else v
            for k, v in vars(task).items()
            if k != "_given"
        }

    named, default = values(Foraging("Foraging-8x8-2p-2f-coop")), values(Foraging())
    assert all(
        torch.equal(named[k], default[k]) if torch.is_tensor(named[k]) else named[k] == default[k] for k in named
    )


REFUSED = {
    "no name": ({"name": "Foraging"}, "name"),
    "another version": ({"name": "Foraging-8x8-2p-2f-coop-v2"}, "name"),
    "a rectangle": ({"name": "Foraging-8x6-2p-2f"}, "name"),
    "pictures": ({"name": "Foraging-grid-8x8-2p-2f-v3"}, "name"),
    "another size": ({"name": "Foraging-8x8-2p-2f", "size": 6}, "size"),
    "not cooperative": ({"name": "Foraging-8x8-2p-2f-coop", "force_coop": False}, "force_coop"),
    "another penalty": ({"name": "Foraging-8x8-2p-2f-coop", "penalty": 0.1}, "penalty"),
    "another sight": ({"name": "Foraging-8x8-2p-2f-coop", "sight": 2}, "sight"),
    "other food": ({"name": "Foraging-8x8-2p-2f-coop", "max_food_level": 2}, "max_food_level"),
    "too small": ({"size": 2}, "size"),
    "too large": ({"size": 101}, "size"),
    "no agents": ({"n_agents": 0}, "n_agents"),
    "more agents than cells": ({"size": 4, "n_agents": 17}, "n_agents"),
    "no food": ({"max_num_food": 0}, "max_num_food"),
    "negative sight": ({"sight": -1}, "sight"),
    "negative penalty": ({"penalty": -0.1}, "penalty"),
    "endless penalty": ({"penalty": float("inf")}, "penalty"),
    "no steps": ({"max_steps": 0}, "max_steps"),
    "agents of level 0": ({"min_player_level": 0}, "min_player_level"),
    "levels upside down": ({"min_player_level": 3}, "min_player_level"),
    "levels beyond int8": ({"max_player_level": 41}, "max_player_level"),
    "food of level 0": ({"min_food_level": 0}, "min_food_level"),
    "food above what agents may add up to": ({"min_food_level": 3}, "min_food_level"),
    "food above its highest": ({"min_food_level": 3, "max_food_level": 2}, "min_food_level"),
    "food that nobody can load": ({"max_food_level": 5}, "max_food_level"),
}


@pytest.mark.parametrize("settings, flag", REFUSED.values(), ids=REFUSED)
def test_impossible_settings_are_refused(settings, flag):
    with pytest.raises(ConfigError, match=rf"{flag} ") as error:
        Foraging(**settings)
    assert "\n" not in str(error.value)


def test_a_name_takes_arguments_that_agree_with_it():
    assert Foraging("Foraging-2s-8x8-2p-2f-coop", size=8, sight=2, penalty=0.0, max_steps=9).max_steps == 9


def test_state_index_tells_all_states_apart():
    """Every combination of cells and levels on a small grid, reachable or not."""
    task = Foraging(size=3, n_agents=1, max_num_food=2, max_food_level=2)
    cells = list(product(range(3), repeat=2))
    food = [(cell, level) for cell in [(GONE, GONE), *cells] for level in range(3)]
    rows = [([a], [level], [f[0], g[0]], [f[1], g[1]]) for a in cells for level in (1, 2) for f in food for g in food]
    index = task.state_index(as_state(rows))
    assert index.dtype == torch.int64 and (index >= 0).all()
    assert index.unique().numel() == len(rows) == 9 * 2 * 30**2


def test_states_too_many_to_number_have_no_index():
    task = Foraging(size=20, n_agents=6, max_num_food=2)
    assert not task.numbers_states() and "state_index" not in TaskEnv(task, 0, [0], 2).reset()
    # 8x8, four agents and three food: 128^4 (65 * 7)^3 states, and the last of them has the largest number.
    last = as_state([([(7, 7)] * 4, [2] * 4, [(7, 7)] * 3, [6] * 3)])
    numbered = Foraging(size=8, n_agents=4, max_num_food=3).state_index(last)
    assert numbered.tolist() == [128**4 * (65 * 7) ** 3 - 1]


def decode(vector, task):
    """The state behind a documented state vector; food that is gone has no cell."""
    a, f, side = task.n_agents, task.max_num_food, task.size
    ends = np.cumsum([side] * (2 * (a + f)) + [task.max_player_level] * a + [task.top_food_level] * f)
    blocks = np.split(np.asarray(vector), ends)
    assert ends[-1] == len(vector) and all(set(block) <= {0, 1} and block.sum() <= 1 for block in blocks)
    places = [int(block.argmax()) if block.any() else GONE for block in blocks[: 2 * (a + f)]]
    ranks = [int(block.argmax()) + 1 if block.any() else 0 for block in blocks[2 * (a + f) : -1]]
    cells = list(zip(places[::2], places[1::2], strict=True))
    return tuple(cells[:a]), tuple(ranks[:a]), tuple(cells[a:]), tuple(ranks[a:])


@pytest.mark.parametrize("size, n_agents, n_food", [(4, 2, 2), (5, 3, 3), (8, 2, 2), (20, 3, 7)])
def test_state_vector_decodes_to_the_state(size, n_agents, n_food):
    task = Foraging(size=size, n_agents=n_agents, max_num_food=n_food, force_coop=False, sight=1)
    for row, vector in zip(*played(task, 60), strict=True):
        assert decode(vector, task) == row


def played(task, episodes):
    """States and vectors in the middle of purposeful episodes, when some food is collected."""
    setting = Setting(task.size, task.n_agents, task.max_num_food, sight=task.sight, max_steps=1000)
    env, rng, rows = setting.package(), np.random.default_rng(2), []
    for start in as_rows(task.initial_state(torch.rand(1, episodes, task.start_noise))):
        put(env, *start)
        for _ in range(int(rng.integers(25))):
            env.step(purposeful(env, rng, 0.2))
        rows.append(freeze(read(env, Food(list(start[2]), list(start[3])))))
    assert any(row[2].count((GONE, GONE)) > row[3].count(0) for row in rows), "some food is collected"
    return rows, task.observe(as_state(rows))[1].tolist()


def test_fixed_start_is_the_same_for_all_episodes_and_purposes_of_a_seed():
    firsts = []
    for purpose, ids in (("environment", [3, 1]), ("evaluation environment", [3, 1]), ("environment", [1, 3])):
        env = TaskEnv(Foraging(size=9, fixed_start=True, max_steps=1), 8, ids, 2, purpose)
        current, seen = env.reset(), {0: set(), 1: set()}
        for _ in range(4):
            for row, start in enumerate(as_rows(env.state)):
                seen[row // 2].add(start)
            current = env.step_and_maybe_reset(current.set(("agents", "action"), torch.zeros(2, 2, 2).long()))[1]
        firsts.append([seen[row] for row in (0, 1)])
    assert all(len(rows) == 1 for both in firsts for rows in both)
    assert firsts[0] == firsts[1] == firsts[2][::-1] and firsts[0][0] != firsts[0][1]


def test_pictures_show_food_agents_and_levels():
    """Everything that differs between two states differs in their pictures, in its own cell only."""
    task = Foraging(size=6, n_agents=2, max_num_food=2, max_player_level=40, max_food_level=9)
    levels = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 38, 40]
    rows = [([(0, 0), (5, 2)], [k, k], [(1, 3), (4, 4)], [min(k, 9), 1]) for k in levels]
    pictures = task.render(as_state(rows)).unflatten(1, (6, 32)).unflatten(3, (6, 32)).permute(0, 1, 3, 2, 4, 5)
    assert pictures.dtype == torch.uint8 and pictures.shape == (len(levels), 6, 6, 32, 32, 3)
    for first, second in combinations(range(len(levels)), 2):
        differs = (pictures[first] != pictures[second]).flatten(2).any(-1).nonzero().tolist()
        assert differs == [[0, 0], [1, 3], [5, 2]] if levels[first] < 9 else [[0, 0], [5, 2]]
    kinds = [pictures[0, r, c].reshape(-1, 3) for r, c in ((0, 0), (5, 2), (1, 3), (2, 2))]
    main = [kind.unique(dim=0, return_counts=True) for kind in kinds]
    assert len({tuple(colors[counts.argmax()].tolist()) for colors, counts in main}) == 4
    gone = as_state([([(0, 0), (5, 2)], [1, 1], [(GONE, GONE), (4, 4)], [1, 1])])
    bare = task.render(gone)[0].unflatten(0, (6, 32)).unflatten(2, (6, 32)).permute(0, 2, 1, 3, 4)
    assert torch.equal(bare[1, 3], pictures[0, 2, 2]) and torch.equal(bare[4, 4], pictures[0, 4, 4])
