"""TorchRL's environments that do not give what their specs say: a line that names the entry."""

import pytest
import torch
from torchrl_toys import Faulty

from lit_maprops.envs.torchrl.grouped import GroupedAgents

pytest.importorskip("gymnasium")

ABSENT = ["walkers.action_mask", "talker.observation", "state"]
MISSHAPED = {
    "walkers.action_mask": ((7,), "(7,), expected a flag of every action for each of 2 agents"),
    "walkers.info.success": ((3, 1), "(3, 1), expected one flag for each of 2 agents"),
}


def played(key, shape, since):
    env = GroupedAgents(Faulty(key, shape, since), "<env.name> toy")
    env.reset(seed=0)
    for number in range(1, 3):
        # The walkers may not do the last step's number.
        env.step({name: (number if name != "voice" else 0) for name in env.agents})


@pytest.mark.parametrize("since", [0, 2])
@pytest.mark.parametrize("key", ABSENT)
def test_an_entry_that_is_not_there_is_named(key, since):
    with pytest.raises(ValueError, match=f"there is no {key}, which its specs have: put it into what _reset and _step"):
        played(key, None, since)


@pytest.mark.parametrize("shape", [None, (3, 1)])
def test_a_reward_that_is_not_of_its_spec_is_named(shape):
    with pytest.raises(ValueError, match=r"_step returns has no (walkers\.reward|talker\.reward| and )+ of the shape"):
        played("walkers.reward", shape, 1)


@pytest.mark.parametrize("key", MISSHAPED)
def test_an_entry_that_is_not_of_all_agents_is_named(key):
    shape, words = MISSHAPED[key]
    with pytest.raises(ValueError) as error:
        played(key, shape, 2)
    assert str(error.value) == f"{key} has the shape {words}"


def test_without_a_fault_it_is_played():
    played("nothing", None, 0)
    assert torch.is_tensor(Faulty("nothing").reset()["walkers", "observation"])
