"""Sampling error against a slow dictionary implementation and divergences known in closed form."""

import itertools
from collections import Counter, defaultdict

import numpy as np
import pytest
import torch
from scipy.stats import binom
from tensordict import TensorDict
from torch import Tensor

from lit_maprops import keys
from lit_maprops.metrics.likelihood import fitted_kl
from lit_maprops.metrics.sampling_error import likelihood_error, tabular_error, total_variation
from lit_maprops.native.build import why_none
from lit_maprops.stacked.streams import SeedStreams

Action = tuple[int, ...]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def streams(n_seeds: int) -> SeedStreams:
    return SeedStreams(0, list(range(n_seeds)), "sampling error")


def data_of(theta: Tensor, state: Tensor, action: Tensor) -> TensorDict:
    """``theta`` is log pi ``[R, n_states, A, N]``; states ``[R, B]``, actions ``[R, B, A]``."""
    one_hot = torch.nn.functional.one_hot(state, theta.shape[1]).float()
    data = TensorDict({keys.STATE: one_hot, keys.STATE_INDEX: state.unsqueeze(-1)}, batch_size=state.shape)
    data.set(keys.OBSERVATION, one_hot.unsqueeze(2).expand(-1, -1, action.shape[-1], -1).clone())
    data.set(keys.PARAMETERS, theta[torch.arange(len(state)).unsqueeze(1), state])
    data.set(keys.ACTION, action)
    return data


def random_data(n_seeds: int, n_states: int, n_agents: int, n_actions: int, rows: int) -> tuple[Tensor, TensorDict]:
    theta = torch.randn(n_seeds, n_states, n_agents, n_actions, generator=generator()).log_softmax(-1)
    state = torch.randint(n_states, (n_seeds, rows), generator=generator(1))
    action = torch.randint(n_actions, (n_seeds, rows, n_agents), generator=generator(2))
    return theta, data_of(theta, state, action)


# total variation


def slow_variation(
    states: list[int], actions: list[tuple[int, ...]], pi: dict[int, dict[tuple[int, ...], float]]
) -> float:
    """0.5 sum_a abs(d_D(a | s) - pi(a | s)) over all actions, averaged over the rows of D."""
    here = defaultdict(list)
    for state, action in zip(states, actions, strict=True):
        here[state].append(action)
    total = 0.0
    for state, taken in here.items():
        counts = Counter(taken)
        variation = 0.5 * sum(abs(counts[a] / len(taken) - p) for a, p in pi[state].items())
        total += variation * len(taken) / len(states)
    return total


def pi_of(theta: Tensor, agents: list[int]) -> dict[int, dict[Action, float]]:
    """Per state, the probability of every combination of these agents' actions; ``theta`` ``[n_states, A, N]``."""
    probability = theta.double().exp()
    table = {}
    for state in range(theta.shape[0]):
        table[state] = {
            actions: float(torch.stack([probability[state, i, a] for i, a in zip(agents, actions, strict=True)]).prod())
            for actions in itertools.product(range(theta.shape[-1]), repeat=len(agents))
        }
    return table


@pytest.mark.parametrize(
    ("n_states", "n_agents", "n_actions", "rows"), [(1, 2, 2, 5), (4, 2, 3, 40), (7, 3, 2, 200), (2, 4, 2, 30)]
)
def test_tabular_error_is_that_of_the_dictionary_implementation(n_states, n_agents, n_actions, rows):
    theta, data = random_data(3, n_states, n_agents, n_actions, rows)
    error = tabular_error(data, streams(3))
    everyone = list(range(n_agents))
    for seed in range(3):
        states = data.get(keys.STATE_INDEX)[seed, :, 0].tolist()
        action = data.get(keys.ACTION)[seed]
        taken = [tuple(row) for row in action.tolist()]
        joint_tv = slow_variation(states, taken, pi_of(theta[seed], everyone))
        agent_tv = [
            slow_variation(states, [(a,) for a in action[:, i].tolist()], pi_of(theta[seed], [i])) for i in everyone
        ]
        assert error["joint_tv"][seed].item() == pytest.approx(joint_tv, abs=1e-5)
        assert error["agent_tv"][seed].item() == pytest.approx(sum(agent_tv) / n_agents, abs=1e-5)
        pairs = list(itertools.combinations(everyone, 2))
        pair_tv = [
            slow_variation(states, [(row[i], row[j]) for row in taken], pi_of(theta[seed], [i, j])) for i, j in pairs
        ]
        assert ("pairwise_tv" in error) == (n_agents > 2)  # for two agents it is the joint one
        if n_agents > 2:
            assert error["pairwise_tv"][seed].item() == pytest.approx(sum(pair_tv) / len(pairs), abs=1e-5)


def test_states_and_actions_may_carry_any_numbers():
    _, data = random_data(2, 4, 2, 3, 60)
    state, action = data.get(keys.STATE_INDEX).squeeze(-1), data.get(keys.ACTION)
    number = action[..., 0] * 3 + action[..., 1]
    log_prob = data.get(keys.PARAMETERS).gather(-1, action.unsqueeze(-1)).squeeze(-1).sum(-1)
    plain = total_variation(state, number, log_prob)
    renamed = torch.tensor([10**15, -7, 3, 2**40])[state]
    torch.testing.assert_close(total_variation(renamed, number * 10**12 - 5, log_prob), plain)
    order = torch.randperm(60, generator=generator())
    torch.testing.assert_close(total_variation(state[:, order], number[:, order], log_prob[:, order]), plain)


def test_states_are_numbered_once(monkeypatch):
    """And actions once for each figure: joint, of two agents, and those of the on-policy batch."""
    calls, unique = [], torch.unique
    monkeypatch.setattr(torch, "unique", lambda *args, **options: calls.append(args) or unique(*args, **options))
    tabular_error(random_data(2, 4, 2, 3, 60)[1], streams(2))
    assert len(calls) == 1 + 2 * 3


def test_extreme_values_of_total_variation():
    state = torch.zeros(2, 4, dtype=torch.int64)
    action = torch.tensor([[0, 1, 2, 3], [0, 0, 0, 0]])
    log_prob = torch.full((2, 4), 0.25).log()
    torch.testing.assert_close(total_variation(state, action, log_prob), torch.tensor([0.0, 0.75]))


def test_seeds_do_not_mix_and_nan_stays_in_its_seed():
    _, data = random_data(3, 4, 2, 3, 40)
    whole = tabular_error(data, streams(3))
    alone = tabular_error(data[:1], streams(1))
    for key, value in alone.items():
        torch.testing.assert_close(whole[key][:1], value)
    data.get(keys.PARAMETERS)[1] = torch.nan
    ill = tabular_error(data, streams(3))
    for key, value in whole.items():
        assert torch.equal(ill[key][[0, 2]], value[[0, 2]])


def test_no_agent_is_off_but_the_joint_actions_are():
    theta = torch.full((1, 1, 2, 2), 0.5).log()
    action = torch.tensor([[[0, 0], [1, 1]] * 10])
    data = data_of(theta, torch.zeros(1, 20, dtype=torch.int64), action)
    error = tabular_error(data, streams(1))
    assert error["agent_tv"].item() == pytest.approx(0, abs=1e-6)
    assert error["joint_tv"].item() == pytest.approx(0.5)
    fitted = likelihood_error(
        data_of(theta, torch.zeros(1, 2000, dtype=torch.int64), action.repeat(1, 100, 1)), streams(1), [16]
    )
    assert fitted["agent_kl"].item() == pytest.approx(0, abs=2e-3)
    assert fitted["joint_kl"].item() == pytest.approx(0.6931, rel=0.05)


def test_the_on_policy_figures_are_those_of_a_fresh_batch():
    """Whatever D holds: the expected total variation of 8 uniform draws of three agents' two actions."""
    rows, seeds, agents = 8, 2000, 3
    theta = torch.full((seeds, 1, agents, 2), 0.5).log()
    action = torch.zeros(seeds, rows, agents, dtype=torch.int64)
    error = tabular_error(data_of(theta, torch.zeros(seeds, rows, dtype=torch.int64), action), streams(seeds))
    for name, together in (("agent_tv", 1), ("pairwise_tv", 2), ("joint_tv", agents)):
        cells, count = 2**together, np.arange(rows + 1)
        mean = 0.5 * cells * float(binom.pmf(count, rows, 1 / cells) @ abs(count / rows - 1 / cells))
        figure = error[f"{name}_on_policy"]
        assert abs(figure.mean().item() - mean) < 4 * figure.std().item() / seeds**0.5
        torch.testing.assert_close(error[name], torch.full((seeds,), 1 - 1 / cells))


# likelihood

COMPILED = pytest.mark.skipif(why_none() is not None, reason="kernels need a C++ compiler")
NATIVE = pytest.param(True, marks=COMPILED)
ENGINES = pytest.mark.parametrize("native", [False, NATIVE], ids=["torch", "native"])


def fits(hidden, slow):
    """Layers and engines; torch's fits of the layers ``slow`` take many seconds."""
    cases = [pytest.param(layers, True, marks=COMPILED, id=f"native-{layers}") for layers in [*hidden, slow]]
    cases += [pytest.param(layers, False, id=f"torch-{layers}") for layers in hidden]
    return [*cases, pytest.param(slow, False, marks=pytest.mark.slow, id=f"torch-{slow}")]


SKEWED = [[0.7, 0.1, 0.1, 0.1], [0.4, 0.1, 0.1, 0.4], [0.05, 0.45, 0.45, 0.05]]


def stateless(theta: Tensor, number: Tensor) -> TensorDict:
    """``theta`` ``[R, 2, 2]``; joint action numbers ``[R, B]`` of the 2x2 game."""
    return data_of(theta.unsqueeze(1), torch.zeros_like(number), torch.stack([number // 2, number % 2], -1))


@pytest.mark.every(2)
@pytest.mark.parametrize(("hidden", "native"), fits([[], [16]], [64, 64]))
def test_fitted_kl_of_a_large_batch_is_that_of_its_frequencies(hidden, native):
    """Without states the likelihood is largest at the frequencies of D, which approach the skewed distribution.

    The tolerances are two standard errors, about sqrt(2 KL / 1000), of the 1000 held-out rows that choose the fit.
    """
    skewed = enumerate(torch.tensor(SKEWED))
    number = torch.stack([torch.multinomial(p, 5000, True, generator=generator(i)) for i, p in skewed])
    theta = torch.tensor([[[0.5, 0.5], [0.5, 0.5]], [[0.6, 0.4], [0.7, 0.3]], [[0.5, 0.5], [0.8, 0.2]]]).log()
    error = likelihood_error(stateless(theta, number), streams(3), hidden, native=native)
    for seed in range(3):
        share = number[seed].bincount(minlength=4) / 5000
        pi = (theta[seed, 0].unsqueeze(1) + theta[seed, 1]).flatten().exp()
        joint_kl = (share * (share / pi).log()).sum().item()
        assert error["joint_kl"][seed].item() == pytest.approx(joint_kl, rel=0.2)
        marginals = [share.reshape(2, 2).sum(1), share.reshape(2, 2).sum(0)]
        agent_kl = sum((m * (m.log() - theta[seed, i])).sum().item() for i, m in enumerate(marginals)) / 2
        assert error["agent_kl"][seed].item() == pytest.approx(agent_kl, rel=0.2, abs=0.015)


@pytest.mark.parametrize("native", [pytest.param(False, marks=pytest.mark.slow), NATIVE], ids=["torch", "native"])
def test_a_large_on_policy_batch_has_no_error(native):
    theta = torch.randn(4, 2, 2, generator=generator()).log_softmax(-1)
    pi = (theta[:, 0].unsqueeze(-1) + theta[:, 1].unsqueeze(1)).flatten(1).exp()
    number = torch.multinomial(pi, 5000, True, generator=generator())
    error = likelihood_error(stateless(theta, number), streams(4), [16], native=native)
    for key in ("joint_kl", "agent_kl", "joint_kl_on_policy", "agent_kl_on_policy"):
        assert error[key].max().item() < 2e-3, key


@ENGINES
@pytest.mark.parametrize("most", [4, 3], ids=["enumerated", "autoregressive"])
def test_the_fitted_on_policy_figures_are_those_of_a_fresh_batch(most, native):
    """Whatever D holds: here one action of each agent, up to log 2 from its policy, which 100 steps do not reach."""
    number = torch.zeros(2, 1000, dtype=torch.int64)
    data = stateless(torch.full((2, 2, 2), 0.5).log(), number)
    error = likelihood_error(data, streams(2), [], max_joint_actions=most, native=native)
    for name in ("agent_kl", "joint_kl"):
        assert error[name].min().item() > 0.4
        assert error[f"{name}_on_policy"].max().item() < 0.05


@ENGINES
def test_fitted_kl_averages_over_the_states_of_d(native):
    """Half of D stands in a state where actions follow pi, the other half where they do not."""
    state = torch.arange(6000).unsqueeze(0) % 2
    skewed = torch.multinomial(torch.tensor(SKEWED[0]), 6000, True, generator=generator())
    fair = torch.randint(4, (6000,), generator=generator(1))
    number = torch.where(state == 0, skewed, fair)
    action = torch.stack([number // 2, number % 2], -1)
    error = likelihood_error(
        data_of(torch.full((1, 2, 2, 2), 0.5).log(), state, action), streams(1), [32], native=native
    )
    kl = (torch.tensor(SKEWED[0]) * (4 * torch.tensor(SKEWED[0])).log()).sum().item()
    assert error["joint_kl"].item() == pytest.approx(kl / 2, rel=0.1)


@pytest.mark.parametrize(("hidden", "native"), fits([[]], [16]))
def test_with_too_many_joint_actions_the_fit_is_autoregressive(hidden, native):
    """Agent 1 of three repeats agent 0 in four of five steps: a KL that agent 1's conditionals hold."""
    rows, draw = 6000, generator(5)
    first, third = torch.randint(2, (2, 1, rows), generator=draw)
    repeats = torch.rand(1, rows, generator=draw) < 0.8
    action = torch.stack([first, torch.where(repeats, first, 1 - first), third], -1)
    data = data_of(torch.full((1, 1, 3, 2), 0.5).log(), torch.zeros(1, rows, dtype=torch.int64), action)
    share = repeats.float().mean()
    kl = (share * (2 * share).log() + (1 - share) * (2 * (1 - share)).log()).item()
    enumerated = likelihood_error(data, streams(1), hidden, max_joint_actions=8, native=native)
    chained = likelihood_error(data, streams(1), hidden, max_joint_actions=7, native=native)
    assert enumerated.keys() == chained.keys()
    for error in (enumerated, chained):
        assert error["joint_kl"].item() == pytest.approx(kl, rel=0.1)
        assert error["joint_kl_on_policy"].item() < 3e-3 and error["agent_kl"].item() < 3e-3


@pytest.mark.parametrize("stack", [(3,), (2, 2)])
def test_the_kernel_fits_what_torch_fits(stack):
    """Masked actions, repeated rows, an entry of which no row is held out, pictures and dense inputs."""
    if why_none() is not None:
        pytest.skip("kernels need a C++ compiler")
    draw = generator(8)
    for width in (4, 40):
        states = (torch.rand(*stack, 9, width, generator=draw) < (0.1 if width == 40 else 0.9)).float()
        logits = torch.randn(*stack, 9, 5, generator=draw)
        logits[..., 3, 1] = -torch.inf
        logits = logits.log_softmax(-1)
        state = torch.randint(9, (70,), generator=draw)
        rows = states[..., state, :], logits[..., state, :]
        action = torch.multinomial((3 * rows[1]).exp().flatten(0, -2), 1, generator=draw).view(*stack, 70)
        held_out = torch.rand(*stack, 70, generator=draw) < 0.3
        held_out[0] &= len(stack) > 1
        by = [
            fitted_kl(*rows, action, held_out, [8], streams(stack[0]), steps=60, native=native)
            for native in (False, True)
        ]
        torch.testing.assert_close(by[1], by[0], atol=2e-5, rtol=1e-3, equal_nan=True)
        assert by[0].isnan().any() == (len(stack) == 1) and by[0].nan_to_num().max() > 1e-3
        for dtype in (torch.uint8, torch.int8, torch.int64):
            data = [apart(tensor, len(stack)) for tensor in (rows[0].to(dtype), rows[1], action, held_out)]
            kl = fitted_kl(*data, [8], streams(stack[0]), steps=60, native=True)
            assert torch.equal(kl.nan_to_num(), by[1].nan_to_num())


def apart(tensor: Tensor, rows: int) -> Tensor:
    """The same numbers, in memory with those of dimension ``rows`` outermost and others between them."""
    outermost = tensor.movedim(rows, 0)
    return torch.stack([outermost, torch.ones_like(outermost)], 1)[:, 0].movedim(0, rows)


def test_ten_agents_with_five_actions_are_measured_without_a_table():
    _, data = random_data(2, 2, 10, 5, 60)
    error = likelihood_error(data, streams(2), [4], steps=5) | tabular_error(data, streams(2))
    assert all(value.isfinite().all() for value in error.values())
    assert (error["joint_tv"] > 0.99).all() and (error["pairwise_tv"] < 0.9).all()


def test_nan_in_one_seed_leaves_the_other_fits_bit_identical():
    _, data = random_data(3, 2, 2, 2, 40)
    clean = likelihood_error(data, streams(3), [8], steps=20)
    data.get(keys.PARAMETERS)[1, 5:] = torch.nan
    ill = likelihood_error(data, streams(3), [8], steps=20)
    for key, value in clean.items():
        assert torch.equal(ill[key][[0, 2]], value[[0, 2]])


@pytest.mark.parametrize("hidden", [[], [8]])
def test_restored_streams_repeat_the_estimate(hidden):
    """What a resumed run needs: the same figures from the saved state of the streams."""
    number = torch.stack([torch.multinomial(torch.tensor(p), 60, True, generator=generator()) for p in SKEWED[:2]])
    data = stateless(torch.full((2, 2, 2), 0.5).log(), number)
    original = streams(2)
    likelihood_error(data, original, hidden, steps=20)
    restored = streams(2)
    restored.load_state_dict(original.state_dict())
    expected, result = (likelihood_error(data, own, hidden, steps=20) for own in (original, restored))
    for key, value in expected.items():
        assert torch.equal(result[key], value), key
