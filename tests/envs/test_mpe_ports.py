"""JaxMARL's MPE plays the games of mpe2: studies/tasks trains on the faster of the two packages."""

from importlib import import_module

import numpy as np
import pytest

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


@pytest.mark.parametrize("scenario", PORTS)
def test_the_port_pays_and_shows_what_mpe2_does(scenario):
    import jax

    port, state, env, world = set_up(scenario)
    point_out(scenario, state, world)
    names = dict(zip(port.agents, env.possible_agents, strict=True))
    draws = np.random.default_rng(5)
    earned = []
    for step in range(STEPS):
        action = {name: int(draws.integers(env.action_space(names[name]).n)) for name in port.agents}
        assert all(env.action_space(names[name]).n == port.action_space(name).n for name in port.agents)
        seen, state, reward, *_ = port.step_env(jax.random.PRNGKey(step), state, action)
        theirs, their_reward, *_ = env.step({names[name]: action[name] for name in port.agents})
        for name in port.agents:
            np.testing.assert_allclose(reward[name], their_reward[names[name]], rtol=1e-4, atol=1e-4)
            # The port names other agents in another order.
            np.testing.assert_allclose(np.sort(seen[name]), np.sort(theirs[names[name]]), rtol=1e-4, atol=1e-4)
        earned.append(float(np.mean([reward[name] for name in port.agents])))
    assert np.ptp(earned) > 0.1
