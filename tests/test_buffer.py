"""The buffer against a plain list of batches."""

import pytest
import torch
from tensordict import TensorDict

from lit_maprops import keys
from lit_maprops.behavior import MAPROPS
from lit_maprops.buffer import Buffer
from lit_maprops.collect import BehaviorActor, Collection
from lit_maprops.distributions.families import Categorical
from lit_maprops.envs import BoulderPush, TaskEnv
from lit_maprops.targets import MAPPO

SEEDS, STEPS, ENVS, AGENTS, ACTIONS = 2, 6, 3, 2, 4


def transitions(first: int, steps: int) -> TensorDict:
    """Transitions ``[R, t, E]`` numbered in time order, so that every element is recognizable."""
    number = torch.arange(first * ENVS, (first + steps) * ENVS).reshape(1, steps, ENVS)
    number = number + 10_000 * torch.arange(SEEDS).reshape(-1, 1, 1)
    data = TensorDict({keys.STATE: number.unsqueeze(-1).float()}, batch_size=number.shape)
    data.set(keys.OBSERVATION, number[..., None, None].expand(*number.shape, AGENTS, 1).float().contiguous())
    data.set(keys.ACTION, number.unsqueeze(-1).expand(*number.shape, AGENTS) % ACTIONS)
    data.set(keys.PARAMETERS, torch.zeros(*number.shape, AGENTS, ACTIONS))
    data.set(keys.LOG_PROB, torch.zeros(*number.shape, AGENTS))
    data.set(keys.TARGET_LOG_PROB, torch.zeros(number.shape))
    data.set(("next", keys.STATE), number.unsqueeze(-1).float() + 0.5)
    return data


class ListOfBatches:
    """D as a list of batches, each a list of transitions in time order; the current batch is the last."""

    def __init__(self, history_batches: int) -> None:
        self.history_batches = history_batches
        self.batches: list[list[TensorDict]] = [[]]

    def extend(self, data: TensorDict) -> None:
        self.batches[-1] += list(data.unbind(1))

    def next_batch(self) -> None:
        older = self.batches[-(self.history_batches - 1) :] if self.history_batches > 1 else []
        self.batches = [*older, []]

    def flat(self) -> torch.Tensor:
        return torch.cat([step.get(keys.STATE) for batch in self.batches for step in batch], dim=1)

    def trajectories(self) -> list[torch.Tensor]:
        complete = [batch for batch in self.batches if len(batch) == STEPS]
        return [torch.stack([step.get(keys.STATE) for step in batch], dim=1) for batch in complete]


def assert_same(buffer: Buffer, expected: ListOfBatches) -> None:
    flat = buffer.flat(keys.STATE, keys.OBSERVATION)
    assert torch.equal(flat.get(keys.STATE), expected.flat())
    assert torch.equal(flat.get(keys.OBSERVATION)[..., 1, :], expected.flat())
    complete = expected.trajectories()
    assert buffer.trajectories().shape == (SEEDS, len(complete), STEPS, ENVS)
    for k, batch in enumerate(complete):
        assert torch.equal(buffer.trajectories().get(keys.STATE)[:, k], batch)
        assert torch.equal(buffer.trajectories().get(("next", keys.STATE))[:, k], batch + 0.5)
    current = expected.batches[-1]
    assert buffer.current().shape == (SEEDS, len(current), ENVS)
    for t, step in enumerate(current):
        assert torch.equal(buffer.current().get(keys.STATE)[:, t], step.get(keys.STATE))
    assert buffer.is_full == (len(current) == STEPS)


@pytest.mark.parametrize("history_batches", [1, 2, 3])
@pytest.mark.parametrize("chunk", [1, 2, 6])
def test_buffer_is_a_list_of_batches(history_batches, chunk):
    buffer, expected = Buffer(STEPS, history_batches), ListOfBatches(history_batches)
    for first in range(0, 5 * STEPS, chunk):
        data = transitions(first, chunk)
        buffer.extend(data)
        expected.extend(data)
        assert_same(buffer, expected)
        if buffer.is_full:
            buffer.next_batch()
            expected.next_batch()
            assert buffer.stored_batches == len(expected.batches) - 1
            if history_batches > 1:
                assert_same(buffer, expected)


@pytest.mark.parametrize("history_batches", [1, 3])
def test_an_overfull_batch_is_refused_and_changes_nothing(history_batches):
    buffer, expected = Buffer(STEPS, history_batches), ListOfBatches(history_batches)
    for first, steps in ((0, STEPS), (STEPS, 4)):
        buffer.extend(transitions(first, steps))
        expected.extend(transitions(first, steps))
        with pytest.raises(ValueError, match="do not fit"):
            buffer.extend(transitions(90, STEPS - steps + 1))
        assert_same(buffer, expected)
        if buffer.is_full:
            buffer.next_batch()
            expected.next_batch()


def test_stored_transitions_are_copies():
    buffer, data = Buffer(STEPS), transitions(0, STEPS)
    buffer.extend(data)
    data.get(keys.STATE).zero_()
    assert torch.equal(buffer.current().get(keys.STATE), transitions(0, STEPS).get(keys.STATE))


def test_an_empty_buffer_says_so():
    with pytest.raises(RuntimeError, match="empty"):
        Buffer(STEPS).trajectories()


def test_recompute_targets_renews_the_older_batches_only():
    buffer = Buffer(STEPS, history_batches=3)
    for batch in range(2):
        buffer.extend(transitions(batch * STEPS, STEPS))
        buffer.next_batch()
    buffer.extend(transitions(2 * STEPS, 2))

    def distribution_parameters(observation: torch.Tensor) -> torch.Tensor:
        # A known policy that depends on the observation and the agent.
        preference = torch.arange(ACTIONS) * torch.tensor([1.0, -2.0]).reshape(-1, 1)
        return (preference * (1 + observation % 7)).log_softmax(-1)

    buffer.recompute_targets(distribution_parameters, Categorical(torch.ones(2, ACTIONS).bool()))
    data = buffer.flat(keys.OBSERVATION, keys.ACTION, keys.PARAMETERS, keys.LOG_PROB, keys.TARGET_LOG_PROB)
    older = 2 * STEPS * ENVS
    for seed in range(SEEDS):
        for row in range(data.shape[1]):
            number = data.get(keys.OBSERVATION)[seed, row, 0, 0].item()
            total = 0.0
            for agent, sign in enumerate((1.0, -2.0)):
                logits = torch.tensor([sign * a * (1 + number % 7) for a in range(ACTIONS)])
                policy = torch.distributions.Categorical(logits=logits)
                log_prob = policy.log_prob(torch.tensor(int(number) % ACTIONS)).item() if row < older else 0.0
                stored = data.get(keys.PARAMETERS)[seed, row, agent]
                torch.testing.assert_close(stored, policy.logits if row < older else torch.zeros(ACTIONS))
                assert data.get(keys.LOG_PROB)[seed, row, agent].item() == pytest.approx(log_prob, abs=1e-4)
                total += log_prob
            assert data.get(keys.TARGET_LOG_PROB)[seed, row].item() == pytest.approx(total, abs=1e-4)


def test_state_dict_restores_everything():
    buffer = Buffer(STEPS, history_batches=2)
    buffer.extend(transitions(0, STEPS))
    buffer.next_batch()
    buffer.extend(transitions(STEPS, 2))
    restored = Buffer(STEPS, history_batches=2)
    restored.load_state_dict(buffer.state_dict(), torch.device("cpu"))
    expected = ListOfBatches(2)
    expected.extend(transitions(0, STEPS))
    expected.next_batch()
    expected.extend(transitions(STEPS, 2))
    assert_same(restored, expected)
    for target in (restored, expected):
        target.extend(transitions(STEPS + 2, 4))
    assert_same(restored, expected)


def test_d_of_64_seeds_8192_steps_and_4_agents_stays_under_1_5_gb() -> None:
    """By what a real collection of fewer seeds and steps takes, all keys included."""
    seeds, steps = 2, 16
    task = BoulderPush(size="small", n_agents=4)
    behavior, learner = MAPROPS(hidden=[4]), MAPPO(hidden=[4])
    for part in (behavior, learner):
        part.build(task, 0, list(range(seeds)))
    collection = Collection(TaskEnv(task, 0, list(range(seeds)), 1), BehaviorActor(learner.policies, behavior), steps)
    buffer = Buffer(steps)
    assert buffer.bytes == 0
    buffer.extend(collection.collect())
    collection.close()
    assert buffer.bytes / (seeds * steps) * 64 * 8192 < 1.5e9
