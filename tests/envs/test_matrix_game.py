"""One-shot games against hand-written payoffs, the definition of no-conflict games, and brute-force tables."""

from itertools import permutations, product

import numpy as np
import pytest
import torch

from lit_maprops.envs import Coordination, MatrixGame, TaskEnv
from lit_maprops.envs.games.payoffs import payoff_names
from lit_maprops.system.errors import ConfigError

SHARED = {
    "figure1": [[1, -1], [-1, 0.8]],
    "stag": [[1, 0], [0, 0.8]],
    "climbing": [[11, -30, 0], [-30, 7, 6], [0, 0, 5]],
    "penalty_0": [[10, 0, 0], [0, 2, 0], [0, 0, 10]],
    "penalty_25": [[10, 0, -25], [0, 2, 0], [-25, 0, 10]],
    "penalty_50": [[10, 0, -50], [0, 2, 0], [-50, 0, 10]],
    "penalty_75": [[10, 0, -75], [0, 2, 0], [-75, 0, 10]],
    "penalty_100": [[10, 0, -100], [0, 2, 0], [-100, 0, 10]],
}
BEST = {"figure1": {(0, 0)}, "stag": {(0, 0)}, "climbing": {(0, 0)}}  # the penalty games: (0, 0) and (2, 2)
NO_CONFLICT = [f"no_conflict_{k}" for k in range(1, 22)]


def play(task):
    """Every joint action's payoffs and success, ``{(a_0, a_1, ...): (rewards, success)}``."""
    joint = list(product(range(task.n_actions), repeat=task.n_agents))
    state = task.initial_state(torch.zeros(len(joint), task.start_noise))
    result = task.transition(state, torch.tensor(joint), torch.zeros(len(joint), task.step_noise))
    assert result.terminated.all() and result.reward.dtype == torch.float32
    return dict(zip(joint, zip(result.reward.tolist(), result.success.tolist(), strict=True), strict=True))


def assert_plays(task, payoff, best):
    """``payoff(joint action)`` gives one number per agent; ``best`` holds the successful joint actions."""
    outcomes = play(task)
    for joint, (rewards, success) in outcomes.items():
        np.testing.assert_allclose(rewards, payoff(joint), rtol=1e-6, err_msg=str(joint))
        assert success == (joint in best), joint


def best_of(payoff, n_agents, n_actions):
    totals = {joint: sum(payoff(joint)) for joint in product(range(n_actions), repeat=n_agents)}
    return {joint for joint, total in totals.items() if total > max(totals.values()) - 1e-9}


@pytest.mark.parametrize("name", SHARED)
def test_named_payoffs(name):
    assert_plays(
        MatrixGame(name), lambda joint: [SHARED[name][joint[0]][joint[1]]] * 2, BEST.get(name, {(0, 0), (2, 2)})
    )


def test_every_name_is_tested_here():
    assert sorted(payoff_names()) == sorted([*SHARED, *NO_CONFLICT])


def game(row_agent, column_agent):
    """A bimatrix as a hashable pair of 2x2 tuples; one agent chooses the row, the other the column."""
    return tuple(row_agent), tuple(column_agent)


def relabelings(bimatrix):
    """The game with rows swapped, with columns swapped, and with agents exchanged (both tables transposed)."""
    a, b = bimatrix
    yield game(a[::-1], b[::-1])
    yield game([row[::-1] for row in a], [row[::-1] for row in b])
    yield game(zip(*b, strict=True), zip(*a, strict=True))


def equivalence_class(bimatrix):
    found, new = {bimatrix}, [bimatrix]
    while new:
        for other in relabelings(new.pop()):
            if other not in found:
                found.add(other)
                new.append(other)
    return frozenset(found)


def strict_ordinal_games():
    tables = [((p[0], p[1]), (p[2], p[3])) for p in permutations((1, 2, 3, 4))]
    return [game(a, b) for a, b in product(tables, tables)]


def is_no_conflict(bimatrix):
    return any(bimatrix[0][i][j] == bimatrix[1][i][j] == 4 for i, j in product(range(2), repeat=2))


def named_bimatrix(name):
    outcomes = play(MatrixGame(name))
    tables = [[[int(outcomes[i, j][0][agent]) for j in range(2)] for i in range(2)] for agent in range(2)]
    return game(*[[tuple(row) for row in table] for table in tables])


def test_rapoport_and_guyer_count_78_games_of_which_21_have_no_conflict():
    classes = {equivalence_class(bimatrix) for bimatrix in strict_ordinal_games()}
    assert len(classes) == 78
    assert sum(is_no_conflict(next(iter(members))) for members in classes) == 21


def test_the_no_conflict_games_are_all_there_and_none_twice():
    expected = {equivalence_class(bimatrix) for bimatrix in strict_ordinal_games() if is_no_conflict(bimatrix)}
    named = [equivalence_class(named_bimatrix(name)) for name in NO_CONFLICT]
    assert len(set(named)) == len(named) == 21
    assert set(named) == expected


@pytest.mark.parametrize("name", NO_CONFLICT)
def test_a_no_conflict_game_succeeds_in_the_common_best_cell_alone(name):
    for rewards, success in play(MatrixGame(name)).values():
        assert success == (rewards == [4.0, 4.0])


def test_there_is_no_game_22():
    with pytest.raises(ConfigError, match=r"payoff"):
        MatrixGame("no_conflict_22")


PER_AGENT_2 = [[[3.0, -1.0], [0.0, 2.5]], [[1.0, 1.0], [-4.0, 6.0]]]
SHARED_3 = np.arange(27).reshape(3, 3, 3) * (-1.0) ** np.arange(27).reshape(3, 3, 3)
PER_AGENT_3 = np.random.default_rng(0).integers(-9, 10, size=(2, 2, 2, 3)).astype(float)


@pytest.mark.parametrize("table, n_agents", [(PER_AGENT_2, 2), (PER_AGENT_3.tolist(), 3)], ids=["2 agents", "3 agents"])
def test_payoff_per_agent(table, n_agents):
    def payoff(joint):
        return np.array(table)[joint].tolist()

    assert_plays(MatrixGame(table, n_agents), payoff, best_of(payoff, n_agents, 2))


@pytest.mark.parametrize("n_agents, table", [(1, [2, 3, 1]), (2, SHARED["climbing"]), (3, SHARED_3.tolist())])
def test_payoff_shared_by_all(n_agents, table):
    def payoff(joint):
        return [float(np.array(table)[joint])] * n_agents

    assert_plays(MatrixGame(table, n_agents), payoff, best_of(payoff, n_agents, 3))


def test_success_is_the_best_sum_not_the_best_for_one_agent():
    per_agent = [[[5, -9], [2, 2]], [[1, 3], [0, 0]]]
    assert {joint for joint, (_, success) in play(MatrixGame(per_agent)).items() if success} == {(0, 1), (1, 0)}


BAD_PAYOFFS = {
    "number": (5, 2),
    "empty": ([], 2),
    "empty rows": ([[], []], 2),
    "one level short": ([1, 2], 2),
    "a level short of three agents": ([[1, 2], [3, 4]], 3),
    "two levels too many": ([[[[1, 2]] * 2] * 2] * 2, 2),
    "ragged": ([[1, 2], [3]], 2),
    "ragged levels": ([[1, [2]], [3, 4]], 2),
    "not as many rows as columns": ([[1, 2, 3], [4, 5, 6]], 2),
    "not as many rows as columns per agent": ([[[1, 1]] * 3] * 2, 2),
    "a number short per agent": ([[[1], [2]], [[3], [4]]], 2),
    "a number too many per agent": ([[[1, 2, 3]] * 2] * 2, 2),
    "nan": ([[1, float("nan")], [0, 1]], 2),
    "infinity": ([[1, 0], [float("-inf"), 1]], 2),
    "overflows float32": ([[1e39, 0], [0, 1]], 2),
    "null": ([[None, 0], [0, 1]], 2),
    "text": ([["1", "0"], ["0", "1"]], 2),
    "unknown name": ("prisoners_dilemma", 2),
}


@pytest.mark.parametrize("payoff, n_agents", BAD_PAYOFFS.values(), ids=BAD_PAYOFFS)
def test_bad_payoffs_are_refused_in_one_line(payoff, n_agents):
    with pytest.raises(ConfigError, match=r"payoff") as error:
        MatrixGame(payoff, n_agents)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("n_agents", [0, -1, 3])
def test_a_named_game_for_other_than_two_agents_is_refused(n_agents):
    with pytest.raises(ConfigError, match=r"n_agents") as error:
        MatrixGame("stag", n_agents)
    assert "\n" not in str(error.value)


COORDINATION = [
    {},
    {"n_agents": 2, "n_actions": 5},
    {"n_agents": 4, "n_actions": 3, "miscoordination": -0.5},
    {"n_agents": 2, "n_actions": 4, "rewards": [0.3, 2.0, -1.0, 2.0]},
    {"n_agents": 3, "n_actions": 3, "rewards": [-2.0, -3.0, -1.0], "miscoordination": -1.5},
    {"n_agents": 3, "n_actions": 2, "rewards": [0.5, 0.25], "miscoordination": 1.0},
    {"n_agents": 2, "n_actions": 2, "rewards": [1.0, 0.0], "miscoordination": 1.0},
    {"n_agents": 3, "n_actions": 2, "rewards": [2, 1], "miscoordination": 0.5},
    {"n_agents": 1, "n_actions": 3},
    {"n_agents": 1, "n_actions": 2, "rewards": [0.5, 0.25], "miscoordination": 1.0},
]


@pytest.mark.parametrize("settings", COORDINATION, ids=str)
def test_coordination_is_its_payoff_table(settings):
    full = {"n_agents": 3, "n_actions": 2, "rewards": [1, 0.8, 0.6, 0.4, 0.2], "miscoordination": 0.0, **settings}

    def payoff(joint):
        agreed = len(set(joint)) == 1
        return [full["rewards"][joint[0]] if agreed else full["miscoordination"]] * full["n_agents"]

    assert_plays(Coordination(**settings), payoff, best_of(payoff, full["n_agents"], full["n_actions"]))


@pytest.mark.parametrize(
    "settings", [{}, {"n_agents": 4, "n_actions": 3}, {"n_agents": 2, "rewards": [0.2, 3]}], ids=str
)
def test_partial_coordination_pays_the_best_share_of_agents(settings):
    full = {"n_agents": 3, "n_actions": 2, "rewards": [1, 0.8, 0.6, 0.4, 0.2], **settings}

    def payoff(joint):
        return [max(full["rewards"][a] * joint.count(a) / full["n_agents"] for a in joint)] * full["n_agents"]

    task = Coordination(**settings, partial=True)
    assert_plays(task, payoff, best_of(payoff, full["n_agents"], full["n_actions"]))


def test_coordination_of_ten_agents_with_five_actions():
    task, rows = Coordination(n_agents=10, n_actions=5), 5000
    action = torch.randint(5, (rows, 10), generator=torch.Generator().manual_seed(0))
    action[:25] = torch.arange(5).repeat_interleave(5).unsqueeze(-1)
    action[25:50] = action[:25]
    action[torch.arange(25, 50), torch.arange(25) % 10] += 1  # all agree but one
    action %= 5
    result = task.transition(task.initial_state(torch.zeros(rows, 0)), action, torch.zeros(rows, 0))
    agreed = [len(set(row)) == 1 for row in action.tolist()]
    expected = [[1, 0.8, 0.6, 0.4, 0.2][row[0]] * all_agree for row, all_agree in zip(action, agreed, strict=True)]
    assert sum(agreed) == 25
    np.testing.assert_allclose(result.reward.numpy(), np.tile(np.array(expected)[:, None], 10), rtol=1e-6)
    assert result.success.tolist() == [value == 1 for value in expected]


PARTIAL = [{"partial": True, "miscoordination": 0.5}, {"partial": True, "rewards": [1.0, -1.0]}]


@pytest.mark.parametrize(
    "settings", [{"rewards": [1.0]}, {"rewards": [1.0] * 3}, {"n_agents": 0}, {"n_actions": 1}, *PARTIAL]
)
def test_bad_coordination_is_refused(settings):
    with pytest.raises(ConfigError, match=r"(rewards|n_agents|n_actions)") as error:
        Coordination(**settings)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("task", [MatrixGame("climbing"), MatrixGame(SHARED_3.tolist(), 3), Coordination(3, 3)])
def test_an_episode_is_one_step_with_a_constant_observation(task):
    env = TaskEnv(task, 0, [0, 1], 4)
    current = env.reset()
    for _ in range(3):
        assert (current["state"] == 1).all() and (current["agents", "observation"] == 1).all()
        assert current["agents", "observation"].shape == (2, 4, task.n_agents, 1)
        assert (current["state_index"] == current["state_index"][0, 0]).all()
        action = torch.full((2, 4, task.n_agents), 2)
        stepped, current = env.step_and_maybe_reset(current.set(("agents", "action"), action))
        assert stepped["next", "terminated"].all() and not stepped["next", "truncated"].any()
        rewards, success = play(task)[(2,) * task.n_agents]
        assert (stepped["next", "agents", "reward"].squeeze(-1) == torch.tensor(rewards)).all()
        assert (stepped["next", "success"] == success).all()
