"""Autoregressive and coordination-graph policies against enumerated joint distributions, autograd and torch's Adam."""

import itertools

import numpy as np
import pytest
import torch
from behavior_helpers import (
    StatesTask,
    built,
    data_of,
    everywhere,
    generator,
    one_line,
    random_data,
    random_policy,
    updated,
)
from enumerated import autoregressive_log_probs, divergence, graph_log_probs, joint_actions, log_target
from scipy.stats import chisquare
from stacked_layers import weights
from torch import Tensor

from lit_maprops import keys
from lit_maprops.behavior import BEHAVIORS
from lit_maprops.behavior.algorithm2 import clipped_loss, plain_mlp
from lit_maprops.behavior.message_passing import Forest, Messages
from lit_maprops.behavior.update import fused
from lit_maprops.distributions import joint
from lit_maprops.stacked import mlp
from lit_maprops.system.errors import ConfigError

GRAPHS = {
    "chain": [(0, 1), (1, 2), (2, 3)],
    "star": [(0, 1), (0, 2), (0, 3)],
    "two components": [(3, 0), (1, 2)],
    "backwards": [(3, 1), (2, 3), (0, 3)],
    "no edges": [],
}
NAMES = ["Autoregressive", "CoordinationGraph"]
STRUCTURES = [("Autoregressive", {}), *(("CoordinationGraph", {"edges": e}) for e in ("chain", "tree", "star"))]


def randomized(name: str, task: StatesTask, seeds: int, hidden: list[int], scale: float = 0.7, **options: object):
    """A policy whose adjustment is far from zero."""
    behavior = built(name, task, seeds, hidden=hidden, **options)
    with torch.no_grad():
        behavior.net.flat.copy_(scale * torch.randn(behavior.net.flat.shape, generator=generator(4)))
    return behavior


def enumerated(behavior, logits: Tensor, state: Tensor, seed: int) -> Tensor:
    """log pi_phi of every joint action ``[n_joint]`` from ``[A, N]`` and ``[S]``, through autograd."""
    n_agents, n_actions = logits.shape
    layers = behavior.net.layers()
    if isinstance(behavior, BEHAVIORS["Autoregressive"]):
        own = [
            (w[seed * n_agents :][:n_agents], None if b is None else b[seed * n_agents :][:n_agents]) for w, b in layers
        ]

        def delta_of(agent: int, earlier: tuple[int, ...]) -> Tensor:
            x = torch.zeros(len(state) + (n_agents - 1) * n_actions)
            x[: len(state)] = state
            for other, action in enumerate(earlier):
                x[len(state) + other * n_actions + action] = 1
            one = [(w[agent : agent + 1], None if b is None else b[agent : agent + 1]) for w, b in own]
            return plain_mlp(one, x.reshape(1, 1, -1)).flatten()

        return autoregressive_log_probs(logits, delta_of)
    own = [(w[seed : seed + 1], None if b is None else b[seed : seed + 1]) for w, b in layers]
    delta = plain_mlp(own, state.reshape(1, 1, -1)).flatten()
    unary, pair = delta.split([n_agents * n_actions, len(delta) - n_agents * n_actions])
    edges = behavior.forest.edges
    return graph_log_probs(logits, unary.reshape(n_agents, n_actions), pair.reshape(-1, n_actions, n_actions), edges)


def masked_policy(task: StatesTask, seeds: int) -> Tensor:
    theta = random_policy(task, seeds)
    theta[:, 0, 1, 0] = -torch.inf  # an illegal action in one of the states
    return theta.log_softmax(-1)


# message passing


@pytest.mark.parametrize("pairs", GRAPHS.values(), ids=GRAPHS)
def test_messages_give_the_enumerated_normalizer_and_marginals(pairs):
    draw, n_actions = generator(1), 3
    log_psi, pair = torch.randn(2, 4, 3, 5, generator=draw), 2 * torch.randn(2, len(pairs), 3, 3, 5, generator=draw)
    log_psi[:, 2, 1, ::2] = -torch.inf
    forest = Forest(4, pairs)
    assert sorted(map(sorted, forest.edges)) == sorted(map(sorted, pairs)) and sum(forest.levels) == len(pairs)
    messages = Messages(forest, log_psi, pair)
    single, pairwise = messages.marginals()
    for r, u in itertools.product(range(2), range(5)):
        scores = {}
        for a in joint_actions(4, n_actions):
            score = sum(log_psi[r, i, a[i], u].double() for i in range(4))
            scores[a] = (score + sum(pair[r, e, a[i], a[j], u] for e, (i, j) in enumerate(forest.edges))).exp().item()
        total = sum(scores.values())
        assert messages.log_z[r, u].item() == pytest.approx(np.log(total), abs=1e-4)
        for i, k in itertools.product(range(4), range(3)):
            expected = sum(p for a, p in scores.items() if a[i] == k) / total
            assert single[r, i, k, u].item() == pytest.approx(expected, abs=1e-5)
        for (e, (i, j)), k, m in itertools.product(enumerate(forest.edges), range(3), range(3)):
            expected = sum(p for a, p in scores.items() if (a[i], a[j]) == (k, m)) / total
            assert pairwise[r, e, k, m, u].item() == pytest.approx(expected, abs=1e-5)


def test_the_root_is_the_center_so_that_a_chain_takes_half_as_many_levels():
    assert Forest(21, [(i, i + 1) for i in range(20)]).levels == [2] * 10
    assert Forest(9, [(0, i) for i in range(1, 9)]).levels == [8]


# what choose() draws and stores


@pytest.mark.parametrize(("name", "options"), STRUCTURES)
@pytest.mark.parametrize("hidden", [[], [6]])
def test_stored_log_probabilities_and_frequencies_are_the_enumerated_ones(name, options, hidden):
    task = StatesTask(n_states=2, n_agents=4, n_actions=2)
    theta = masked_policy(task, 2)
    behavior = randomized(name, task, 2, hidden, **options)
    draws = 20_000
    for state in range(2):
        data = everywhere(task, theta, state, draws)
        choice = behavior.choose(data, data.get(keys.PARAMETERS))
        number = joint.joint_index(choice.action, 2)
        for seed in range(2):
            expected = enumerated(behavior, theta[seed, state], data.get(keys.STATE)[seed, 0], seed).detach()
            assert expected.exp().sum().item() == pytest.approx(1, abs=1e-5)
            torch.testing.assert_close(choice.behavior_log_prob[seed], expected[number[seed]], atol=1e-5, rtol=1e-5)
            possible = expected > -torch.inf
            counts = torch.bincount(number[seed], minlength=16)
            assert counts[~possible].sum() == 0
            wanted = draws * expected[possible].exp().double().numpy()
            assert chisquare(counts[possible], wanted * draws / wanted.sum()).pvalue > 1e-3
            kl = divergence(log_target(theta[seed, state]), expected)
            if name == "CoordinationGraph":
                torch.testing.assert_close(choice.kl[seed], kl.expand(draws), atol=1e-5, rtol=1e-4)
            else:  # one prefix from pi_theta each
                error = choice.kl[seed].std() / draws**0.5
                assert (choice.kl[seed].mean() - kl).abs() < 4 * error + 1e-5 and error < 0.1 * kl


def table_of(delta: Tensor, theta: Tensor, name: str, behavior) -> None:
    """Give a two-agent policy without hidden layers the joint adjustment ``[R, N, N]``."""
    n = delta.shape[-1]
    if name == "CoordinationGraph":
        behavior.net.flat.zero_()
        behavior.net.flat[:, 2 * n :] = delta.flatten(1)
        return
    target = theta[:, 0].exp()
    first = (target[:, 1].unsqueeze(1) * delta.exp()).sum(2).log()  # log E[exp(Delta) | a_1]
    flat = behavior.net.flat.unflatten(2, (n, 1 + n))  # [R, A, out, in]: the state's 1, then agent 0's action
    flat.zero_()
    flat[:, 0, :, 0] = first
    flat[:, 1, :, 1:] = delta.mT


@pytest.mark.parametrize("name", NAMES)
def test_two_agents_can_do_all_that_ma_props_can(name):
    task, draws = StatesTask(n_agents=2, n_actions=3), 20_000
    theta = random_policy(task, 2)
    delta = torch.randn(2, 3, 3, generator=generator(8))
    full, own = built("MAPROPS", task, 2, hidden=[]), built(name, task, 2, hidden=[])
    with torch.no_grad():
        weights(full.net)[0][:, 0].copy_(delta.flatten(1))
        table_of(delta, theta, name, own)
    data = everywhere(task, theta, 0, draws)
    choice, reference = own.choose(data, data.get(keys.PARAMETERS)), full.choose(data, data.get(keys.PARAMETERS))
    log_prob = full.adjusted(joint.joint_log_probs(theta[:, 0]).unsqueeze(1), torch.ones(2, 1, 1))[:, 0]
    number = joint.joint_index(choice.action, 3)
    torch.testing.assert_close(choice.behavior_log_prob, log_prob.gather(1, number), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(choice.kl.mean(1), reference.kl.mean(1), atol=0.02, rtol=0.02)
    # The objective and, for the graph, the KL on D.
    data = random_data(task, theta, rows=30)
    full.extend(data)
    own.extend(data)
    samples, rows = full.delta_trainer.store.samples(), own.delta_trainer.store.samples()
    with torch.no_grad():
        weight, total, kl = fused.weights_and_kl(delta.flatten(1).unsqueeze(2).repeat(1, 1, 30), samples)
        log_ratio, own_kl, _ = own.ratios(fused.delta_of(own.net.passes, own.net.layers(), rows.inputs)[1], rows)
    for epsilon in (0.3, 1.0):
        ratio = log_ratio.exp()
        objective = torch.maximum(ratio, ratio.clamp(1 - epsilon, 1 + epsilon)).mean(1)
        torch.testing.assert_close(objective, clipped_loss(weight / total, samples.share, epsilon))
    if name == "CoordinationGraph":
        torch.testing.assert_close(own_kl.mean(1), kl, atol=1e-5, rtol=1e-4)


# gradients and updates


def plain_update(behavior, data, seed: int, epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
    """Loss, KL that stops and log r of one seed's D, by enumeration and autograd."""
    logits, state = data.get(keys.PARAMETERS)[seed], data.get(keys.STATE)[seed]
    number = joint.joint_index(data.get(keys.ACTION)[seed], logits.shape[-1])
    log_ratio, kl = [], []
    for row in range(len(state)):
        log_phi, log_pi = enumerated(behavior, logits[row], state[row], seed), log_target(logits[row])
        log_ratio.append(log_phi[number[row]] - log_pi[number[row]])
        if isinstance(behavior, BEHAVIORS["Autoregressive"]):
            kl.append(prefix_kl(log_phi, log_pi, data.get(keys.ACTION)[seed, row].tolist(), logits))
        else:
            kl.append(divergence(log_pi, log_phi))
    ratio = torch.stack(log_ratio).exp()
    loss = torch.maximum(ratio, ratio.clamp(1 - epsilon, 1 + epsilon)).mean()
    return loss, torch.stack(kl).mean(), ratio.log()


def prefix_kl(log_phi: Tensor, log_pi: Tensor, taken: list[int], logits: Tensor) -> Tensor:
    """sum_i KL(pi_theta_i || pi_phi_i given the actions taken before), from conditionals of the joint tables."""
    n_agents, n_actions = logits.shape[-2:]
    tables = [t.exp().reshape([n_actions] * n_agents) for t in (log_pi, log_phi)]
    total = torch.zeros(())
    for agent in range(n_agents):
        pi, phi = (t.reshape(n_actions, -1).sum(1) / t.sum() for t in tables)
        possible = pi > 0
        total = total + (pi[possible] * (pi[possible] / phi[possible]).log()).sum()
        tables = [t[taken[agent]] for t in tables]
    return total


@pytest.mark.every(3)
@pytest.mark.parametrize(("name", "options"), STRUCTURES)
@pytest.mark.parametrize("hidden", [[], [6], [5, 4]])
def test_gradient_ratio_and_kl_are_those_of_autograd_on_the_enumerated_form(name, options, hidden):
    task = StatesTask(n_states=2, n_agents=3, n_actions=3)
    behavior = randomized(name, task, 2, hidden, scale=0.5, **options)
    data = random_data(task, random_policy(task, 2), rows=7)
    behavior.extend(data)
    rows = behavior.delta_trainer.store.samples()
    x, delta = fused.delta_of(behavior.net.passes, behavior.net.layers(), rows.inputs)
    with torch.no_grad():
        ratios = behavior.ratios(delta, rows)
    for epsilon in (0.1, 2.0):
        losses, kl, log_ratio = zip(*(plain_update(behavior, data, seed, epsilon) for seed in range(2)), strict=True)
        (expected,) = torch.autograd.grad(torch.stack(losses).sum(), behavior.net.flat)
        ratio = ratios.log_ratio.exp()
        upper = rows.weight * ratio * (ratio > 1 - epsilon)
        with torch.no_grad():
            grad = mlp.backward(behavior.net.layers(), x, ratios.vjp(upper)).view_as(expected)
        assert expected.abs().max() > 0.01
        torch.testing.assert_close(grad, expected, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(ratios.log_ratio, torch.stack(log_ratio).detach(), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(ratios.kl.mean(1), torch.stack(kl).detach(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "reset_optimizer"),
    [
        *zip(NAMES, (True, False), strict=True),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in zip(NAMES, (False, True), strict=True)),
    ],
)
def test_updates_are_those_of_a_scalar_implementation_with_torchs_adam(name, reset_optimizer):
    task = StatesTask(n_states=2, n_agents=3, n_actions=2)
    arguments = {"hidden": [4], "learning_rate": 0.015, "epochs": 6, "kl_cutoff": 0.02, "clip_epsilon": 0.3}
    # The surer a policy, the more steps a KL takes.
    theta = (torch.tensor([0.3, 1.0, 5.0]).view(3, 1, 1, 1) * random_policy(task, 3)).log_softmax(-1)
    behavior = built(name, task, 3, reset_optimizer=reset_optimizer, **arguments)
    plain = built(name, task, 3, **arguments)  # its own network is trained below
    flat, last = plain.net.flat, mlp.size_of(plain.net.shapes[-1:])
    parts = [torch.nn.Parameter(flat[seed].detach().clone()) for seed in range(3)]
    adams = [torch.optim.Adam([part], 0.015, eps=1e-8) for part in parts]
    used = set()
    for round_ in range(2):
        data = random_data(task, theta, rows=8 + 4 * round_, seed=round_)
        stats = updated(behavior, data)
        for seed in range(3):
            if reset_optimizer:
                adams[seed] = torch.optim.Adam([parts[seed]], 0.015, eps=1e-8)
            with torch.no_grad():
                parts[seed][..., -last:] = 0
            steps, hit = 0, False
            for step in range(7):
                with torch.no_grad():
                    plain.net.flat[seed] = parts[seed]
                loss, kl, log_ratio = plain_update(plain, data, seed, 0.3)
                hit = bool(kl > 0.02) and step < 6
                if hit or step == 6:
                    break
                adams[seed].zero_grad()
                (gradient,) = torch.autograd.grad(loss, plain.net.flat)
                parts[seed].grad = gradient[seed]
                adams[seed].step()
                steps += 1
            assert stats["gradient_steps"][seed].item() == steps and stats["cutoff_hit"][seed].item() == hit
            assert stats["kl"][seed].item() == pytest.approx(kl.item(), rel=1e-3, abs=1e-5)
            clipped = (log_ratio.exp() < 0.7).float().mean().item()
            assert stats["ratio_clipped"][seed].item() == pytest.approx(clipped, abs=1e-6)
            torch.testing.assert_close(behavior.net.flat[seed], parts[seed], atol=1e-4, rtol=1e-3)
            used.add(steps)
    assert len(used) > 1, "choose data on which the seeds stop at different steps"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("minibatches", [1, 3])
def test_groups_of_seeds_do_not_matter(name, minibatches, monkeypatch):
    task = StatesTask(n_states=3, n_agents=3, n_actions=3)
    theta = random_policy(task, 5)
    arguments = {"hidden": [8], "learning_rate": 0.015, "minibatches": minibatches}
    together, apart = built(name, task, 5, **arguments), built(name, task, 5, **arguments)
    for round_ in range(2):
        data = random_data(task, theta, rows=20, seed=round_)
        stats = updated(together, data)
        with monkeypatch.context() as context:
            context.setattr(mlp, "GROUP_NUMBERS", 1)
            own = updated(apart, data)
        for key, value in stats.items():
            torch.testing.assert_close(own[key], value, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(together.net.flat, apart.net.flat, atol=1e-5, rtol=1e-4)
    assert len(set(stats["gradient_steps"].tolist())) > 1


@pytest.mark.parametrize("name", NAMES)
def test_history_counts_from_the_start_of_the_next_batch(name):
    task = StatesTask(n_states=2, n_agents=3, n_actions=2)
    theta = random_policy(task, 2)
    old, new = random_data(task, theta, rows=70, seed=1), random_data(task, theta, rows=5, seed=2)
    behavior, fresh = built(name, task, 2), built(name, task, 2)
    updated(behavior, random_data(task, theta, rows=9, seed=3))
    behavior.reset(old)
    behavior.extend(new)  # needs more memory than the 70 took
    fresh.extend(torch.cat([old, new], 1))
    (inputs, facts, weight, _), expected = behavior.delta_trainer.store.samples(), fresh.delta_trainer.store.samples()
    for own, other in zip((inputs, *facts, weight), (expected[0], *expected[1], expected[2]), strict=True):
        assert torch.equal(own, other)


# what they are for


@pytest.mark.parametrize("name", NAMES)
def test_twenty_agents_are_no_more_than_finite_arithmetic(name):
    task = StatesTask(n_agents=20, n_actions=5)
    behavior = built(name, task, 2, hidden=[8], clip_epsilon=1.0, kl_cutoff=1.0)
    theta = random_policy(task, 2)
    data = random_data(task, theta, rows=12)
    stats = updated(behavior, data)
    assert stats["kl"].isfinite().all() and (stats["kl"] > 0).all()
    query = everywhere(task, theta, 0, 3)
    choice = behavior.choose(query, query.get(keys.PARAMETERS))
    assert choice.action.shape == (2, 3, 20) and choice.behavior_log_prob.isfinite().all()
    with torch.no_grad():
        behavior.net.flat.mul_(1e4)  # as far from pi_theta as can be
    rows = behavior.delta_trainer.store.samples()
    ratios = behavior.ratios(fused.delta_of(behavior.net.passes, behavior.net.layers(), rows.inputs)[1].detach(), rows)
    assert ratios.log_ratio.isfinite().all() and ratios.kl.isfinite().all()
    assert ratios.vjp(rows.weight).isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_neighbors_are_balanced_where_props_cannot(name):
    """Every agent's own actions are in proportion in D, those of neighbors are not: agents 0 and 1 always agree."""
    task = StatesTask(n_agents=3)
    theta = torch.full((1, 1, 3, 2), 0.5).log()
    action = torch.tensor([[[0, 0, 0], [1, 1, 0], [0, 0, 1], [1, 1, 1]] * 3])
    data = data_of(task, theta, torch.zeros(1, 12, dtype=torch.int64), action)
    query = everywhere(task, theta, 0, 4000)
    agree = {}
    for sampler in (name, "PROPS"):
        behavior = built(sampler, task, 1, hidden=[], learning_rate=0.2, kl_cutoff=1.0)
        updated(behavior, data)
        drawn = behavior.choose(query, query.get(keys.PARAMETERS)).action[0]
        agree[sampler] = (drawn[:, 0] == drawn[:, 1]).float().mean().item()
    assert agree["PROPS"] == pytest.approx(0.5, abs=0.04) and agree[name] < 0.35


# settings


def refused(edges: object, n_agents: int = 4) -> str:
    with pytest.raises(ConfigError) as error:
        BEHAVIORS["CoordinationGraph"](edges=edges).build(StatesTask(n_agents=n_agents), 0, [0])
    message = one_line(error)
    assert message.startswith("--model.behavior.edges")
    return message


@pytest.mark.parametrize(
    ("edges", "parts"),
    [
        ([[0, 1], [1, 2], [2, 3], [3, 0]], ["cycle", "closed by [3, 0]", "Autoregressive"]),
        ([[0, 1], [1, 2], [0, 2], [2, 3]], ["cycle", "closed by [0, 2]"]),
        ([[0, 1], [2, 3], [1, 4]], ["[1, 4]", "no agent 4", "0 to 3"]),
        ([[0, 1], [2, -1]], ["[2, -1]", "no agent -1"]),
        ([[0, 1], [2, 2]], ["[2, 2]", "itself"]),
        ([[0, 1], [2, 3], [1, 0]], ["[1, 0]", "twice"]),
        ([[0, 2]], ["leaves out agent 1, 3", "chain"]),
        ([], ["leaves out agent 0, 1, 2, 3"]),
        ([[0, 1, 2], [3]], ["[0, 1, 2]", "pairs"]),
        ("ring", ["'ring'", "chain, tree, star"]),
    ],
)
def test_graphs_that_cannot_be(edges, parts):
    message = refused(edges)
    assert all(part in message for part in parts), message


def test_graphs_that_can_be():
    def edges_of(edges: object, n_agents: int = 4) -> list[list[int]]:
        behavior = BEHAVIORS["CoordinationGraph"](edges=edges)
        behavior.build(StatesTask(n_agents=n_agents), 0, [0])
        return sorted(map(sorted, behavior.forest.edges))

    assert edges_of("chain") == [[0, 1], [1, 2], [2, 3]]
    assert edges_of("star") == [[0, 1], [0, 2], [0, 3]]
    assert edges_of("tree", 7) == [[0, 1], [0, 2], [1, 3], [1, 4], [2, 5], [2, 6]]
    assert edges_of([[3, 0], [2, 1]]) == [[0, 3], [1, 2]]
    assert edges_of("chain", 1) == edges_of([], 1) == []


@pytest.mark.parametrize("name", NAMES)
def test_one_agent_is_the_single_agent_method(name):
    task = StatesTask(n_agents=1, n_actions=4)
    theta = random_policy(task, 2)
    data = random_data(task, theta, rows=10)
    arguments = {"hidden": [], "learning_rate": 0.2, "kl_cutoff": 1.0}
    behavior, props = built(name, task, 2, **arguments), built("PROPS", task, 2, **arguments)
    stats, expected = updated(behavior, data), updated(props, data)
    for key in ("kl", "ratio_clipped", "gradient_steps"):
        torch.testing.assert_close(stats[key].float(), expected[key].float(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "option", ["trained_layers", "merge_states", "max_states", "max_sample_passes", "warm_start", "compile"]
)
def test_options_for_tables_of_joint_actions_are_not_offered(name, option):
    with pytest.raises(TypeError):
        BEHAVIORS[name](**{option: None})
