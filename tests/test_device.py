"""Training on an accelerator: the CPU's results, no operand left on the CPU, and no wait that is not needed.

Without a GPU this is checked on a pretended device; where there is one, ``make gpu`` runs the same fits on it.
"""

import copy
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pretend_graphs
import pytest
import torch
from conftest import ROOT
from shifts import ContinuousShifts, Shifts
from torch import Tensor

from lit_maprops import keys
from lit_maprops.behavior import BEHAVIORS, MAPROPS, BehaviorPolicy
from lit_maprops.behavior.update import table_trainer
from lit_maprops.cli.main import main
from lit_maprops.collect import BehaviorActor, Collection, RecordedCollection, recorded, update_keys
from lit_maprops.data import MultiAgentData
from lit_maprops.envs import (
    RWARE,
    BoulderPush,
    Coordination,
    Foraging,
    MatrixGame,
    Overcooked,
    StagedGame,
    Task,
    TaskEnv,
    TMaze,
    TwoPeaks,
)
from lit_maprops.module import LitMAPROPS
from lit_maprops.stacked import graphs
from lit_maprops.targets import HAPPO, IPPO, MAPPO, Learner, Reinforce, ppo

PRETEND = "pretend:0"
TASKS = {
    "MatrixGame": MatrixGame,
    "Coordination": lambda: Coordination(3, 3, partial=True),
    "BoulderPush": lambda: BoulderPush(max_steps=5),
    "Foraging": lambda: Foraging(max_steps=5),
    "Overcooked": lambda: Overcooked(shaping=1.0, max_steps=5),
    "RWARE": lambda: RWARE("rware-1x3-2h-2ag-easy", max_steps=5),
    "StagedGame": StagedGame,
    "TwoPeaks": TwoPeaks,
}
DISCRETE = ["OnPolicy", "PROPS", "MAPROPS", "TabularMAPROPS", "Autoregressive", "CoordinationGraph"]
CONTINUOUS = ["OnPolicy", "PROPS", "GaussianAdjustment"]
# Every task and every sampler, and each sampler where its path through the code is its own.
PAIRS = [
    *(("Coordination", sampler) for sampler in DISCRETE), *(("TwoPeaks", sampler) for sampler in CONTINUOUS),
    ("MatrixGame", "MAPROPS"), ("BoulderPush", "MAPROPS"), ("Foraging", "PROPS"),
    ("Overcooked", "PROPS"), ("RWARE", "PROPS"), ("StagedGame", "MAPROPS"),
]  # fmt: skip


@pytest.fixture(scope="module")
def device_module() -> Iterator[ModuleType]:
    """Registered for the rest of the process, hence not at import."""
    import pretend_device

    torch.__future__.set_swap_module_params_on_conversion(True)  # optimizers keep their parameters in the move
    yield pretend_device
    torch.__future__.set_swap_module_params_on_conversion(False)


@pytest.fixture
def pretending(device_module: ModuleType) -> Iterator[Any]:
    with device_module.Pretending() as mode:
        yield mode


def started(
    task: Task, behavior: BehaviorPolicy, learner: Learner, device: str, error: str | None = None
) -> LitMAPROPS:
    """A run of two seeds on a device, ready to train."""
    model = LitMAPROPS(behavior, learner, 2, total_env_steps=160, eval_interval=100, sampling_error=error)
    model.prepare(MultiAgentData(task, num_envs=4, behavior_batch_size=8, target_batch_size=32))
    model.to(device)
    for part in (model.behavior, model.learner):
        if hasattr(part.optimizer, "reset_state"):
            part.optimizer.reset_state()  # moments go along, as Lightning sees to
    model.on_fit_start()
    return model


def learner_of(task: str) -> Learner:
    return (IPPO if task == "TwoPeaks" else MAPPO)(epochs=2, minibatches=2)


def trained(task: str, sampler: str, device: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Parameters and figures after two target iterations."""
    error = {"TwoPeaks": "energy", "Overcooked": "likelihood", "RWARE": "likelihood"}.get(task, "tabular")
    model = started(TASKS[task](), BEHAVIORS[sampler](), learner_of(task), device, error)
    model.learner.optimizer.fused = False  # as on a device: Adam in another order of rounding leads elsewhere
    for iteration in range(2):
        model.training_step(iteration, iteration)
    return {name: value.cpu() for name, value in model.state_dict().items()}, figures_of(model)


def figures_of(model: LitMAPROPS) -> dict[str, Tensor]:
    return {name: value.cpu() for name, value in model.row.items() if not name.startswith("time/")}


WIDE = ("Overcooked", "RWARE")  # as many numbers in a state as make autograd slow


@pytest.mark.every(3)
@pytest.mark.parametrize(
    ("task", "sampler"), [pytest.param(*pair, marks=[pytest.mark.slow] * (pair[0] in WIDE)) for pair in PAIRS]
)
def test_a_device_gives_the_results_of_the_cpu(pretending: Any, task: str, sampler: str) -> None:
    """Two target iterations with resets, sampling error and updates; an operand left on the CPU would be refused.

    Up to rounding: where the CPU drops seeds that have stopped, a device goes on with all of them.
    """
    for here, there in zip(trained(task, sampler, "cpu"), trained(task, sampler, PRETEND), strict=True):
        assert set(here) == set(there)
        for name in here:
            torch.testing.assert_close(there[name], here[name], rtol=1e-3, atol=1e-4, equal_nan=True)


LEAVING = [
    (Shifts, "MAPROPS"),
    (Shifts, "PROPS"),
    (ContinuousShifts, "GaussianAdjustment"),
    (ContinuousShifts, "PROPS"),
]


@pytest.mark.every(2)
@pytest.mark.parametrize(("task", "sampler"), LEAVING)
def test_agents_may_come_and_go_on_a_device(pretending: Any, task: type[Task], sampler: str) -> None:
    assert_same_on_a_device(task, sampler, {}, "energy" if task.continuous_actions else "tabular")


def assert_same_on_a_device(
    task: type[Task], sampler: str, options: dict[str, Any], error: str | None = None, **adjusted: Any
) -> None:
    found = []
    for device in ("cpu", PRETEND):
        model = started(
            task(), BEHAVIORS[sampler](**adjusted), MAPPO(epochs=2, minibatches=2, **options), device, error
        )
        model.learner.optimizer.fused = False
        for iteration in range(2):
            model.training_step(iteration, iteration)
        found.append({name: value.cpu() for name, value in model.state_dict().items()} | figures_of(model))
    assert set(found[0]) == set(found[1])
    for name in found[0]:
        torch.testing.assert_close(found[1][name], found[0][name], rtol=1e-3, atol=1e-4, equal_nan=True, msg=name)


@pytest.mark.every(2)
@pytest.mark.parametrize(
    ("task", "sampler", "options"),
    [
        (TMaze, "MAPROPS", {"memory": "gru", "memory_size": 5, "sequence_length": 4}),
        (Shifts, "PROPS", {"memory": "lstm", "memory_size": 5, "sequence_length": 8}),
        (ContinuousShifts, "GaussianAdjustment", {"memory": "gru", "memory_size": 5, "sequence_length": 4}),
        (BoulderPush, "MAPROPS", {"cnn": [[2, 3, 2]]}),
    ],
)
def test_other_networks_on_a_device(pretending: Any, task: type[Task], sampler: str, options: dict[str, Any]) -> None:
    """Recurrent ones, also where agents come and go, and convolutions."""
    assert_same_on_a_device(task, sampler, {"hidden": [8], **options})


@pytest.mark.every(4)
@pytest.mark.parametrize(
    ("task", "sampler"),
    [(BoulderPush, "MAPROPS"), (Shifts, "PROPS"), (ContinuousShifts, "GaussianAdjustment"), (Shifts, "Autoregressive")],
)
@pytest.mark.parametrize(
    "made", [{"hidden": [8], "activation": "silu", "layer_norm": True}, {"network": "own_modules.Residual"}], ids=str
)
def test_other_adjustments_on_a_device(pretending: Any, task: type[Task], sampler: str, made: dict[str, Any]) -> None:
    # A gradient of 0 but for rounding must make no step of Adam's.
    assert_same_on_a_device(task, sampler, {"hidden": [8]}, **made, adam_epsilon=1e-3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(("task", "sampler"), PAIRS)
def test_a_gpu_gives_the_results_of_the_cpu(task: str, sampler: str) -> None:
    """Up to rounding, which training amplifies: hence figures of two iterations, not parameters of many."""
    here, there = (trained(task, sampler, device)[1] for device in ("cpu", "cuda:0"))
    for name in here:
        torch.testing.assert_close(there[name], here[name], rtol=0.02, atol=0.02, equal_nan=True, msg=name)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("sampler", ["OnPolicy", "MAPROPS", "TabularMAPROPS", "PROPS"])
def test_a_gpu_replays_graphs(sampler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what it learns by them is what it learns without."""

    def learned() -> dict[str, Tensor]:
        model = started(BoulderPush(max_steps=5), BEHAVIORS[sampler](), learner_of("BoulderPush"), "cuda:0")
        for iteration in range(4):
            model.training_step(iteration, iteration)
        return figures_of(model)

    monkeypatch.setattr(graphs, "FAILED", {})
    own = learned()
    assert graphs.FAILED == {}
    for module in (graphs, ppo, recorded, table_trainer):
        monkeypatch.setattr(module, "can_record", lambda device: False)
    for name, value in learned().items():
        torch.testing.assert_close(own[name], value, rtol=0.02, atol=0.02, equal_nan=True)


@pytest.mark.every(3)
@pytest.mark.parametrize(("task", "sampler"), PAIRS)
def test_nothing_waits_while_collecting(pretending: Any, task: str, sampler: str) -> None:
    model = started(TASKS[task](), BEHAVIORS[sampler](), learner_of(task), PRETEND)
    model.collection.collect()  # constants go to the device
    pretending.waits.clear()
    for _ in range(3):
        collected = model.collection.collect()
        if model.buffer.is_full:  # on-policy sampling collects whole batches
            model.buffer.next_batch()
        model.buffer.extend(collected)
    assert model.buffer.current().get(("next", keys.DONE)).cpu().any()  # episodes ended, and new ones began
    assert +pretending.waits == {"copy to the CPU": 1}  # by the line above


@pytest.mark.parametrize("stops", [False, True])
@pytest.mark.parametrize("sampler", ["MAPROPS", "CoordinationGraph"])  # updates on tables of actions, and on ratios
def test_a_behavior_update_never_waits(pretending: Any, sampler: str, stops: bool) -> None:
    """Whoever a KL stops, in the second gradient step here, is masked, not asked for."""
    behavior = BEHAVIORS[sampler](kl_cutoff=1e-6 if stops else 1e9, epochs=5)
    model = started(Coordination(), behavior, MAPPO(), PRETEND)
    collected = model.collection.collect()
    behavior.extend(collected.select(keys.OBSERVATION, keys.STATE, keys.ACTION, keys.PARAMETERS).flatten(1, 2))
    pretending.waits.clear()
    steps = behavior.update()["gradient_steps"]
    assert +pretending.waits == {}
    assert steps.tolist() == [1 if stops else 5] * 2


@pytest.mark.every(5)
@pytest.mark.parametrize("learner", [IPPO, MAPPO, HAPPO])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"clip_value": 0.2, "value_norm": "popart"},
        {"value_norm": True, "value_loss": "huber"},
        {"activation": "gelu", "layer_norm": True, "cnn": [[4, 3, 3]]},
    ],
    ids=lambda options: "-".join(options) or "plain",
)
def test_a_target_update_never_waits(
    pretending: Any, learner: type[IPPO | MAPPO | HAPPO], options: dict[str, Any]
) -> None:
    model = started(BoulderPush(max_steps=5), MAPROPS(), learner(epochs=3, minibatches=4, **options), PRETEND)
    model.training_step(0, 0)
    while not model.buffer.is_full:
        model.buffer.extend(model.collection.collect())
    pretending.waits.clear()
    model.learner.update(model.buffer)
    assert +pretending.waits == {}


@pytest.mark.parametrize("sampler", ["OnPolicy", "MAPROPS", "TabularMAPROPS"])
def test_an_iteration_waits_only_to_see_that_numbers_are_finite(pretending: Any, sampler: str) -> None:
    """Once, between the rollout and the target update: which seeds have others."""
    model = started(BoulderPush(max_steps=5), BEHAVIORS[sampler](), MAPPO(epochs=2, minibatches=2), PRETEND)
    model.training_step(0, 0)  # constants go to the device
    pretending.waits.clear()
    model.training_step(1, 1)
    assert +pretending.waits == {"nonzero": 1, "copy to the CPU": 1}


def test_reinforce_never_waits(pretending: Any) -> None:
    model = started(Coordination(), MAPROPS(), Reinforce(), PRETEND)
    while not model.buffer.is_full:
        model.buffer.extend(model.collection.collect())
    pretending.waits.clear()
    model.learner.update(model.buffer)
    assert +pretending.waits == {}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--config", str(ROOT / "conf/matrix_game.yaml"), "--trainer.accelerator", "gpu"]
    assert main(["fit", *options, "--runs_dir", str(tmp_path / "runs")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--trainer.accelerator" in line and "cpu" in line
    assert not (tmp_path / "runs").exists()


def test_the_pretended_device_counts_and_refuses(pretending: Any) -> None:
    here, there = torch.arange(4.0), torch.arange(4.0, device=PRETEND)
    with pytest.raises(RuntimeError, match="of the CPU"):
        there + here
    assert (there + torch.tensor(1.0)).device == torch.device(PRETEND)  # a number is no operand of another device
    assert +pretending.waits == {}
    for wait, kind in [
        (lambda: float(there.sum()), "_local_scalar_dense"),
        (lambda: there.nonzero(), "nonzero"),
        (lambda: there[there > 1], "mask"),
        (lambda: there.index_put((there > 1,), there[0]), "mask"),
        (lambda: there[torch.tensor([1, 0])], "index of the CPU"),
        (lambda: torch.unique(there), "_unique2"),
        (lambda: torch.bincount(there.long()), "bincount"),
        (lambda: there.repeat_interleave(there.long()), "repeat_interleave"),
        (lambda: there.cpu(), "copy to the CPU"),
        (lambda: there.tolist(), "copy to the CPU"),
        (lambda: here.to(PRETEND), "copy to the device"),
        (lambda: torch.tensor([1.0, 2.0], device=PRETEND), "copy to the device"),
    ]:
        pretending.waits.clear()
        wait()
        assert (+pretending.waits)[kind] == 1, kind
    pretending.waits.clear()
    here.to(PRETEND, non_blocking=True)
    there.repeat_interleave(2)
    assert +pretending.waits == {}


@pytest.mark.every(3)
@pytest.mark.parametrize(
    ("task", "sampler", "options"),
    [
        ("BoulderPush", "OnPolicy", {}),
        ("BoulderPush", "MAPROPS", {}),
        ("TwoPeaks", "PROPS", {}),
        ("BoulderPush", "OnPolicy", {"value_norm": True, "activation": "relu", "layer_norm": True}),
        ("BoulderPush", "OnPolicy", {"value_norm": "popart", "critic_input": "agent_specific_state"}),
        ("Coordination", "OnPolicy", {"value_norm": "popart", "kl_stop": 0.01}),
    ],
)
def test_updates_recorded_as_graphs_are_those_of_the_device(
    pretending: Any, task: str, sampler: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four iterations at a falling learning rate, of which a graph replays the last two or three."""

    def learned() -> dict[str, Tensor]:
        behavior = BEHAVIORS[sampler](**({} if sampler == "OnPolicy" else {"minibatches": 2, "kl_cutoff": 0.01}))
        kind = {"TwoPeaks": IPPO, "Coordination": HAPPO}.get(task, MAPPO)
        learner = kind(epochs=2, minibatches=2, anneal_learning_rate=True, **options)
        model = started(TASKS[task](), behavior, learner, PRETEND)
        for iteration in range(4):
            model.training_step(iteration, iteration)
        return {name: value.cpu() for name, value in [*model.state_dict().items(), *figures_of(model).items()]}

    expected = learned()
    counts = pretend_graphs.use(monkeypatch, pretending)
    own = learned()
    assert counts["recordings"] >= 1 and counts["replays"] >= 3
    for name, value in expected.items():
        torch.testing.assert_close(own[name], value, rtol=1e-3, atol=1e-4, equal_nan=True)


@pytest.mark.every(2)
@pytest.mark.parametrize(
    ("task", "sampler", "m"),
    [
        ("BoulderPush", "OnPolicy", 8),
        ("BoulderPush", "MAPROPS", 4),
        ("Foraging", "MAPROPS", 8),
        ("MatrixGame", "TabularMAPROPS", 8),
    ],
)
def test_recorded_vector_steps_are_those_of_the_collector(
    pretending: Any, task: str, sampler: str, m: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit, across episodes and a change of weights, in every key; and what a checkpoint would hold."""
    monkeypatch.setattr("lit_maprops.behavior.tabular.LEAST_ROOM", 16)
    arguments = TASKS[task](), BEHAVIORS[sampler](draws="stratified" if m == 8 else "independent"), MAPPO()
    plain = started(copy.deepcopy(arguments[0]), *copy.deepcopy(arguments[1:]), PRETEND)
    counts = pretend_graphs.use(monkeypatch, pretending)
    model = started(*arguments, PRETEND)
    collections = []
    for owner, kind in ((plain, Collection), (model, RecordedCollection)):
        env = TaskEnv(owner.task, 0, owner.own_seeds, 4, device=PRETEND, faults=owner.faults)
        collections.append(kind(env, BehaviorActor(owner.learner.policies, owner.behavior), m))
    for number in range(6):
        expected, own = (collection.collect() for collection in collections)
        assert set(own.keys(True, True)) == set(expected.keys(True, True))
        for name in expected.keys(True, True):
            assert torch.equal(own.get(name).cpu(), expected.get(name).cpu()), (number, name)
        assert plain.faults.env_steps == model.faults.env_steps == (number + 1) * m
        for owner in (plain, model):
            owner.behavior.extend(own.select(*update_keys(owner.task)).flatten(1, 2))
        here, there = (flat(collection.checkpoint_state()) for collection in collections)
        assert here.keys() == there.keys()
        assert all(torch.equal(here[name], there[name]) for name in here)
        if number == 3:
            for owner in (plain, model):
                owner.learner.policies.net.flat.data.mul_(3.0)
                owner.behavior.reset(None)
    kinds = 2 if sampler == "TabularMAPROPS" else 1  # its memory grows once
    assert counts["recordings"] == kinds and counts["replays"] == 5 * m // 4 - kinds
    with pretend_graphs.nothing_waits(pretending):
        collections[1].collect()


def flat(state: dict[str, Any], prefix: str = "") -> dict[str, Tensor]:
    """Tensors and numbers of a checkpoint, on the CPU."""
    found: dict[str, Tensor] = {}
    for name, value in state.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value.cpu() if isinstance(value, Tensor) else torch.tensor(value)
    return found
