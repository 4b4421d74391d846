"""PPO's compiled kernel with memory: against torch's cells, against ``ppo.py``, and where episodes go on."""

import pytest
import torch
from targets_helpers import STEPS, MaskedTask, SizesTask, built, filled, generator, randomize_heads
from tensordict import TensorDict
from test_masked_learners import MaskedSizes
from test_native_ppo import NATIVE, assert_strangers, left_early, may, trained
from test_recurrent_happo import check_two_updates, remembering
from test_recurrent_learners import LENGTH, TIGHT, check_update, remembering_batch

from lit_maprops import keys
from lit_maprops.native.build import why_none
from lit_maprops.targets import Learner

pytestmark = pytest.mark.skipif(why_none() is not None, reason=f"no kernels: {why_none()}")

UNITS = 16
CASES = {
    "plain": {},
    "shared": {"share_parameters": True},
    "clip_value off": {"clip_value": None, "entropy_coeff": 0.5},
    "deep": {"hidden": [8, 5], "minibatches": 1},
    "no layer below": {"hidden": []},
    "steps by themselves": {"sequence_length": 1},
    "whole batches": {"sequence_length": STEPS, "memory_size": 8},
    "kl_stop": {"epochs": 6, "learning_rate": 0.01},
}
MEMORIES = ["gru", "lstm"]
STOP = {"gru": 0.3, "lstm": 0.08}


def pair(name: str, memory: str, task: type = SizesTask, **arguments: object) -> tuple[Learner, Learner]:
    """Two equal learners that remember, the second of them native."""
    own = {"memory": memory, "memory_size": UNITS, "sequence_length": LENGTH, "epochs": 2, "minibatches": 3}
    both = [built(name, task=task, **TIGHT | own | arguments) for _ in range(2)]
    for learner in both:
        learner.task = task()
        randomize_heads(learner)
    both[1].native = True
    assert both[1].why_not_native() is None
    return both[0], both[1]


def assert_same_updates(torch_one: Learner, native_one: Learner, data: TensorDict, *more: TensorDict) -> dict:
    """Of both, of the same batches."""
    expected, found = torch_one.update(filled(data, *more)), native_one.update(filled(data, *more))
    assert list(found) == list(expected)
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=3e-4, atol=3e-6, equal_nan=True, msg=f"{key}: {value}")
    for a, b in zip(trained(torch_one), trained(native_one), strict=True):
        torch.testing.assert_close(b, a, rtol=2e-4, atol=3e-5 * float(a.nan_to_num().abs().max()), equal_nan=True)
    return found


@pytest.mark.every(3)
@pytest.mark.parametrize(("name", "case"), [(name, case) for case in CASES for name in NATIVE if may(name, case)])
@pytest.mark.parametrize("memory", MEMORIES)
def test_updates_are_those_of_torch(name: str, memory: str, case: str) -> None:
    """Two updates, with a history of two batches, the second update's moments those of the first."""
    masked = (list(CASES).index(case) + NATIVE.index(name)) % 2
    stop = {"kl_stop": STOP[memory]} if case == "kl_stop" else {}
    both = pair(name, memory, MaskedTask if masked else SizesTask, **CASES[case] | stop)
    epochs: list[float] = []
    for seed in (0, 2):
        batches = [remembering(both[0], type(both[0].task), seed + more) for more in range(2)]
        epochs += assert_same_updates(*both, *batches)["target_epochs"].tolist()
    if case == "kl_stop":
        assert min(epochs) < 6 and len(set(epochs)) > 1  # stopped, and not all at the same epoch


@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize("name", ["IPPO", "MAPPO"])
@pytest.mark.parametrize(("share", "task"), [(False, MaskedTask), (True, SizesTask)])
def test_an_update_is_that_of_torchs_own_cells(name: str, memory: str, share: bool, task: type) -> None:
    check_update(name, task, 3, True, memory=memory, memory_size=UNITS, share_parameters=share)


@pytest.mark.parametrize(("memory", "stop"), [("gru", None), ("lstm", 0.1)])
def test_happos_is_that_of_a_loop_over_the_agents(memory: str, stop: float | None) -> None:
    check_two_updates(MaskedTask, 3, stop, True, memory=memory, memory_size=UNITS)


@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize("name", NATIVE)
def test_what_follows_is_looked_up_only_where_all_of_it_is_the_next_row(name: str, memory: str) -> None:
    """As in a real batch; then with what is seen alike and what is remembered not, of one agent."""
    both = pair(name, memory, share_parameters=name == "IPPO")
    data = remembering_batch(both[0])
    names = [keys.OBSERVATION, keys.STATE, keys.MEMORY, keys.CRITIC_MEMORY]
    for key in names:
        data.get("next").get(key)[:, :-1] = data.get(key)[:, 1:]
    assert_same_updates(*both, data)
    for key in names[2:]:
        data.get("next").get(key)[:, 2, 1, -1, -1] += 1.0
    assert_same_updates(*both, data)


@pytest.mark.parametrize("name", NATIVE)
def test_states_that_forbid_actions(name: str) -> None:
    both = pair(name, "gru", MaskedSizes)
    data = remembering_batch(both[0])
    legal = torch.rand(*data.batch_size, 2, 3, generator=generator(7)) < 0.6
    data.set(keys.ACTION_MASK, legal.scatter(-1, data.get(keys.ACTION).unsqueeze(-1), True))
    with torch.no_grad():
        data.set(keys.PARAMETERS, both[0].policies.parameters_in(data))
    assert_same_updates(*both, data)


@pytest.mark.parametrize("name", NATIVE)
def test_agents_that_left_weigh_nothing(name: str) -> None:
    both = pair(name, "gru", MaskedTask)
    assert_same_updates(*both, left_early(remembering_batch(both[0]), both[0]))


@pytest.mark.parametrize("name", NATIVE)
def test_quarantined_seeds_stay_and_broken_ones_break_no_other(name: str) -> None:
    both = pair(name, "lstm")
    before = [tensor.clone() for tensor in trained(both[1])]
    for learner in both:
        learner.learning = torch.tensor([True, False, True])
        with torch.no_grad():
            learner.policies.net.flat[2] = torch.nan
    found = assert_same_updates(*both, remembering_batch(both[0]))
    assert found["target_epochs"].tolist() == [2, 0, 1] and found["policy_loss"].isnan().tolist() == [False, True, True]
    assert all(torch.equal(a[1], b[1]) for a, b in zip(before, trained(both[1]), strict=True))


@pytest.mark.parametrize("name", NATIVE)
def test_seeds_are_strangers_on_any_number_of_threads(name: str) -> None:
    assert_strangers(lambda: pair(name, "gru")[1], remembering_batch(pair(name, "gru")[0]))


def test_the_kernel_says_what_it_lacks() -> None:
    for arguments, named in (
        ({"memory_size": 12}, "multiples of 8"),
        ({"burn_in": 2}, "burn_in"),
        ({"layer_norm": True}, "another kind"),
        ({"critic_input": "agent_specific_state"}, "not of both"),
    ):
        learner = built("MAPPO", memory="gru", sequence_length=LENGTH, **TIGHT | {"memory_size": 8} | arguments)
        assert named in learner.why_not_native(), learner.why_not_native()
