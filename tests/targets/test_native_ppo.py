"""PPO's compiled kernel against ``ppo.py`` on the same batches; its gradient against autograd in double precision."""

from collections.abc import Callable

import pytest
import torch
from stacked_layers import biases, weights
from targets_helpers import (
    PPOS,
    SEEDS,
    SMALL,
    GaussianTask,
    MaskedTask,
    SizesTask,
    built,
    filled,
    gae,
    generator,
    random_batch,
    randomize_heads,
    store_targets,
)
from tensordict import TensorDict
from torch import Tensor, nn

from lit_maprops import keys
from lit_maprops.envs.ends import TERMINATED
from lit_maprops.native.build import why_none
from lit_maprops.stacked.ranks import Team
from lit_maprops.targets import IPPO, Learner

pytestmark = pytest.mark.skipif(why_none() is not None, reason=f"no kernels: {why_none()}")

NATIVE = [*PPOS, "HAPPO"]
# Small clips, so that all of them act after the first step; large learning rate for the same reason.
TIGHT = SMALL | {"learning_rate": 0.02, "clip_epsilon": 0.05, "max_grad_norm": 0.3, "epochs": 2, "minibatches": 3}
CASES = {
    "plain": {},
    "shared": {"share_parameters": True},
    "clip_value": {"clip_value": 0.02, "critic_coeff": 0.7},
    "entropy": {"entropy_coeff": 0.5},
    "deep": {"hidden": [8, 24, 5], "minibatches": 1},
    "table": {"hidden": []},
    "annealed": {"anneal_learning_rate": True},
    "kl_stop": {"kl_stop": 0.01, "epochs": 6},
}


def may(name: str, case: str) -> bool:
    """Every agent of HAPPO has a policy of its own."""
    return (name, case) != ("HAPPO", "shared")


def pair(name: str, task: type = SizesTask, **arguments: object) -> tuple[Learner, Learner]:
    """Two equal learners, the second of them native."""
    both = [built(name, task=task, **TIGHT | arguments) for _ in range(2)]
    for learner in both:
        if learner.hidden:
            randomize_heads(learner)
    both[1].native = True
    assert both[1].why_not_native() is None
    return both[0], both[1]


def moments(learner: Learner, name: str) -> list[Tensor]:
    return [learner.optimizer.state[weight][name] for weight in weights_of(learner)]


def weights_of(learner: Learner) -> list[Tensor]:
    return [*learner.policies.net.parameters(), *learner.critic.net.parameters()]


def trained(learner: Learner) -> list[Tensor]:
    """All that an update changes."""
    return [weight.detach() for weight in weights_of(learner)] + [
        tensor for name in ("exp_avg", "exp_avg_sq", "steps_taken") for tensor in moments(learner, name)
    ]


def assert_equal_up_to_rounding(expected: Learner, found: Learner) -> None:
    for a, b in zip(trained(expected), trained(found), strict=True):
        # The moments' scale is that of the largest: a small one may be a difference of large gradients.
        torch.testing.assert_close(b, a, rtol=1e-4, atol=2e-5 * float(a.abs().max()))


def left_early(data: TensorDict, learner: Learner) -> TensorDict:
    """In the second environment agent 0 has left after two steps."""
    end = torch.zeros(*data.batch_size, 2, dtype=torch.uint8)
    end[:, 2:, 1, 0] = TERMINATED
    following = torch.cat([end[:, 1:], end[:, -1:]], 1)
    data.set(keys.END, end).set(("next", *keys.END), following)
    data.set(keys.PARAMETERS, learner.policies.family.idle(data.get(keys.PARAMETERS), end != 0))
    data.set(keys.ACTION, data.get(keys.ACTION).masked_fill(end != 0, 0))
    data.set(keys.LOG_PROB, learner.policies.family.log_prob(data.get(keys.PARAMETERS), data.get(keys.ACTION)))
    return data


@pytest.mark.parametrize(("name", "case"), [(name, case) for case in CASES for name in NATIVE if may(name, case)])
def test_updates_are_those_of_torch(name: str, case: str) -> None:
    """Two updates, with a history of two batches, the second update's moments those of the first."""
    masked = (list(CASES).index(case) + NATIVE.index(name)) % 2
    torch_one, native_one = pair(name, MaskedTask if masked else SizesTask, **CASES[case])
    epochs: list[float] = []
    for seed in (0, 2):
        buffer = filled(random_batch(torch_one, seed), random_batch(torch_one, seed + 1))
        for learner in (torch_one, native_one):
            learner.anneal(0.25 * seed)
        expected, found = torch_one.update(buffer), native_one.update(buffer)
        assert list(found) == list(expected)
        epochs += found["target_epochs"].tolist()
        for key, value in expected.items():
            torch.testing.assert_close(
                found[key], value, rtol=2e-4, atol=2e-6, msg=lambda text, key=key: f"{key}: {text}"
            )
        assert_equal_up_to_rounding(torch_one, native_one)
    assert torch_one.checkpoint_state()["minibatch_streams"]["cursor"] > 0
    assert str(torch_one.checkpoint_state()) == str(native_one.checkpoint_state())
    if case == "kl_stop":
        assert min(epochs) < 6 and len(set(epochs)) > 1  # stopped, and not all at the same epoch


@pytest.mark.parametrize(
    ("name", "case"), [(name, case) for case in ("plain", "shared") for name in NATIVE if may(name, case)]
)
def test_agents_that_left_weigh_nothing(name: str, case: str) -> None:
    torch_one, native_one = pair(name, MaskedTask, **CASES[case])
    buffer = filled(left_early(random_batch(torch_one), torch_one))
    expected, found = torch_one.update(buffer), native_one.update(buffer)
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=2e-4, atol=2e-6)
    assert_equal_up_to_rounding(torch_one, native_one)


class WideTask(SizesTask):
    """Pictures, mostly 0, whose widths are no multiples of 8."""

    observation_dim, state_dim = 21, 18


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int64])
@pytest.mark.parametrize("name", NATIVE)
def test_inputs_of_any_type_mostly_zero(name: str, dtype: torch.dtype) -> None:
    """As pictures of grids are: lists of numbers, and inputs that are 0 until a later update or for ever."""
    torch_one, native_one = pair(name, WideTask, share_parameters=name == "IPPO")
    before = native_one.policies.net.flat.detach().clone()
    for seed, seen in ((0, [0, 1, 20]), (1, [1, 2, 9, 17])):
        data, rng = random_batch(built(name), seed), generator(seed)
        for prefix in ((), ("next",)):
            for key, shape in ((keys.OBSERVATION, (2, 21)), ((keys.STATE,), (18,))):
                column = torch.zeros(*data.batch_size, *shape, dtype=dtype)
                places = [k for k in seen if k < shape[-1]]
                drawn = torch.rand(*data.batch_size, *shape[:-1], len(places), generator=rng) < 0.3
                column[..., places] = drawn.to(dtype) * (3 if dtype == torch.uint8 else -2)
                data.set((*prefix, *key), column)
        store_targets(data, torch_one.policies)
        expected, found = torch_one.update(filled(data)), native_one.update(filled(data))
        for key, value in expected.items():
            torch.testing.assert_close(found[key], value, rtol=2e-4, atol=2e-6)
        assert_equal_up_to_rounding(torch_one, native_one)
    assert not torch.equal(before, native_one.policies.net.flat)
    first = native_one.policies.net.shapes[0][0] * native_one.policies.net.shapes[0][1]
    old, new, also = (
        flat[..., :first].unflatten(-1, native_one.policies.net.shapes[0][:2])
        for flat in (before, native_one.policies.net.flat, torch_one.policies.net.flat)
    )
    never = [3, 10, 16]  # inputs that never occurred
    assert torch.equal(old[..., never], new[..., never]) and torch.equal(old[..., never], also[..., never])
    assert (old[..., [0, 2, 9, 17]] != new[..., [0, 2, 9, 17]]).any(-2).all()


@pytest.mark.parametrize("name", NATIVE)
def test_advantages_are_not_made_of_rounding(name: str) -> None:
    """All advantages equal: the policies stay, as in ``ppo.py``, and values that follow are found where they are."""
    torch_one, native_one = pair(name, entropy_coeff=0.0)
    data = random_batch(torch_one)
    data.get(("next", *keys.REWARD)).fill_(0.7)
    for end in (keys.DONE, keys.TERMINATED):
        data.get(("next", end)).fill_(True)
    for key in (keys.OBSERVATION, keys.STATE):
        data.get(key)[:] = data.get(key)[:, :1, :1]
        data.get("next").get(key)[:, :-1] = data.get(key)[:, 1:]
    before = native_one.policies.net.flat.detach().clone()
    stats = native_one.update(filled(data))
    assert torch.equal(before, native_one.policies.net.flat) and (stats["policy_loss"] == 0).all()
    torch_one.update(filled(data))
    assert_equal_up_to_rounding(torch_one, native_one)


@pytest.mark.parametrize("name", NATIVE)
def test_quarantined_seeds_stay_to_the_bit(name: str) -> None:
    torch_one, native_one = pair(name)
    buffer = filled(random_batch(torch_one))
    before = [tensor.clone() for tensor in trained(native_one)]
    torch_one.learning = native_one.learning = torch.tensor([True, False, True])
    expected, found = torch_one.update(buffer), native_one.update(buffer)
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=2e-4, atol=2e-6, equal_nan=True)
    assert found["policy_loss"].isnan().tolist() == [False, True, False] and found["target_epochs"][1] == 0
    assert_equal_up_to_rounding(torch_one, native_one)
    assert all(torch.equal(a[1], b[1]) for a, b in zip(before, trained(native_one), strict=True))


@pytest.mark.parametrize("name", NATIVE)
def test_a_broken_seed_breaks_no_other_and_stops(name: str) -> None:
    torch_one, native_one = pair(name)
    for learner in (torch_one, native_one):
        with torch.no_grad():
            learner.policies.net.flat[1] = torch.nan
    data = random_batch(built(name, **TIGHT))
    expected, found = torch_one.update(filled(data)), native_one.update(filled(data))
    assert found["target_epochs"].tolist() == expected["target_epochs"].tolist() == [2, 1, 2]
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=2e-4, atol=2e-6, equal_nan=True)
    for a, b in zip(trained(torch_one), trained(native_one), strict=True):
        torch.testing.assert_close(b, a, rtol=1e-3, atol=2e-5, equal_nan=True)


@pytest.mark.parametrize("name", NATIVE)
def test_seeds_are_strangers_on_any_number_of_threads(name: str) -> None:
    assert_strangers(lambda: pair(name)[1], random_batch(pair(name)[0]))


def assert_strangers(made: Callable[[], Learner], data: TensorDict) -> None:
    """Bit for bit: two threads as one, and permuted seeds permute the results."""
    order = torch.tensor([2, 0, 1])
    results, threads = [], torch.get_num_threads()
    for count, own in ((1, torch.arange(SEEDS)), (2, torch.arange(SEEDS)), (1, order)):
        learner = made()
        with torch.no_grad():
            for weight in learner.parameters():
                weight.copy_(weight[own])
        learner.minibatch_streams.generators = [learner.minibatch_streams.generators[seed] for seed in own]
        torch.set_num_threads(count)
        try:
            stats = learner.update(filled(data[own].contiguous()))
        finally:
            torch.set_num_threads(threads)
        results.append([*trained(learner), *stats.values()])
    for one, two, turned in zip(*results, strict=True):
        assert torch.equal(one, two) and torch.equal(one[order], turned)
    assert not torch.equal(results[0][0], results[2][0])


# the gradient, from scratch


def networks_of(net: nn.Module, entry: tuple[int, ...]) -> list[tuple[Tensor, Tensor | None]]:
    """Layers of one network in double precision, ``(weight [in, out], bias [out])``."""
    layers = []
    for k, weight in enumerate(weights(net)):
        bias = biases(net)[k][entry].detach().double().requires_grad_() if len(biases(net)) else None
        layers.append((weight[entry].detach().double().requires_grad_(), bias))
    return layers


def apply(layers: list[tuple[Tensor, Tensor | None]], x: Tensor) -> Tensor:
    for number, (weight, bias) in enumerate(layers):
        x = x @ weight + (0.0 if bias is None else bias)
        x = x.tanh() if number + 1 < len(layers) else x
    return x


def flattened(layers: list[tuple[Tensor, Tensor | None]]) -> Tensor:
    """The gradient as ``StackedMLP`` holds parameters."""
    parts = [part for w, b in layers for part in (w.grad.T.flatten(), *([] if b is None else [b.grad]))]
    return torch.cat(parts)


@pytest.mark.parametrize("name", PPOS)
def test_the_gradient_is_that_of_the_loss_written_down(name: str) -> None:
    """One step, no gradient clip: Adam's first moment is then a tenth of the gradient, whose loss is differentiated in
    double precision. Ratios other than 1: D's log-probabilities are those of other policies.
    """
    _, learner = pair(name, MaskedTask, epochs=1, minibatches=1, max_grad_norm=1e9, clip_epsilon=0.1)
    task, data = MaskedTask(), random_batch(learner)
    shift = 0.6 * torch.rand(*data.batch_size, 2, generator=generator()) - 0.3
    data.set(keys.LOG_PROB, data.get(keys.LOG_PROB) + shift)
    trajectories = filled(data).trajectories()
    advantage, target = (part.double().flatten(1, 3) for part in gae(learner, trajectories))
    flat = trajectories.flatten(1, 3)
    expected: list[list[Tensor]] = [[], []]
    for seed in range(SEEDS):
        observation = flat.get(keys.OBSERVATION)[seed].double()
        policies = [networks_of(learner.policies.net, (seed, agent)) for agent in range(2)]
        central = [networks_of(learner.critic.net, (seed,))]
        critics = central if name == "MAPPO" else [networks_of(learner.critic.net, (seed, agent)) for agent in range(2)]
        loss = torch.zeros((), dtype=torch.double)
        for agent in range(2):
            own = advantage[seed, :, agent]
            own = (own - own.mean()) / own.std(correction=0)
            logits = apply(policies[agent], observation[:, agent])
            logits = logits.masked_fill(~task.action_mask()[agent], -torch.inf)
            pi = torch.distributions.Categorical(logits=logits)
            log_prob = pi.log_prob(flat.get(keys.ACTION)[seed, :, agent])
            ratio = (log_prob - flat.get(keys.LOG_PROB)[seed, :, agent].double()).exp()
            assert ((ratio - 1).abs() > 0.1).any() and ((ratio - 1).abs() < 0.1).any()
            surrogate = torch.minimum(ratio * own, ratio.clamp(0.9, 1.1) * own)
            if name == "MAPPO":
                value = apply(critics[0], flat.get(keys.STATE)[seed].double())[:, agent]
            else:
                value = apply(critics[agent], observation[:, agent])[:, 0]
            error = (value - target[seed, :, agent]) ** 2
            loss = loss - surrogate.mean() + learner.critic_coeff * error.mean()
            loss = loss - learner.entropy_coeff * pi.entropy().mean()
        loss.backward()
        for number, nets in enumerate((policies, critics)):
            expected[number].append(torch.stack([flattened(net) for net in nets]))
    learner.update(filled(data))
    for found, wanted in zip(moments(learner, "exp_avg"), expected, strict=True):
        wanted_all = torch.stack(wanted).reshape(found.shape)
        torch.testing.assert_close(10 * found.double(), wanted_all, rtol=1e-4, atol=2e-6)
        assert wanted_all.abs().max() > 0.01


def test_the_kernel_says_what_it_lacks() -> None:
    class Own(IPPO):
        """A user's."""

    learner = built("IPPO")
    assert learner.why_not_native() is None and learner.native is False
    learner.team = Team(0, 2)
    assert "ranks" in learner.why_not_native()
    assert "Gaussian" in built("MAPPO", task=GaussianTask).why_not_native()
    assert "Reinforce" in built("Reinforce").why_not_native()
    own = Own()
    own.build(SizesTask(), 0, [0])
    assert "Own" in own.why_not_native()
