"""Evaluations by the kernel against those in torch: the same episodes."""

import pytest
import torch

from lit_maprops.collect.native_evaluation import evaluate as natively
from lit_maprops.envs import BoulderPush, Coordination, Foraging, MatrixGame, StagedGame
from lit_maprops.envs.faults import Faults
from lit_maprops.metrics.evaluate import evaluate
from lit_maprops.native.build import why_none
from lit_maprops.targets import IPPO, MAPPO

pytestmark = pytest.mark.skipif(why_none() is not None, reason="kernels need a C++ compiler")
SEEDS = [4, 0, 7]
TASKS = {
    "boulder_push": lambda: BoulderPush(max_steps=30),
    "one start": lambda: BoulderPush(max_steps=9, fixed_start=True, push_direction="west"),
    "foraging": lambda: Foraging(max_steps=25),
    "matrix game": lambda: MatrixGame("climbing"),
    "three agents": lambda: Coordination(3, 2),
    "stages": lambda: StagedGame("stag", stages=3, advance="best"),
}


@pytest.mark.parametrize("numbers", [2**22, 1])
@pytest.mark.parametrize("greedy", [True, False])
@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_the_same_episodes_are_played(task, greedy, numbers, monkeypatch):
    monkeypatch.setattr("lit_maprops.collect.native_evaluation.NUMBERS", numbers)
    game, learner = task(), MAPPO(hidden=[16])
    learner.build(game, 3, SEEDS)
    with torch.no_grad():
        learner.policies.net.flat.mul_(3.0)  # policies that prefer something
        learner.policies.net.flat[1] = torch.nan  # a broken seed must break no other, nor look like a good one
    arguments = learner.policies, game, 3, SEEDS, 6, greedy, "evaluation 5"
    faults = [Faults("Game", SEEDS) for _ in range(2)]
    expected, found = evaluate(*arguments, faults[0]), natively(*arguments, faults[1])
    for one, other in zip(expected[:2], found[:2], strict=True):
        torch.testing.assert_close(other, one, equal_nan=True, atol=1e-6, rtol=1e-5)
        assert one.isnan().tolist() == [False, True, False]
    assert faults[0].env_steps == faults[1].env_steps == 0


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("greedy", [True, False])
@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_policies_remember_the_episode(cell, greedy, shared, monkeypatch):
    """Over calls of few steps each, while episodes end one after the other."""
    monkeypatch.setattr("lit_maprops.collect.native_evaluation.NUMBERS", 150)
    game, seeds = StagedGame("climbing", stages=6, advance="best"), [4, 0, 7, 5, 1, 2]
    learner = IPPO(hidden=[8], memory=cell, memory_size=16, sequence_length=4, share_parameters=shared)
    learner.build(game, 3, seeds)
    with torch.no_grad():
        for weights in learner.policies.parameters():
            torch.nn.init.normal_(weights, std=0.7, generator=torch.Generator().manual_seed(1))
        learner.policies.net.flat[1] = torch.nan
    arguments = learner.policies, game, 3, seeds, 6, greedy, "evaluation 5"
    expected, found = evaluate(*arguments, Faults("Game", seeds)), natively(*arguments, Faults("Game", seeds))
    for one, other in zip(expected[:2], found[:2], strict=True):
        torch.testing.assert_close(other, one, equal_nan=True, atol=1e-6, rtol=1e-5)
        assert one.isnan().tolist() == [False, True, False, False, False, False]
    assert len(found.episode_return.unique()) > 2


def test_steps_of_an_evaluation_shift_no_draw_of_training():
    """Playing twice under one purpose is the same, under another is not."""
    game, learner = BoulderPush(max_steps=20), MAPPO(hidden=[16])
    learner.build(game, 0, SEEDS)
    play = [natively(learner.policies, game, 0, SEEDS, 8, False, name, Faults("Game", SEEDS)) for name in "aab"]
    assert torch.equal(play[0].episode_return, play[1].episode_return)
    assert not torch.equal(play[0].episode_return, play[2].episode_return)
