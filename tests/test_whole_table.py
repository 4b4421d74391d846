"""Every learner x sampler x what tasks and networks may have: it trains, or it is refused in one line.

A cell trains if its losses are finite and its policies move, if a run that is stopped and resumed ends bit for bit
where an uninterrupted one does, and if some of the seeds, in another order, end where they end beside the others: so
that none looks at another, be it by a mean over all of them. What is refused is listed in ``REFUSED``, so that a new
refusal is noticed, and so is a combination that is suddenly let through.
"""

import itertools
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
import torch
from conftest import ROOT
from featured_tasks import MaskedPeaks, PictureDoors, PicturePeaks, PictureShifts
from masked_game import Doors
from shifts import ContinuousShifts, MaskedShifts, Shifts
from stepped import checkpoint_of, iterate, permuted, resume
from test_resume import differences
from torch import Tensor

from lit_maprops.behavior import BEHAVIORS, PROPS
from lit_maprops.behavior.adjusted import AdjustedPolicy
from lit_maprops.cli.main import main
from lit_maprops.data import MultiAgentData
from lit_maprops.engine import choose
from lit_maprops.envs import TASKS, BoulderPush, Task, TMaze, TwoPeaks
from lit_maprops.module import LitMAPROPS
from lit_maprops.system.errors import ConfigError
from lit_maprops.targets import LEARNERS

N, SEEDS, OTHERS = 8, [0, 1, 2], [2, 0]
PICTURE = {"cnn": [[2, 2, 1]]}
MEMORY = {"memory": "gru", "memory_size": 3, "sequence_length": 2}
CRITIC = {"critic_hidden": [3], "critic_activation": "gelu", "critic_layer_norm": True}
CRITIC_CNN = {"critic_cnn": [[3, 3, 1]]}
ADJUSTMENT = {"activation": "relu", "layer_norm": True}
OWN = {"network": "own_modules.Residual", "network_args": {"width": 3}}
TWO_SIZES = {"components": [2, 1]}


class Feature(NamedTuple):
    """A column of the table: a task, its arguments, options of the learner and of samplers with an adjustment."""

    task: type[Task]
    arguments: Any
    options: Any
    history: int = 2  # the most that is allowed: D at a checkpoint is empty without
    adjusted: Any = MappingProxyType({})


FEATURES = {
    "masked": Feature(Doors, {}, {}),
    "dying": Feature(Shifts, {}, {}),
    "recurrent": Feature(TMaze, {"length": 1, "max_steps": 3}, MEMORY, 1),  # target batches cut its episodes
    "picture": Feature(BoulderPush, {"sensor_range": 1, "max_steps": 3}, PICTURE),
    "continuous": Feature(TwoPeaks, TWO_SIZES, {}),
    # Several at once, with one of the learners each.
    "masked, dying": Feature(MaskedShifts, {}, {}),
    "masked, recurrent": Feature(Doors, {}, MEMORY, 1),
    "masked, picture": Feature(PictureDoors, {}, PICTURE),
    "masked, continuous": Feature(MaskedPeaks, TWO_SIZES, {}),
    "dying, recurrent": Feature(Shifts, {}, MEMORY | {"burn_in": 1}, 1),
    "dying, picture": Feature(PictureShifts, {}, PICTURE),
    "dying, continuous": Feature(ContinuousShifts, {}, {}),
    "recurrent, picture": Feature(BoulderPush, {"sensor_range": 1, "max_steps": 3}, MEMORY | PICTURE, 1),
    "recurrent, continuous": Feature(TwoPeaks, TWO_SIZES, MEMORY | {"burn_in": 1}, 1),
    "picture, continuous": Feature(PicturePeaks, TWO_SIZES, PICTURE),
    "dying, recurrent, continuous": Feature(ContinuousShifts, {}, MEMORY, 1),
    # Networks that differ from each other.
    "masked, networks": Feature(Doors, {}, CRITIC, adjusted=ADJUSTMENT),
    "dying, networks": Feature(Shifts, {}, CRITIC, adjusted=ADJUSTMENT),
    "recurrent, networks": Feature(TMaze, {"length": 1, "max_steps": 3}, MEMORY | CRITIC, 1, ADJUSTMENT),
    "picture, networks": Feature(
        BoulderPush, {"sensor_range": 1, "max_steps": 3}, PICTURE | CRITIC, adjusted=ADJUSTMENT | PICTURE
    ),
    "dying, continuous, networks": Feature(ContinuousShifts, {}, CRITIC, adjusted=ADJUSTMENT),
    # Modules of the user's own as adjustments, and a critic with convolutions of its own.
    "masked, own networks": Feature(Doors, {}, {}, adjusted=OWN),
    "dying, own networks": Feature(Shifts, {}, {}, adjusted=OWN),
    "recurrent, own networks": Feature(TMaze, {"length": 1, "max_steps": 3}, MEMORY, 1, OWN),
    "dying, continuous, own networks": Feature(ContinuousShifts, {}, {}, adjusted=OWN),
    "picture, critic's picture, own networks": Feature(
        BoulderPush, {"sensor_range": 1, "max_steps": 3}, PICTURE | CRITIC_CNN, adjusted=OWN
    ),
    "recurrent, critic's picture, networks": Feature(
        BoulderPush, {"sensor_range": 1, "max_steps": 3}, MEMORY | CRITIC_CNN, 1, ADJUSTMENT
    ),
}

# Feature, sampler and learner (None: any), and how the line begins that refuses them; the first that applies.
STEP_BY_STEP = ("Reinforce",)
COUNTING = ("TabularMAPROPS", "Greedy")
ENUMERATING = ("MAPROPS", "Autoregressive", "CoordinationGraph", *COUNTING)
REFUSED: list[tuple[str | None, str | None, str | None, str]] = [
    *(("recurrent", None, learner, "memory is gru and {learner} learns from single steps") for learner in STEP_BY_STEP),
    *(("continuous", sampler, None, "behavior {sampler} enumerates actions and {task} has") for sampler in ENUMERATING),
    ("discrete", "GaussianAdjustment", None, "behavior {sampler} is for continuous actions and {task} has discrete"),
    ("masked, continuous", None, None, "env {task} has continuous actions and says which are legal"),
    *(
        ("critic's picture", None, learner, "critic_cnn looks at pictures, and {learner}'s critic sees the global")
        for learner in ("MAPPO", "HAPPO")
    ),
    *(("recurrent", sampler, None, "behavior {sampler} counts the visits") for sampler in COUNTING),
]


def refusal(feature: str, sampler: str, learner: str) -> str | None:
    """How the line begins that refuses a cell, with names to be filled in; None: it trains."""
    continuous = FEATURES[feature].task.continuous_actions
    has = {feature, *feature.split(", "), "continuous" if continuous else "discrete"}
    for needed, only_sampler, only_learner, words in REFUSED:
        if needed in has and only_sampler in (None, sampler) and only_learner in (None, learner):
            return words
    return None


def filled_in(words: str, feature: str, sampler: str, learner: str) -> str:
    return words.format(task=FEATURES[feature].task.__name__, sampler=sampler, learner=learner)


def table() -> list[tuple[str, str, str]]:
    cells = list(itertools.product([name for name in FEATURES if ", " not in name], BEHAVIORS, LEARNERS))
    pairs = itertools.product([name for name in FEATURES if ", " in name], BEHAVIORS)
    for number, pair in enumerate(pairs):
        learners = [name for name in LEARNERS if refusal(*pair, name) is None] or list(LEARNERS)
        cells.append((*pair, learners[number % len(learners)]))
    return cells


def prepared(feature: str, sampler: str, learner: str, seed_ids: list[int], run_seed: int = 0) -> LitMAPROPS:
    """A run that has not begun: two environments per seed, two behavior updates in every batch."""
    column, kind = FEATURES[feature], BEHAVIORS[sampler]
    # A gradient of 0 but for rounding must make no step of Adam's.
    adjusted = {"hidden": [4], "learning_rate": 0.1, "epochs": 2, "clip_epsilon": 1.0, "kl_cutoff": 0.3}
    adjusted |= {name: value for name, value in column.adjusted.items() if name != "cnn" or kind is PROPS}
    behavior = kind(**adjusted, adam_epsilon=1e-3) if issubclass(kind, AdjustedPolicy) else kind()
    # Products of so few numbers are rounded alike wherever a seed's lie.
    options = {"hidden": [4], "learning_rate": 0.05} | column.options
    if not LEARNERS[learner].has_critic:
        options = {name: value for name, value in options.items() if not name.startswith("critic_")}
    options |= {"epochs": 1, "minibatches": 2} if LEARNERS[learner].has_critic else {}
    module = LitMAPROPS(
        behavior,
        LEARNERS[learner](**options),
        num_seeds=len(seed_ids),
        total_env_steps=3 * N,  # more than the tests make: evaluations have tests of their own
        run_seed=run_seed,
    )
    module.seed_ids = seed_ids
    sizes = {"num_envs": 2, "behavior_batch_size": 4, "target_batch_size": N, "history_batches": column.history}
    module.prepare(MultiAgentData(column.task(**column.arguments), **sizes))
    module.engines = choose("auto", torch.device("cpu"), module.task, module.behavior, module.learner)
    return module


@pytest.mark.every(3)
@pytest.mark.parametrize(("feature", "sampler", "learner"), [cell for cell in table() if ", " not in cell[0]])
def test_trains_or_is_refused(feature: str, sampler: str, learner: str) -> None:
    check_cell(feature, sampler, learner)


@pytest.mark.every(5)
@pytest.mark.parametrize(("feature", "sampler", "learner"), [cell for cell in table() if ", " in cell[0]])
def test_several_at_once_train_or_are_refused(feature: str, sampler: str, learner: str) -> None:
    check_cell(feature, sampler, learner)


def check_cell(feature: str, sampler: str, learner: str) -> None:
    words = refusal(feature, sampler, learner)
    if words is None:
        check_training(feature, sampler, learner)
        return
    with pytest.raises(ConfigError, match=rf"^{filled_in(words, feature, sampler, learner)}[^\n]*$"):
        prepared(feature, sampler, learner, SEEDS)


def check_training(*cell: str) -> None:
    whole = prepared(*cell, SEEDS)
    first = {name: weight.clone() for name, weight in whole.learner.policies.named_parameters()}
    whole.on_fit_start()
    rows = iterate(whole, 1)
    half = checkpoint_of(whole)
    rows += iterate(whole, 1)
    unknown = {name for name, value in rows[1].items() if not value.isfinite().all()}
    unknown |= {name for name in rows[0] if name.startswith("target/") and not rows[0][name].isfinite().all()}
    allowed = {"train/success_rate"} | ({"behavior/kl"} if "Greedy" in cell else set())  # which there are not
    assert unknown <= allowed, unknown
    state = whole.state_dict()
    assert all(value.isfinite().all() for value in state.values())
    moved = [(weight != first[name]).flatten(1).any(1) for name, weight in whole.learner.policies.named_parameters()]
    assert torch.stack(moved).any(0).all(), "a seed's policies stayed as they were"

    again = resume(prepared(*cell, SEEDS), half)
    rows_again = iterate(again, 1)
    assert differences(checkpoint_of(again), checkpoint_of(whole)) == []
    assert differences(rows_again, rows[1:]) == []

    rounding = 1e-4 if "networks" in cell[0] else 1e-5  # torch's layers for all seeds at once round otherwise for some
    other = prepared(*cell, OTHERS)
    other.on_fit_start()
    rows_of_other = iterate(other, 2)
    for found, expected in ((other.state_dict(), state), *zip(rows_of_other, rows, strict=True)):
        assert found.keys() == expected.keys()
        for name, value in permuted(expected, OTHERS).items():
            torch.testing.assert_close(found[name], value, rtol=1e-4, atol=rounding, equal_nan=True, msg=named(name))


def named(name: str) -> Any:
    return lambda text: f"{name}: {text}"


def test_the_comparisons_can_fail() -> None:
    """Seeds differ from each other, and from those of another run seed."""
    states: list[dict[str, Tensor]] = []
    for run_seed in range(2):
        module = prepared("masked", "MAPROPS", "MAPPO", SEEDS, run_seed)
        module.on_fit_start()
        iterate(module, 1)
        states.append(module.state_dict())
    assert any("policies" in path for path in differences(*states))
    assert any("policies" in path for path in differences(states[0], permuted(states[0], [2, 0, 1])))


ONE_OF_EACH = {words: cell for cell in reversed(table()) if (words := refusal(*cell))}


@pytest.mark.parametrize(("words", "cell"), ONE_OF_EACH.items(), ids=["-".join(cell) for cell in ONE_OF_EACH.values()])
def test_refused_on_the_command_line(
    words: str, cell: tuple[str, str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one line, before anything is written."""
    (task, arguments, options, *_), (_, sampler, learner) = FEATURES[cell[0]], cell
    env = task.__name__ if task.__name__ in TASKS else f"{task.__module__}.{task.__name__}"
    flags = ["--model.behavior", sampler, "--model.learner", learner, "--data.env", env, "--runs_dir", str(tmp_path)]
    for prefix, given in (("data.env", arguments), ("model.learner", options)):
        flags += [word for name, value in given.items() for word in (f"--{prefix}.{name}", str(value))]
    flags += ["--model.sampling_error", "null"]
    assert main(["fit", "--config", str(ROOT / "conf/matrix_game.yaml"), *flags]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said.startswith("lit_maprops: error: --"), said
    assert filled_in(words, *cell) in said
    assert not any(tmp_path.iterdir())
