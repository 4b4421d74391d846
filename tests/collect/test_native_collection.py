"""The compiled collection against TorchRL's, from the same seeds.

Both draw the same numbers, so actions are equal but where a draw falls between two roundings of a cumulative
probability: about once in a million draws. With these seeds and lengths it does not happen.
"""

from collections.abc import Callable

import pytest
import torch
from collect_helpers import acted, assert_same_state, assert_same_steps, collection, native, pair

from lit_maprops import keys
from lit_maprops.behavior import MAPROPS, PROPS, BehaviorPolicy, LowDiscrepancy, OnPolicy, TabularMAPROPS
from lit_maprops.collect import NativeCollection, unsupported
from lit_maprops.envs import BoulderPush, Coordination, Foraging, MatrixGame, StagedGame, Task, TwoPeaks
from lit_maprops.targets import TargetPolicies

pytestmark = native
FIXED = {"push_direction": "north", "start": [[1, 3], [0, 4], [3, 4]]}
MOVES = torch.tensor([[0, -1], [0, 1], [-1, 0], [1, 0]], dtype=torch.int8)  # by direction
PAYOFFS = [[[1.0, 0.0], [0.5, 2.0], [-1.0, 0.3]], [[0.0, 0.0], [3.0, -2.0], [1.0, 1.0]], [[2.0, 2.0]] * 3]
THREE = [[[1, 0], [0, 0.5]], [[0, 0.5], [0.25, 0.9]]]  # a payoff that three agents share
BEHAVIORS: dict[str, Callable[[], BehaviorPolicy]] = {
    "own": OnPolicy,
    "own, stratified": lambda: OnPolicy(draws="stratified"),
    "joint": lambda: MAPROPS(hidden=[16, 11]),
    "own, sequences": LowDiscrepancy,
    "own, nested": lambda: LowDiscrepancy(first_visits="sequence", scrambling="owen"),
    "joint, sequences": lambda: MAPROPS(hidden=[16], draws="low_discrepancy"),
    "joint, stratified": lambda: MAPROPS(hidden=[], draws="stratified"),
}
# Task, behavior, environments E, batch m, layers of the policies, one network for all agents, vector steps.
Case = tuple[Task, str, int, int, tuple[int, ...], bool, int]
CASES: dict[str, Case] = {
    "drawn directions": (BoulderPush(max_steps=9), "joint, stratified", 3, 12, (16, 16), False, 60),
    "one step at a time": (BoulderPush(max_steps=9), "own", 1, 1, (64, 64), False, 60),
    "joint, step by step": (BoulderPush(max_steps=9), "joint", 1, 1, (64, 64), False, 60),
    "fixed cells": (BoulderPush(penalty=0.003, max_steps=20, **FIXED), "joint", 1, 5, (20,), False, 60),
    "start drawn once": (
        BoulderPush(fixed_start=True, push_direction="east", max_steps=7),
        "own",
        2,
        6,
        (9,),
        True,
        30,
    ),
    "three agents": (BoulderPush("small", n_agents=3, sensor_range=1, incentive=0.7), "joint", 2, 8, (16,), False, 30),
    "wide and shared": (BoulderPush(height=4, width=11, max_steps=8), "own, stratified", 4, 8, (12, 12), True, 30),
    "one agent": (BoulderPush(n_agents=1, sensor_range=0, max_steps=8), "joint", 2, 4, (), False, 30),
    "states without numbers": (BoulderPush("large", n_agents=7), "own, stratified", 3, 6, (16,), False, 30),
    "many joint actions": (BoulderPush("large", n_agents=5), "joint", 2, 4, (16,), False, 30),
    "matrix game": (MatrixGame(), "joint", 1, 1, (), False, 30),
    "payoffs of each agent": (MatrixGame(PAYOFFS), "own", 3, 6, (8,), True, 30),
    "coordination": (Coordination(3, 3, miscoordination=-0.25), "joint, stratified", 2, 8, (), False, 30),
    "foraging": (Foraging("Foraging-5x5-2p-1f-coop", max_steps=9), "own", 4, 16, (16, 16), True, 30),
    "foraging, little seen": (
        Foraging(size=7, n_agents=3, max_num_food=3, sight=1, force_coop=False, penalty=0.2, max_steps=9),
        *("joint", 2, 8, (16,), False, 30),
    ),
    "foraging, states without numbers": (
        Foraging(size=9, n_agents=4, max_num_food=5, max_food_level=2, normalize_reward=False, fixed_start=True),
        *("own, stratified", 3, 9, (8,), False, 30),
    ),
    "sequences, grid": (BoulderPush(penalty=0.003, max_steps=9, **FIXED), "own, sequences", 1, 60, (16,), False, 60),
    "sequences, environments": (BoulderPush(max_steps=9), "own, sequences", 3, 6, (16,), True, 30),
    "sequences, nested": (Coordination(3, 3), "own, nested", 3, 6, (), False, 30),
    "sequences without numbers": (BoulderPush("large", n_agents=7), "own, nested", 3, 6, (16,), False, 30),
    "sequences, joint": (MatrixGame(), "joint, sequences", 2, 4, (), False, 30),
    "partial coordination": (Coordination(4, 3, partial=True), "own, stratified", 2, 8, (), False, 30),
    "stages": (StagedGame("climbing", stages=3), "joint, sequences", 2, 8, (), False, 60),
    "stages that may end": (StagedGame(PAYOFFS, stages=5, advance="best"), "own, sequences", 3, 9, (8,), True, 90),
    "stages of three agents": (StagedGame(THREE, n_agents=3, stages=2), "own, stratified", 1, 3, (), False, 30),
}


@pytest.mark.every(2)
@pytest.mark.parametrize("case", CASES)
def test_every_key_is_torchrls(case: str) -> None:
    task, behavior, envs, batch, hidden, shared, vector_steps = CASES[case]
    oracle, own = pair(task, BEHAVIORS[behavior], [3, 5], envs, batch, hidden=hidden, shared=shared)
    for _ in range(vector_steps * envs // batch):
        assert_same_steps(oracle.collect(), own.collect())
    assert_same_state(oracle.checkpoint_state(), own.checkpoint_state())
    assert oracle.env.faults.env_steps == own.env.faults.env_steps > 0


@pytest.mark.parametrize(
    "task",
    [
        Foraging(size=5, n_agents=3, max_num_food=2, force_coop=False, penalty=0.1),
        Foraging(size=6, n_agents=5, max_num_food=4, max_player_level=3, sight=2, normalize_reward=False),
        Foraging(size=4, n_agents=7, max_num_food=3, max_food_level=1),
    ],
    ids=["5x5", "6x6", "4x4"],
)
def test_foraging_follows_the_rules_from_any_start(task: Foraging) -> None:
    """Crowded grids: who blocks whom, who loads with whom; then episodes start anew in some of thousands of rows."""
    rows = 4096
    own = collection(NativeCollection, task, OnPolicy(), [0], rows, rows)
    generator = torch.Generator().manual_seed(1)
    state = task.initial_state(torch.rand(1, rows, task.start_noise, generator=generator))
    following = state | {"step": torch.randint(48, 50, (1, rows), generator=generator).int()}
    own.restore({"env": own.checkpoint_state()["env"] | {"state": following}})
    loads = torch.rand(1, rows, task.n_agents, generator=generator) < 0.5
    action = torch.where(loads, 5, torch.randint(6, (1, rows, task.n_agents), generator=generator))
    noise = torch.rand(1, rows, task.start_noise, generator=generator)
    outcome, step = task.transition(state, action, noise[..., :0]), acted(own, action, noise)
    assert torch.equal(step.get(keys.REWARD).squeeze(-1), outcome.reward)
    assert torch.equal(step.get(keys.TERMINATED).squeeze(-1), outcome.terminated)
    observation, everything = task.observe(outcome.state)
    assert torch.equal(step.get(keys.OBSERVATION), observation)
    assert torch.equal(step.get(keys.STATE), everything)
    if task.numbers_states():
        assert torch.equal(step.get(keys.STATE_INDEX).squeeze(-1), task.state_index(outcome.state))
    over, fresh = step.get(keys.DONE).squeeze(-1), task.initial_state(noise)
    for name, value in own.env.state.items():
        if name != "step":
            assert torch.equal(value[over], fresh[name][over]), name
            assert torch.equal(value[~over], outcome.state[name][~over]), name
    assert (outcome.reward > 0).sum() > 100 and rows / 4 < over.sum() < rows


def test_several_hundred_steps() -> None:
    """Several blocks of random numbers, many pushes and ends."""
    task = BoulderPush(max_steps=9, push_direction="north", start=[[1, 1], [1, 2], [2, 2]])  # one push is enough
    oracle, own = pair(task, BEHAVIORS["own"], [0, 1, 2, 3], 4, 200, hidden=(16,))
    ends = 0
    for _ in range(3):
        steps = oracle.collect()
        assert_same_steps(steps, own.collect())
        ends += int(steps.get(("next", "terminated")).sum())
    assert ends > 8


def test_a_step_follows_the_rules_from_any_state() -> None:
    """Every step of thousands of random states at once: in each row other agents, directions and actions."""
    for task in (BoulderPush(max_steps=30), BoulderPush("small", n_agents=4, penalty=0.5, sensor_range=2)):
        rows = 4096
        own = collection(NativeCollection, task, OnPolicy(), [0], rows, rows)
        noise = torch.rand(rows, task.start_noise, generator=torch.Generator().manual_seed(1))
        state = {name: value.unsqueeze(0) for name, value in task.initial_state(noise).items()}
        facing = state["direction"].long().unsqueeze(-1)
        behind = task.boulder_cells(state["direction"], state["boulder"]) - MOVES[facing]
        ready = torch.arange(rows).unsqueeze(-1).unsqueeze(-1) % 2 == 0  # half of them stand ready to push
        state["agents"] = torch.where(ready, behind, state["agents"])
        following = state | {"step": torch.zeros(1, rows, dtype=torch.int32)}
        own.restore({"env": own.checkpoint_state()["env"] | {"state": following}})
        pushes = torch.rand(1, rows, 1, generator=torch.Generator().manual_seed(3)) < 0.5
        drawn = torch.randint(4, (1, rows, task.n_agents), generator=torch.Generator().manual_seed(2))
        action = torch.where(pushes, facing, drawn)
        noise = torch.rand(1, rows, task.step_noise + task.start_noise, generator=torch.Generator().manual_seed(4))
        outcome = task.transition(state, action, noise[..., : task.step_noise])
        step = acted(own, action, noise)
        assert torch.equal(step.get(keys.REWARD).squeeze(-1), outcome.reward)
        assert torch.equal(step.get(keys.TERMINATED).squeeze(-1), outcome.terminated)
        observation, everything = task.observe(outcome.state)
        assert torch.equal(step.get(keys.OBSERVATION), observation)
        assert torch.equal(step.get(keys.STATE), everything)
        assert outcome.terminated.sum() > 100 and (outcome.reward > 0).any(-1).sum() > 300


@pytest.mark.parametrize("task", [BoulderPush(max_steps=6), Coordination(2, 3)], ids=["BoulderPush", "Coordination"])
@pytest.mark.parametrize("behavior", [lambda: PROPS(hidden=[8]), TabularMAPROPS], ids=["PROPS", "TabularMAPROPS"])
def test_other_behavior_policies_are_asked(behavior: Callable[[], BehaviorPolicy], task: Task) -> None:
    oracle, own = pair(task, behavior, [0, 1], 2, 8)
    for _ in range(12):
        steps = oracle.collect()
        assert_same_steps(steps, own.collect())
        data = steps.flatten(1, 2)
        for collection_ in (oracle, own):
            policy = oracle._collector.policy.behavior if collection_ is oracle else own.behavior
            policy.extend(data)


@pytest.mark.parametrize("first", [0, 1])
def test_either_engine_continues_the_others_checkpoint(first: int) -> None:
    engines = pair(BoulderPush(max_steps=6), OnPolicy, [0, 1], 2, 2)
    before, after = engines[first], engines[1 - first]
    for _ in range(7):
        before.collect()
    actor = {0: lambda c: c._collector.policy.behavior, 1: lambda c: c.behavior}
    after.restore(before.checkpoint_state())
    actor[1 - first](after).restore(actor[first](before).checkpoint_state())
    for _ in range(30):
        assert_same_steps(before.collect().clone(), after.collect())
    assert_same_state(before.checkpoint_state(), after.checkpoint_state())


def test_a_checkpoint_does_not_change_with_later_steps() -> None:
    _, own = pair(BoulderPush(), OnPolicy, [0], 2, 2)
    own.collect()
    saved = own.checkpoint_state()
    kept = {name: value.clone() for name, value in saved["env"]["state"].items()}
    own.collect()
    assert_same_state(kept, saved["env"]["state"])


def test_numbers_do_not_depend_on_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lit_maprops.collect.native.SHARED_FROM", 1)
    batches = []
    for threads in (1, 2, 3):
        own = collection(NativeCollection, BoulderPush(), MAPROPS(), list(range(5)), 2, 8)
        torch.set_num_threads(threads)  # not before: torch's first weights depend on it
        batches.append([own.collect().clone() for _ in range(5)])
        torch.set_num_threads(1)
    for others in batches[1:]:
        for one, other in zip(batches[0], others, strict=True):
            assert all(torch.equal(one.get(name), other.get(name)) for name in one.keys(True, True))


def test_permuted_seeds_permute_the_steps() -> None:
    order = [2, 0, 1]
    sorted_, permuted = (collection(NativeCollection, BoulderPush(), MAPROPS(), s, 2, 8) for s in ([0, 1, 2], order))
    for _ in range(10):
        one, other = sorted_.collect(), permuted.collect()
        assert all(torch.equal(one.get(name)[order], other.get(name)) for name in one.keys(True, True))


@pytest.mark.parametrize("behavior", BEHAVIORS)
def test_a_broken_seed_breaks_no_other(behavior: str) -> None:
    sound, broken = (
        collection(NativeCollection, BoulderPush(), BEHAVIORS[behavior](), [0, 1, 2], 2, 8) for _ in range(2)
    )
    policies = broken.actor.policies.net
    with torch.no_grad():
        policies.flat[1] = torch.nan
    for _ in range(10):
        one, other = sound.collect(), broken.collect()
        for name in one.keys(True, True):
            assert torch.equal(one.get(name)[::2], other.get(name)[::2]), name
        action = other.get(("agents", "action"))
        assert action.min() >= 0 and action.max() < 4
    assert other.get("behavior_log_prob")[1].isnan().all()


def test_new_weights_are_noticed_however_they_come() -> None:
    task = BoulderPush()
    oracle, own = pair(task, OnPolicy, [0, 1], 1, 1)
    theirs, ours = oracle._collector.policy.policies.net, own.actor.policies.net
    assert_same_steps(oracle.collect(), own.collect())
    with torch.no_grad():
        for net in (theirs, ours):
            net.flat.mul_(-1.0)
    assert_same_steps(oracle.collect(), own.collect())
    for net in (theirs, ours):  # where torch's count of versions does not see it
        net.flat.detach().numpy()[..., -1] += 2.0
    assert_same_steps(oracle.collect(), own.collect())
    for net in (theirs, ours):
        net.flat = torch.nn.Parameter(net.flat.detach() * 0.5)
    assert_same_steps(oracle.collect(), own.collect())


def test_what_is_refused_and_why() -> None:
    class Own(BoulderPush):
        pass

    class OwnPolicies(TargetPolicies):
        pass

    def reason(task: Task, kind: type[TargetPolicies] = TargetPolicies, device: str = "cpu", team: int = 1) -> str:
        policies = kind(task, [4], False, [torch.Generator()])
        return str(unsupported(task, policies, OnPolicy(), torch.device(device), team))

    assert reason(BoulderPush()) == "None"
    assert reason(Own()) == "Own has no compiled rules"
    assert reason(TwoPeaks()) == "TwoPeaks has no compiled rules"
    assert reason(BoulderPush(), OwnPolicies) == "OwnPolicies are policies of your own"
    assert reason(BoulderPush(), device="meta") == "the kernels are for the CPU, and the run is on meta"
    assert reason(BoulderPush(), team=2) == "2 ranks share the environments of a seed"
