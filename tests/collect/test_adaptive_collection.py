"""One kernel for collection and behavior updates against the two in turn, in torch, as Algorithm 1 is written.

Both draw the same numbers. Sums in another order move a Delta by 1e-7, and updates spread that: with these seeds and
lengths all actions are the same, and log-probabilities within ``SPREAD``.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest
import torch
from collect_helpers import assert_same_state, assert_same_steps, collection, native
from torch import Tensor

from lit_maprops.behavior import MAPROPS, PROPS, OnPolicy
from lit_maprops.collect import AdaptiveCollection, Collection, trainer_between_steps, update_keys
from lit_maprops.envs import BoulderPush, Coordination, Foraging, MatrixGame, StagedGame, Task
from lit_maprops.stacked.cells import Cell
from lit_maprops.targets.critics import CentralCritic, Critic, IndependentCritic

pytestmark = native
MEASURE_EVERY = 2
SPREAD = 5e-4
GRID = BoulderPush(max_steps=9)
# A gradient of nearly 0 has either sign, and with Adam's default of 1e-8 it moves both ways by the learning rate: which
# one is a matter of the processor.
DAMPED = {"adam_epsilon": 1e-7}
# Task, arguments of MAPROPS, environments E, m, n.
Case = tuple[Task, dict[str, Any], int, int, int]
CASES: dict[str, Case] = {
    "every step": (GRID, {}, 1, 1, 24),
    "a table": (MatrixGame(), {"hidden": [], "learning_rate": 0.5, "clip_epsilon": 1.0, "kl_cutoff": 1.0}, 1, 1, 16),
    "a table, auto": (MatrixGame(), {"hidden": [], "learning_rate": 0.3, "kl_cutoff": "auto"}, 1, 1, 16),
    "auto": (GRID, {"kl_cutoff": "auto", "learning_rate": 0.01, "clip_epsilon": 1.0}, 1, 2, 32),
    "auto, warm": (GRID, {"kl_cutoff": "auto", "warm_start": True}, 2, 2, 32),
    "stops": (GRID, {"kl_cutoff": 0.1}, 1, 2, 32),
    "environments": (GRID, {"hidden": [16, 11], "draws": "stratified"}, 4, 8, 64),
    "sequences": (GRID, {"hidden": [16], "draws": "low_discrepancy"}, 2, 4, 32),
    "merged": (Coordination(2, 3), {"merge_states": True, "learning_rate": 0.01}, 2, 2, 32),
    "stages": (StagedGame(stages=4), {"merge_states": True, "hidden": [], "learning_rate": 0.3}, 1, 4, 32),
    "moments kept": (GRID, {"reset_optimizer": False, "epochs": 3}, 2, 4, 32),
    "warm": (GRID, {"warm_start": True, "learning_rate": 0.001}, 1, 2, 32),
    "warm, moments kept": (GRID, {"warm_start": True, "reset_optimizer": False, "epochs": 2}, 1, 2, 32),
    "fewer passes": (GRID, {"max_sample_passes": 60}, 1, 2, 32),
    "three agents": (Foraging(size=5, n_agents=3, max_num_food=2, max_steps=9), {"hidden": [12]}, 2, 4, 24),
}


def adaptive(
    task: Task, options: dict[str, Any], envs: int, m: int, n: int, seeds: list[int], **more: Any
) -> AdaptiveCollection:
    def engine(env: Any, actor: Any, batch: int) -> AdaptiveCollection:
        assert trainer_between_steps(actor.behavior) is None
        actor.behavior.use_kernel()
        trainer = trainer_between_steps(actor.behavior)
        assert trainer is not None
        return AdaptiveCollection(env, actor, batch, n, MEASURE_EVERY, trainer)

    made: AdaptiveCollection = collection(engine, task, MAPROPS(**DAMPED | options), seeds, envs, m, **more)
    return made


def in_turn(
    collected: Collection, behavior: MAPROPS, m: int, n: int, task: Task
) -> tuple[Any, dict[str, list[Tensor]]]:
    """Algorithm 1's inner loop."""
    parts, updates = [], {}
    for update in range(1, n // m + 1):
        parts.append(collected.collect().clone())
        if update < n // m:
            behavior.extend(parts[-1].select(*update_keys(task)).flatten(1, 2))
            for name, value in behavior.update(measure=update % MEASURE_EVERY == 0).items():
                updates.setdefault(name, []).append(value)
    return torch.cat(parts, 1), updates


def assert_same_updates(expected: dict[str, list[Tensor]], own: dict[str, list[Tensor]]) -> None:
    assert expected.keys() == own.keys()
    for name, values in expected.items():
        one, other = torch.stack(values), torch.stack(own[name])
        if name in ("kl", "ratio_clipped"):
            torch.testing.assert_close(other, one, atol=SPREAD, rtol=1e-3, msg=name)
        else:
            assert torch.equal(other, one), name


def end_batch(behavior: MAPROPS, batch: Any, task: Task, retained: bool) -> None:
    behavior.reset(batch.select(*update_keys(task)).flatten(1, 2) if retained else None)


@pytest.mark.every(4)
@pytest.mark.parametrize("retained", [False, True], ids=["", "history"])
@pytest.mark.parametrize("case", CASES)
def test_it_is_the_two_in_turn(case: str, retained: bool) -> None:
    assert_in_turn(case, retained)


@pytest.mark.every(2)
@pytest.mark.parametrize(("cell", "critic"), [("gru", CentralCritic), ("lstm", IndependentCritic)])
@pytest.mark.parametrize("case", ["every step", "stops", "environments", "sequences", "three agents"])
def test_it_is_the_two_in_turn_with_memory(case: str, cell: str, critic: type[Critic]) -> None:
    damped = {"adam_epsilon": 1e-5}  # pi_theta differs by rounding from the first step on
    assert_in_turn(case, False, damped, memory=(Cell(cell, 8), critic))


def assert_in_turn(case: str, retained: bool, changed: Mapping[str, Any] = MappingProxyType({}), **more: Any) -> None:
    task, options, envs, m, n = CASES[case]
    options = DAMPED | options | changed
    oracle_behavior = MAPROPS(**options)
    oracle = collection(Collection, task, oracle_behavior, [3, 5], envs, m, **more)
    own = adaptive(task, options, envs, m, n, [3, 5], **more)
    for _ in range(2):
        batch, updates = in_turn(oracle, oracle_behavior, m, n, task)
        collected = own.collect()
        assert_same_steps(batch, collected, SPREAD)
        assert_same_updates(updates, own.updates)
        assert 0 < own.update_seconds < 60
        assert (own.behavior.net.flat - oracle_behavior.net.flat).abs().mean() < 1e-4
        end_batch(oracle_behavior, batch, task, retained)
        end_batch(own.behavior, collected, task, retained)
    assert_same_state(oracle.checkpoint_state(), own.checkpoint_state())


def test_the_cutoff_and_the_passes_take_part_in_these_cases() -> None:
    """Else the cases above would say nothing of them."""
    for case, name in (("stops", "cutoff_hit"), ("warm", "cutoff_hit"), ("auto", "cutoff_hit")):
        task, options, envs, m, n = CASES[case]
        own = adaptive(task, options, envs, m, n, [3, 5])
        own.collect()
        hit = torch.stack(own.updates[name])
        assert hit.any() and not hit.all()
    task, options, envs, m, n = CASES["fewer passes"]
    own = adaptive(task, options, envs, m, n, [3, 5])
    own.collect()
    allowed = torch.stack(own.updates["gradient_steps_allowed"])[:, 0].tolist()
    assert allowed == [max(1, min(8, 60 // steps)) for steps in range(m, n, m)]


def test_seeds_and_threads_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lit_maprops.collect.native.SHARED_FROM", 1)
    batches = []
    for threads, seeds in ((1, [3, 5, 6]), (2, [3, 5, 6]), (3, [6, 3, 5]), (1, [5])):
        own = adaptive(GRID, {}, 2, 4, 64, seeds)
        torch.set_num_threads(threads)  # not before: torch's first weights depend on it
        batch = own.collect()
        torch.set_num_threads(1)
        place = seeds.index(5)
        batches.append([batch.get(name)[place].clone() for name in batch.keys(True, True)])
        batches[-1].append(own.behavior.net.flat[place].detach().clone())
    for others in batches[1:]:
        assert all(torch.equal(one, other) for one, other in zip(batches[0], others, strict=True))


def test_it_serves_only_what_it_knows() -> None:
    class Own(MAPROPS):
        """Might choose otherwise."""

    minibatches = {"minibatches": 2}
    for behavior in (OnPolicy(), PROPS(), Own(), MAPROPS(**minibatches), MAPROPS(max_states=5),
                     MAPROPS(trained_layers="last"), MAPROPS(merge_states=True, max_sample_passes=9)):  # fmt: skip
        behavior.build(GRID, 0, [0, 1])
        if behavior.why_not_native() is None:
            behavior.use_kernel()
        assert trainer_between_steps(behavior) is None


def test_a_nan_stops_its_seed_alone() -> None:
    own, sound = (adaptive(GRID, {}, 1, 1, 24, [3, 5]) for _ in range(2))
    with torch.no_grad():
        own.behavior.net.layers()[0][1][0] = float("nan")
    bad, good = own.collect(), sound.collect()
    assert all(bool(hit[0]) for hit in own.updates["cutoff_hit"])
    assert all(torch.equal(bad.get(name)[1], good.get(name)[1]) for name in bad.keys(True, True))
