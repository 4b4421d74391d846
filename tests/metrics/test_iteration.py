"""Figures of a batch against sums episode by episode."""

import math
from collections import defaultdict

import pytest
import torch
from tensordict import TensorDict
from torch import Tensor

from lit_maprops import keys
from lit_maprops.metrics.evaluate import Evaluation
from lit_maprops.metrics.iteration import batch_metrics, behavior_metrics, means_over_seeds

SEEDS, STEPS, ENVS, AGENTS = 4, 7, 3, 2


def batch(draw: torch.Generator) -> TensorDict:
    """Of random rewards and ends."""
    shape = (SEEDS, STEPS, ENVS)
    following = TensorDict({keys.DONE: torch.rand(*shape, 1, generator=draw) < 0.15}, shape)
    following.set(keys.SUCCESS, torch.rand(*shape, 1, generator=draw) < 0.5)
    following.set(keys.REWARD, torch.rand(*shape, AGENTS, 1, generator=draw))
    return TensorDict({"next": following, keys.BEHAVIOR_KL: torch.rand(shape, generator=draw)}, shape)


def ended(data: TensorDict, under_way: dict[tuple[int, int], list[float]]) -> dict[int, list[tuple[float, bool]]]:
    """Return and success of the episodes that end in a batch, by seed; ``under_way`` are the others' rewards so far."""
    episodes = defaultdict(list)
    for seed in range(SEEDS):
        for env in range(ENVS):
            for step in data[seed, :, env].get("next"):
                under_way[seed, env].append(step.get(keys.REWARD).mean().item())
                if step.get(keys.DONE):
                    episodes[seed].append((sum(under_way.pop((seed, env))), bool(step.get(keys.SUCCESS))))
    return episodes


def mean(numbers: list[float]) -> float:
    return sum(numbers) / len(numbers) if numbers else math.nan


def test_episodes_go_on_across_batches_and_a_nan_ends_with_its_own() -> None:
    draw, running = torch.Generator().manual_seed(0), torch.zeros(SEEDS, ENVS, AGENTS)
    under_way: dict[tuple[int, int], list[float]] = defaultdict(list)
    counts: list[Tensor] = []
    for number in range(12):
        data = batch(draw)
        if number == 5:
            data.get(("next", *keys.REWARD))[1, 2, 0, 1] = torch.nan
        figures, episodes = batch_metrics(data, running), ended(data, under_way)
        returns, rates = ([mean([e[k] for e in episodes[seed]]) for seed in range(SEEDS)] for k in range(2))
        torch.testing.assert_close(figures["train/episode_return"], torch.tensor(returns), equal_nan=True)
        torch.testing.assert_close(figures["train/success_rate"], torch.tensor(rates), equal_nan=True)
        assert figures["train/episodes"].tolist() == [len(episodes[seed]) for seed in range(SEEDS)]
        divergences = data.get(keys.BEHAVIOR_KL).flatten(1).tolist()
        assert figures["behavior/kl"].tolist() == pytest.approx([mean(numbers) for numbers in divergences])
        counts.append(torch.tensor(returns).isnan())
    broken = torch.stack(counts)
    assert broken[:, 1].any() and not broken[8:, 1].all() and running.isfinite().all()
    sums = [[sum(under_way[seed, env]) for env in range(ENVS)] for seed in range(SEEDS)]
    torch.testing.assert_close(running.mean(-1), torch.tensor(sums))


def test_without_a_verdict_only_a_success_makes_a_rate() -> None:
    data, running = batch(torch.Generator().manual_seed(1)), torch.zeros(SEEDS, ENVS, AGENTS)
    data.get("next").get(keys.DONE)[:] = True
    data.get("next").get(keys.SUCCESS)[:2] = False
    rate = batch_metrics(data, running, tells_success=False)["train/success_rate"]
    assert rate.isnan().tolist() == [True, True, False, False] and not running.any()


STATISTICS = {
    "behavior/kl_reached": "kl",
    "behavior/gradient_steps": "gradient_steps",
    "behavior/gradient_steps_allowed": "gradient_steps_allowed",
    "behavior/cutoff_share": "cutoff_hit",
    "behavior/first_step_cutoff_share": "first_step_cutoff",
    "behavior/ratio_clipped": "ratio_clipped",
}


def test_every_statistic_of_behavior_updates_is_averaged_under_its_own_name() -> None:
    """Over the updates of an iteration, seed by seed; integers and flags, too."""
    draw = torch.Generator().manual_seed(2)
    updates = {name: list(torch.rand(3, SEEDS, generator=draw)) for name in STATISTICS.values()}
    updates["gradient_steps"] = list(torch.randint(9, (3, SEEDS), generator=draw))
    updates["cutoff_hit"] = list(torch.rand(3, SEEDS, generator=draw) < 0.5)
    found = behavior_metrics(updates)
    assert found.keys() == STATISTICS.keys()
    for column, name in STATISTICS.items():
        expected = [mean([float(values[seed]) for values in updates[name]]) for seed in range(SEEDS)]
        assert found[column].tolist() == pytest.approx(expected), column
    assert behavior_metrics({}) == {}


def test_a_seed_that_diverged_raises_no_success_rate() -> None:
    """What early stopping looks at is what summary.json says."""
    figures = Evaluation(torch.tensor([1.0, math.nan, 0.0, 1.0]), torch.tensor([3.0, math.nan, 1.0, 2.0]))
    silent = Evaluation(torch.full((4,), math.nan), torch.tensor([3.0, math.nan, 1.0, 2.0]))
    means = means_over_seeds({}, {"greedy": figures, "stochastic": silent})
    assert means["eval/greedy_success_rate"] == figures.mean_success_rate == 0.5
    assert means["eval/greedy_episode_return"] == means["eval/stochastic_episode_return"] == 2.0
    assert math.isnan(means["eval/stochastic_success_rate"])  # the task tells none
    assert all(math.isnan(mean) for mean in means_over_seeds({}, None).values())
