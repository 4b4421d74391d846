"""JaxMARL's MPE plays the games of mpe2: studies/tasks trains on the faster of the two packages."""

from importlib import import_module

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

jaxmarl = pytest.importorskip("jaxmarl")
pytest.importorskip("mpe2")

PORTS = {
    "MPE_simple_spread_v3": "simple_spread_v3",
    "MPE_simple_reference_v3": "simple_reference_v3",
    "MPE_simple_speaker_listener_v4": "simple_speaker_listener_v4",
}
STEPS = 24  # one less than the episode's


def set_up(scenario):
    """Both, with the places, goals and colors that JaxMARL has drawn."""
    import jax

    port = jaxmarl.make(scenario)
    _, state = port.reset(jax.random.PRNGKey(3))
    env = import_module(f"mpe2.{PORTS[scenario]}").parallel_env()
    env.reset(seed=0)
    world = env.unwrapped.world
    for place, entity in zip(np.asarray(state.p_pos), [*world.agents, *world.landmarks], strict=True):
        entity.state.p_pos, entity.state.p_vel = place.astype(float), np.zeros(2)
    return port, state, env, world


def point_out(scenario, state, world):
    """Goals: JaxMARL numbers the landmarks, mpe2 hands them to the agents."""
    if scenario == "MPE_simple_spread_v3":
        return
    goal = np.atleast_1d(np.asarray(state.goal))
    if scenario == "MPE_simple_speaker_listener_v4":
        world.agents[0].goal_a, world.agents[0].goal_b = world.agents[1], world.landmarks[int(goal[0])]
    else:
        for agent, other, number in zip(world.agents, reversed(world.agents), reversed(goal), strict=True):
            agent.goal_a, agent.goal_b = other, world.landmarks[int(number)]


def apart(ours, theirs):
    """How far two series of observations are apart, number by number, ``[T, numbers]`` each.

    The port names other agents in another order, the same one at every step: each of its numbers is one of mpe2's.
    """
    between = np.abs(np.array(ours)[:, :, None] - np.array(theirs)[:, None, :]).max(0)
    order = linear_sum_assignment(between)
    return between[order].max()


@pytest.mark.parametrize("scenario", PORTS)
def test_the_port_pays_and_shows_what_mpe2_does(scenario):
    import jax

    port, state, env, world = set_up(scenario)
    point_out(scenario, state, world)
    names = dict(zip(port.agents, env.possible_agents, strict=True))
    assert all(env.action_space(names[name]).n == port.action_space(name).n for name in port.agents)
    draws = np.random.default_rng(5)
    seen, seen_there = [], []
    rewards, rewards_there = [], []
    for step in range(STEPS):
        action = {name: int(draws.integers(port.action_space(name).n)) for name in port.agents}
        observations, state, reward, *_ = port.step_env(jax.random.PRNGKey(step), state, action)
        theirs, reward_there, *_ = env.step({names[name]: action[name] for name in port.agents})
        seen.append([observations[name] for name in port.agents])
        seen_there.append([theirs[names[name]] for name in port.agents])
        rewards.append([float(reward[name]) for name in port.agents])
        rewards_there.append([reward_there[names[name]] for name in port.agents])
    np.testing.assert_allclose(rewards, rewards_there, rtol=1e-4, atol=1e-4)
    assert np.ptp(np.mean(rewards, 1)) > 0.1
    for agent in range(len(names)):
        assert apart([o[agent] for o in seen], [o[agent] for o in seen_there]) < 1e-4
