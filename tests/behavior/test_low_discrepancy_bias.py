"""What low-discrepancy draws bias: the example of docs/low_discrepancy.md, exactly and through the environment."""

from collections import Counter
from fractions import Fraction

import pytest
import torch
from behavior_helpers import StatesTask, built
from torch import Tensor
from typing_extensions import override

from docs.pictures.low_discrepancy_example import mean_return, pushes
from lit_maprops import keys
from lit_maprops.collect import BehaviorActor, Collection
from lit_maprops.envs import TaskEnv
from lit_maprops.envs.base import State, Transition
from lit_maprops.targets import TargetPolicies

ON_POLICY = {None: Fraction(1, 3), 2: Fraction(5, 16)}  # 1/4 + 1/16 + ..., and its first two terms


class Door(StatesTask):
    """Two agents at a door: while both push, action 0, they get 1 and stay, else the episode ends."""

    def __init__(self, max_steps: int) -> None:
        super().__init__(1, 2, 2)
        self.max_steps = max_steps

    @override
    def transition(self, state: State, action: Tensor, noise: Tensor) -> Transition:
        push = (action == 0).all(-1)
        reward = push.float().unsqueeze(-1).expand(*push.shape, 2)
        return Transition(dict(state), reward, ~push, torch.zeros_like(push))

    @override
    def observe(self, state: State) -> tuple[Tensor, Tensor]:
        seen = torch.ones(*state["state"].shape, 1)
        return seen.unsqueeze(-2).expand(*seen.shape[:-1], 2, 1), seen


def closed_form(episodes: int) -> Fraction:
    return Fraction(episodes + (episodes - 1) // 3, 4 * episodes)


@pytest.mark.parametrize("limit", [None, 2])
def test_the_expected_return_has_a_closed_form(limit: int | None) -> None:
    for episodes in range(1, 70):
        assert mean_return(episodes, limit) == closed_form(episodes)


def test_the_bias_ends_with_many_episodes_unless_the_state_forgets_the_clock() -> None:
    for episodes in range(1, 500):
        bias = closed_form(episodes) - ON_POLICY[None]
        assert Fraction(-1, 4 * episodes) <= bias <= Fraction(-1, 12 * episodes)
        assert closed_form(episodes) - ON_POLICY[2] == bias + Fraction(1, 48)


def test_both_push_at_every_fourth_visit_and_each_visit_has_its_probability() -> None:
    ways = [pushes((a, b), order, 64) for a in (0, 1) for b in (0, 1) for order in ((0, 1), (1, 0))]
    for way in ways:
        assert sum(way[:4]) == 1 and all(way[k] == way[k - 4] for k in range(4, 64))
    assert all(sum(visit) * 4 == len(ways) for visit in zip(*ways, strict=True))  # 1/4, at every visit


@pytest.mark.parametrize("scrambling", ["shift", "owen"])
@pytest.mark.parametrize("max_steps", [2, 100])
def test_the_program_does_what_the_example_says(scrambling: str, max_steps: int) -> None:
    task, seeds = Door(max_steps), list(range(300))
    behavior = built("LowDiscrepancy", task, len(seeds), scrambling=scrambling)
    policies = TargetPolicies(task, [], False, [torch.Generator().manual_seed(seed) for seed in seeds])
    collection = Collection(TaskEnv(task, 0, seeds, 1), BehaviorActor(policies, behavior), 40)
    behavior.reset(None)
    data = collection.collect()
    collection.close()
    pushed = (data.get(keys.ACTION)[:, :, 0] == 0).all(-1)
    ways = Counter(tuple(row) for row in pushed.tolist())
    expected = {tuple(pushes((a, b), (0, 1), 40)) for a in (0, 1) for b in (0, 1)}
    assert set(ways) == expected and min(ways.values()) > 300 * (1 / 4 - 4 * (3 / 16 / 300) ** 0.5)
    done = data.get(("next", keys.DONE))[:, :, 0, 0]
    assert torch.equal(done, ~pushed)  # after a push nobody pushes again: no episode is cut off
    first = pushed & (done.cumsum(1) < 4)  # in the first four episodes
    returns = {tuple(p): sum(f) / 4 for p, f in zip(pushed.tolist(), first.tolist(), strict=True)}
    assert sum(returns.values()) / len(returns) == float(mean_return(4, 2))
