"""Sampling errors where agents have left: against dictionaries, and over the steps that are each agent's own."""

import itertools

import pytest
import torch
from test_sampling_error import pi_of, random_data, slow_variation, streams

from lit_maprops import keys
from lit_maprops.distributions import gaussian
from lit_maprops.distributions.families import Categorical, Gaussian
from lit_maprops.envs.ends import RUNS, TERMINATED, TRUNCATED
from lit_maprops.metrics.energy import energy_error
from lit_maprops.metrics.sampling_error import likelihood_error, tabular_error
from lit_maprops.stacked.streams import SeedStreams

AGENTS, ACTIONS, STATES, ROWS, SEEDS = 3, 2, 5, 80, 2


def leaving():
    """Random D in which agent 0 has left in states 3 and 4, agent 1 in state 4."""
    theta, data = random_data(SEEDS, STATES, AGENTS, ACTIONS, ROWS)
    state = data.get(keys.STATE_INDEX).squeeze(-1)
    end = torch.zeros(SEEDS, ROWS, AGENTS, dtype=torch.uint8)
    end[..., 0][state >= 3], end[..., 1][state == 4] = TERMINATED, TRUNCATED
    data.set(keys.END, end)
    family = Categorical(torch.ones(AGENTS, ACTIONS).bool())
    data.set(keys.PARAMETERS, family.idle(data.get(keys.PARAMETERS), end != RUNS))
    return theta, data.set(keys.ACTION, data.get(keys.ACTION).masked_fill(end != RUNS, 0))


def test_tabular_errors_are_those_of_the_agents_that_are_there():
    theta, data = leaving()
    error = tabular_error(data, streams(SEEDS))
    for seed in range(SEEDS):
        states, action = data.get(keys.STATE_INDEX)[seed, :, 0].tolist(), data.get(keys.ACTION)[seed].tolist()
        present = (data.get(keys.END)[seed] == RUNS).tolist()

        def variation(agents, seed=seed, states=states, action=action, present=present):
            """Of these agents where all of them are there."""
            rows = [row for row in range(ROWS) if all(present[row][i] for i in agents)]
            taken = [tuple(action[row][i] for i in agents) for row in rows]
            return slow_variation([states[row] for row in rows], taken, pi_of(theta[seed], list(agents))), len(rows)

        # The joint action set of a state is that of the agents that are there.
        joint = 0.0
        for agents in ([0, 1, 2], [1, 2], [2]):
            rows = [row for row in range(ROWS) if [i for i in range(AGENTS) if present[row][i]] == agents]
            taken = [tuple(action[row][i] for i in agents) for row in rows]
            joint += slow_variation([states[r] for r in rows], taken, pi_of(theta[seed], agents)) * len(rows) / ROWS
        assert error["joint_tv"][seed].item() == pytest.approx(joint, abs=1e-5)
        each = [variation([i])[0] for i in range(AGENTS)]
        assert error["agent_tv"][seed].item() == pytest.approx(sum(each) / AGENTS, abs=1e-5)
        pairs = [variation(pair)[0] for pair in itertools.combinations(range(AGENTS), 2)]
        assert error["pairwise_tv"][seed].item() == pytest.approx(sum(pairs) / 3, abs=1e-5)


def test_the_fitted_error_of_an_agent_is_over_its_own_steps():
    """The one agent that never leaves has the same; one that is never there has none."""
    _, data = leaving()
    data.get(keys.END)[..., 0] = TERMINATED
    idle = Categorical(torch.ones(AGENTS, ACTIONS).bool()).idle(data.get(keys.PARAMETERS), data.get(keys.END) != RUNS)
    data.set(keys.PARAMETERS, idle).get(keys.ACTION)[..., 0] = 0
    error = likelihood_error(data, streams(SEEDS), [8], steps=10)
    assert all((value > -1e-6).all() for value in error.values()), error  # up to rounding
    plain = likelihood_error(data.exclude(keys.END), streams(SEEDS), [8], steps=10)
    share = (data.get(keys.END)[..., 1] == RUNS).float().mean(1)
    # Agent 0 adds 0 and is counted in one mean; agent 1's figure grows by the reciprocal of its share, agent 2's not.
    difference = error["agent_kl"] * (AGENTS - 1) - plain["agent_kl"] * AGENTS
    assert (difference >= -1e-7).all() and (share < 1).all()
    bound = plain["agent_kl"] * AGENTS * (1 / share - 1)
    assert (difference <= bound + 1e-6).all()


def test_an_agent_that_is_never_there_is_in_no_mean():
    """Figures are those of the others by themselves, who are four agents: three and one pair more to be left out."""
    _, few = random_data(SEEDS, STATES, AGENTS, ACTIONS, ROWS)
    end = torch.zeros(SEEDS, ROWS, AGENTS, dtype=torch.uint8)
    few.set(keys.END, end)
    many, batch = few.empty(), [SEEDS, ROWS]
    idle = torch.full((*batch, 1, ACTIONS), -torch.inf)
    idle[..., 0] = 0.0
    many.set(keys.STATE_INDEX, few.get(keys.STATE_INDEX))
    many.set(keys.END, torch.cat([end, torch.full((*batch, 1), TERMINATED, dtype=torch.uint8)], -1))
    many.set(keys.PARAMETERS, torch.cat([few.get(keys.PARAMETERS), idle], 2))
    many.set(keys.ACTION, torch.cat([few.get(keys.ACTION), torch.zeros(*batch, 1, dtype=torch.int64)], -1))
    alone, beside = tabular_error(few, streams(SEEDS)), tabular_error(many, streams(SEEDS))
    for name in ("joint_tv", "agent_tv", "pairwise_tv"):
        assert (alone[name] > 0).all()
        torch.testing.assert_close(beside[name], alone[name])


def test_components_of_agents_that_left_do_not_count():
    """Whatever stands there; where nobody ever is, D's error is the on-policy batch's."""
    family = Gaussian(torch.tensor([[True, False], [True, True]]))
    generator = torch.Generator().manual_seed(0)
    data = leaving()[1].select(keys.END)[..., :].clone()
    end = data.get(keys.END)[..., :2].clone()
    parameters = torch.randn(SEEDS, ROWS, 2, 4, generator=generator) * 0.1
    action = gaussian.sample(parameters, torch.rand(SEEDS, ROWS, 2, 2, generator=generator), family.mask)
    full = {keys.PARAMETERS: parameters, keys.ACTION: action, keys.END: end}
    other = dict(full) | {keys.ACTION: torch.where((end != RUNS).unsqueeze(-1), 9.0, action)}
    errors = []
    for fields in (full, other):
        batch = data.empty()
        for name, value in fields.items():
            batch.set(name, value)
        errors.append(energy_error(batch, family, SeedStreams(0, range(SEEDS), "x")))
    for name, value in errors[0].items():
        assert torch.equal(value, errors[1][name])
    nobody = batch.set(keys.END, torch.full_like(end, TERMINATED))
    error = energy_error(nobody, family, SeedStreams(0, range(SEEDS), "x"))
    assert torch.equal(error["joint_energy"], error["joint_energy_on_policy"])
