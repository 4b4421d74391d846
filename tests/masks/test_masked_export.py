"""Exported programs of masked tasks take the mask as an input, and play by it."""

import itertools
import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from conftest import SMALL
from masked_game import LEGAL, REWARD, ROOMS

import lit_maprops as lm
from lit_maprops.cli.main import main
from lit_maprops.export.policies import load
from lit_maprops.metrics.evaluate import evaluate
from lit_maprops.system.errors import ConfigError

GAME = [*SMALL["MatrixGame"], "--data.env", "masked_game.Doors", "--model.learner.hidden", "[8]"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("runs")
    assert main(["fit", *GAME, "--runs_dir", str(runs), "--run_name", "x"]) == 0
    return runs / "x"


def test_programs_take_the_mask(folder: Path, tmp_path: Path) -> None:
    """Under every mask of three actions, in every room, as the policies of the checkpoint."""
    ckpt, out = str(folder / "checkpoints/last.ckpt"), tmp_path / "out"
    assert main(["export", "--ckpt_path", ckpt, "--output", str(out), "--seed", "1"]) == 0
    document = json.loads((out / "policy.json").read_text())
    policies = load(Path(ckpt)).policies
    masks = torch.tensor([mask for mask in itertools.product([False, True], repeat=3) if any(mask)])
    room = torch.eye(ROOMS).repeat_interleave(len(masks), 0)
    legal = masks.repeat(ROOMS, 1)
    parameters = policies.distribution_parameters(
        room.view(1, -1, 1, ROOMS).expand(3, -1, 2, -1), legal.view(1, -1, 1, 3).expand(3, -1, 2, -1)
    )
    assert "action_mask" in document["use"]
    for number, agent in enumerate(document["agents"]):
        assert agent["action_mask"] == {"name": "action_mask", "shape": ["batch", 3], "dtype": "bool"}
        given = {"observation": room.numpy(), "action_mask": legal.numpy()}
        log_prob, action = onnxruntime.InferenceSession(out / agent["onnx"]).run(["log_prob", "action"], given)
        program = torch.export.load(out / agent["torch"]).module()
        expected = parameters[1, :, number].detach()
        for found, chosen in ((torch.tensor(log_prob), torch.tensor(action)), program(room, legal)):
            assert torch.equal(found == -torch.inf, ~legal)
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
            assert legal.gather(-1, chosen.unsqueeze(-1)).all()


def test_policies_act_by_the_mask(folder: Path) -> None:
    policies = lm.load_run(folder).policies
    room = np.eye(ROOMS).repeat(20, 0)
    for agent, greedy in itertools.product(range(2), (True, False)):
        legal = LEGAL[:, agent].repeat_interleave(20, 0)
        generator = torch.Generator().manual_seed(0)
        action = policies.act(room, 0, agent, greedy, generator, action_mask=legal.int().tolist())
        assert legal.gather(-1, action.unsqueeze(-1)).all()
    for mask, words in ((None, "missing"), ([1, 0], "shape"), ([0, 0, 0], "no legal action")):
        with pytest.raises(ConfigError, match=rf"^[^\n]*action_mask[^\n]*{words}[^\n]*$"):
            policies.act(room[0], 0, 0, action_mask=mask)


@pytest.mark.parametrize("greedy", [True, False])
def test_evaluation_is_the_expected_return(folder: Path, greedy: bool) -> None:
    """By dynamic programming over the rooms, under the legal actions' probabilities alone."""
    trained = load(folder / "checkpoints/last.ckpt")
    rooms = torch.eye(ROOMS).view(1, ROOMS, 1, ROOMS).expand(3, -1, 2, -1)
    chance = trained.policies.distribution_parameters(rooms, LEGAL.expand(3, -1, -1, -1)).double().exp()
    if greedy:
        chance = torch.nn.functional.one_hot(chance.argmax(-1), 3).double()
    joint = torch.einsum("sra,srb->srab", chance[:, :, 0], chance[:, :, 1])
    room, a, b = torch.meshgrid(torch.arange(ROOMS), torch.arange(3), torch.arange(3), indexing="ij")
    value = torch.zeros(3, ROOMS, dtype=torch.float64)
    for _ in range(trained.task.max_steps):
        value = (joint * (REWARD.double().mean(-1) + value[:, (room + a + 2 * b + 1) % ROOMS])).sum((2, 3))
    episodes = 10_000  # of rewards within [-1, 1]: a mean of 3 steps has a standard error of 0.03 at most
    played = evaluate(trained.policies, trained.task, 0, trained.seed_ids, episodes, greedy, "test")
    assert (value.std(1) > 0.01).all()
    torch.testing.assert_close(played.episode_return.double(), value.mean(1), rtol=0, atol=0.05)
