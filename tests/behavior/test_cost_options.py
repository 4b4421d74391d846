"""Options of the trained behavior policies that save arithmetic: what each changes, and what none may change."""

from typing import NamedTuple

import pytest
import torch
from behavior_helpers import (
    WITH_COST_OPTIONS,
    StatesTask,
    built,
    data_of,
    everywhere,
    one_line,
    random_data,
    random_policy,
)
from stacked_layers import biases, weights
from torch import Tensor

from lit_maprops import keys
from lit_maprops.behavior import BEHAVIORS, algorithm2
from lit_maprops.behavior.update import fused
from lit_maprops.behavior.update.samples import Samples
from lit_maprops.distributions import joint
from lit_maprops.stacked.mlp import size_of
from lit_maprops.system.errors import ConfigError

OPTIONS = {
    "merge_states": {"merge_states": True},
    "trained_layers": {"trained_layers": "last"},
    "max_states": {"max_states": 6},
    "max_sample_passes": {"max_sample_passes": 60},
    "warm_start": {"warm_start": True},
}
CASES = OPTIONS | {"all": {name: value for option in OPTIONS.values() for name, value in option.items()}}
CASES["all"] |= {"max_states": 3}  # of 5 distinct ones
SETTINGS = {"hidden": [8], "learning_rate": 0.02, "epochs": 5}
TASK = StatesTask(n_states=5, n_agents=2, n_actions=3)
N_SEEDS = 3
ROUNDS = 4  # updates with D growing by ``STEPS``
STEPS = 12


def theta_of(task: StatesTask = TASK) -> Tensor:
    return (0.7 * random_policy(task, N_SEEDS)).log_softmax(-1)


def make(name: str, seeds: list[int] | None = None, **options: object):
    behavior = BEHAVIORS[name](**(SETTINGS | options))
    behavior.build(TASK, 0, list(range(N_SEEDS)) if seeds is None else seeds)
    behavior.reset(None)
    return behavior


def steps_of(round_: int) -> object:
    return random_data(TASK, theta_of(), rows=STEPS, seed=round_)


def run(behavior, rounds: int = ROUNDS) -> list[dict[str, Tensor]]:
    """Updates on growing D."""
    results = []
    for round_ in range(rounds):
        behavior.extend(steps_of(round_))
        results.append(behavior.update())
    return results


class Update(NamedTuple):
    start: Tensor  # parameters before it
    samples: Samples
    stats: dict[str, Tensor]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Update]:
    """What the updates work on, one after another; ``compile`` is ignored."""
    updates, update_behavior = [], fused.update_behavior

    def spy(net, optimizer, samples, *rest, compiled: bool = False, **arguments: object) -> dict[str, Tensor]:
        start = net.flat.detach().clone()
        stats = update_behavior(net, optimizer, samples, *rest, **arguments)
        updates.append(Update(start, samples, stats))
        return stats

    monkeypatch.setattr(fused, "update_behavior", spy)
    return updates


# what no option may change


def target_and_behavior(behavior, theta: Tensor, state: int) -> tuple[Tensor, Tensor]:
    """Joint log-probabilities ``[R, N ** A]`` of pi_theta and, from the network's output, of pi_phi."""
    one_hot = torch.nn.functional.one_hot(torch.tensor(state), TASK.state_dim).float()
    logits, stack = theta[:, state], behavior.net.stack
    delta = behavior.net(one_hot.expand(*stack, 1, -1)).squeeze(-2).detach()
    target = joint.joint_log_probs(logits)
    if len(stack) == 1:
        return target, (target + delta).log_softmax(-1)
    return target, joint.joint_log_probs((logits + delta).log_softmax(-1))


def assert_exact(behavior, theta: Tensor, moved: bool) -> None:
    """What ``choose`` stores are the log-probabilities of pi_phi, which is far from or equal to pi_theta."""
    for state in range(TASK.state_dim):
        data = everywhere(TASK, theta, state, 50)
        choice = behavior.choose(data, data.get(keys.PARAMETERS))
        target, expected = target_and_behavior(behavior, theta, state)
        torch.testing.assert_close(expected.exp().sum(-1), torch.ones(len(theta)))
        index = joint.joint_index(choice.action, TASK.n_actions)
        torch.testing.assert_close(choice.behavior_log_prob, expected.gather(1, index), atol=1e-5, rtol=1e-5)
        kl = (target.exp() * (target - expected)).sum(-1, keepdim=True)
        torch.testing.assert_close(choice.kl, kl.expand_as(choice.kl), atol=1e-5, rtol=1e-4)
        assert (kl > 1e-5).all() if moved else (choice.kl.abs() < 1e-6).all()


@pytest.mark.parametrize("name", WITH_COST_OPTIONS)
@pytest.mark.parametrize("case", CASES)
def test_log_probabilities_are_exact_and_phi_is_theta_after_reset(name, case):
    behavior, theta = make(name, **CASES[case]), theta_of()
    for retained in (None, steps_of(7), None):
        for stats in run(behavior):
            assert all(value.isfinite().all() for value in stats.values())
            assert (stats["gradient_steps"] <= stats["gradient_steps_allowed"]).all()
        assert_exact(behavior, theta, moved=True)
        behavior.reset(retained)
        assert behavior.delta_trainer.store.steps == (0 if retained is None else STEPS)
        assert_exact(behavior, theta, moved=False)
        behavior.extend(steps_of(8))
        assert (behavior.update()["gradient_steps"] >= 1).all(), "Delta starts from zero after a reset"
        behavior.reset(None)


@pytest.mark.parametrize("name", WITH_COST_OPTIONS)
@pytest.mark.parametrize("case", CASES)
def test_permuting_the_seeds_permutes_the_results(name, case):
    def results(order: list[int]) -> list[Tensor]:
        behavior, found = make(name, order, **CASES[case]), []
        for round_ in range(3):
            data = steps_of(round_)[order]
            choice = behavior.choose(data, data.get(keys.PARAMETERS))
            behavior.extend(data.set(keys.ACTION, choice.action))
            found += [choice.action, choice.behavior_log_prob, *behavior.update().values(), behavior.net.flat.detach()]
        return found

    for straight, permuted in zip(results([0, 1, 2]), results([2, 0, 1]), strict=True):
        torch.testing.assert_close(permuted, straight[[2, 0, 1]], atol=1e-5, rtol=1e-4)


# what each option does


@pytest.mark.parametrize("name", WITH_COST_OPTIONS)
@pytest.mark.parametrize("hidden", [[], [8]])
def test_merging_states_saves_rows_and_changes_nothing_else(name, hidden, seen):
    plain, merged = make(name, hidden=hidden), make(name, hidden=hidden, merge_states=True)
    for stats, own in zip(run(plain), run(merged), strict=True):
        for key, value in stats.items():
            torch.testing.assert_close(own[key], value, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(merged.net.flat, plain.net.flat, atol=1e-4, rtol=0)
    rows = [update.samples.inputs.shape[1] for update in seen]
    assert rows == [STEPS * (i + 1) for i in range(ROUNDS)] + [TASK.state_dim] * ROUNDS


def last_layers_by_torch(behavior, data, epochs: int, rate: float) -> tuple[Tensor, Tensor]:
    """Weight ``[R, H, K]`` and bias ``[R, K]`` after full-batch steps of ``torch.optim.Adam`` on frozen features."""
    found = []
    for seed in range(N_SEEDS):
        weight, bias = weights(behavior.net)[0][seed].detach(), biases(behavior.net)[0][seed].detach()
        features = (data.get(keys.STATE)[seed] @ weight + bias).tanh()
        layer = torch.nn.Linear(features.shape[1], TASK.n_actions**TASK.n_agents)
        torch.nn.init.zeros_(layer.weight), torch.nn.init.zeros_(layer.bias)
        adam = torch.optim.Adam(layer.parameters(), rate)
        target = joint.joint_log_probs(data.get(keys.PARAMETERS)[seed])
        taken = joint.joint_index(data.get(keys.ACTION)[seed], TASK.n_actions).unsqueeze(-1)
        for _ in range(epochs):
            log_ratio = ((target + layer(features)).log_softmax(-1) - target).gather(-1, taken)
            adam.zero_grad()
            torch.maximum(log_ratio.exp(), log_ratio.exp().clamp(0.7, 1.3)).mean().backward()
            adam.step()
        found.append((layer.weight.detach().T, layer.bias.detach()))
    return torch.stack([w for w, _ in found]), torch.stack([b for _, b in found])


def test_the_last_layer_alone_is_trained_on_frozen_features():
    behavior = make("MAPROPS", trained_layers="last", kl_cutoff=100.0)
    hidden = behavior.net.flat.detach()[:, : -size_of(behavior.net.shapes[-1:])].clone()
    data = torch.cat([steps_of(0), steps_of(1)], 1)
    for update, part in enumerate((data[:, :STEPS], data[:, STEPS:])):
        behavior.extend(part)
        assert (behavior.update()["gradient_steps"] == 5).all()
        weight, bias = last_layers_by_torch(behavior, data[:, : STEPS * (update + 1)], 5, 0.02)
        torch.testing.assert_close(weights(behavior.net)[1], weight, atol=1e-4, rtol=0)
        torch.testing.assert_close(biases(behavior.net)[1], bias, atol=1e-4, rtol=0)
    assert torch.equal(behavior.net.flat[:, : hidden.shape[1]], hidden) and weight.abs().min() > 1e-3


@pytest.mark.parametrize("name", WITH_COST_OPTIONS)
def test_max_states_bounds_the_rows_and_does_nothing_below(name, seen):
    run(make(name, max_states=30))
    assert [update.samples.inputs.shape[1] for update in seen] == [12, 24, 30, 30]
    few, all_ = make(name, max_states=STEPS * ROUNDS), make(name)
    for own, expected in zip(run(few), run(all_), strict=True):
        assert all(torch.equal(own[key], value) for key, value in expected.items())
    assert torch.equal(few.net.flat, all_.net.flat)


def test_max_states_does_nothing_below_when_rows_are_filled_up(seen):
    behavior = make("MAPROPS", max_states=50, compile=True)
    run(behavior)
    for update, steps in zip(seen, range(STEPS, ROUNDS * STEPS + 1, STEPS), strict=True):
        share = update.samples.share
        torch.testing.assert_close(share[share > 0], torch.full((N_SEEDS * steps,), 1 / steps))


@pytest.mark.parametrize("name", WITH_COST_OPTIONS)
def test_max_sample_passes_lowers_the_steps_as_d_grows(name):
    allowed = [
        ({}, [8, 8, 8, 8, 8]),
        ({"max_sample_passes": 48}, [4, 2, 1, 1, 1]),
        ({"max_sample_passes": 5}, [1, 1, 1, 1, 1]),
        ({"max_sample_passes": 50, "minibatches": 3}, [12, 6, 3, 3, 3]),
        ({"max_sample_passes": 48, "merge_states": True}, [8, 8, 8, 8, 8]),
        ({"max_sample_passes": 48, "max_states": 20}, [4, 2, 2, 2, 2]),
    ]
    for options, expected in allowed:
        results = run(make(name, **options, epochs=8, kl_cutoff=100.0), 5)
        for stats, count in zip(results, expected, strict=True):
            assert (stats["gradient_steps_allowed"] == count).all() and (stats["gradient_steps"] == count).all()


@pytest.mark.parametrize("name", WITH_COST_OPTIONS)
@pytest.mark.parametrize("reset_optimizer", [False, True])
def test_warm_starts_continue_unless_the_cutoff_was_hit(name, reset_optimizer, seen):
    behavior = make(name, warm_start=True, kl_cutoff=0.02, epochs=3, reset_optimizer=reset_optimizer)
    last = size_of(behavior.net.shapes[-1:])
    continued = restarted = 0
    hit = torch.ones(behavior.net.stack, dtype=torch.bool)
    for round_ in range(8):
        expected = behavior.net.flat.detach().clone()
        expected[..., -last:] *= ~hit.unsqueeze(-1)
        behavior.extend(steps_of(round_))
        behavior.update()
        call = seen[-1]
        assert torch.equal(call.start, expected)
        hit = call.stats["cutoff_hit"]
        assert torch.equal(hit, call.stats["gradient_steps"] < 3)
        continued, restarted = continued + int((~hit).sum()), restarted + int(hit.sum())
    assert continued > 3 and restarted > 3, "choose data on which some entries stop"


@pytest.mark.parametrize(("hidden", "rate"), [([], 0.1), ([8], 0.02)])
@pytest.mark.parametrize("reset_optimizer", [False, True])
def test_warm_updates_are_those_of_the_plain_form(hidden, rate, reset_optimizer):
    """Only joint action (0, 0) is taken; seed 1 nearly always wants it, so that its KL grows more slowly."""
    task, theta = StatesTask(), torch.tensor([[0.5, 0.5], [0.99, 0.01]]).log()
    theta = theta.view(2, 1, 1, 2).expand(-1, -1, 2, -1)
    nothing = torch.zeros(2, 4, dtype=torch.int64)
    data = data_of(task, theta, nothing, nothing.unsqueeze(-1).expand(-1, -1, 2))
    arguments = {
        "hidden": hidden,
        "learning_rate": rate,
        "epochs": 3,
        "kl_cutoff": 0.02,
        "reset_optimizer": reset_optimizer,
    }
    behavior, plain = (built("MAPROPS", task, 2, warm_start=True, **arguments) for _ in range(2))
    hits, hit = [], torch.tensor([True, True])
    for _ in range(5):
        behavior.extend(data)
        plain.extend(data)
        stats = behavior.update()
        plain.net.zero_output(hit)
        if reset_optimizer:
            plain.optimizer.reset_state()
        expected = algorithm2.update_behavior(
            plain.net, plain.optimizer, plain.delta_trainer.store.samples(), [None] * 3, 0.3, 0.02
        )
        assert torch.equal(stats["gradient_steps"], expected["gradient_steps"])
        torch.testing.assert_close(behavior.net.flat, plain.net.flat, atol=1e-4, rtol=0)
        hit = expected["cutoff_hit"]
        hits.append(hit.tolist())
    assert any(one != other for one, other in hits), "choose data on which one entry stops and the other does not"


# refused settings


@pytest.mark.parametrize("name", WITH_COST_OPTIONS)
@pytest.mark.parametrize(
    ("flag", "options"),
    [
        ("merge_states", {"merge_states": True, "minibatches": 2}),
        ("max_states", {"max_states": 8, "minibatches": 2}),
        ("max_states", {"max_states": 0}),
        ("max_states", {"max_states": -3}),
        ("max_sample_passes", {"max_sample_passes": 0}),
        ("trained_layers", {"trained_layers": "first"}),
    ],
)
def test_settings_that_are_refused_by_the_name_of_their_flag(name, flag, options):
    with pytest.raises(ConfigError) as error:
        BEHAVIORS[name](**options)
    message = one_line(error)
    assert message.startswith(f"--model.behavior.{flag} ")
    assert str(next(reversed(options.values()))) in message
