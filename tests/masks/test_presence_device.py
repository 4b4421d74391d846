"""Agents that come and go on a device: the CPU's results, nothing left on the CPU."""

from typing import Any

import pytest
import torch
from shifts import ContinuousShifts, Shifts
from test_device import PRETEND, device_module, figures_of, pretending, started  # noqa: F401

from lit_maprops.behavior import BEHAVIORS
from lit_maprops.envs import Task
from lit_maprops.targets import MAPPO

PAIRS = [(Shifts, "MAPROPS"), (Shifts, "PROPS"), (ContinuousShifts, "GaussianAdjustment"), (ContinuousShifts, "PROPS")]


@pytest.mark.parametrize(("task", "sampler"), PAIRS, ids=lambda part: getattr(part, "__name__", part))
def test_a_device_gives_the_results_of_the_cpu(pretending: Any, task: type[Task], sampler: str) -> None:  # noqa: F811
    found = []
    for device in ("cpu", PRETEND):
        error = "energy" if task.continuous_actions else "tabular"
        model = started(task(), BEHAVIORS[sampler](), MAPPO(epochs=2, minibatches=2), device, error)
        model.learner.optimizer.fused = False
        for iteration in range(2):
            model.training_step(iteration, iteration)
        found.append({name: value.cpu() for name, value in model.state_dict().items()} | figures_of(model))
    assert set(found[0]) == set(found[1])
    for name in found[0]:
        torch.testing.assert_close(found[1][name], found[0][name], rtol=1e-3, atol=1e-4, equal_nan=True, msg=name)
