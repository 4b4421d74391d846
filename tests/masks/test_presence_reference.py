"""What is learned and measured where agents come and go, against plain loops over each agent's own steps."""

import itertools
import math
from typing import Any

import pytest
import torch
from shifts import ACTIONS, AGENTS, ContinuousShifts, MaskedShifts, Shifts, UnequalShifts
from tensordict import TensorDictBase
from test_masked_runs import SAMPLERS, prepared
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, kl_divergence

from lit_maprops import keys
from lit_maprops.behavior import BEHAVIORS, PROPS
from lit_maprops.behavior.whitened import Adjustment
from lit_maprops.envs import Task
from lit_maprops.envs.ends import RUNS, TERMINATED
from lit_maprops.metrics.sampling_error import tabular_error
from lit_maprops.module import LitMAPROPS
from lit_maprops.stacked.streams import SeedStreams
from lit_maprops.targets import LEARNERS
from lit_maprops.targets.ppo import PPO

TASKS = [Shifts, MaskedShifts, UnequalShifts, ContinuousShifts]
SEEDS = [0, 1]


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def collected(sampler: str, learner: str, task: type[Task], steps: int = 48, **options: Any) -> LitMAPROPS:
    """A run at the end of its first batch, before theta changes; policies and critics are random."""
    run = prepared(sampler, learner, SEEDS, task, target_batch_size=steps, history_batches=1)
    if options:
        run.learner = LEARNERS[learner](hidden=[4], **options)
        run.learner.build(run.task, 0, SEEDS)
    nets = [run.learner.policies.net, *([run.learner.critic.net] if run.learner.has_critic else [])]
    for k, p in enumerate(p for net in nets for p in net.parameters()):
        nn.init.normal_(p, std=0.4, generator=generator(k))
    run.on_fit_start()
    run._start_iteration()
    while not run.buffer.is_full:
        batch = run._collect()
        if run.behavior.adapts and not run.buffer.is_full:
            run._update_behavior(batch)
    return run


def own_steps(data: TensorDictBase, seed: int, agent: int) -> list[tuple[int, int]]:
    """Places in ``[T, E]`` where the agent is there, in the order of D."""
    _, steps, envs = data.shape
    there = data.get(keys.END)[seed, ..., agent] == RUNS
    return [(t, env) for t in range(steps) for env in range(envs) if there[t, env]]


def estimates_of(
    learner: PPO, data: TensorDictBase, seed: int, agent: int
) -> tuple[dict[tuple[int, int], float], dict[tuple[int, int], float]]:
    """Advantages and value targets of an agent's own steps, by recursion from its own ends backwards."""
    with torch.no_grad():
        value, following = learner._values(data), learner._values(data.get("next"))
    advantage: dict[tuple[int, int], float] = {}
    target = {}
    for t, env in reversed(own_steps(data, seed, agent)):
        after = data.get("next")[seed, t, env]
        own, whole = int(after.get(keys.END)[agent]), bool(after.get(keys.TERMINATED))
        ends = own != RUNS or bool(after.get(keys.DONE))
        terminated = own == TERMINATED or (own == RUNS and whole)
        here = value[seed, t, env, agent, 0].item()
        ahead = 0.0 if terminated else following[seed, t, env, agent, 0].item()
        delta = after.get(keys.REWARD)[agent, 0].item() + learner.gamma * ahead - here
        later = 0.0 if ends else advantage.get((t + 1, env), 0.0)  # nothing after the batch
        advantage[t, env] = delta + learner.gamma * learner.gae_lambda * later
        target[t, env] = advantage[t, env] + here
    return advantage, target


def normalized(learner: PPO, target: dict, seed: int, agent: int) -> dict:
    """By the mean and the deviation of the agent's own targets, as there were none before."""
    mean = sum(target.values()) / len(target)
    variance = sum(one**2 for one in target.values()) / len(target) - mean**2
    share = learner.normalizer.share[seed, agent].item()  # 1e-5, of float32
    assert learner.normalizer.mean[seed, agent].item() / share == pytest.approx(mean, rel=1e-3, abs=1e-4)
    return {place: (one - mean) / math.sqrt(max(variance, 1e-5)) for place, one in target.items()}


@pytest.mark.every(5)
@pytest.mark.parametrize("options", [{}, {"share_parameters": True}, {"value_norm": True}], ids=str)
@pytest.mark.parametrize("name", ["IPPO", "MAPPO"])
@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.__name__)
def test_losses_gradients_and_figures_are_those_of_own_steps(task: type[Task], name: str, options: dict) -> None:
    run = collected("OnPolicy", name, task, **options, entropy_coeff=0.05)
    learner, data = run.learner, run.buffer.current()
    assert isinstance(learner, PPO)
    estimates = {(r, i): estimates_of(learner, data, r, i) for r in range(len(SEEDS)) for i in range(AGENTS)}
    flat = learner._prepare(data.unsqueeze(1))
    with torch.no_grad():  # from here on the policies are others than at collection
        for net in (learner.policies.net, learner.critic.net):
            net.flat += 0.3 * torch.randn(net.flat.shape, generator=generator(9))
    rows = torch.arange(flat.shape[1]).expand(len(SEEDS), -1)
    losses = learner._gradient_on(flat)(rows, flat.shape[1])
    found = [net.flat.grad.clone() for net in (learner.policies.net, learner.critic.net)]
    kl, clipped, entropy = learner._drift(flat)

    family = learner.policies.family
    new, old = learner.policies.parameters_in(data), data.get(keys.PARAMETERS)
    log_ratio = family.log_prob(new, data.get(keys.ACTION)) - data.get(keys.LOG_PROB)
    entropies, divergences = family.entropy(new), family.kl_divergence(old, new)
    values = learner.critic.values(data)[..., 0]
    total = torch.zeros(())
    for seed in range(len(SEEDS)):
        expected = dict.fromkeys(("policy_loss", "critic_loss", "entropy_loss"), torch.zeros(()))
        figures = torch.zeros(3)
        for agent in range(AGENTS):
            own = own_steps(data, seed, agent)
            assert 0 < len(own) < data[0].numel()
            advantage, target = estimates[seed, agent]
            if learner.value_norm:
                target = normalized(learner, target, seed, agent)
            mean = sum(advantage.values()) / len(own)
            spread = math.sqrt(sum((one - mean) ** 2 for one in advantage.values()) / len(own))
            for t, env in own:
                ratio = log_ratio[seed, t, env, agent].exp()
                gain = (advantage[t, env] - mean) / (spread + 1e-8)
                worst = torch.minimum(ratio * gain, ratio.clamp(0.8, 1.2) * gain)
                error = values[seed, t, env, agent] - target[t, env]
                expected["policy_loss"] = expected["policy_loss"] - worst / len(own)
                expected["critic_loss"] = expected["critic_loss"] + 0.5 * error**2 / len(own)
                of_entropy = entropies[seed, t, env, agent]
                expected["entropy_loss"] = expected["entropy_loss"] - 0.05 * of_entropy / len(own)
                parts = (divergences[seed, t, env, agent], ((ratio - 1).abs() > 0.2).float(), of_entropy)
                figures = figures + torch.stack(parts).detach() / len(own) / AGENTS
        for part, value in expected.items():
            torch.testing.assert_close(losses[part][seed], value.detach(), rtol=1e-4, atol=1e-6, msg=part)
        torch.testing.assert_close(torch.stack([kl[seed], clipped[seed], entropy[seed]]), figures, rtol=1e-4, atol=1e-6)
        total = total + sum(expected.values())
    gradients = torch.autograd.grad(total, [learner.policies.net.flat, learner.critic.net.flat])
    for one, other in zip(found, gradients, strict=True):
        assert other.abs().max() > 0.01
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.__name__)
def test_reinforce_ascends_the_returns_of_own_steps(task: type[Task]) -> None:
    run = collected("OnPolicy", "Reinforce", task, gamma=0.9, learning_rate=0.5)
    learner, data, net = run.learner, run.buffer.current(), run.learner.policies.net
    log_prob = learner.policies.family.log_prob(learner.policies.parameters_in(data), data.get(keys.ACTION))
    objective = torch.zeros(())
    reward, done, end = (data.get(("next", *key)) for key in (keys.REWARD, (keys.DONE,), keys.END))
    for seed, agent in itertools.product(range(len(SEEDS)), range(AGENTS)):
        own, returns = own_steps(data, seed, agent), dict[tuple[int, int], float]()
        for t, env in reversed(own):
            over = bool(done[seed, t, env]) or int(end[seed, t, env, agent]) != RUNS
            later = 0.0 if over else returns.get((t + 1, env), 0.0)
            returns[t, env] = reward[seed, t, env, agent, 0].item() + 0.9 * later
        mean = sum(returns.values()) / len(own)
        for t, env in own:
            objective = objective + (returns[t, env] - mean) * log_prob[seed, t, env, agent] / len(own)
    (gradient,) = torch.autograd.grad(objective, net.flat)
    before = net.flat.detach().clone()
    learner.update(run.buffer)
    assert gradient.abs().max() > 0.01
    torch.testing.assert_close(net.flat.detach() - before, 0.5 * gradient, rtol=1e-3, atol=1e-5)


def joint_of(parameters: Tensor, there: list[bool]) -> dict[tuple[int, ...], float]:
    """pi_theta of every joint action of the agents that are there, from ``[A, N]``; the others' is their first."""
    rows = [
        [(a, parameters[i, a].exp().item()) for a in range(ACTIONS) if parameters[i, a] > -torch.inf]
        if there[i]
        else [(int(parameters[i].argmax()), 1.0)]
        for i in range(AGENTS)
    ]
    return {tuple(a for a, _ in one): math.prod(p for _, p in one) for one in itertools.product(*rows)}


ENUMERATED = [name for name in SAMPLERS if BEHAVIORS[SAMPLERS[name][0]].discrete and name != "Greedy"]


@pytest.mark.every(5)
@pytest.mark.parametrize("task", [Shifts, UnequalShifts], ids=lambda task: task.__name__)
@pytest.mark.parametrize("sampler", ENUMERATED)
def test_joint_actions_are_those_of_the_agents_that_are_there(sampler: str, task: type[Task]) -> None:
    """Enumerated: pi_phi of what may be drawn sums to 1, and its divergence and probabilities are those that D has."""
    run = collected(sampler, "IPPO", task)
    behavior, data = run.behavior, run.buffer.current()
    step = data[:, -1]
    parameters = step.get(keys.PARAMETERS)
    states = step.get(keys.STATE_INDEX).squeeze(-1) + 10**6 * torch.arange(len(SEEDS)).unsqueeze(1)
    drawn: dict[int, dict[tuple[int, ...], float]] = {state: {} for state in states.flatten().tolist()}
    kl = torch.zeros(step.batch_size)
    for _ in range(200):
        choice = behavior.choose(step.clone(), parameters)
        kl += choice.kl / 200
        chances = choice.behavior_log_prob.exp().flatten().tolist()
        for state, action, chance in zip(states.flatten().tolist(), choice.action.flatten(0, 1).tolist(), chances,
                                         strict=True):  # fmt: skip
            drawn[state][tuple(action)] = chance
    compared = 0
    for state, each, end, found in zip(
        states.flatten().tolist(), parameters.flatten(0, 1), step.get(keys.END).flatten(0, 1).tolist(),
        kl.flatten().tolist(), strict=True,
    ):  # fmt: skip
        expected = joint_of(each, [one == RUNS for one in end])
        assert set(drawn[state]) <= set(expected)
        assert sum(drawn[state].values()) == pytest.approx(1.0, abs=0.1)  # rare ones may not have been drawn
        if set(drawn[state]) == set(expected):
            assert sum(drawn[state].values()) == pytest.approx(1.0, abs=1e-5)
            divergence = sum(p * math.log(p / drawn[state][joint]) for joint, p in expected.items())
            tolerance = 0.3 * divergence + 1e-5 if sampler.startswith("Autoregressive") else 1e-5  # drawn prefixes
            assert found == pytest.approx(divergence, abs=tolerance)
            compared += 1
    assert compared


def test_the_sampling_error_is_over_the_joint_actions_of_those_who_are_there() -> None:
    data = collected("OnPolicy", "IPPO", Shifts).buffer.current().flatten(1, 2)
    found = tabular_error(data, SeedStreams(0, SEEDS, "test"))
    for seed in range(len(SEEDS)):
        rows = list(zip(
            data.get(keys.STATE_INDEX)[seed, :, 0].tolist(), data.get(keys.ACTION)[seed].tolist(),
            (data.get(keys.END)[seed] == RUNS).tolist(), data.get(keys.PARAMETERS)[seed], strict=True,
        ))  # fmt: skip

        def variation(agents: list[int], rows: list = rows) -> float:
            """Of those agents' actions where all of them are there, mean over those steps."""
            groups: dict[int, list] = {}
            for row in rows:
                if all(row[2][i] for i in agents):
                    groups.setdefault(row[0], []).append(row)
            total = 0.0
            for group in groups.values():
                parameters = group[0][3]
                for joint in itertools.product(range(ACTIONS), repeat=len(agents)):
                    chance = math.exp(sum(parameters[i, a].item() for i, a in zip(agents, joint, strict=True)))
                    share = sum(tuple(row[1][i] for i in agents) == joint for row in group) / len(group)
                    total += 0.5 * abs(share - chance) * len(group)
            return total / max(1, sum(map(len, groups.values())))

        every = [[i for i in range(AGENTS) if flags[i]] for _, _, flags, _ in rows]
        joint = 0.0
        for agents in {tuple(one) for one in every}:  # who is there is known from the state
            of_these = [row for row, one in zip(rows, every, strict=True) if tuple(one) == agents]
            joint += variation(list(agents), of_these) * len(of_these) / len(rows)
        assert found["joint_tv"][seed].item() == pytest.approx(joint, abs=1e-5)
        each = sum(variation([i]) for i in range(AGENTS)) / AGENTS
        assert found["agent_tv"][seed].item() == pytest.approx(each, abs=1e-5)
        pairs = [variation(list(pair)) for pair in itertools.combinations(range(AGENTS), 2)]
        assert found["pairwise_tv"][seed].item() == pytest.approx(sum(pairs) / 3, abs=1e-5)


def test_gaussian_adjustments_are_of_the_components_that_are_there() -> None:
    """Against torch's multivariate normal of those components alone, and its gradient by autograd."""
    n, rows = 4, 6
    rng = generator(0)
    delta = 0.5 * torch.randn(1, 2 * n + n * (n - 1) // 2, rows, generator=rng)
    exists = (torch.rand(1, n, rows, generator=rng) < 0.6).float()
    exists[..., 0], exists[..., 1] = 0, 1  # nobody, everybody
    z, weight = torch.randn(1, n, rows, generator=rng), torch.rand(1, rows, generator=rng)
    adjustment = Adjustment.of(delta, n).of_those(exists)
    ratios = adjustment.ratios(z, exists)
    delta.requires_grad_()
    whole, total = Adjustment.of(delta, n), torch.zeros(())
    row, column = whole.ends()
    drawn = adjustment.draw(z)
    for u in range(rows):
        places = exists[0, :, u].nonzero().flatten()
        absent = [k for k in range(n) if k not in places.tolist()]
        assert torch.equal(drawn[0, absent, u], z[0, absent, u])
        if not len(places):
            assert ratios.log_ratio[0, u] == 0 == ratios.kl[0, u]
            continue
        factor = torch.diag((-whole.log_scale[0, :, u]).exp())
        factor = factor.index_put((row, column), whole.below[0, :, u])[places][:, places]
        behavior = MultivariateNormal(whole.mean[0, places, u], precision_matrix=factor.mT @ factor)
        target = MultivariateNormal(torch.zeros(len(places)), torch.eye(len(places)))
        log_ratio = behavior.log_prob(z[0, places, u]) - target.log_prob(z[0, places, u])
        torch.testing.assert_close(ratios.log_ratio[0, u], log_ratio.detach(), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(ratios.kl[0, u], kl_divergence(target, behavior).detach(), rtol=1e-4, atol=1e-5)
        total = total + weight[0, u] * log_ratio
    (expected,) = torch.autograd.grad(total, delta)
    torch.testing.assert_close(ratios.vjp(weight), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sampler", ["GaussianAdjustment", "PROPS"])
def test_divergences_of_continuous_actions_are_of_the_agents_that_are_there(
    sampler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an absent agent's part of the networks says changes nothing that D holds."""
    monkeypatch.setitem(SAMPLERS, "GaussianAdjustment", ("GaussianAdjustment", {"correlated": True}))
    run = collected(sampler, "IPPO", ContinuousShifts)
    behavior, data = run.behavior, run.buffer.current()
    assert (data.get(keys.BEHAVIOR_KL)[(data.get(keys.END) == RUNS).any(-1)][4:] > 0).any()
    step = data[:, -1].clone()
    saved = behavior.checkpoint_state()
    step.get(keys.END)[...] = TERMINATED
    step.get(keys.END)[..., 1] = RUNS
    parameters = behavior.family.idle(run.learner.policies.parameters_in(step), step.get(keys.END) != RUNS)
    choice = behavior.choose(step, parameters)
    with torch.no_grad():  # an agent of PROPS has a network; the joint adjustment has outputs
        weight = behavior.net.layers()[-1]
        for tensor in (part for part in weight if part is not None):
            if sampler == "PROPS":
                tensor.unflatten(0, (len(SEEDS), AGENTS))[:, [0, 2]] += 1.0
            else:
                of_others = [k for k in range(tensor.shape[1]) if k not in (1, 2, 6, 7, 12)]  # of 5 + 5 + 10 outputs
                tensor[:, of_others] += 1.0
    behavior.restore(saved)
    again = behavior.choose(step, parameters)
    assert (choice.kl > 0).all()
    torch.testing.assert_close(again.kl, choice.kl, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(again.action[:, :, 1], choice.action[:, :, 1])
    torch.testing.assert_close(again.behavior_log_prob, choice.behavior_log_prob, rtol=1e-5, atol=1e-5)


OF_TABLES = itertools.product(
    [Shifts, UnequalShifts], [{}, {"merge_states": True}, {"kl_cutoff": "auto"}], [False, True]
)


@pytest.mark.parametrize(("task", "options", "native"), [*OF_TABLES, (ContinuousShifts, {}, False)], ids=str)
def test_props_learns_from_each_agents_own_steps(task: type[Task], options: dict, native: bool) -> None:
    """As from a D that holds nothing else: ratios, divergence, its cutoff and what comes of them."""
    arguments = {"hidden": [4], "kl_cutoff": 0.02, "clip_epsilon": 1.0, "epochs": 6, "learning_rate": 0.1} | options
    # A gradient of 0 but for rounding must make no step; under auto the gradient is as large as the share of own steps.
    arguments["adam_epsilon"] = 1e-8 if "kl_cutoff" in options else 1e-3
    data = collected("OnPolicy", "IPPO", task).buffer.current().flatten(1, 2)

    def updated(rows: TensorDictBase, seed_ids: list[int]) -> tuple[PROPS, dict[str, Tensor]]:
        behavior = PROPS(**arguments)
        behavior.build(task(), 0, seed_ids)
        if native:
            behavior.use_kernel()
        behavior.extend(rows)
        return behavior, behavior.delta_trainer.update(True)

    whole, statistics = updated(data, SEEDS)
    for place, agent in itertools.product(range(len(SEEDS)), range(AGENTS)):
        own = (data.get(keys.END)[place, :, agent] == RUNS).nonzero().flatten()
        assert 0 < len(own) < data.shape[1]
        alone, expected = updated(data[place : place + 1, own].contiguous(), SEEDS[place : place + 1])
        close = {"rtol": 1e-2, "atol": 1e-3} if "kl_cutoff" in options else {"rtol": 1e-3, "atol": 1e-4}
        torch.testing.assert_close(whole.net.flat[place, agent], alone.net.flat[0, agent], **close)
        for name, value in expected.items():
            of_all = "kl_cutoff" in options and name in ("kl", "ratio_clipped")  # which are then means over D
            scale = len(own) / data.shape[1] if of_all else 1.0
            found = statistics[name][place, agent].double()
            torch.testing.assert_close(found, value[0, agent].double() * scale, **close, msg=name)
    assert "kl_cutoff" in options or statistics["cutoff_hit"].any()


@pytest.mark.parametrize("name", ["IPPO", "MAPPO"])
@pytest.mark.parametrize("task", [Shifts, UnequalShifts], ids=lambda task: task.__name__)
def test_kernels_learn_the_same(task: type[Task], name: str) -> None:
    """All of a target update, and of a behavior update of the table of joint actions."""
    runs = [collected("MAPROPS", name, task) for _ in range(2)]
    runs[1].learner.use_kernel(), runs[1].behavior.use_kernel()
    figures = []
    for run in runs:
        run.behavior.reset(None)
        run.behavior.extend(run.buffer.current().flatten(1, 2))
        figures.append(run.behavior.update() | run.learner.update(run.buffer))
    assert (figures[0]["gradient_steps"] > 0).all()
    for one, other in zip(runs[0].parameters(), runs[1].parameters(), strict=True):
        torch.testing.assert_close(other, one, rtol=1e-3, atol=1e-4)
    for key, value in figures[0].items():
        torch.testing.assert_close(figures[1][key], value, rtol=1e-3, atol=1e-4, check_dtype=False, msg=key)
