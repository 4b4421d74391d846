"""What choose() draws and stores, against brute-force joint distributions; phi equals theta; NaN; refused settings."""

import numpy as np
import pytest
import torch
from behavior_helpers import (
    ALL_TRAINED,
    SERVED,
    SERVED_TRAINED,
    TRAINED,
    StatesTask,
    adjusted_probabilities,
    built,
    data_of,
    everywhere,
    joint_actions,
    joint_probabilities,
    one_line,
    random_data,
    random_policy,
    seen_log_probs,
    task_of,
    updated,
)
from scipy.stats import chisquare
from stacked_layers import weights

from lit_maprops import keys
from lit_maprops.behavior import BEHAVIORS
from lit_maprops.system.errors import ConfigError

# So many parallel environments in one state draw every joint action of the small tasks here.
MANY = 4000


def assert_phi_is_theta(behavior, task, theta) -> None:
    for state in range(task.state_dim):
        data = everywhere(task, theta, state, MANY)
        choice = behavior.choose(data, data.get(keys.PARAMETERS))
        assert choice.kl.abs().max() < 1e-6
        if task.continuous_actions:
            log_prob = task.family.log_prob(data.get(keys.PARAMETERS), choice.action).sum(-1)
            assert (choice.behavior_log_prob - log_prob).abs().max() < 1e-6
            continue
        for seed in range(len(theta)):
            target = joint_probabilities(theta, seed, state)
            seen = seen_log_probs(choice.action[seed], choice.behavior_log_prob[seed])
            assert set(seen) == set(target)
            for action, log_prob in seen.items():
                assert abs(np.exp(log_prob) - target[action]) < 1e-6


def largest_kl(behavior, task, theta) -> float:
    data = everywhere(task, theta, 0, 1)
    return behavior.choose(data, data.get(keys.PARAMETERS)).kl.max().item()


@pytest.mark.parametrize(("name", "kind"), SERVED_TRAINED)
@pytest.mark.parametrize("hidden", [[], [16, 16]])
def test_phi_is_theta_after_every_reset(name, kind, hidden):
    task = task_of(kind, n_states=2)

    def theta_of(seed: int) -> torch.Tensor:
        theta = 0.5 * random_policy(task, 2, seed)
        return theta if task.continuous_actions else theta.log_softmax(-1)

    theta = theta_of(0)
    behavior = built(name, task, 2, hidden=hidden, learning_rate=0.05)
    assert_phi_is_theta(behavior, task, theta)
    for round_, retained in enumerate((None, random_data(task, theta, rows=8), None)):
        updated(behavior, random_data(task, theta, rows=30, seed=round_))
        assert largest_kl(behavior, task, theta) > 1e-4
        behavior.reset(retained)
        # theta changes when phi is reset: phi must follow at once.
        theta = theta_of(10 + round_)
        assert_phi_is_theta(behavior, task, theta)


def trained_table(name: str, task: StatesTask, theta: torch.Tensor):
    """A tabular policy with a Delta far from zero."""
    behavior = built(name, task, len(theta), hidden=[], learning_rate=0.2, kl_cutoff=0.1, clip_epsilon=1.0)
    updated(behavior, random_data(task, theta, rows=9))
    return behavior


@pytest.mark.parametrize(("n_agents", "n_actions"), [(2, 2), (2, 3), (3, 2)])
def test_ma_props_stores_the_log_probability_of_the_joint_distribution(n_agents, n_actions):
    task = StatesTask(n_states=2, n_agents=n_agents, n_actions=n_actions)
    theta = (0.5 * random_policy(task, 2)).log_softmax(-1)
    behavior = trained_table("MAPROPS", task, theta)
    for state in range(2):
        data = everywhere(task, theta, state, MANY)
        choice = behavior.choose(data, data.get(keys.PARAMETERS))
        for seed in range(2):
            expected = adjusted_probabilities(theta, weights(behavior.net)[0].detach(), seed, state)
            target = joint_probabilities(theta, seed, state)
            for action, log_prob in seen_log_probs(choice.action[seed], choice.behavior_log_prob[seed]).items():
                assert log_prob == pytest.approx(np.log(expected[action]), abs=2e-5)
            kl = sum(p * np.log(p / expected[a]) for a, p in target.items())
            assert choice.kl[seed, 0].item() == pytest.approx(kl, abs=1e-5)
            assert kl > 0.01


def test_frequencies_of_ma_props_are_those_of_the_adjusted_distribution():
    task = StatesTask(n_states=2, n_agents=2, n_actions=3)
    theta = (0.5 * random_policy(task, 2)).log_softmax(-1)
    behavior = trained_table("MAPROPS", task, theta)
    draws = 20_000
    data = everywhere(task, theta, 1, draws)
    action = behavior.choose(data, data.get(keys.PARAMETERS)).action
    for seed in range(2):
        probability = adjusted_probabilities(theta, weights(behavior.net)[0].detach(), seed, 1)
        counts = [(action[seed] == torch.tensor(a)).all(-1).sum().item() for a in joint_actions(task)]
        expected = draws * np.array([probability[a] for a in joint_actions(task)])
        assert chisquare(counts, expected * sum(counts) / expected.sum()).pvalue > 1e-3
        on_policy = draws * np.array(list(joint_probabilities(theta, seed, 1).values()))
        assert chisquare(counts, on_policy * sum(counts) / on_policy.sum()).pvalue < 1e-3


@pytest.mark.parametrize("name", ["OnPolicy", "PROPS"])
def test_independent_policies_are_product_distributions(name):
    task = StatesTask(n_states=1, n_agents=2, n_actions=3)
    theta = (0.5 * random_policy(task, 2)).log_softmax(-1)
    behavior = trained_table(name, task, theta) if name in TRAINED else built(name, task, 2)
    data = everywhere(task, theta, 0, MANY)
    choice = behavior.choose(data, data.get(keys.PARAMETERS))
    for seed in range(2):
        seen = seen_log_probs(choice.action[seed], choice.behavior_log_prob[seed])
        probability = np.exp([[seen[i, j] for j in range(3)] for i in range(3)])
        assert probability.sum() == pytest.approx(1, abs=1e-5)
        np.testing.assert_allclose(probability, np.outer(probability.sum(1), probability.sum(0)), atol=1e-6)
        pi = np.array(list(joint_probabilities(theta, seed, 0).values())).reshape(3, 3)
        kl = (pi * np.log(pi / probability)).sum()
        assert choice.kl[seed, 0].item() == pytest.approx(kl, abs=1e-5)
        assert (kl > 0.01) == (name == "PROPS")


def test_ma_props_correlates_the_agents_and_props_cannot():
    """D holds (0, 0) and (1, 1): every agent has its share of each action, the joint actions do not."""
    task = StatesTask()
    theta = torch.full((1, 1, 2, 2), 0.5).log()
    action = torch.tensor([[[0, 0], [1, 1]] * 4])
    data = data_of(task, theta, torch.zeros(1, 8, dtype=torch.int64), action)
    for name in ("MAPROPS", "PROPS"):
        behavior = built(name, task, 1, hidden=[], learning_rate=0.2, kl_cutoff=1.0)
        updated(behavior, data)
        query = everywhere(task, theta, 0, MANY)
        choice = behavior.choose(query, query.get(keys.PARAMETERS))
        seen = {a: np.exp(p) for a, p in seen_log_probs(choice.action[0], choice.behavior_log_prob[0]).items()}
        if name == "PROPS":
            assert all(p == pytest.approx(0.25, abs=1e-5) for p in seen.values())
        else:
            assert seen[0, 1] == pytest.approx(seen[1, 0]) and seen[0, 0] == pytest.approx(seen[1, 1])
            assert seen[0, 1] > 0.27


# seeds do not mix

NETWORKS = {"tanh": {}, "relu, layer norm": {"activation": "relu", "layer_norm": True}}
# Every policy, those with a network also with another one.
SERVED_WITH = [(*each, "tanh") for each in SERVED] + [(*each, "relu, layer norm") for each in SERVED_TRAINED]


@pytest.mark.every(3)
@pytest.mark.parametrize(("name", "kind", "network"), SERVED_WITH)
@pytest.mark.parametrize("broken", [keys.STATE, keys.OBSERVATION, keys.PARAMETERS])
def test_nan_in_one_seed_leaves_the_others_as_they_are(name, kind, network, broken):
    task = task_of(kind, n_states=2)
    theta = random_policy(task, 3)
    arguments = {"hidden": [8], "minibatches": 2} | NETWORKS[network] if name in ALL_TRAINED else {}

    def run(nan_seed: int | None):
        behavior = built(name, task, 3, **arguments)
        results = []
        for round_ in range(3):
            data = random_data(task, theta, rows=20, seed=round_)
            if nan_seed is not None:
                data.get(broken)[nan_seed, round_:] = torch.nan
            choice = behavior.choose(data, data.get(keys.PARAMETERS))
            data.set(keys.ACTION, choice.action)
            results += [choice.action, choice.behavior_log_prob, choice.kl.nan_to_num(-1)]
            results += list(updated(behavior, data).values())
            assert task.continuous_actions or ((choice.action >= 0) & (choice.action < 3)).all()
        return [*results, *(p.detach().clone() for p in behavior.parameters())]

    healthy, ill = run(None), run(1)
    for clean, touched in zip(healthy, ill, strict=True):
        # Not to the bit: a seed that stops leaves the tensors, the others move in memory, and a product rounds
        # differently at another alignment.
        torch.testing.assert_close(clean[[0, 2]], touched[[0, 2]], atol=1e-5, rtol=1e-5)


@pytest.mark.every(2)
@pytest.mark.parametrize(("name", "kind", "network"), SERVED_WITH)
def test_permuting_the_seeds_permutes_the_results(name, kind, network):
    task = task_of(kind, n_states=2)
    theta = random_policy(task, 3)
    arguments = {"hidden": [8], "minibatches": 2} | NETWORKS[network] if name in ALL_TRAINED else {}

    def run(order: list[int]):
        behavior = BEHAVIORS[name](**arguments)
        behavior.build(task, 0, order)
        behavior.reset(None)
        results = []
        for round_ in range(3):
            data = random_data(task, theta, rows=20, seed=round_)[order]
            choice = behavior.choose(data, data.get(keys.PARAMETERS))
            data.set(keys.ACTION, choice.action)
            results += [choice.action, choice.behavior_log_prob, *updated(behavior, data).values()]
        return results

    order = [2, 0, 1]
    for straight, permuted in zip(run([0, 1, 2]), run(order), strict=True):
        torch.testing.assert_close(permuted, straight[order])


def test_masked_actions_are_never_drawn_and_do_not_break_the_update():
    task = StatesTask(n_agents=2, n_actions=3)
    theta = torch.tensor([[[0.5, 0.5, 0.0], [0.2, 0.3, 0.5]]]).log().unsqueeze(0)
    for name in TRAINED:
        behavior = built(name, task, 1, hidden=[], learning_rate=0.2, kl_cutoff=1.0)
        for _ in range(3):
            data = everywhere(task, theta, 0, 200)
            choice = behavior.choose(data, data.get(keys.PARAMETERS))
            assert (choice.action[..., 0] < 2).all()
            assert choice.kl.isfinite().all() and choice.behavior_log_prob.isfinite().all()
            data.set(keys.ACTION, choice.action)
            stats = updated(behavior, data[:, :7])
            assert stats["kl"].isfinite().all()
            assert all(p.isfinite().all() for p in behavior.net.parameters())


def test_untrained_policies_have_no_statistics():
    task = StatesTask()
    theta = random_policy(task, 1)
    for name in set(BEHAVIORS) - set(ALL_TRAINED):
        behavior = built(name, task, 1)
        assert updated(behavior, random_data(task, theta, rows=4)) == {}
        assert behavior.optimizer is None


# refused settings


@pytest.mark.parametrize("name", ALL_TRAINED)
@pytest.mark.parametrize("flag", ["clip_epsilon", "kl_cutoff", "learning_rate"])
@pytest.mark.parametrize("value", [0, -0.1, float("nan")])
def test_settings_that_must_be_positive(name, flag, value):
    with pytest.raises(ConfigError) as error:
        BEHAVIORS[name](**{flag: value})
    message = one_line(error)
    rule = "give a value between 0 and 1e+30" if flag == "learning_rate" else "give a value above 0"
    assert f"--model.behavior.{flag}" in message and str(value) in message and rule in message


@pytest.mark.parametrize("name", ALL_TRAINED)
@pytest.mark.parametrize("flag", ["epochs", "minibatches"])
def test_settings_that_must_be_at_least_one(name, flag):
    with pytest.raises(ConfigError) as error:
        BEHAVIORS[name](**{flag: 0})
    assert f"--model.behavior.{flag}" in one_line(error)


@pytest.mark.parametrize("name", ["MAPROPS", "TabularMAPROPS", "Greedy"])
def test_too_many_joint_actions_name_the_number_the_limit_and_a_fix(name):
    behavior = BEHAVIORS[name](max_joint_actions=80)
    behavior.build(StatesTask(n_agents=4, n_actions=2), 0, [0])
    with pytest.raises(ConfigError) as error:
        behavior.build(StatesTask(n_agents=4, n_actions=3), 0, [0])
    message = one_line(error)
    assert all(part in message for part in ("81", "80", "--model.behavior.max_joint_actions", "Autoregressive"))
    assert message.split(f"{name} ")[1].count("use --model.behavior ") == 1


def test_more_than_a_hundred_thousand_joint_actions_are_refused_by_default():
    with pytest.raises(ConfigError):
        BEHAVIORS["MAPROPS"]().build(StatesTask(n_agents=17, n_actions=2), 0, [0])


def test_greedy_needs_numbered_states():
    with pytest.raises(ConfigError) as error:
        BEHAVIORS["Greedy"]().build(StatesTask(numbered=False), 0, [0])
    message = one_line(error)
    assert "StatesTask cannot number its states" in message and "use --model.behavior MAPROPS" in message


def test_compile_without_a_compiler_is_refused(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError) as error:
        BEHAVIORS["MAPROPS"](compile=True)
    assert "--model.behavior.compile" in one_line(error) and "g++" in one_line(error)
