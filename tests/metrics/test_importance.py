"""Importance weights over enumerated samples of adaptive samplers, and effective sample sizes in closed form."""

import itertools
import math

import pytest
import torch
from tensordict import TensorDict

from lit_maprops import keys
from lit_maprops.behavior import MAPROPS, PROPS, BehaviorPolicy, TabularMAPROPS
from lit_maprops.envs import MatrixGame
from lit_maprops.metrics.importance import episodes_of, return_estimates

JOINT = list(itertools.product(range(2), repeat=2))
PAYOFF = {(0, 0): 1.0, (0, 1): -1.0, (1, 0): -1.0, (1, 1): 0.8}  # figure1
THETA = torch.tensor([[0.8, 0.2], [0.4, 0.6]]).log()
PI = {(a, b): math.exp(THETA[0, a] + THETA[1, b]) for a, b in JOINT}
TRUTH = sum(PI[a] * PAYOFF[a] for a in JOINT)


def data_of(log_ratio: list, reward: list, done: list[bool]) -> TensorDict:
    """One seed, one environment, one agent; ``log_ratio`` is log pi_theta - log pi_phi of every step."""
    steps = len(reward)
    data = TensorDict({keys.TARGET_LOG_PROB: torch.tensor(log_ratio).reshape(1, steps, 1)}, batch_size=[1, steps, 1])
    data.set(keys.BEHAVIOR_LOG_PROB, torch.zeros(1, steps, 1))
    data.set(keys.BEHAVIOR_KL, torch.zeros(1, steps, 1))
    data.set(("next", *keys.REWARD), torch.tensor(reward).reshape(1, steps, 1, 1, 1))
    data.set(("next", keys.DONE), torch.tensor(done).reshape(1, steps, 1, 1))
    return data


def estimates(weights: list[float], returns: list[float]) -> dict[str, float]:
    data = data_of([math.log(w) if w else -math.inf for w in weights], returns, [True] * len(weights))
    return {name: value.item() for name, value in return_estimates(episodes_of(data, True)).items()}


def test_effective_sample_size_of_equal_weights_is_their_number_and_of_one_weight_is_one():
    assert estimates([0.3] * 7, [1.0] * 7)["effective_sample_size"] == pytest.approx(7)
    assert estimates([0.0, 0.0, 5.0, 0.0], [1.0] * 4)["effective_sample_size"] == pytest.approx(1)
    assert estimates([1.0, 1.0, 2.0], [1.0] * 3)["effective_sample_size"] == pytest.approx(16 / 6)


def test_means_by_hand():
    found = estimates([2.0, 0.5, 1.0], [3.0, -1.0, 4.0])
    assert found["monte_carlo"] == pytest.approx(2.0)
    assert found["importance"] == pytest.approx((6 - 0.5 + 4) / 3)
    assert found["self_normalized"] == pytest.approx((6 - 0.5 + 4) / 3.5)
    assert found["episodes"] == 3


def test_an_episode_weighs_the_product_of_its_steps_and_a_cut_one_is_left_out():
    data = data_of([0.1, 0.2, 0.4, 0.8], [1.0, 2.0, 4.0, 8.0], [False, True, True, False])
    whole, rest = episodes_of(data, True), episodes_of(data, False)
    assert whole.ended.flatten().tolist() == [False, True, True, False]
    assert whole.returns.flatten()[1:3].tolist() == [3.0, 4.0]
    torch.testing.assert_close(whole.log_weight.flatten()[1:3], torch.tensor([0.3, 0.4]))
    # Where the data begin within an episode, the first end is not an episode's return.
    assert rest.ended.flatten().tolist() == [False, False, True, False]


def test_environments_and_seeds_are_apart_and_agents_averaged():
    generator = torch.Generator().manual_seed(0)
    reward = torch.randn(2, 5, 3, 2, 1, generator=generator)
    done = torch.rand(2, 5, 3, 1, generator=generator) < 0.4
    log_ratio = torch.randn(2, 5, 3, generator=generator)
    data = TensorDict({keys.TARGET_LOG_PROB: log_ratio}, batch_size=[2, 5, 3])
    data.set(keys.BEHAVIOR_LOG_PROB, torch.zeros(2, 5, 3))
    data.set(keys.BEHAVIOR_KL, torch.zeros(2, 5, 3))
    data.set(("next", *keys.REWARD), reward)
    data.set(("next", keys.DONE), done)
    found = return_estimates(episodes_of(data, True))
    for seed in range(2):
        own = []
        for env in range(3):
            total, weight = 0.0, 0.0
            for t in range(5):
                total, weight = total + float(reward[seed, t, env].mean()), weight + float(log_ratio[seed, t, env])
                if done[seed, t, env]:
                    own.append((total, math.exp(weight)))
                    total, weight = 0.0, 0.0
        assert found["episodes"][seed] == len(own)
        assert found["importance"][seed].item() == pytest.approx(sum(w * g for g, w in own) / len(own), rel=1e-5)


def sequences(behavior: BehaviorPolicy, length: int) -> list[tuple[float, list, list]]:
    """Every sequence of joint actions with its probability under the adaptive sampler, and log pi_phi of each step.

    All sequences run as seeds side by side: what the sampler does after a sequence depends on it alone.
    """
    runs = list(itertools.product(JOINT, repeat=length))
    behavior.build(MatrixGame(), 0, list(range(len(runs))))
    behavior.reset(None)
    count, draws = len(runs), 3000
    log_phi = [[] for _ in runs]
    for t in range(length):
        look = TensorDict({keys.STATE: torch.ones(count, draws, 1)}, batch_size=[count, draws])
        look.set(keys.OBSERVATION, torch.ones(count, draws, 2, 1))
        look.set(keys.STATE_INDEX, torch.zeros(count, draws, 1, dtype=torch.int64))
        look.set(keys.PARAMETERS, THETA.expand(count, draws, 2, 2).clone())
        choice = behavior.choose(look, look.get(keys.PARAMETERS))
        for number, run in enumerate(runs):
            drawn = (choice.action[number] == torch.tensor(run[t])).all(-1).nonzero()
            log_phi[number].append(choice.behavior_log_prob[number, drawn[0, 0]].item() if len(drawn) else None)
        step = look[:, :1].clone()
        step.set(keys.ACTION, torch.tensor([run[t] for run in runs]).unsqueeze(1))
        behavior.extend(step)
        behavior.update()
    assert all(p is not None for steps in log_phi for p in steps)
    return [(math.exp(sum(p)), list(run), p) for run, p in zip(runs, log_phi, strict=True)]


@pytest.mark.parametrize(
    "behavior",
    [
        TabularMAPROPS(clip_epsilon=0.7, kl_cutoff=0.3),
        MAPROPS(clip_epsilon=0.7, kl_cutoff=0.3, epochs=3, learning_rate=0.3, hidden=[]),
        PROPS(clip_epsilon=0.7, kl_cutoff=0.3, epochs=2, learning_rate=0.2, hidden=[]),
    ],
    ids=lambda behavior: type(behavior).__name__,
)
def test_weights_undo_an_adaptive_sampler_exactly_in_expectation(behavior):
    """Enumeration of all sequences of 3 samples: E[sum w G / 3] is the return of pi_theta; the plain mean's is not."""
    total, weighted, plain = 0.0, 0.0, 0.0
    for chance, run, log_phi in sequences(behavior, 3):
        log_ratio = [math.log(PI[a]) - p for a, p in zip(run, log_phi, strict=True)]
        data = data_of(log_ratio, [PAYOFF[a] for a in run], [True] * 3)
        found = return_estimates(episodes_of(data, True))
        total += chance
        weighted += chance * found["importance"].item()
        plain += chance * found["monte_carlo"].item()
    assert total == pytest.approx(1, abs=1e-5)
    assert weighted == pytest.approx(TRUTH, abs=1e-5)
    assert abs(plain - TRUTH) > 0.002  # two hundred times the tolerance above


def test_a_sampler_without_probabilities_has_no_weights():
    data = data_of([0.0, 0.0], [1.0, 3.0], [True, True])
    data.get(keys.BEHAVIOR_KL).fill_(torch.nan)  # as Greedy says
    found = return_estimates(episodes_of(data, True))
    assert found["monte_carlo"].item() == 2.0
    for name in ("importance", "self_normalized", "effective_sample_size"):
        assert found[name].isnan().all()
