"""The collection in plain tensors against TorchRL's, from the same seeds: bit for bit."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from collect_helpers import assert_same_state, collection
from test_native_collection import BEHAVIORS, CASES

from lit_maprops.behavior import PROPS, BehaviorPolicy, OnPolicy, TabularMAPROPS
from lit_maprops.collect import BehaviorActor, Collection, PlainCollection, serves
from lit_maprops.envs import VMAS, BoulderPush, Coordination, Task, TaskEnv
from lit_maprops.targets import TargetPolicies


def pair(task: Task, behavior: Callable[[], BehaviorPolicy], *sizes: Any, **more: Any) -> tuple[Any, Any]:
    return tuple(collection(engine, task, behavior(), *sizes, **more) for engine in (Collection, PlainCollection))


def assert_equal_steps(one: Any, other: Any) -> None:
    assert set(one.keys(True, True)) == set(other.keys(True, True)) and one.batch_size == other.batch_size
    for name in one.keys(True, True):
        assert one.get(name).dtype == other.get(name).dtype and torch.equal(one.get(name), other.get(name)), name


def behavior_of(one: Any) -> BehaviorPolicy:
    return one.behavior if isinstance(one, PlainCollection) else one._collector.policy.behavior


@pytest.mark.every(3)
@pytest.mark.parametrize("case", CASES)
def test_every_key_is_torchrls(case: str) -> None:
    task, behavior, envs, batch, hidden, shared, vector_steps = CASES[case]
    oracle, own = pair(task, BEHAVIORS[behavior], [3, 5], envs, batch, hidden=hidden, shared=shared)
    ends = 0
    for _ in range(vector_steps * envs // batch):
        steps = oracle.collect()
        assert_equal_steps(steps, own.collect())
        ends += int(steps.get(("next", "done")).sum())
    assert ends > 0 or task.max_steps > vector_steps
    assert_same_state(oracle.checkpoint_state(), own.checkpoint_state())
    assert oracle.env.faults.env_steps == own.env.faults.env_steps > 0
    for name, value in behavior_of(oracle).checkpoint_state()["action_streams"].items():
        assert_same_state(value, behavior_of(own).checkpoint_state()["action_streams"][name])


@pytest.mark.parametrize("task", [BoulderPush(max_steps=6), Coordination(2, 3)], ids=["BoulderPush", "Coordination"])
@pytest.mark.parametrize("behavior", [lambda: PROPS(hidden=[8]), TabularMAPROPS], ids=["PROPS", "TabularMAPROPS"])
def test_other_behavior_policies(behavior: Callable[[], BehaviorPolicy], task: Task) -> None:
    oracle, own = pair(task, behavior, [0, 1], 2, 8)
    for _ in range(12):
        steps = oracle.collect()
        assert_equal_steps(steps, own.collect())
        for one in (oracle, own):
            behavior_of(one).extend(steps.flatten(1, 2))


@pytest.mark.parametrize("first", [0, 1])
def test_either_continues_the_others_checkpoint(first: int) -> None:
    both = pair(BoulderPush(max_steps=6), OnPolicy, [0, 1], 2, 4)
    before, after = both[first], both[1 - first]
    for _ in range(7):
        before.collect()
    after.restore(before.checkpoint_state())
    behavior_of(after).restore(behavior_of(before).checkpoint_state())
    for _ in range(30):
        assert_equal_steps(before.collect().clone(), after.collect())
    assert_same_state(before.checkpoint_state(), after.checkpoint_state())


def test_new_weights_are_noticed() -> None:
    oracle, own = pair(BoulderPush(), OnPolicy, [0, 1], 1, 1)
    nets = oracle._collector.policy.policies.net, own._policies._whole.net
    assert_equal_steps(oracle.collect(), own.collect())
    with torch.no_grad():
        for net in nets:
            net.flat.mul_(-1.0)
    assert_equal_steps(oracle.collect(), own.collect())
    for net in nets:
        net.flat = torch.nn.Parameter(net.flat.detach() * 0.5)
    assert_equal_steps(oracle.collect(), own.collect())


def test_a_broken_seed_breaks_no_other() -> None:
    sound, broken = (collection(PlainCollection, BoulderPush(), OnPolicy(), [0, 1, 2], 2, 8) for _ in range(2))
    with torch.no_grad():
        broken._policies._whole.net.flat[1] = torch.nan
    for _ in range(10):
        one, other = sound.collect(), broken.collect()
        for name in one.keys(True, True):
            assert torch.equal(one.get(name)[::2], other.get(name)[::2]), name
    assert other.get("behavior_log_prob")[1].isnan().all()


def test_what_is_somebodys_own_goes_through_torchrl() -> None:
    class OwnTask(BoulderPush):
        """A user's."""

    class OwnPolicies(TargetPolicies):
        """A user's."""

    class OwnBehavior(OnPolicy):
        """A user's."""

    def served(
        task: Task,
        policies: type[TargetPolicies] = TargetPolicies,
        behavior: type[BehaviorPolicy] = OnPolicy,
        team: int = 1,
    ) -> bool:
        sampler = behavior()
        sampler.build(task, 0, [0])
        actor = BehaviorActor(policies(task, [4], False, [torch.Generator()]), sampler)
        return serves(TaskEnv(task, 0, [0], 2), actor, team)

    assert served(BoulderPush()) and served(Coordination(), behavior=TabularMAPROPS)
    assert not served(OwnTask()) and not served(BoulderPush(), OwnPolicies)
    assert not served(BoulderPush(), behavior=OwnBehavior) and not served(BoulderPush(), team=2)
    assert not served(VMAS("simple_spread"))  # has compiled rules, and in torch a simulator that keeps its state
