"""What an exported policy's JSON calls each number of an observation, against the environments themselves."""

import re

import numpy as np
import torch
from env_cases import NEEDS
from foraging_package import Setting, purposeful
from lbforaging.foraging.environment import Action

from lit_maprops.envs import BoulderPush, SparseReacher


def test_boulder_push():
    """Every name is looked up in the drawn cells."""
    task = BoulderPush(height=6, width=7, n_agents=3, sensor_range=2)
    state = task.initial_state(torch.rand(40, task.start_noise, generator=torch.Generator().manual_seed(1)))
    observation, found = task.observe(state)[0], set()
    boulders = task.boulder_cells(state["direction"], state["boulder"]).tolist()
    for row, (agents, boulder) in enumerate(zip(state["agents"].tolist(), boulders, strict=True)):
        direction = ["north", "south", "west", "east"][int(state["direction"][row])]
        for agent, (x, y) in enumerate(agents):
            for name, value in zip(task.interface(agent).observation, observation[row, agent].tolist(), strict=True):
                cell = re.fullmatch(r"(agent|boulder) at \((-?\d), (-?\d)\)", name)
                if cell:
                    there = [x + int(cell[2]), y + int(cell[3])]
                    true = there in (agents if cell[1] == "agent" else boulder)
                else:
                    true = name == f"push direction is {direction}"
                assert value == true, name
                found |= {name} if true else set()
    assert len(found) > 40  # of 54: the test saw most numbers at work
    # The action of a name moves the agent that way.
    free = BoulderPush(start=[[0, 3], [3, 1], [1, 1]], push_direction="north")
    for action, name in enumerate(free.interface(0).actions):
        start = free.initial_state(torch.zeros(1, free.start_noise))
        agents = free.transition(start, torch.tensor([[action, 0]]), torch.rand(1, free.step_noise)).state["agents"]
        way = {"north": [3, 0], "south": [3, 2], "west": [2, 1], "east": [4, 1]}[name]
        assert agents[0, 0].tolist() == way


def test_foraging():
    """Of what lbforaging gives its agents, read by our names, and of what its objects hold."""
    setting = Setting(size=6, n_agents=3, max_num_food=2, max_steps=30)
    env, rng = setting.package(), np.random.default_rng(0)
    names, partly = [setting.task().interface(agent).observation for agent in range(3)], 0
    assert setting.task().interface(0).actions == [action.name.lower() for action in Action]
    for episode in range(6):
        seen, over = env.reset(seed=episode)[0], False
        while not over:
            food = [(int(r), int(c), int(env.field[r, c])) for r, c in np.argwhere(env.field)]
            bodies = [(*map(int, player.position), int(player.level)) for player in env.players]
            partly += len(food) == 1
            for agent in range(3):
                others = [body for number, body in enumerate(bodies) if number != agent]
                things = {f"food {k}": (*food, *[(-1, -1, 0)] * 2)[k] for k in range(2)} | {"itself": bodies[agent]}
                things |= {f"other agent {k}": body for k, body in enumerate(others)}
                for name, value in zip(names[agent], seen[agent], strict=True):
                    part, thing = name.split(" of ")
                    assert value == things[thing][["row", "column", "level"].index(part)], name
            seen, _, done, cut, _ = env.step(purposeful(env, rng, 0.2))
            over = done or cut
    assert partly  # some food was gone, and the list closed up


@NEEDS["SparseReacher"]
def test_sparse_reacher():
    """Names against MuJoCo's own quantities in Reacher-v5, which knows no agents."""
    import gymnasium

    task = SparseReacher()
    state = task.initial_state(torch.rand(2, 2, generator=torch.Generator().manual_seed(2)))
    for _ in range(3):
        state = task.transition(state, torch.tensor([[[0.9], [-0.6]]] * 2), torch.zeros(2, 0)).state
    observation = task.observe(state)[0]
    for row in range(2):
        arm = gymnasium.make("Reacher-v5").unwrapped
        arm.reset(seed=int(state["seed"][row]))
        for chosen in state["actions"][row, :3]:
            arm.step(chosen[:, 0].numpy())
        body = {name: arm.get_body_com(name) for name in ("fingertip", "target")}
        way = body["fingertip"] - body["target"]
        facts = {f"{axis} from the target to the fingertip": way[k] for k, axis in enumerate("xyz")}
        facts |= {"x of the target": body["target"][0], "y of the target": body["target"][1]}
        for k, joint in enumerate(["shoulder", "elbow"]):
            angle, speed = arm.data.qpos[k], arm.data.qvel[k]
            facts |= {f"sine of the {joint}'s angle": np.sin(angle), f"cosine of the {joint}'s angle": np.cos(angle)}
            facts[f"angular speed of the {joint}"] = speed
        for agent in range(2):
            interface = task.interface(agent)
            values = observation[row, agent, : len(interface.observation)].tolist()
            for name, value in zip(interface.observation, values, strict=True):
                assert abs(value - facts[name]) < 1e-6, name
            assert (interface.low, interface.high) == ([-1.0], [1.0])
    assert abs(arm.data.qvel[0]) > 0.1
