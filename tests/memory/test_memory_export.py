"""Exported programs of policies that remember take and give their memory, and play episodes as the policies do."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from conftest import SMALL

import lit_maprops as lm
from lit_maprops import keys
from lit_maprops.cli.main import main
from lit_maprops.envs import TMaze
from lit_maprops.envs.remembering import environment
from lit_maprops.export.policies import load
from lit_maprops.system.errors import ConfigError

EPISODES = 6


def trained(runs: Path, env: str, *options: str) -> Path:
    own = ["--model.learner.memory_size", "5", "--model.learner.hidden", "[8]", "--model.learner.sequence_length", "4"]
    assert main(["fit", *SMALL[env], *own, *options, "--runs_dir", str(runs), "--run_name", "x"]) == 0
    return runs / "x"


CASES = {
    "gru": ("TMaze", []),
    "lstm, shared": ("TMaze", ["--model.learner.memory", "lstm", "--model.learner.share_parameters", "true"]),
    "gelu": ("TMaze", ["--model.learner.memory", "lstm", "--model.learner.activation", "gelu"]),
    "masked": ("TMaze", ["--data.env", "masked_game.Doors"]),
    "continuous": ("TwoPeaks", ["--model.learner", "IPPO", "--model.learner.memory", "gru"]),
}


@pytest.mark.every(5)
@pytest.mark.parametrize(("env", "options"), CASES.values(), ids=CASES)
def test_programs_play_as_the_policies_do(tmp_path: Path, env: str, options: list[str]) -> None:
    """Every step of episodes, by onnxruntime and by torch.export's program, from memory that they alone keep."""
    folder = trained(tmp_path, env, *options)
    ckpt, out = folder / "checkpoints/last.ckpt", tmp_path / "out"
    assert main(["export", "--ckpt_path", str(ckpt), "--output", str(out), "--seed", "1"]) == 0
    document = json.loads((out / "policy.json").read_text())
    loaded = load(ckpt)
    policies, task = loaded.policies, loaded.task
    sessions = [onnxruntime.InferenceSession(out / agent["onnx"]) for agent in document["agents"]]
    programs = [torch.export.load(out / agent["torch"]).module() for agent in document["agents"]]
    assert "new_memory" in document["use"] and "start" in document["use"]["memory"]
    size = policies.remembered[keys.MEMORY][1]
    for agent in document["agents"]:
        assert agent["memory"] == {"name": "memory", "shape": ["batch", size], "dtype": "float32", "start": 0.0}
        assert agent["outputs"][-1] == {"name": "new_memory", "shape": ["batch", size], "dtype": "float32"}
    ids = loaded.seed_ids
    env_ = environment(policies.remembered, task, 0, ids, EPISODES, "test environment")
    current = env_.reset()
    memories = [np.full((EPISODES, size), agent["memory"]["start"], np.float32) for agent in document["agents"]]
    for _ in range(3 * min(task.max_steps, 6)):
        parameters = policies.advance(current)[1].detach()
        for agent, (session, program) in enumerate(zip(sessions, programs, strict=True)):
            seen = current.get(keys.OBSERVATION)[1, :, agent].float()
            given = {"observation": seen}
            if task.masks_actions:
                given["action_mask"] = current.get(keys.ACTION_MASK)[1, :, agent]
            given["memory"] = torch.from_numpy(memories[agent])
            names = [output["name"] for output in document["agents"][agent]["outputs"]]
            found = dict(zip(names, session.run(names, {k: v.numpy() for k, v in given.items()}), strict=True))
            by_torch = program(*list(given.values())[:-1], memory=given["memory"])
            for name, value in zip(names, by_torch, strict=True):
                torch.testing.assert_close(torch.from_numpy(found[name]), value, rtol=1e-4, atol=1e-5)
            if task.continuous_actions:
                mean = torch.from_numpy(found["mean"])
                torch.testing.assert_close(mean, parameters[:, agent, : task.action_dim], rtol=1e-4, atol=1e-5)
            else:
                torch.testing.assert_close(
                    torch.from_numpy(found["log_prob"]), parameters[:, agent], rtol=1e-4, atol=1e-5
                )
            memories[agent] = found["new_memory"]
        action = policies.family.sample(
            policies.advance(current), torch.rand(len(ids), EPISODES, *policies.family.uniforms)
        )
        _, current = env_.step_and_maybe_reset(current.set(keys.ACTION, action))
        begun = (current.get(keys.MEMORY)[1, :, 0] == 0).all(-1).numpy()
        memories = [np.where(begun[:, None], np.float32(0), memory) for memory in memories]


def test_act_says_how_to_act_with_memory(tmp_path: Path) -> None:
    policies = lm.load_run(trained(tmp_path, "TMaze")).policies
    with pytest.raises(ConfigError, match=r"^act\(\) takes single steps and these policies remember: call agent"):
        policies.act([1.0, 0, 0, 0, 0], 0, 0)
    policy = policies.agent(0, 0)
    seen, memory = torch.eye(5)[:2], torch.zeros(2, policy.remembered)
    with pytest.raises(ConfigError, match=rf"^memory is not given and .* give zeros \[2, {policy.remembered}\] before"):
        policy(seen)
    log_prob, action, memory = policy(seen, memory=memory)
    assert memory.any() and torch.equal(action, log_prob.argmax(-1))
    drawn = policy.draw(seen.repeat(500, 1), torch.Generator().manual_seed(0), memory=memory.repeat(500, 1))
    shares = torch.stack([(drawn.view(500, 2) == k).float().mean(0) for k in range(3)], -1)
    torch.testing.assert_close(shares, policy(seen, memory=memory)[0].exp(), atol=0.08, rtol=0)
    assert isinstance(policies.task, TMaze)
