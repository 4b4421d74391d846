"""PettingZoo's two conventions of masks: what the package says, in every row and step, and in training."""

import numpy as np
import pytest
import torch
from torchrl.envs import MarlGroupMapType, PettingZooWrapper

from lit_maprops import keys
from lit_maprops.behavior import BEHAVIORS
from lit_maprops.data import MultiAgentData
from lit_maprops.envs import PettingZoo, TaskEnv
from lit_maprops.envs.pettingzoo.masks import Masks, nth_legal
from lit_maprops.module import LitMAPROPS
from lit_maprops.system.errors import EnvironmentFault
from lit_maprops.targets import LEARNERS


@pytest.mark.parametrize("name", ["doors", "dict_doors"])
def test_masks_are_those_that_torchrls_wrapper_reads(name: str) -> None:
    task = PettingZoo(f"pettingzoo_toys.{name}", max_steps=8)
    assert task.masks_actions and task.observation_dim == 3
    noise = torch.rand(6, task.start_noise, generator=torch.Generator().manual_seed(0))
    state = task.initial_state(noise)
    assert len(set((state["seed"] % 2).tolist())) == 2
    for row in range(6):
        env = PettingZooWrapper(
            task._made(), use_mask=True, group_map=MarlGroupMapType.ONE_GROUP_PER_AGENT, categorical_actions=True
        )
        current, own = env.reset(seed=int(state["seed"][row])), {k: v[row : row + 1] for k, v in state.items()}
        for step in range(4):
            legal = task.legal_actions(own)
            for agent, (group, size) in enumerate((("a", 2), ("b", 3))):
                assert legal[0, agent, :size].tolist() == current.get((group, "action_mask")).flatten().tolist()
                assert not legal[0, agent, size:].any()
            action = nth_legal(legal, torch.tensor([[step, row]]))
            assert legal.gather(-1, action.unsqueeze(-1)).all()
            for agent, group in enumerate("ab"):
                current.set((group, "action"), action[:, agent] + 5 * agent)  # TorchRL knows no start of Discrete
            current = env.step(current).get("next")
            own, reward, terminated, _, truncated = task.transition(own, action, noise[:1, :0])
            assert reward[0].tolist() == [current.get((group, "reward")).item() for group in "ab"]
            assert bool(terminated | truncated) == (step == 3)


def run(name: str, behavior: str = "MAPROPS", learner: str = "IPPO", **arguments: str) -> LitMAPROPS:
    module = LitMAPROPS(
        BEHAVIORS[behavior](), LEARNERS[learner](), num_seeds=3, total_env_steps=64, eval_episodes=2,
        sampling_error="likelihood", sampling_error_interval=2, **arguments,
    )  # fmt: skip
    task = PettingZoo(f"pettingzoo_toys.{name}", max_steps=8)
    module.prepare(MultiAgentData(task, num_envs=2, behavior_batch_size=8, target_batch_size=32))
    module.on_fit_start()
    return module


@pytest.mark.every(3)
@pytest.mark.parametrize("name", ["doors", "dict_doors", "leaving_doors"])
def test_training_takes_legal_actions_only(name: str) -> None:
    """The toys raise at others, in training and evaluation alike; agents that have left are asked for nothing."""
    module = run(name, learner="MAPPO" if name == "leaving_doors" else "IPPO")
    for _ in range(2):
        module.training_step(0, 0)
    data = module.buffer._stored()[:, 0]
    legal, left = data.get(keys.ACTION_MASK), data.get(keys.END, torch.zeros(())) != 0
    assert not legal.all() and legal.any(-1).all()
    assert legal.gather(-1, data.get(keys.ACTION).unsqueeze(-1)).all()
    assert left.any() == (name == "leaving_doors")
    assert torch.equal(data.get(keys.PARAMETERS).isfinite()[~left], legal[~left])
    figures = {key: value for key, value in module.row.items() if "success" not in key}
    assert all(value.isfinite().all() for value in figures.values()), figures
    assert all(parameter.isfinite().all() for parameter in module.parameters())


def test_torchrls_random_actions_are_legal() -> None:
    """The toy raises at others; at the end of an episode it leaves no action, which nobody has to choose."""
    env = TaskEnv(PettingZoo("pettingzoo_toys.doors", max_steps=8), 0, [0, 1], 3)
    steps = env.rollout(20, break_when_any_done=False)
    assert steps.get(("next", keys.DONE)).any() and steps.get(("next", *keys.ACTION_MASK)).any(-1).all()


def test_no_legal_action_names_the_seed_and_the_step() -> None:
    module = run("stuck", behavior="OnPolicy")
    with pytest.raises(EnvironmentFault) as error:
        for _ in range(2):
            module.training_step(0, 0)
    message = str(error.value)
    assert "\n" not in message and message.startswith("PettingZoo: no legal action of agent 1, seed "), message
    assert "environment " in message and "on_fault quarantine" in message


@pytest.mark.parametrize("key", ["action_mask", "observation"])
def test_a_dict_without_what_its_space_has_names_it(key: str) -> None:
    spaces = pytest.importorskip("gymnasium.spaces")
    parts = {"observation": spaces.Box(0, 1, (2,)), "action_mask": spaces.Box(0, 1, (3,), np.int8)}
    masks = Masks(["miner"], [3], [spaces.Dict(parts)], {})
    seen = {name: space.sample() for name, space in parts.items() if name != key}
    with pytest.raises(ValueError, match=f"what agent miner sees has no {key}, which its space has"):
        if key == "observation":
            masks.observed(0, seen)
        else:
            masks.legal({"miner": seen}, {})
