"""StagedGame against an enumeration of all episodes that is written from the rules with plain lists."""

from itertools import product

import pytest
import torch

from lit_maprops.envs import StagedGame, TaskEnv
from lit_maprops.system.errors import ConfigError

CLIMBING = [[11, -30, 0], [-30, 7, 6], [0, 0, 5]]
PENALTY = [[10, 0, -25], [0, 2, 0], [-25, 0, 10]]


def episode(payoff, actions, advance):
    """The rewards of an episode of joint actions, and whether it succeeds."""
    best, rewards, flawless = max(map(max, payoff)), [], True
    for stage, (first, second) in enumerate(actions):
        rewards.append(payoff[(first + stage) % 3][(second + 2 * stage) % 3])
        flawless &= rewards[-1] == best
        if advance == "best" and rewards[-1] != best:
            break
    return rewards, flawless and len(rewards) == len(actions)


@pytest.mark.parametrize("advance", ["always", "best"])
@pytest.mark.parametrize(("name", "payoff", "best"), [("climbing", CLIMBING, 1), ("penalty_25", PENALTY, 4)])
def test_every_episode_is_that_of_the_rules(name, payoff, best, advance):
    joint = list(product(range(3), repeat=2))
    plans = list(product(joint, repeat=2))
    env = TaskEnv(StagedGame(name, stages=2, advance=advance), 0, [0], len(plans))
    current, over, successes = env.reset(), torch.zeros(len(plans), dtype=torch.bool), 0
    expected = [episode(payoff, plan, advance) for plan in plans]
    for step in range(2):
        assert torch.equal(current["agents", "observation"][0, :, :, step], torch.ones(len(plans), 2))
        action = torch.tensor([plan[step] for plan in plans]).unsqueeze(0)
        following = env.step(current.set(("agents", "action"), action))["next"]
        for row, (rewards, success) in enumerate(expected):
            if over[row]:
                continue
            assert following["agents", "reward"][0, row].flatten().tolist() == [rewards[step]] * 2
            ends = len(rewards) == step + 1
            flags = [following[flag][0, row].item() for flag in ("done", "terminated", "truncated", "success")]
            assert flags == [ends, ends, False, ends and success]
            successes += flags[-1]
        over, current = over | following["done"][0].squeeze(-1), following
    assert over.all() and successes == sum(success for _, success in expected) == best


def test_bad_stages_are_one_line():
    with pytest.raises(ConfigError, match=r"stages is 0: give a value from 1 to 100$"):
        StagedGame(stages=0)
