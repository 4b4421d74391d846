"""KL stops, step counts and minibatches of behavior updates: every seed (and agent of PROPS) by itself."""

import pytest
import torch
from behavior_helpers import SERVED_TRAINED, StatesTask, built, data_of, random_data, random_policy, task_of, updated
from stacked_layers import weights
from torch import Tensor

from lit_maprops import keys
from lit_maprops.behavior import BEHAVIORS
from lit_maprops.behavior.update.minibatches import minibatches_of
from lit_maprops.stacked.streams import SeedStreams

LN_HALF = float(torch.tensor(0.5).log())


def one_skewed_one_balanced(task: StatesTask, rows: int = 16) -> tuple[Tensor, Tensor]:
    """Uniform theta for two seeds; seed 0's D holds one joint action, seed 1's all of them equally often."""
    theta = torch.full((2, 1, 2, 2), LN_HALF)
    number = torch.arange(rows)
    action = torch.stack([torch.zeros(rows, 2, dtype=torch.int64), torch.stack([number // 2 % 2, number % 2], -1)])
    return theta, action


@pytest.mark.parametrize(("name", "kind"), SERVED_TRAINED)
def test_a_stopped_seed_stays_while_others_go_on(name, kind):
    task = task_of(kind, n_states=3)
    data = random_data(task, random_policy(task, 4), rows=24)
    rate = 0.05 if kind == "discrete" else 0.015
    arguments = {"epochs": 12, "learning_rate": rate, "hidden": [], "kl_cutoff": 0.05}
    together = built(name, task, 4, **arguments)
    stats = updated(together, data)
    assert len(set(stats["gradient_steps"].tolist())) > 1
    for seed in range(4):
        alone = BEHAVIORS[name](**arguments)
        alone.build(task, 0, [seed])
        own = updated(alone, data[seed : seed + 1])
        for key, value in own.items():
            torch.testing.assert_close(stats[key][seed : seed + 1], value)
        for stacked, single in zip(together.net.parameters(), alone.net.parameters(), strict=True):
            torch.testing.assert_close(stacked[seed : seed + 1], single)


def test_cutoff_and_gradient_steps_of_two_seeds():
    task = StatesTask()
    theta, action = one_skewed_one_balanced(task)
    data = data_of(task, theta, torch.zeros(2, 16, dtype=torch.int64), action)
    behavior = built("MAPROPS", task, 2, epochs=7, learning_rate=0.5, hidden=[], kl_cutoff=0.05)
    stats = updated(behavior, data)
    # Seed 0: one Adam step of 0.5 in each logit, then KL = log((e^-0.5 + 3 e^0.5) / 4) - 0.25 = 0.089 is too much.
    assert stats["gradient_steps"].tolist() == [1, 7]
    assert stats["cutoff_hit"].tolist() == [True, False]
    torch.testing.assert_close(weights(behavior.net)[0][0, 0], torch.tensor([-0.5, 0.5, 0.5, 0.5]))
    expected = torch.logsumexp(torch.tensor([-0.5, 0.5, 0.5, 0.5]), 0) + 2 * LN_HALF - 0.25
    torch.testing.assert_close(stats["kl"][0], expected)


def test_an_update_that_ends_on_its_last_step_has_not_hit_the_cutoff():
    task = StatesTask()
    theta, action = one_skewed_one_balanced(task)
    data = data_of(task, theta, torch.zeros(2, 16, dtype=torch.int64), action)
    behavior = built("MAPROPS", task, 2, epochs=1, learning_rate=0.5, hidden=[], kl_cutoff=0.05)
    stats = updated(behavior, data)
    assert stats["kl"][0] > 0.05
    assert stats["cutoff_hit"].tolist() == [False, False]


@pytest.mark.parametrize(("name", "kind"), SERVED_TRAINED)
def test_later_updates_do_not_depend_on_how_long_other_seeds_trained(name, kind):
    """A seed that stopped early must use up as many random numbers in company as alone."""
    task = task_of(kind, n_states=3)
    theta = random_policy(task, 2)
    first, second = random_data(task, theta, rows=24, seed=1), random_data(task, theta, rows=24, seed=2)
    first.get(keys.ACTION)[0] = 0  # one seed's D holds one action of each agent only, so that the seeds stop far apart

    def table_after(seeds: list[int]) -> dict[int, Tensor]:
        behavior = BEHAVIORS[name](epochs=6, minibatches=3, learning_rate=0.05, hidden=[], kl_cutoff=0.02)
        behavior.build(task, 0, seeds)
        updated(behavior, first[seeds])
        updated(behavior, second[seeds])
        return dict(zip(seeds, weights(behavior.net)[0].detach(), strict=True))

    together = table_after([0, 1])
    for seed in (0, 1):
        torch.testing.assert_close(together[seed], table_after([seed])[seed])


@pytest.mark.parametrize(("rows", "parts", "sizes"), [(10, 3, [4, 3, 3]), (4, 4, [1] * 4), (2, 5, [1, 1])])
def test_every_epoch_visits_every_row_of_every_seed_once(rows, parts, sizes):
    drawn = list(minibatches_of(SeedStreams(0, [0, 1], "test"), rows, 3, parts))
    assert [part.rows.shape[1] for part in drawn] == sizes * 3
    for epoch in range(3):
        visited = torch.cat([part.rows for part in drawn[epoch * len(sizes) : (epoch + 1) * len(sizes)]], dim=1)
        assert (visited.sort(dim=1).values == torch.arange(rows)).all()


@pytest.mark.parametrize(("rows", "parts"), [(10, 1), (1, 4)])
def test_a_single_part_is_all_rows(rows, parts):
    assert list(minibatches_of(SeedStreams(0, [0], "test"), rows, 3, parts)) == [None] * 3


def test_steps_with_minibatches_are_counted():
    task = StatesTask()
    theta = torch.full((1, 1, 2, 2), LN_HALF)
    behavior = built("MAPROPS", task, 1, epochs=3, minibatches=4, kl_cutoff=10.0)
    stats = updated(behavior, random_data(task, theta, rows=9))
    assert stats["gradient_steps"].item() == stats["gradient_steps_allowed"].item() == 12
    stats = updated(behavior, random_data(task, theta, rows=2))
    assert stats["gradient_steps"].item() == stats["gradient_steps_allowed"].item() == 6


def test_props_counts_the_steps_of_both_agents():
    task = StatesTask()
    theta, action = one_skewed_one_balanced(task)
    action[0, :, 1] = torch.arange(16) % 2  # agent 1's own actions are balanced, agent 0's are not
    data = data_of(task, theta, torch.zeros(2, 16, dtype=torch.int64), action)
    behavior = built("PROPS", task, 2, epochs=7, learning_rate=0.5, hidden=[], kl_cutoff=0.05)
    stats = updated(behavior, data)
    assert stats["gradient_steps"].tolist() == [(1 + 7) / 2, 7]
    assert stats["cutoff_hit"].tolist() == [0.5, 0]
    expected = torch.tensor([[-0.5, 0.5], [0.0, 0.0]])
    torch.testing.assert_close(weights(behavior.net)[0][0, :, 0], expected, atol=1e-5, rtol=0)
