"""Adam's epsilon of behavior updates, against the closed form of Adam's first step."""

import pytest
import torch
from behavior_helpers import SERVED_TRAINED, WITH_COST_OPTIONS, built, random_data, random_policy, task_of, updated
from torch import Tensor

FORMS = [(name, kind, {}) for name, kind in SERVED_TRAINED]
FORMS += [(name, kind, {"reset_optimizer": False}) for name, kind in SERVED_TRAINED]
FORMS += [
    (name, "discrete", options)
    for name in WITH_COST_OPTIONS
    for options in ({"trained_layers": "last"}, {"merge_states": True}, {"warm_start": True})
]


def first_step(name: str, kind: str, epsilon: float, rate: float, **options: object) -> Tensor:
    """What the first gradient step from Delta = 0 adds to the parameters."""
    task = task_of(kind, n_states=2)
    arguments = {"hidden": [4], "epochs": 1, "adam_epsilon": epsilon, "learning_rate": rate, "kl_cutoff": 1e9}
    behavior = built(name, task, 2, **arguments, **options)
    before = behavior.net.flat.detach().clone()
    updated(behavior, random_data(task, random_policy(task, 2), rows=30))
    return behavior.net.flat.detach() - before


@pytest.mark.parametrize(("name", "kind", "options"), FORMS)
def test_the_first_step_is_adams(name: str, kind: str, options: dict[str, object]) -> None:
    """Its moments, bias corrected, are g and g^2: the step is -rate g / (abs(g) + epsilon)."""
    gradient = -first_step(name, kind, 1e6, 1e6, **options)  # g / (1 + abs(g) / 1e6)
    large = gradient.abs() > 1e-4
    assert large.float().mean() > 0.2 and gradient[large].abs().median() < 0.3
    for epsilon in (1e-8, 1e-2, 1.0):
        step = first_step(name, kind, epsilon, 0.5, **options)
        expected = -0.5 * gradient / (gradient.abs() + epsilon)
        torch.testing.assert_close(step[large], expected[large], rtol=2e-3, atol=1e-6)


def test_the_default_is_torchs() -> None:
    default = torch.optim.Adam([torch.zeros(1)]).param_groups[0]["eps"]
    for name, kind in SERVED_TRAINED:
        assert built(name, task_of(kind), 1).optimizer.settings.eps == default
