"""Stratified draws: exact marginals, even shares within a state, nothing across states or seeds."""

import pytest
import torch
from behavior_helpers import StatesTask, built, data_of, everywhere, generator, random_policy, written
from scipy.stats import kstest

from lit_maprops.behavior.same_state import leaders_of
from lit_maprops.behavior.stratified import stratify
from lit_maprops.distributions import joint

JOINT = ["MAPROPS", "TabularMAPROPS"]
PER_AGENT = ["OnPolicy", "PROPS"]


def drawn(leader: torch.Tensor, *columns: int) -> torch.Tensor:
    shape = (2, *leader.shape, *columns)
    return stratify(leader, torch.rand(shape, generator=generator(3)))


def groups(*states: int) -> torch.Tensor:
    """One group pattern for 4,000 seeds."""
    return torch.tensor([states.index(state) for state in states]).expand(4000, -1)


@pytest.mark.parametrize("states", [(0, 0, 0, 0), (0, 1, 0, 1, 1), (0, 1, 2)])
def test_each_draw_is_uniform(states: tuple[int, ...]) -> None:
    uniform = drawn(groups(*states))
    for env in range(len(states)):
        assert kstest(uniform[:, env], "uniform").pvalue > 1e-3


def test_a_group_has_one_draw_in_every_stratum() -> None:
    states = (0, 1, 0, 0, 1)
    uniform = drawn(groups(*states), 2)
    for members in ([0, 2, 3], [1, 4]):
        strata = (uniform[:, members] * len(members)).floor().sort(1).values
        expected = torch.arange(len(members)).float().reshape(1, -1, 1)
        assert torch.equal(strata, expected.expand_as(strata))


def test_groups_and_columns_are_independent() -> None:
    uniform = drawn(groups(0, 1, 0, 1), 2).double()
    pairs = [(uniform[:, 0, 0], uniform[:, 1, 0]), (uniform[:, 0, 0], uniform[:, 0, 1])]
    for a, b in pairs:
        assert abs(torch.corrcoef(torch.stack([a, b]))[0, 1]) < 4 / 4000**0.5


def test_without_company_draws_stay_as_they_are() -> None:
    uniform = torch.rand(2, 4000, 3, generator=generator(3))
    assert torch.equal(stratify(groups(0, 1, 2), uniform), uniform[1])


@pytest.mark.parametrize("columns", [(), (1,), (3,), (2, 2)])
def test_they_are_those_of_the_definition(columns: tuple[int, ...]) -> None:
    """One environment and column at a time; many numbers that order are equal."""
    states = [[0, 1, 0, 2, 1, 0, 0], [3, 3, 3, 3, 3, 3, 3], [0, 1, 2, 3, 4, 5, 6]]
    leader = torch.tensor([[own.index(state) for state in own] for own in states])
    uniform = torch.rand(2, 3, 7, *columns, generator=generator(4))
    uniform[0] = (4 * uniform[0]).floor() / 4
    drawn = stratify(leader, uniform).reshape(3, 7, -1)
    order, place = uniform.reshape(2, 3, 7, -1)
    for seed, env, column in torch.cartesian_prod(*(torch.arange(size) for size in drawn.shape)).tolist():
        group = [other for other in range(7) if states[seed][other] == states[seed][env]]
        by_order = sorted(group, key=lambda other: order[seed, other, column].item())  # stable
        expected = (by_order.index(env) + place[seed, group[0], column]) / len(group)
        assert drawn[seed, env, column] == expected


def test_environments_are_not_compared_with_each_other() -> None:
    """Neither by the draws nor by what finds those in the same state."""
    task, envs = StatesTask(n_states=50), 512
    data = data_of(task, random_policy(task, 1), torch.randint(50, (1, envs), generator=generator()))
    uniform = torch.rand(2, 1, envs, 2)
    assert written(lambda: stratify(leaders_of(data), uniform)) < envs**2 / 4


@pytest.mark.parametrize("name", JOINT)
def test_joint_actions_of_a_state_come_in_their_proportions(name: str) -> None:
    task = StatesTask(n_states=2)
    policy = random_policy(task, n_seeds=50)
    behavior = built(name, task, 50, draws="stratified")
    envs = 16
    choice = behavior.choose(everywhere(task, policy, 1, envs), policy[:, 1].unsqueeze(1).expand(-1, envs, -1, -1))
    index = joint.joint_index(choice.action, task.n_actions)
    counts = torch.nn.functional.one_hot(index, 4).sum(1)
    wanted = envs * joint.joint_log_probs(policy[:, 1]).exp()  # D is empty, so pi_phi is pi_theta
    # An action takes an interval of the unit line, and each of the envs strata holds one draw.
    assert ((counts - wanted).abs() < 1 + 1e-4).all()


@pytest.mark.parametrize("name", PER_AGENT)
def test_each_agents_actions_come_in_their_proportions(name: str) -> None:
    task = StatesTask(n_states=2, n_agents=3)
    policy = random_policy(task, n_seeds=50)
    behavior = built(name, task, 50, draws="stratified")
    envs = 16
    choice = behavior.choose(everywhere(task, policy, 0, envs), policy[:, 0].unsqueeze(1).expand(-1, envs, -1, -1))
    counts = torch.nn.functional.one_hot(choice.action, 2).sum(1)
    assert ((counts - envs * policy[:, 0].exp()).abs() < 1 + 1e-4).all()


def test_independent_draws_do_not_keep_the_proportions() -> None:
    task = StatesTask()
    policy = random_policy(task, n_seeds=50)
    choice = built("MAPROPS", task, 50).choose(everywhere(task, policy, 0, 16), policy.expand(-1, 16, -1, -1))
    counts = torch.nn.functional.one_hot(joint.joint_index(choice.action, 2), 4).sum(1)
    assert ((counts - 16 * joint.joint_log_probs(policy[:, 0]).exp()).abs() > 1).any()


def test_a_seed_draws_the_same_alone() -> None:
    task = StatesTask()
    policy = random_policy(task, n_seeds=3)
    together = built("MAPROPS", task, 3, draws="stratified")
    alone = built("MAPROPS", task, 1, draws="stratified")
    for _ in range(3):
        many = together.choose(everywhere(task, policy, 0, 5), policy.expand(-1, 5, -1, -1))
        one = alone.choose(everywhere(task, policy[:1], 0, 5), policy[:1].expand(-1, 5, -1, -1))
        assert torch.equal(many.action[:1], one.action)
