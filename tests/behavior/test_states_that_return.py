"""Visits of states against a table in Python, sorted often, seldom or never; who stands where, by all pairs."""

import math
from collections import defaultdict

import pytest
import torch
from behavior_helpers import StatesTask, data_of, random_policy, written
from torch import Tensor

import lit_maprops.behavior.visits as visits_module
from lit_maprops import keys
from lit_maprops.behavior.same_state import leaders, leaders_of
from lit_maprops.behavior.visits import Visits

R, E, STATES = 3, 5, 40


def steps(numbered: bool, count: int) -> list[tuple[Tensor, Tensor]]:
    """Which of ``STATES`` the environments are in, ``[count, R, E]``, and numbers to enter."""
    generator = torch.Generator().manual_seed(int(numbered))
    states = torch.randint(STATES, (count, E, R), generator=generator).mT  # not contiguous, as parts of a batch are
    return list(zip(states, torch.randint(1000, (count, R, E, 2), generator=generator).int(), strict=True))


@pytest.mark.parametrize("numbered", [True, False])
@pytest.mark.parametrize(("compared", "few"), [(0, 16), (7, 0), (64, 16), (10_000, 16), (10_000, 0)])
def test_they_are_those_of_a_table(numbered: bool, compared: int, few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What each state's newest visit was and entered, over batches of which D keeps none, some or all."""
    monkeypatch.setattr(visits_module, "COMPARED", compared)
    monkeypatch.setattr(visits_module, "FEW", few)
    task = StatesTask(STATES, 2, numbered=numbered)
    policy, visits = random_policy(task, R), Visits(task, R, 2)
    rows: list[list[tuple[int, int, list[int]]]] = [[] for _ in range(R)]  # state, visit, numbers
    for step, (states, numbers) in enumerate(steps(numbered, 120)):
        if step in (30, 60, 90):
            newest = {30: 50, 60: 0, 90: 10_000}[step]
            visits.keep(newest)
            rows = [own[max(0, len(own) - newest) :] for own in rows]
        if step == 75:
            saved, visits = visits.state_dict(), Visits(task, R, 2)
            visits.load_state_dict(saved)
        found = visits.find(data_of(task, policy, states))
        entered = visits.numbers_of(found)
        for seed in range(R):
            last = {state: (visit, drawn) for state, visit, drawn in rows[seed]}
            here: dict[int, list[int]] = defaultdict(list)
            for env, state in enumerate(states[seed].tolist()):
                before = last[state][0] + 1 if state in last else 0
                assert found.visit[seed, env] == before + len(here[state])
                assert found.known[seed, env] == (state in last)
                here[state].append(env)
                assert found.leader[seed, env] == here[state][0]
                if state in last:
                    assert entered[seed, env].tolist() == last[state][1]
        for seed in range(R):
            new = zip(states[seed].tolist(), found.visit[seed].tolist(), numbers[seed].tolist(), strict=True)
            rows[seed] += new
        visits.add(found, numbers)
    assert visits.used == len(rows[0])


@pytest.mark.parametrize("compared", [0, 10_000])
def test_no_two_states_of_one_hash_are_taken_for_one(compared: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if every hash were the same: what is known, and who leads whom, has the same contents."""
    monkeypatch.setattr(visits_module, "COMPARED", compared)
    task = StatesTask(4, 2, numbered=False)
    policy, visits = random_policy(task, R), Visits(task, R, 2)
    visits._factors = torch.zeros_like(visits._factors)
    known = 0
    for states in torch.randint(4, (20, R, E), generator=torch.Generator().manual_seed(0)):
        data = data_of(task, policy, states)
        found = visits.find(data)
        content = data.get(keys.STATE)
        leaders = content.gather(1, found.leader.unsqueeze(2).expand_as(content))
        assert torch.equal(leaders, content)
        if visits.used:
            same = (visits.content.gather(1, found.row.unsqueeze(2).expand_as(content)) == content).all(2)
            assert same[found.known].all()
            known += int(found.known.sum())
        visits.add(found, torch.zeros(R, E, 2, dtype=torch.int32))
    assert known


def test_rows_are_not_compared_with_each_of_many_environments() -> None:
    task, envs = StatesTask(STATES, 2), 128
    policy, visits = random_policy(task, 1), Visits(task, 1, 2)
    data = data_of(task, policy, torch.randint(STATES, (1, envs), generator=torch.Generator().manual_seed(0)))
    for _ in range(8):
        visits.add(visits.find(data), torch.zeros(1, envs, 2, dtype=torch.int32))
    assert written(lambda: visits.find(data)) < 8 * envs**2 / 4


@pytest.mark.parametrize("numbered", [True, False])
def test_the_same_state_is_the_one_with_equal_contents(numbered: bool) -> None:
    """By comparing every pair; two zeros are equal, NaN is itself alone."""
    task = StatesTask(3, 2)
    states = torch.randint(3, (R, 8), generator=torch.Generator().manual_seed(0))
    data = data_of(task, random_policy(task, R), states)
    if not numbered:
        del data[keys.STATE_INDEX]
        held = data.get(keys.STATE)
        held[0, 1], held[0, 4] = 0.0, -0.0
        held[1, 2] = held[1, 3] = math.nan
        rows = held.tolist()
        equal = [[[i == j or a == b for j, b in enumerate(own)] for i, a in enumerate(own)] for own in rows]
    else:
        equal = [[[a == b for b in own] for a in own] for own in states.tolist()]
    assert leaders_of(data).tolist() == [[alike.index(True) for alike in own] for own in equal]


def test_equal_hashes_lead_nobody_else() -> None:
    """The first of a hash leads those that hold the same; others lead themselves, and are first visits."""
    content = torch.tensor([[[1.0], [2.0], [1.0], [2.0], [3.0]]])
    assert leaders(torch.zeros(1, 5, dtype=torch.int64), content).tolist() == [[0, 1, 0, 3, 4]]
