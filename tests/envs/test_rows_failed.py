"""A PettingZoo environment that raises: named with seed and env step, or left out while the others play on."""

import pytest
import torch
from env_cases import NEEDS, assert_same, play, random_actions

from lit_maprops import keys
from lit_maprops.envs import PettingZoo, TaskEnv
from lit_maprops.envs.faults import Faults
from lit_maprops.system.errors import EnvironmentFault

pytestmark = NEEDS["PettingZoo"]
SEEDS = [5, 6, 7]


def played(toy, fuse, on_fault):
    """Twelve steps of three seeds with two environments each; the ``fuse``-th call of any object raises."""
    from pettingzoo_toys import Fused

    faults = Faults("PettingZoo", SEEDS, on_fault)
    env = TaskEnv(PettingZoo(f"pettingzoo_toys.{toy}"), 0, SEEDS, 2, faults=faults)
    Fused.fuse = fuse
    return play(env, env.reset(), random_actions(env, SEEDS, 12))[0], faults


# The twentieth step of six rows is in the fourth vector step; the eighth start is a reset after it.
CASES = pytest.mark.parametrize(
    ("toy", "fuse", "words", "step"),
    [("fused", 20, "OSError: cable in transition", 8), ("fused_start", 8, "OSError: cable in initial_state", 10)],
)


@CASES
def test_it_is_named(toy, fuse, words, step):
    with pytest.raises(EnvironmentFault) as raised:
        played(toy, fuse, "stop")
    assert f"PettingZoo: {words}, seed 5, environment 1, at env step {step}: " in str(raised.value)
    assert isinstance(raised.value.__cause__, OSError)


@CASES
def test_it_is_left_out_and_the_others_play_on(toy, fuse, words, step):
    (healthy, _), (sick, faults) = played(toy, 0, "stop"), played(toy, fuse, "quarantine")
    assert faults.state_dict() == [{"seed": 5, "env_step": step, "reason": f"{words}, environment 1"}]
    assert_same(healthy[:, 1:], sick[:, 1:])
    following = sick[4:].get(("next", *keys.OBSERVATION))
    assert torch.equal(following[:, 0], following[:, 1])  # plays the environments of seed 6
