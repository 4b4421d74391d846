"""Every learner x sampler x what tasks and networks may have: it trains, or it is refused in one line.

A cell trains if its losses are finite and its policies move, if a run that is stopped and resumed ends bit for bit where
an uninterrupted one does, and if seeds in another order give the same results in that order. What is refused is listed
in ``REFUSED``, so that a new refusal is noticed, and so is a combination that is suddenly let through.
"""

from typing import Any, NamedTuple

import pytest
import torch
from conftest import ROOT
from masked_game import Doors
from shifts import ContinuousShifts, MaskedShifts, Shifts
from stepped import checkpoint_of, iterate, permuted, resume
from test_resume import differences
from torch import Tensor

from lit_maprops.behavior import BEHAVIORS
from lit_maprops.behavior.adjusted import AdjustedPolicy
from lit_maprops.cli.main import main
from lit_maprops.data import MultiAgentData
from lit_maprops.engine import choose
from lit_maprops.envs import BoulderPush, State, Task, TMaze, TwoPeaks
from lit_maprops.module import LitMAPROPS
from lit_maprops.system.errors import ConfigError
from lit_maprops.targets import LEARNERS

N, SEEDS, ORDER = 8, [0, 1, 2], [2, 0, 1]
CPU = torch.device("cpu")


class PictureDoors(Doors):
    """The room as a picture of 2 x 2."""

    observation_shape = 1, 2, 2


class PictureShifts(Shifts):
    """What an agent sees as a picture of 2 x 2."""

    observation_shape = 1, 2, 2


class PicturePeaks(TwoPeaks):
    """What there is to see, which is always the same, as a picture of 2 x 2."""

    observation_dim, observation_shape = 4, (1, 2, 2)

    def observe(self, state: State) -> tuple[Tensor, Tensor]:
        observation, seen = super().observe(state)
        return observation.expand(*observation.shape[:-1], 4), seen


class MaskedPeaks(TwoPeaks):
    """Says which components are legal, which only actions can be."""

    def legal_actions(self, state: State) -> Tensor:
        return self.action_mask()


class Feature(NamedTuple):
    """A column of the table."""

    task: type[Task]
    task_args: dict[str, Any] = {}
    learner: dict[str, Any] = {}
    history: int = 2  # D at a checkpoint is empty without


PICTURE = {"cnn": [[2, 2, 1]]}
MEMORY = {"memory": "gru", "memory_size": 3, "sequence_length": 2}
FEATURES = {
    "masked": Feature(Doors),
    "dying": Feature(Shifts),
    "recurrent": Feature(TMaze, {"length": 1, "max_steps": 3}, MEMORY, history=1),
    "picture": Feature(BoulderPush, {"sensor_range": 1, "max_steps": 3}, PICTURE),
    "continuous": Feature(TwoPeaks, {"components": [2, 1]}),
    # Two at a time, with one of the learners each.
    "masked, dying": Feature(MaskedShifts),
    "masked, recurrent": Feature(Doors, {}, MEMORY, history=1),
    "masked, picture": Feature(PictureDoors, {}, PICTURE),
    "masked, continuous": Feature(MaskedPeaks),
    "dying, recurrent": Feature(Shifts, {}, MEMORY, history=1),
    "dying, picture": Feature(PictureShifts, {}, PICTURE),
    "dying, continuous": Feature(ContinuousShifts),
    "recurrent, picture": Feature(BoulderPush, {"sensor_range": 1, "max_steps": 3}, MEMORY | PICTURE, history=1),
    "recurrent, continuous": Feature(TwoPeaks, {"components": [2, 1]}, MEMORY, history=1),
    "picture, continuous": Feature(PicturePeaks, {"components": [2, 1]}, PICTURE),
    "dying, recurrent, continuous": Feature(ContinuousShifts, {}, MEMORY, history=1),
}

SINGLE_STEPS = ("Reinforce", "HAPPO")
# Feature, sampler and learner (None: any), and how the line begins that refuses them; the first that applies.
ENUMERATE = ("MAPROPS", "Autoregressive", "CoordinationGraph", "TabularMAPROPS", "Greedy")
REFUSED: list[tuple[str | None, str | None, str | None, str]] = [
    *(("recurrent", None, learner, "memory is gru and {learner} learns from single steps") for learner in SINGLE_STEPS),
    *(("continuous", sampler, None, "behavior {sampler} enumerates actions and {task} has") for sampler in ENUMERATE),
    ("discrete", "GaussianAdjustment", None, "behavior {sampler} is for continuous actions and {task} has discrete"),
    ("masked, continuous", None, None, "env {task} has continuous actions and says which are legal"),
    *(("recurrent", sampler, None, "behavior {sampler} counts the visits") for sampler in ("TabularMAPROPS", "Greedy")),
]
TABLE = [(feature, sampler, learner) for feature in FEATURES for sampler in BEHAVIORS for learner in LEARNERS]


def refusal(feature: str, sampler: str, learner: str) -> str | None:
    """How the line begins that refuses a cell; None: it trains."""
    task = FEATURES[feature].task
    has = {feature, *feature.split(", "), "continuous" if task.continuous_actions else "discrete"}
    for needed, only_sampler, only_learner, words in REFUSED:
        if needed in has and only_sampler in (None, sampler) and only_learner in (None, learner):
            return words.format(task=task.__name__, sampler=sampler, learner=learner)
    return None


def prepared(feature: str, sampler: str, learner: str, seed_ids: list[int], run_seed: int = 0) -> LitMAPROPS:
    """A run that has not begun: two environments per seed, two behavior updates in every batch."""
    column, kind, learner_kind = FEATURES[feature], BEHAVIORS[sampler], LEARNERS[learner]
    adjusted = {"hidden": [4], "learning_rate": 0.1, "epochs": 2, "clip_epsilon": 1.0, "kl_cutoff": 0.3}
    adjusted["adam_epsilon"] = 1e-3  # a gradient of 0 but for rounding must make no step
    # Products of so few numbers are rounded alike wherever a seed's lie.
    options: dict[str, Any] = {"hidden": [4], "learning_rate": 0.05} | column.learner
    if learner_kind.has_critic:
        options |= {"epochs": 1, "minibatches": 2}
    module = LitMAPROPS(
        kind(**adjusted if issubclass(kind, AdjustedPolicy) else {}),
        learner_kind(**options),
        num_seeds=len(seed_ids),
        total_env_steps=3 * N,  # more than the tests make: evaluations have tests of their own
        run_seed=run_seed,
    )
    module.seed_ids = seed_ids
    sizes = {"num_envs": 2, "behavior_batch_size": 4, "target_batch_size": N, "history_batches": column.history}
    module.prepare(MultiAgentData(column.task(**column.task_args), **sizes))
    module.engines = choose("auto", CPU, module.task, module.behavior, module.learner)
    return module


def trained(module: LitMAPROPS, iterations: int = 2) -> list[dict[str, torch.Tensor]]:
    module.on_fit_start()
    return iterate(module, iterations)


@pytest.mark.parametrize(("feature", "sampler", "learner"), TABLE)
def test_trains_or_is_refused(feature: str, sampler: str, learner: str) -> None:
    cell, words = (feature, sampler, learner), refusal(feature, sampler, learner)
    if words is not None:
        with pytest.raises(ConfigError, match=rf"^{words}[^\n]*$"):
            prepared(*cell, SEEDS)
        return
    whole = prepared(*cell, SEEDS)
    before = checkpoint_of_networks(whole)
    rows = trained(whole, 1)
    half = checkpoint_of(whole)
    rows += iterate(whole, 1)
    unknown = {name for row in rows for name, value in row.items() if not value.isfinite().all()}
    allowed = {"train/success_rate", "history/staleness"} | ({"behavior/kl"} if sampler == "Greedy" else set())  # which there are not
    assert unknown <= allowed, unknown
    after = whole.state_dict()
    assert all(value.isfinite().all() for value in after.values())
    moved = [(after[name] != before[name]).flatten(1).any(1) for name in before]
    assert torch.stack(moved).any(0).all(), "a seed's policies stayed as they were"

    again = resume(prepared(*cell, SEEDS), half)
    rows_again = iterate(again, 1)
    assert differences(checkpoint_of(again), checkpoint_of(whole)) == []
    assert differences(rows_again, rows[1:]) == []

    other = prepared(*cell, ORDER)
    rows_of_other = trained(other)
    for found, expected in ((other.state_dict(), after), *zip(rows_of_other, rows, strict=True)):
        assert found.keys() == expected.keys()
        for name, value in permuted(expected, ORDER).items():
            torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5, equal_nan=True, msg=say(name))


def checkpoint_of_networks(module: LitMAPROPS) -> dict[str, torch.Tensor]:
    """A copy of the policies' parameters and buffers."""
    return {
        f"learner.policies.{name}": value.clone() for name, value in module.learner.policies.state_dict().items()
    }


def say(name: str) -> Any:
    return lambda text: f"{name}: {text}"
