"""Agents that have left: their environment is given an action that it allows them."""

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete

from lit_maprops.behavior import OnPolicy
from lit_maprops.data import MultiAgentData
from lit_maprops.envs import TASKS
from lit_maprops.envs.pettingzoo.masks import idle_action
from lit_maprops.module import LitMAPROPS
from lit_maprops.system.errors import ConfigError
from lit_maprops.targets import IPPO

SPACES = {
    "discrete": (Discrete(4, start=5), np.array([0, 0, 1, 1], dtype=np.int8)),
    "components": (MultiDiscrete([2, 3]), (np.array([0, 1], dtype=np.int8), np.array([0, 0, 1], dtype=np.int8))),
    "binary": (MultiBinary(2), np.array([1, 2], dtype=np.int8)),
}


@pytest.mark.parametrize("kind", SPACES)
def test_it_is_one_that_gymnasium_would_draw(kind: str) -> None:
    space, mask = SPACES[kind]
    space.seed(0)
    drawn = {np.asarray(space.sample(mask)).tobytes() for _ in range(200)}
    found = np.asarray(idle_action(space, mask), dtype=np.asarray(space.sample()).dtype)
    assert found.tobytes() in drawn and space.contains(idle_action(space, mask))


@pytest.mark.parametrize("mask", [None, [1, 2, 3, 4], "x"])
def test_without_a_mask_that_can_be_read_it_is_the_first(mask: object) -> None:
    assert idle_action(Discrete(4, start=5), mask) == 5
    assert idle_action(Box(-1, 1, (2,), np.float32)).tolist() == [0, 0]


ENVIRONMENTS = {
    "PettingZoo, infos": ("PettingZoo", "pettingzoo_toys.resting"),
    "PettingZoo, Dict": ("PettingZoo", "pettingzoo_toys.dict_resting"),
    "TorchRL": ("TorchRL", "torchrl_toys.Resting"),
    "Gymnasium": ("Gymnasium", "gymnasium_toys.Resting"),
}


@pytest.mark.parametrize("kind", ENVIRONMENTS)
def test_an_agent_that_left_does_what_its_newest_mask_allows(kind: str) -> None:
    """The toys raise at another action."""
    env, name = ENVIRONMENTS[kind]
    module = LitMAPROPS(OnPolicy(), IPPO(), num_seeds=2, total_env_steps=64, eval_episodes=2, engine="torch")
    module.prepare(
        MultiAgentData(TASKS[env](name, max_steps=8), num_envs=2, behavior_batch_size=32, target_batch_size=32)
    )
    module.on_fit_start()
    module.training_step(0, 0)
    ends = module.buffer._stored().get(("agents", "end"))
    assert (ends != 0).any() and (ends == 0).any() and torch.isfinite(module.row["train/episode_return"]).all()


def test_a_state_without_a_legal_action_is_named_before_a_run() -> None:
    told = r"leaves agent b without a legal action after 3 steps: mend its action_mask$"
    with pytest.raises(ConfigError, match=told):
        TASKS["PettingZoo"]("pettingzoo_toys.stuck_soon", max_steps=8)
