"""Play exported Foraging policies in lbforaging: python run_exported.py DIR (needs onnxruntime and lbforaging)."""

import json
import sys
from pathlib import Path

import gymnasium
import lbforaging  # noqa: F401 -- registers the environments
import numpy as np
from onnxruntime import InferenceSession

folder = Path(sys.argv[1])
policy = json.loads((folder / "policy.json").read_text())
agents = [InferenceSession(folder / agent["onnx"]) for agent in policy["agents"]]
env = gymnasium.make(policy["task"]["options"]["name"] + "-v3", disable_env_checker=True)
for episode in range(20):
    observations, _ = env.reset(seed=episode)
    over, episode_return = False, 0.0
    while not over:
        seen = [np.float32(observation)[None] for observation in observations]  # a batch of one
        actions = [int(a.run(["action"], {"observation": o})[0][0]) for a, o in zip(agents, seen, strict=True)]
        observations, rewards, terminated, truncated, _ = env.step(actions)
        over, episode_return = terminated or truncated, episode_return + sum(rewards)
    print(f"episode {episode}: return {episode_return:.2f}")  # 1.00: all food collected
