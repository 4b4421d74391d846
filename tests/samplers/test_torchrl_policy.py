"""``SampledPolicy`` in TorchRL's collector: what is written, when updates come, and when the sampler is left alone."""

import math

import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torch import Tensor, nn
from torchrl.collectors import Collector
from torchrl.envs import ExplorationType, set_exploration_type

from lit_maprops import keys
from lit_maprops.behavior import MAPROPS
from lit_maprops.envs import Foraging, TaskEnv
from lit_maprops.samplers import JointSampler, SampledPolicy

LOGITS, LOG_PROB = ("agents", "logits"), ("agents", "action_log_prob")
ENVS = 3


def logits_of(task: Foraging) -> TensorDictModule:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(task.observation_dim, 8), nn.Tanh(), nn.Linear(8, task.n_actions))
    return TensorDictModule(lambda x: network(x.float()), in_keys=[keys.OBSERVATION], out_keys=[LOGITS])


def collected(m: int, steps: int, monkeypatch: pytest.MonkeyPatch, **options: object) -> tuple[TensorDict, list[int]]:
    """A batch ``[1, E, T]`` from TorchRL's collector, and how many vector steps D held at each update."""
    task, held = Foraging(), []
    update = JointSampler.update

    def spy(self: JointSampler, measure: bool = True) -> dict[str, float]:
        held.append(len(self.steps))
        return update(self, measure)

    monkeypatch.setattr(JointSampler, "update", spy)
    sampler = JointSampler(MAPROPS(hidden=[8]), [task.n_actions] * task.n_agents, num_envs=ENVS)
    policy = SampledPolicy(logits_of(task), sampler, behavior_batch_size=m, **options)
    env = TaskEnv(task, 0, [0], ENVS)
    collector = Collector(env, policy, frames_per_batch=ENVS * steps, auto_register_policy_transforms=False)
    sampler.reset()
    batch = next(iter(collector))
    collector.shutdown()
    return batch, held


@pytest.mark.parametrize("options", [{}, {"state_key": "state"}])
def test_log_prob_is_that_of_the_logits(monkeypatch: pytest.MonkeyPatch, options: dict) -> None:
    batch, _ = collected(ENVS, 6, monkeypatch, **options)
    log_probs: Tensor = batch.get(LOGITS).log_softmax(-1)
    expected = log_probs.gather(-1, batch.get(keys.ACTION).unsqueeze(-1)).squeeze(-1)
    assert torch.allclose(batch.get(LOG_PROB), expected)


@pytest.mark.parametrize(("m", "updates"), [(ENVS, [1, 2, 3, 4, 5]), (2 * ENVS, [2, 4]), (6 * ENVS, [])])
def test_updates_come_every_m_env_steps_but_the_last(
    monkeypatch: pytest.MonkeyPatch, m: int, updates: list[int]
) -> None:
    assert collected(m, 6, monkeypatch)[1] == updates


def step_of(batch: list[int], mask: Tensor | None = None) -> TensorDict:
    data = TensorDict({keys.OBSERVATION: torch.ones(*batch, 2, 1)}, batch_size=batch)
    return data if mask is None else data.set("mask", mask)


def tilted() -> TensorDictModule:
    table = torch.tensor([[0.0, 2.0, 1.0], [3.0, 0.0, 0.0]])
    return TensorDictModule(lambda x: table.expand(*x.shape[:-1], 3), in_keys=[keys.OBSERVATION], out_keys=[LOGITS])


def test_deterministic_exploration_leaves_the_sampler_alone() -> None:
    sampler = JointSampler(MAPROPS(), [3, 3], num_envs=1)
    policy = SampledPolicy(tilted(), sampler, behavior_batch_size=1)
    with set_exploration_type(ExplorationType.DETERMINISTIC):
        data = policy(step_of([5]))  # as many environments as there are
    assert data.get(keys.ACTION).tolist() == [[1, 0]] * 5
    assert not sampler.steps
    assert data.get(LOG_PROB)[0, 0].item() == pytest.approx(2 - math.log(1 + math.e**2 + math.e))


@pytest.mark.parametrize("batch", [[], [4], [2, 2]])
def test_batch_sizes_and_masks(batch: list[int]) -> None:
    envs = math.prod(batch)
    sampler = JointSampler(MAPROPS(), [3, 3], num_envs=envs)
    policy = SampledPolicy(tilted(), sampler, behavior_batch_size=envs, mask_key="mask")
    mask = torch.tensor([[True, False, True], [False, True, True]]).expand(*batch, 2, 3)
    with set_exploration_type(ExplorationType.RANDOM):
        for _ in range(20):
            data = policy(step_of(batch, mask))
            assert data.get(keys.ACTION).shape == (*batch, 2)
            assert mask.gather(-1, data.get(keys.ACTION).unsqueeze(-1)).all()
    assert len(sampler.steps) == 20
