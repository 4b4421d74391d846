"""Play exported Foraging policies in lbforaging: python run_exported.py DIR (needs onnxruntime and lbforaging)."""

import json
import re
import sys
from pathlib import Path

import gymnasium
import lbforaging  # noqa: F401 -- registers the environments
import numpy as np
from onnxruntime import InferenceSession

folder = Path(sys.argv[1])
policy = json.loads((folder / "policy.json").read_text())
agents = [InferenceSession(folder / agent["onnx"]) for agent in policy["agents"]]
name, sight, rest = re.fullmatch(r"(Foraging)(?:-(\d+)s)?(-.+)", policy["task"]["options"]["name"]).groups()
seen = {} if sight is None else {"sight": int(sight)}  # only names with a sight of 2 are registered
env = gymnasium.make(f"{name}{rest}-v3", disable_env_checker=True, **seen)
for episode in range(20):
    observations, _ = env.reset(seed=episode)
    over, episode_return = False, 0.0
    # Of policies that remember: zeros before the first step of an episode, then what the step before gave.
    memory = [np.zeros((1, a["memory"]["shape"][1]), np.float32) if "memory" in a else None for a in policy["agents"]]
    while not over:
        actions = []
        for number, (agent, observation) in enumerate(zip(agents, observations, strict=True)):
            inputs = {"observation": np.float32(observation)[None]}  # a batch of one
            if memory[number] is None:
                (action,) = agent.run(["action"], inputs)
            else:
                action, memory[number] = agent.run(["action", "new_memory"], inputs | {"memory": memory[number]})
            actions.append(int(action[0]))
        observations, rewards, terminated, truncated, _ = env.step(actions)
        over, episode_return = terminated or truncated, episode_return + sum(rewards)
    print(f"episode {episode}: return {episode_return:.2f}")  # 1.00: all food collected
