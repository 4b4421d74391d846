"""Low-discrepancy draws: exact marginals, even joint actions per state, against a scalar reference and closed forms."""

import math
from collections import defaultdict
from typing import Any

import numpy as np
import pytest
import torch
from behavior_helpers import (
    DISCRETE,
    ComponentsTask,
    StatesTask,
    built,
    data_of,
    everywhere,
    generator,
    random_policy,
)
from scipy.stats import chisquare, kstest, qmc
from torch import Tensor

from lit_maprops import keys
from lit_maprops.behavior import BehaviorPolicy, LowDiscrepancy, OnPolicy
from lit_maprops.behavior.low_discrepancy_draws import LowDiscrepancyDraws
from lit_maprops.behavior.ordered_draws import principal_component
from lit_maprops.data import MultiAgentData
from lit_maprops.distributions import joint
from lit_maprops.envs import MatrixGame, Task
from lit_maprops.module import LitMAPROPS
from lit_maprops.samplers import JointSampler
from lit_maprops.stacked.sobol import PERIOD, to_uniform
from lit_maprops.stacked.streams import SeedStreams
from lit_maprops.system.errors import ConfigError
from lit_maprops.targets import IPPO

SCRAMBLINGS = ["shift", "owen"]
# All but Greedy, which draws nothing.
DRAWING = [name for name in DISCRETE if name not in ("Greedy", "LowDiscrepancy")]
JOINT = ["MAPROPS", "TabularMAPROPS"]


def source(task: Task, n_seeds: int, **options: Any) -> tuple[LowDiscrepancyDraws, SeedStreams]:
    seeds = list(range(n_seeds))
    streams = [SeedStreams(0, seeds, purpose) for purpose in ("scrambling", "actions")]
    return LowDiscrepancyDraws(task.family.uniforms, task, n_seeds, streams[0], **options), streams[1]


def uniforms(draws: LowDiscrepancyDraws, streams: SeedStreams, task: Task, states: Tensor) -> Tensor:
    """Draws at the visits ``[R, T, E]`` of states, ``[R, T, E, A]``."""
    policy = random_policy(task, len(states))
    return torch.stack([draws.uniform(streams, data_of(task, policy, step)) for step in states.unbind(1)], 1)


def at_one_state(n_seeds: int, visits: int, task: Task, **options: Any) -> Tensor:
    states = torch.zeros(n_seeds, visits, 1, dtype=torch.int64)
    return uniforms(*source(task, n_seeds, **options), task, states)[:, :, 0]


@pytest.mark.parametrize("scrambling", SCRAMBLINGS)
@pytest.mark.parametrize("first_visits", ["independent", "sequence"])
def test_the_draw_at_every_place_in_a_sequence_is_uniform(scrambling: str, first_visits: str) -> None:
    drawn = at_one_state(4000, 9, StatesTask(n_agents=3), scrambling=scrambling, first_visits=first_visits)
    for visit in range(9):
        for agent in range(3):
            assert kstest(drawn[:, visit, agent], "uniform").pvalue > 1e-4
        cells = (drawn[:, visit] * 2).long() @ torch.tensor([4, 2, 1])  # jointly over the agents, too
        assert chisquare(torch.bincount(cells, minlength=8).numpy()).pvalue > 1e-4


@pytest.mark.parametrize("scrambling", SCRAMBLINGS)
@pytest.mark.parametrize(("n_agents", "visits"), [(2, 4), (2, 8), (2, 64), (3, 64)])
def test_uniform_policies_hold_every_joint_action_alike(n_agents: int, visits: int, scrambling: str) -> None:
    """A (t, m, s)-net: n a power of two above 2**t puts equally many points into every dyadic box; error exactly 0."""
    drawn = at_one_state(50, visits, StatesTask(n_agents=n_agents), scrambling=scrambling)
    index = joint.joint_index((drawn * 2).long(), 2)
    counts = torch.nn.functional.one_hot(index, 2**n_agents).sum(1)
    assert (counts == visits / 2**n_agents).all()


@pytest.mark.parametrize("scrambling", SCRAMBLINGS)
def test_points_are_spread_as_evenly_as_scipys_scrambled_ones(scrambling: str) -> None:
    drawn = at_one_state(40, 64, StatesTask(n_agents=2), scrambling=scrambling).double().numpy()
    ours = np.mean([qmc.discrepancy(points, method="L2-star") for points in drawn])
    theirs = np.mean([qmc.discrepancy(qmc.Sobol(2, rng=k).random(64), method="L2-star") for k in range(40)])
    random = np.random.default_rng(0).random((40, 64, 2))
    independent = np.mean([qmc.discrepancy(points, method="L2-star") for points in random])
    assert ours < 1.2 * theirs < 0.5 * independent


def reference(
    states: Tensor, fresh: Tensor, order: Tensor, begin: Tensor | None, visits: dict[int, tuple[int, list[int]]]
) -> list[list[float]]:
    """One seed's draws at states, one after the other, with a dictionary and SciPy's points; digital shifts."""
    points = (qmc.Sobol(len(order), scramble=False).random(64) * 2**24).astype(int)
    drawn = []
    for state, numbers in zip(states.tolist(), fresh.tolist(), strict=True):
        if state not in visits:
            shift = [int(number * 2**24) for number in numbers]
            if begin is not None:
                shift = [int(points[len(visits)][i]) ^ b for i, b in zip(order.tolist(), begin.tolist(), strict=True)]
            visits[state] = (0, shift)
        visit, shift = visits[state]
        drawn.append([(int(points[visit][i]) ^ s) / 2**24 for i, s in zip(order.tolist(), shift, strict=True)])
        visits[state] = (visit + 1, shift)
    return drawn


def test_points_come_again_after_a_period_of_first_visits() -> None:
    """While D retains anything, states met may be more than points, and than rows of D."""
    task = StatesTask(5, 2)
    drawn = []
    for met in (3, PERIOD + 3, 2 * PERIOD + 3):
        draws, streams = source(task, 2, first_visits="sequence")
        draws.met += met
        drawn.append(uniforms(draws, streams, task, torch.tensor([[[0], [1]], [[4], [2]]])))
    assert torch.equal(drawn[0], drawn[1]) and torch.equal(drawn[0], drawn[2])


def test_points_come_again_in_the_middle_of_a_vector_step() -> None:
    """Three environments, which do not divide the period, are as one after the other."""
    task, states = StatesTask(5, 2), torch.tensor([[[3, 0, 4]]])
    drawn = []
    for visits in (states, states.transpose(1, 2)):
        draws, streams = source(task, 1, first_visits="sequence")
        draws.met += PERIOD - 1
        drawn.append(uniforms(draws, streams, task, visits).flatten(0, 2))
        assert draws.met == PERIOD + 2
    assert torch.equal(drawn[0], drawn[1])
    assert torch.equal(drawn[0][1], to_uniform(draws.begin[0]))  # of point 0


@pytest.mark.parametrize("numbered", [True, False])
@pytest.mark.parametrize("first_visits", ["independent", "sequence"])
@pytest.mark.parametrize("envs", [1, 3])
def test_every_state_has_a_sequence_of_its_own(numbered: bool, first_visits: str, envs: int) -> None:
    task, seeds, steps = StatesTask(5, 3, numbered=numbered), 4, 12
    states = torch.randint(5, (seeds, steps, envs), generator=generator(2))
    draws, streams = source(task, seeds, first_visits=first_visits)
    fresh = SeedStreams(0, range(seeds), "actions").several(steps, envs, 3)  # what independent sampling draws
    drawn = uniforms(draws, streams, task, states)
    for seed in range(seeds):
        begin = draws.begin[seed] if first_visits == "sequence" else None
        wanted = reference(states[seed].flatten(), fresh[seed].flatten(0, 1), draws.order[seed], begin, {})
        assert torch.equal(drawn[seed].flatten(0, 1), torch.tensor(wanted))


def test_retained_states_go_on_and_others_begin_anew() -> None:
    task, seeds = StatesTask(3, 2), 2
    draws, streams = source(task, seeds)
    fresh = SeedStreams(0, range(seeds), "actions").several(5, 1, 2)
    states = torch.tensor([0, 1, 1, 0, 1]).expand(seeds, -1).unsqueeze(2)
    before = uniforms(draws, streams, task, states[:, :3])
    draws.reset(2)  # of the first three steps D keeps the last two, both in state 1
    after = uniforms(draws, streams, task, states[:, 3:])
    for seed in range(seeds):
        kept: dict[int, Any] = {}
        wanted = reference(states[seed, :3, 0], fresh[seed, :3, 0], draws.order[seed], None, kept)
        assert torch.equal(before[seed, :, 0], torch.tensor(wanted))
        del kept[0]
        wanted = reference(states[seed, 3:, 0], fresh[seed, 3:, 0], draws.order[seed], None, kept)
        assert torch.equal(after[seed, :, 0], torch.tensor(wanted))


@pytest.mark.parametrize("first_visits", ["independent", "sequence"])
def test_a_reset_begins_anew(first_visits: str) -> None:
    """With other coordinates and another begin of the sequence over first visits, which it takes from the first on."""
    task, seeds = StatesTask(3, 8), 20
    draws, streams = source(task, seeds, first_visits=first_visits)
    fresh = SeedStreams(0, range(seeds), "actions").several(8, 1, 8)
    states = torch.tensor([0, 1, 1, 2]).expand(seeds, -1).unsqueeze(2)
    before, order, begin = uniforms(draws, streams, task, states), draws.order, draws.begin
    draws.reset(0)
    assert (draws.order != order).any() and (draws.begin != begin).any(1).all() and draws.visits.used == 0
    after = uniforms(draws, streams, task, states)
    assert not torch.equal(before, after)
    for seed in range(seeds):
        sequence = draws.begin[seed] if first_visits == "sequence" else None
        wanted = reference(states[seed, :, 0], fresh[seed, 4:, 0], draws.order[seed], sequence, {})
        assert torch.equal(after[seed, :, 0], torch.tensor(wanted))


def test_equal_hashes_of_different_states_are_told_apart() -> None:
    """As if every hash were the same."""
    task = StatesTask(4, 2, numbered=False)
    draws, streams = source(task, 3)
    draws.visits._factors = torch.zeros_like(draws.visits._factors)
    fresh = SeedStreams(0, range(3), "actions").several(4, 1, 2)
    drawn = uniforms(draws, streams, task, torch.arange(4).expand(3, -1).unsqueeze(2))
    assert torch.equal(drawn, fresh)  # first visits all


def test_both_zeros_are_one_state_and_nan_is_none() -> None:
    task = StatesTask(1, 2, numbered=False)
    draws, _ = source(task, 1)
    data = data_of(task, random_policy(task, 1), torch.zeros(1, 4, dtype=torch.int64))
    data.set(keys.STATE, torch.tensor([0.0, -0.0, math.nan, math.nan]).reshape(1, 4, 1))
    assert draws.visits.find(data).visit.tolist() == [[0, 1, 0, 0]]


@pytest.mark.parametrize("numbered", [True, False])
def test_without_a_second_visit_it_is_on_policy_sampling(numbered: bool) -> None:
    task = StatesTask(6, 3, 4, numbered=numbered)
    policy = random_policy(task, 5)
    own, plain = built("LowDiscrepancy", task, 5), built("OnPolicy", task, 5)
    for step in range(3):
        data = data_of(task, policy, torch.tensor([2 * step, 2 * step + 1]).expand(5, -1))
        choices = [behavior.choose(data, data.get(keys.PARAMETERS)) for behavior in (own, plain)]
        assert torch.equal(choices[0].action, choices[1].action)
        assert torch.equal(choices[0].behavior_log_prob, choices[1].behavior_log_prob)
        assert (choices[0].kl == 0).all()


def taken(behavior: BehaviorPolicy, task: Task, policy: Tensor, visits: int) -> Tensor:
    """Numbers of the joint actions at so many visits of state 0, ``[R, visits]``."""
    data = everywhere(task, policy, 0, 1)
    actions = [behavior.choose(data, data.get(keys.PARAMETERS)).action for _ in range(visits)]
    return joint.joint_index(torch.cat(actions, 1), task.n_actions)


@pytest.mark.parametrize("coordinates", ["agent", "joint"])
def test_expected_frequencies_are_the_policies(coordinates: str) -> None:
    task, seeds, visits = StatesTask(1, 2, 3), 3000, 6
    policy = random_policy(task, 1).expand(seeds, -1, -1, -1)
    index = taken(built("LowDiscrepancy", task, seeds, coordinates=coordinates), task, policy, visits)
    wanted = joint.joint_log_probs(policy[0, 0]).double().exp()
    for visit in range(visits):
        counts = torch.bincount(index[:, visit], minlength=9)
        assert chisquare(counts.numpy(), (seeds * wanted / wanted.sum()).numpy()).pvalue > 1e-4


@pytest.mark.parametrize("name", JOINT)
def test_joint_draws_put_one_visit_into_every_stratum(name: str) -> None:
    """One coordinate for the joint action: of n visits, a power of two, each n-th of the unit interval holds one."""
    task = StatesTask(1, 2, 2)
    policy = random_policy(task, 50)
    index = taken(built(name, task, 50, draws="low_discrepancy"), task, policy, 16)
    counts = torch.nn.functional.one_hot(index, 4).sum(1)
    wanted = 16 * joint.joint_log_probs(policy[:, 0]).exp()  # D is empty, so pi_phi is pi_theta
    assert ((counts - wanted).abs() < 2).all()  # an action takes an interval of the unit line, with two ends


@pytest.mark.parametrize("name", DRAWING)
def test_every_sampler_draws_evenly(name: str) -> None:
    """Joint total variation of 32 visits, before any update: well below that of independent draws."""
    task = StatesTask(1, 2, 3)
    policy = random_policy(task, 300)
    wanted = joint.joint_log_probs(policy[:, 0]).exp()

    def error(draws: str) -> float:
        index = taken(built(name, task, 300, draws=draws), task, policy, 32)
        share = torch.nn.functional.one_hot(index, 9).float().mean(1)
        return float((share - wanted).abs().sum(-1).mean()) / 2

    assert error("low_discrepancy") < 0.65 * error("independent")


# docs/low_discrepancy.md: n = 8, 16, 32, 64 at fixed 2x2 policies.
SKEWED = {
    0.5: ((0.224, 0.172, 0.120, 0.087), (0.0, 0.0, 0.0, 0.0)),
    0.8: ((0.199, 0.141, 0.100, 0.072), (0.125, 0.066, 0.036, 0.017)),
    0.95: ((0.109, 0.074, 0.053, 0.038), (0.096, 0.041, 0.027, 0.011)),
}


@pytest.mark.parametrize("share", SKEWED)
def test_the_design_notes_errors(share: float) -> None:
    """Measured on an independent prototype with 1,000 seeds; both have sampling errors."""
    task = StatesTask(1, 2, 2)
    policy = torch.tensor([share, 1 - share]).log().expand(2000, 1, 2, 2)
    wanted = joint.joint_log_probs(policy[0, 0]).exp()
    for name, figures in zip(("OnPolicy", "LowDiscrepancy"), SKEWED[share], strict=True):
        hot = torch.nn.functional.one_hot(taken(built(name, task, 2000), task, policy, 64), 4).float()
        for n, figure in zip((8, 16, 32, 64), figures, strict=True):
            error = (hot[:, :n].mean(1) - wanted).abs().sum(-1) / 2
            spread = float(error.std()) * (1 / 2000 + 1 / 1000) ** 0.5
            assert abs(float(error.mean()) - figure) < 4 * spread + 0.0006, (name, n)


def test_continuous_actions_have_a_coordinate_per_component() -> None:
    task = ComponentsTask(1, (2, 1))
    policy = torch.zeros(40, 1, 2, 4)  # standard normal
    data = everywhere(task, policy, 0, 1)
    behavior = built("LowDiscrepancy", task, 40)
    drawn = torch.stack([behavior.choose(data, data.get(keys.PARAMETERS)).action[:, 0] for _ in range(16)], 1)
    u = torch.special.ndtr(drawn.double())[:, :, task.action_mask()]  # [R, 16, J]
    assert torch.equal((u * 16).long().sort(1).values, torch.arange(16).reshape(1, -1, 1).expand(40, -1, 3))


@pytest.mark.parametrize("numbered", [True, False])
def test_seeds_do_not_mix(numbered: bool) -> None:
    task = StatesTask(3, 2, numbered=numbered)
    states = torch.randint(3, (4, 9, 2), generator=generator(5))
    together, alone = LowDiscrepancy(first_visits="sequence"), LowDiscrepancy(first_visits="sequence")
    together.build(task, 0, [10, 11, 12, 13])
    alone.build(task, 0, [12])
    for step in range(9):
        data = data_of(task, random_policy(task, 4), states[:, step])
        action = together.choose(data, data.get(keys.PARAMETERS)).action
        assert torch.equal(action[2:3], alone.choose(data[2:3], data.get(keys.PARAMETERS)[2:3]).action)


@pytest.mark.parametrize("first_visits", ["independent", "sequence"])
@pytest.mark.parametrize("numbered", [True, False])
def test_a_restored_sampler_goes_on_bit_for_bit(numbered: bool, first_visits: str) -> None:
    task = StatesTask(3, 2, numbered=numbered)
    states = torch.randint(3, (4, 12, 2), generator=generator(5))

    def actions(behavior: BehaviorPolicy, steps: range) -> list[Tensor]:
        datas = [data_of(task, random_policy(task, 4), states[:, step]) for step in steps]
        return [behavior.choose(data, data.get(keys.PARAMETERS)).action for data in datas]

    behavior, other = (built("LowDiscrepancy", task, 4, first_visits=first_visits) for _ in range(2))
    actions(behavior, range(6))
    behavior.source.reset(6)
    saved = behavior.checkpoint_state()
    wanted = actions(behavior, range(6, 12))
    other.restore(saved)
    assert all(torch.equal(*pair) for pair in zip(actions(other, range(6, 12)), wanted, strict=True))


def test_memory_is_that_of_d() -> None:
    task = StatesTask(4, 2, numbered=False)
    draws, streams = source(task, 2)
    for _ in range(40):
        uniforms(draws, streams, task, torch.randint(4, (2, 50, 1), generator=generator(1)))
        draws.reset(100)
        assert draws.visits.state.shape[1] <= 150


ORDERS = ["state", "policy"]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("scrambling", SCRAMBLINGS)
def test_ordered_draws_are_uniform_and_fill_the_cube(order: str, scrambling: str) -> None:
    task = StatesTask(8, 2)
    policy = random_policy(task, 3000)
    behavior = built("LowDiscrepancy", task, 3000, order=order, scrambling=scrambling)
    data = data_of(task, policy, torch.arange(8).expand(3000, -1))
    behavior.source.feature = behavior._feature(data, data.get(keys.PARAMETERS))
    drawn = behavior.draw(data)
    for env in range(8):
        assert kstest(drawn[:, env, 0], "uniform").pvalue > 1e-4
    assert torch.equal((drawn * 8).long().sort(1).values, torch.arange(8).reshape(1, 8, 1).expand(3000, -1, 2))
    # Neighbors in the order of the feature take neighboring points: two of them never share a half in both columns.
    halves = drawn.gather(1, behavior.source.feature.argsort(1).unsqueeze(2).expand(-1, -1, 2)) >= 0.5
    assert (halves[:, 0::2] != halves[:, 1::2]).all()


def test_ordered_draws_of_different_steps_are_independent() -> None:
    task = StatesTask(2, 1)
    behavior = built("LowDiscrepancy", task, 4000, order="state")
    data = data_of(task, random_policy(task, 4000), torch.tensor([0, 1]).expand(4000, -1))
    behavior.source.feature = torch.tensor([0.0, 1.0]).expand(4000, -1)
    first, second = (behavior.draw(data)[:, :, 0].double() for _ in range(2))
    assert abs(torch.corrcoef(torch.stack([first[:, 0], second[:, 0]]))[0, 1]) < 4 / 4000**0.5


def test_the_principal_component_is_numpys() -> None:
    vectors = torch.randn(6, 16, 5, generator=generator(3)) * torch.tensor([5.0, 1.0, 0.5, 0.2, 0.0])
    scores = principal_component(vectors).numpy()
    for own, x in zip(scores, vectors.numpy(), strict=True):
        centered = x - x.mean(0)
        wanted = centered @ np.linalg.svd(centered)[2][0]
        assert abs(np.corrcoef(own, wanted)[0, 1]) > 0.999


COMPLEMENTARY = {
    "cues": torch.nn.functional.one_hot(torch.tensor([0, 1, 1, 0, 0, 1, 0, 1]), 2).float(),
    "pairs": torch.tensor([[p, 1 - p, q, 1 - q] for p, q in ((0.5, 0.25), (0.25, 0.5), (0.75, 0.5), (1.0, 0.5))]),
    "one-hot": torch.eye(5)[torch.tensor([0, 0, 0, 1, 1, 2, 3, 4])],
    "a far one apart": torch.tensor([[4.0, 0], [-4, 0], *[[0, 1.5 * s] for s in (1, -1) * 10]]),
}


@pytest.mark.parametrize("vectors", COMPLEMENTARY.values(), ids=COMPLEMENTARY)
def test_complementary_features_have_an_order(vectors: Tensor) -> None:
    """The variance of the scores is nearly the largest there is, as numpy finds it; 0 would be no order at all."""
    scores = principal_component(vectors.unsqueeze(0))[0].numpy()
    largest = np.linalg.svd((vectors - vectors.mean(0)).numpy())[1][0] ** 2
    assert (scores**2).sum() > 0.95 * largest > 0


def test_scores_have_nearly_the_largest_variance_whatever_the_features() -> None:
    """And a seed's are its own, whatever lies beside it."""
    shares = []
    for number in range(300):
        envs, half = 3 + number % 14, 1 + number % 5
        part = torch.rand(4, envs, half, generator=generator(number))
        part = part.round() if number % 2 else part
        vectors = torch.cat([part, 1 - part], 2)
        scores = principal_component(vectors)
        centered = (vectors - vectors.mean(1, keepdim=True)).double().numpy()
        largest = np.linalg.svd(centered, compute_uv=False)[:, 0] ** 2
        shares += (scores.double().square().sum(1).numpy()[largest > 0] / largest[largest > 0]).tolist()
        torch.testing.assert_close(principal_component(vectors[2:]), scores[2:], atol=1e-4, rtol=1e-4)
    assert min(shares) > 0.5 and np.quantile(shares, 0.05) > 0.9  # ten steps, of eigenvalues that lie close, too


def test_environments_that_are_alike_have_no_order() -> None:
    scores = principal_component(torch.ones(2, 4, 3))
    assert torch.equal(scores, torch.zeros(2, 4))


BAD: dict[str, tuple[dict[str, Any], Task, str]] = {
    "joint, continuous": ({"coordinates": "joint"}, ComponentsTask(), "coordinates is joint"),
    "too many": ({"coordinates": "joint", "max_joint_actions": 3}, StatesTask(), "would enumerate 4 joint actions"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_is_refused(case: str) -> None:
    arguments, task, words = BAD[case]
    with pytest.raises(ConfigError, match=words):
        built("LowDiscrepancy", task, 2, **arguments)


def test_a_sequence_of_first_visits_has_no_order() -> None:
    with pytest.raises(ConfigError, match="first_visits is sequence and order hands"):
        LowDiscrepancy(first_visits="sequence", order="state")


def test_a_bound_without_what_it_bounds_is_refused() -> None:
    with pytest.raises(ConfigError, match="max_joint_actions bounds what coordinates joint enumerates"):
        LowDiscrepancy(max_joint_actions=5)
    assert LowDiscrepancy(coordinates="joint", max_joint_actions=5).max_joint_actions == 5


@pytest.mark.parametrize("behavior", [LowDiscrepancy(order="state"), OnPolicy(draws="stratified")], ids=repr)
def test_what_environments_share_needs_two_of_them(behavior: BehaviorPolicy) -> None:
    with pytest.raises(ConfigError, match="shares numbers out among environments and num_envs is 1"):
        JointSampler(behavior, n_actions=[2, 2], num_envs=1)
    JointSampler(behavior, n_actions=[2, 2], num_envs=2)
    data = MultiAgentData(MatrixGame(), num_envs=1, behavior_batch_size=1, target_batch_size=8)
    with pytest.raises(ConfigError, match=r"num_envs is 1: raise it, or leave (order|draws) out"):
        LitMAPROPS(behavior, IPPO(), total_env_steps=8).prepare(data)


def test_without_a_critic_there_are_no_values() -> None:
    task = StatesTask(2, 2)
    data = everywhere(task, random_policy(task, 2), 0, 2)
    with pytest.raises(ConfigError, match="order is value and there is no critic"):
        built("LowDiscrepancy", task, 2, order="value").choose(data, data.get(keys.PARAMETERS))


def test_pairs_of_many_agents_are_even() -> None:
    """Ten agents with five actions, n = 128: pairwise total variation (design note: 0.093 against 0.171)."""
    task = StatesTask(1, 10, 5)
    policy = torch.full((16, 1, 10, 5), 0.2).log()
    errors = defaultdict(list)
    for name in ("OnPolicy", "LowDiscrepancy"):
        data = everywhere(task, policy, 0, 1)
        behavior = built(name, task, 16)
        action = torch.cat([behavior.choose(data, data.get(keys.PARAMETERS)).action for _ in range(128)], 1)
        for i in range(10):
            for j in range(i):
                share = torch.nn.functional.one_hot(action[..., i] * 5 + action[..., j], 25).float().mean(1)
                errors[name].append(float((share - 0.04).abs().sum(-1).mean()) / 2)
    assert abs(np.mean(errors["OnPolicy"]) - 0.171) < 0.01
    assert abs(np.mean(errors["LowDiscrepancy"]) - 0.093) < 0.01
