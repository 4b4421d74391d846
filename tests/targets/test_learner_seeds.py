"""Seeds learn side by side as if alone: KL stops, random numbers, statistics and NaN stay in their seed."""

import pytest
import torch
from targets_helpers import ENVS, PPOS, SMALL, STEPS, TASKS, built, filled, parameters_of, random_batch, store_targets
from tensordict import TensorDict
from torch import Tensor

from lit_maprops import keys


def contrasting_batch(learner, strong: int) -> TensorDict:
    """One-step episodes in one state; only in seed ``strong`` does the reward depend on the action."""
    batch = random_batch(learner)
    for end in (keys.DONE, keys.TERMINATED):
        batch.get(("next", end)).fill_(True)
    for name in (keys.STATE, keys.OBSERVATION):
        batch.get(name).fill_(1)
    row = torch.arange(STEPS * ENVS).reshape(STEPS, ENVS, 1)
    batch.get(keys.ACTION).copy_(row % 3)
    # Elsewhere every action earns 1 in the first half of the batch and -1 in the second.
    batch.get(("next", *keys.REWARD)).copy_(torch.where(row < 6, 1.0, -1.0).unsqueeze(-1))
    batch.get(("next", *keys.REWARD))[strong] = (row % 3 == 0).float().unsqueeze(-1)
    store_targets(batch, learner.policies)
    return batch


STOPPING = SMALL | {"hidden": [], "learning_rate": 0.05, "minibatches": 1, "entropy_coeff": 0.0, "epochs": 5}


@pytest.mark.parametrize("name", PPOS)
def test_kl_stop_stops_single_seeds(name):
    stopping = built(name, **STOPPING, kl_stop=1e-3)
    stats = stopping.update(filled(contrasting_batch(stopping, strong=1)))
    assert stats["target_epochs"].tolist() == [5, 1, 5]
    assert (stats["target_kl"] > 1e-3).tolist() == [False, True, False]
    for epochs, seeds in ((5, [0, 2]), (1, [1])):
        free = built(name, **STOPPING | {"epochs": epochs})
        free.update(filled(contrasting_batch(free, strong=1)))
        for own, other in zip(stopping.parameters(), free.parameters(), strict=True):
            assert torch.equal(own[seeds], other[seeds])


def first_seed(batch: TensorDict, learner) -> TensorDict:
    """Seed 0's part of a batch, as ``learner`` (of seed 0 alone) would have collected it."""
    batch = batch[:1].clone()
    store_targets(batch, learner.policies)
    return batch


@pytest.mark.parametrize("name", PPOS)
def test_a_stopped_seed_learns_the_same_alone(name):
    """Also in the updates after it: it must use up as many random numbers in company as alone."""
    arguments = STOPPING | {"minibatches": 3, "kl_stop": 0.03}
    together, alone = built(name, **arguments), built(name, [0], **arguments)
    stopped_first = False
    for round_ in range(4):
        batch = random_batch(together, round_)
        own = first_seed(batch, alone)
        epochs = together.update(filled(batch))["target_epochs"]
        assert alone.update(filled(own))["target_epochs"].item() == epochs[0]
        stopped_first |= bool(epochs[0] < epochs.max())
        for stacked, single in zip(together.parameters(), alone.parameters(), strict=True):
            torch.testing.assert_close(stacked[:1], single, atol=1e-5, rtol=1e-4)
    assert stopped_first, "choose data on which seed 0 stops before another seed"


@pytest.mark.parametrize("name", PPOS)
def test_statistics_of_a_stopped_seed_do_not_depend_on_the_others(name):
    together, alone = built(name, **STOPPING, kl_stop=1e-3), built(name, [0], **STOPPING, kl_stop=1e-3)
    batch = contrasting_batch(together, strong=0)
    stats, own = together.update(filled(batch)), alone.update(filled(batch[:1]))
    assert stats["target_epochs"].tolist() == [1, 5, 5]
    for key, value in own.items():
        torch.testing.assert_close(stats[key][:1], value, atol=1e-5, rtol=1e-4, msg=key)


@pytest.mark.every(2)
@pytest.mark.parametrize("name", [*PPOS, "HAPPO", "Reinforce"])
@pytest.mark.parametrize("task", TASKS)
def test_permuting_the_seeds_permutes_the_results(name, task):
    order = [2, 0, 1]

    def run(seeds: list[int]) -> tuple[list[Tensor], dict[str, Tensor]]:
        learner = built(name, seeds, task, hidden=[8])
        for round_ in range(2):
            plain = built(name, task=task, hidden=[8])
            batch = random_batch(plain, round_)[seeds].clone()
            store_targets(batch, learner.policies)
            stats = learner.update(filled(batch))
        return parameters_of(learner), stats

    (straight, stats), (permuted, permuted_stats) = run([0, 1, 2]), run(order)
    for one, other in zip(straight, permuted, strict=True):
        torch.testing.assert_close(one[order], other, atol=1e-5, rtol=1e-4)
    for key, value in stats.items():
        torch.testing.assert_close(value[order], permuted_stats[key], atol=1e-5, rtol=1e-4)


@pytest.mark.every(6)
@pytest.mark.parametrize("name", [*PPOS, "HAPPO", "Reinforce"])
@pytest.mark.parametrize("broken", ["reward", "observation"])
@pytest.mark.parametrize("updates", [1, 2])
@pytest.mark.parametrize("task", TASKS)
def test_nan_in_one_seed_leaves_the_others_bit_identical(name, broken, updates, task):
    key = ("next", *keys.REWARD) if broken == "reward" else keys.OBSERVATION

    def run(nan_seed: int | None) -> list[Tensor]:
        learner, results = built(name, task=task, hidden=[8]), []
        for round_ in range(updates):
            batch = random_batch(learner, round_)
            if nan_seed is not None:
                batch.get(key)[nan_seed, 2:] = torch.nan
            results += list(learner.update(filled(batch)).values())
        return results + parameters_of(learner)

    for clean, ill in zip(run(None), run(1), strict=True):
        assert torch.equal(clean[[0, 2]], ill[[0, 2]])
