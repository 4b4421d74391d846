"""studies/advantages: the truth by loops over single states, and what is measured beside it."""

from collections import defaultdict

import pytest
import torch
from tensordict import TensorDict

from lit_maprops import keys
from lit_maprops.buffer import Buffer
from lit_maprops.envs import BoulderPush
from lit_maprops.metrics.gradients import policy_gradient
from lit_maprops.targets import MAPPO
from studies.advantages import gains, tables
from studies.advantages.exact import Exact, World, exact, gradient, visits, world_of
from studies.advantages.gains import Count
from studies.advantages.learners import ExactAdvantages, ExactValues
from studies.advantages.watch import watched, with_values

GAMMA, STEPS = 0.9, 3
FLAGS = ["--config", "conf/boulderpush_reliability.yaml", "--model.behavior", "OnPolicy", "--model.num_seeds", "2"]
FLAGS += ["--model.total_env_steps", "40", "--data.target_batch_size", "20", "--model.eval_interval", "2"]
ORDERS = ([0.25, 0.75], [0.75, 0.25])
PAIRS = [(a, b) for a in range(4) for b in range(4)]


def task() -> BoulderPush:
    """2 x 4 cells: the boulder, a row wide, is two pushes from its goal."""
    start = [[0, 2], [0, 3], [1, 3]]
    return BoulderPush(height=4, width=2, push_direction="north", max_steps=STEPS, penalty=0.1, start=start)


class Small:
    """Policies that are far from uniform, and the truth about them."""

    def __init__(self) -> None:
        self.task = task()
        self.learner = MAPPO(hidden=[8], gamma=GAMMA)
        self.learner.build(self.task, 0, [0, 1])
        flat = self.learner.policies.net.flat
        with torch.no_grad():
            flat.copy_(torch.randn(flat.shape, generator=torch.Generator().manual_seed(0)))
        self.world: World = world_of(self.task)
        self.found: Exact = exact(self.learner.policies, self.world, GAMMA)


@pytest.fixture(scope="module")
def small() -> Small:
    return Small()


def chances(small: Small, seed: int, state: dict[str, torch.Tensor]) -> list[float]:
    """Of every pair of actions in one state, asked of the policies one at a time."""
    observation = small.task.observe(state)[0]  # [1, A, O]
    log = small.learner.policies.distribution_parameters(observation.expand(2, 1, 2, -1))[seed, 0].detach()
    return [float(log[0, a].exp() * log[1, b].exp()) for a, b in PAIRS]


def played(small: Small, state: dict[str, torch.Tensor], pair: tuple[int, int]) -> list[tuple]:
    """What follows in each order of the agents: state, whether it ends, rewards."""
    outcomes = [small.task.transition(state, torch.tensor([pair]), torch.tensor([order])) for order in ORDERS]
    return [(o.state, bool(o.terminated), o.reward[0].double()) for o in outcomes]


@pytest.mark.every(2)
@pytest.mark.parametrize("seed", [0, 1])
def test_values_are_those_of_looping_over_single_states(small: Small, seed: int) -> None:
    """Sweep after sweep over a dictionary until nothing moves; no matrix is solved."""
    start = small.task.initial_state(torch.zeros(1, small.task.start_noise))
    states, waiting, table = {}, [start], {}
    while waiting:
        state = waiting.pop()
        number = int(small.task.state_index(state))
        if number in states:
            continue
        states[number] = state
        outcomes = [played(small, state, pair) for pair in PAIRS]
        table[number] = [
            [(int(small.task.state_index(after)), ends, reward) for after, ends, reward in two] for two in outcomes
        ]
        waiting += [after for two in outcomes for after, ends, _ in two if not ends]
    assert sorted(states) == small.world.numbers.tolist()
    chance = {number: chances(small, seed, state) for number, state in states.items()}
    value = {number: torch.zeros(2, dtype=torch.float64) for number in states}

    def of_pair(two: list) -> torch.Tensor:
        return sum(reward + (0 if ends else GAMMA * value[after]) for after, ends, reward in two) / 2

    for _ in range(250):
        value = {n: sum(p * of_pair(two) for p, two in zip(chance[n], table[n], strict=True)) for n in states}
    for place, number in enumerate(small.world.numbers.tolist()):
        assert torch.allclose(small.found.value[seed, place], value[number], atol=1e-6)
        pairs = torch.stack([of_pair(two) for two in table[number]])
        assert torch.allclose(small.found.action_value[seed, place], pairs, atol=1e-6)
    assert float(torch.stack(list(value.values())).abs().max()) > 0.05


def test_visits_are_those_of_every_path(small: Small) -> None:
    start = small.task.initial_state(torch.zeros(1, small.task.start_noise))
    seen: dict[int, float] = defaultdict(float)
    paths = {int(small.task.state_index(start)): (1.0, start)}
    for _ in range(STEPS):
        following: dict[int, tuple[float, dict]] = {}
        for number, (weight, state) in paths.items():
            seen[number] += weight
            for p, pair in zip(chances(small, 0, state), PAIRS, strict=True):
                for after, ends, _ in played(small, state, pair):
                    if not ends:
                        key = int(small.task.state_index(after))
                        following[key] = following.get(key, (0.0, after))[0] + weight * p / 2, after
        paths = following
    share = visits(small.world, small.found.chance)[0]
    total = sum(seen.values())
    expected = [seen.get(number, 0.0) / total for number in small.world.numbers.tolist()]
    assert share.tolist() == pytest.approx(expected, abs=1e-6)


def test_the_expected_gradient_is_that_of_a_batch_of_all_pairs(small: Small) -> None:
    """A batch that holds every pair of state and joint action once, its advantages weighted by their chances."""
    size, joint = small.found.chance.shape[1:]
    share = visits(small.world, small.found.chance)
    weight = (share.unsqueeze(-1) * small.found.chance * size * joint).unsqueeze(-1)
    advantage = (weight * small.found.advantage).flatten(1, 2).float()
    observation = small.world.observation.repeat_interleave(joint, 0).expand(2, -1, -1, -1)
    action = torch.tensor(PAIRS).repeat(size, 1).expand(2, -1, -1)
    data = TensorDict({}, batch_size=[2, size * joint]).set(keys.OBSERVATION, observation).set(keys.ACTION, action)
    expected = policy_gradient(small.learner.policies, data, advantage)
    found = gradient(small.learner.policies, small.world, small.found, share)
    assert torch.allclose(found, expected, atol=1e-6) and float(found.abs().max()) > 1e-3


@pytest.mark.parametrize("kind", [ExactValues, ExactAdvantages])
def test_what_learners_are_told_is_the_truth(kind: type[ExactValues], monkeypatch: pytest.MonkeyPatch) -> None:
    """One transition of each kind: an episode that goes on, and one that a time limit cuts."""
    learner = kind(hidden=[8], gamma=GAMMA, gae_lambda=1.0, epochs=1, minibatches=1)
    learner.build(task(), 0, [0])
    found, world = exact(learner.policies, learner.world, GAMMA), learner.world
    told: dict[str, torch.Tensor] = {}
    state = learner.world.numbers[world.start]
    after = int(world.following[world.start, 0, 0])  # both go north: a push
    data = batch(world, [int(state), int(world.numbers[after])], [0, 0], done=[False, True])
    original = learner._estimates

    def estimates(given: TensorDict) -> tuple:
        told["value"], told["advantage"], _ = result = original(given)
        return result

    monkeypatch.setattr(learner, "_estimates", estimates)
    buffer = Buffer(2)
    buffer.extend(data)
    learner.update(buffer)
    places = [world.start, after]
    assert torch.allclose(told["value"].flatten(0, 3)[..., 0].double(), found.value[0, places], atol=1e-6)
    if kind is ExactAdvantages:
        expected = found.advantage[0, places, 0]
    else:
        final = int(world.following[after, 0, 0])
        reward = world.reward[places, 0]
        last = torch.zeros(2) if not world.outcomes[after, 0, 0] else found.value[0, final]
        returns = torch.stack([reward[0] + GAMMA * (reward[1] + GAMMA * last), reward[1] + GAMMA * last])
        expected = returns - found.value[0, places]
        given = with_values(learner, world, found.value, data.unsqueeze(1))
        assert torch.allclose(given.flatten(0, 3), expected, atol=1e-6)
    assert torch.allclose(told["advantage"].flatten(0, 3)[..., 0].double(), expected, atol=1e-6)


def batch(world: World, numbers: list[int], joint: list[int], done: list[bool]) -> TensorDict:
    """D ``[1, T, 1]`` of one environment, as a collection gives it."""
    places = [world.numbers.tolist().index(number) for number in numbers]
    following = [int(world.following[place, j, 0]) for place, j in zip(places, joint, strict=True)]
    terminated = [float(world.outcomes[p, j].sum()) == 0 for p, j in zip(places, joint, strict=True)]
    action = torch.tensor([PAIRS[j] for j in joint])
    log_prob = torch.full((len(numbers), 2, 4), 0.25).log()
    ends = {keys.DONE: torch.tensor(done), keys.TERMINATED: torch.tensor(terminated)}
    made = TensorDict({}, batch_size=[1, len(numbers), 1])

    def shown(which: list[int], of: TensorDict) -> TensorDict:
        observation = world.observation[which].unsqueeze(1).unsqueeze(0)
        of.set(keys.OBSERVATION, observation).set(keys.STATE, torch.zeros(1, len(which), 1, task().state_dim))
        return of.set(keys.STATE_INDEX, world.numbers[which].view(1, -1, 1, 1))

    shown(places, made).set(keys.ACTION, action.view(1, -1, 1, 2)).set(keys.PARAMETERS, log_prob.view(1, -1, 1, 2, 4))
    made.set(keys.LOG_PROB, log_prob[..., 0].view(1, -1, 1, 2))
    after = shown(following, TensorDict({}, batch_size=made.batch_size))
    reward = torch.stack([world.reward[p, j] for p, j in zip(places, joint, strict=True)]).float()
    after.set(keys.REWARD, reward.view(1, -1, 1, 2, 1))
    for name, values in ends.items():
        after.set(name, (values | torch.tensor(terminated)).view(1, -1, 1, 1))
    after.set(keys.TERMINATED, torch.tensor(terminated).view(1, -1, 1, 1))
    return made.set("next", after)


def test_both_learners_are_looked_at_alike() -> None:
    """Before the first update runs of IPPO and MAPPO have the same policies and batches: all figures are equal."""
    seen = [watched([*FLAGS, "--seed_everything", "5"], learner, (1, 2))[0] for learner in ("IPPO", "MAPPO")]
    first, second = (found[1] for found in seen)
    assert first.keys() == second.keys()
    for name, values in first.items():
        assert torch.allclose(values, second[name], rtol=1e-3, atol=1e-9), name
    assert not torch.equal(first["value rmse IPPO"], first["value rmse MAPPO"])
    assert not torch.equal(seen[0][2]["value rmse IPPO"], first["value rmse IPPO"])


def test_the_share_of_failures_that_more_data_take_away() -> None:
    """Counts so large that chance is nothing: of 60% failures 45 of 60 remain."""
    many = 10**8
    counts = {}
    for learner in ("IPPO", "MAPPO"):
        for source in (gains.FIRST_NAME, gains.FRESH_NAME):
            counts[source, learner, gains.BASE] = Count(4 * many // 10, many)
        counts[gains.FIRST_NAME, learner, gains.CEILING] = Count(55 * many // 100, many)
    assert [row[-1] for row in gains.ceilings(counts)] == ["25% [25%, 25%]"] * 2


def test_seeds_are_drawn_together() -> None:
    """Both columns of a resampled seed: where their difference is the same in every seed there is no spread."""
    values = torch.rand(32, generator=torch.Generator().manual_seed(0)).numpy()
    assert tables.interval(tables.difference, values + 3, values) == pytest.approx((3.0, 3.0, 3.0))
    low, high = tables.interval(tables.mean, values)[1:]
    reach = 1.96 * values.std(ddof=1) / 32**0.5
    assert (low, high) == pytest.approx((values.mean() - reach, values.mean() + reach), abs=0.02)
