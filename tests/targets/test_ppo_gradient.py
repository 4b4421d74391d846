"""PPO's gradient as it is written out, against autograd's of TorchRL's losses; what it leaves to autograd."""

import pytest
import torch
from targets_helpers import (
    PPOS,
    SEEDS,
    SMALL,
    TASKS,
    GaussianTask,
    MaskedTask,
    SizesTask,
    built,
    filled,
    generator,
    random_batch,
    randomize_heads,
)
from tensordict import TensorDict
from torch import Tensor

from lit_maprops import keys
from lit_maprops.envs.ends import TERMINATED
from lit_maprops.stacked import mlp
from lit_maprops.targets import IPPO, Learner, TargetPolicies, ppo_gradient
from lit_maprops.targets.critics import IndependentCritic

CASES = {
    "plain": {},
    "shared": {"share_parameters": True},
    "clip_value": {"clip_value": 0.1, "critic_coeff": 0.7},
    "entropy": {"entropy_coeff": 0.5},
    "deep": {"hidden": [8, 24, 5]},
    "table": {"hidden": []},
}


def by_autograd(learner: Learner) -> Learner:
    """The same, with a loss of somebody's own."""
    learner.loss.__class__ = type("Own", (type(learner.loss),), {})
    return learner


def gradients(learner: Learner, data: TensorDict, rows: Tensor) -> tuple[dict[str, Tensor], list[Tensor]]:
    """Losses and gradients of some rows ``[R, b]``, half of what is asked for; D's ratios are not 1."""
    prepared = learner._prepare(filled(data).trajectories())
    shift = 0.6 * torch.rand(prepared.get(keys.LOG_PROB).shape, generator=generator(7)) - 0.3
    prepared.set(keys.LOG_PROB, prepared.get(keys.LOG_PROB) + shift)
    prepared.set(keys.VALUE, prepared.get(keys.VALUE) + shift.unsqueeze(-1))
    losses = learner._gradient_on(prepared)(rows, 2 * rows.shape[1])
    return losses, [net.flat.grad.clone() for net in (learner.policies.net, learner.critic.net)]


def left_early(data: TensorDict) -> TensorDict:
    """In the second environment agent 0 has left after two steps."""
    end = torch.zeros(*data.batch_size, 2, dtype=torch.uint8)
    end[:, 2:, 1, 0] = TERMINATED
    return data.set(keys.END, end).set(("next", *keys.END), torch.cat([end[:, 1:], end[:, -1:]], 1))


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("task", [SizesTask, MaskedTask])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", PPOS)
def test_it_is_autograds(name: str, case: str, task: type, left: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two networks at a time; rows are a permutation's first, others for each seed."""
    monkeypatch.setattr(mlp, "GROUP_NUMBERS", 200)
    found, expected = (built(name, task=task, clip_epsilon=0.1, **SMALL | CASES[case]) for _ in range(2))
    for learner in (found, by_autograd(expected)):
        randomize_heads(learner)
    assert ppo_gradient.knows(found.policies, found.critic, found.loss)
    assert not ppo_gradient.knows(expected.policies, expected.critic, expected.loss)
    data = random_batch(found)
    data = left_early(data) if left else data
    rows = torch.stack([torch.randperm(12, generator=generator(seed))[:7] for seed in range(SEEDS)])
    (losses, own), (wanted, theirs) = (gradients(learner, data, rows) for learner in (found, expected))
    assert list(losses) == list(wanted)
    for key, value in wanted.items():
        torch.testing.assert_close(losses[key], value, rtol=1e-6, atol=1e-6)
    for a, b in zip(own, theirs, strict=True):
        assert b.abs().max() > 0.01
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", PPOS)
def test_continuous_actions_are_left_to_autograd(name: str, task: type) -> None:
    learner = built(name, task=task)
    assert ppo_gradient.knows(learner.policies, learner.critic, learner.loss) == (task is not GaussianTask)


def test_what_is_somebodys_own_is_left_to_autograd() -> None:
    class OwnPolicies(TargetPolicies):
        """A user's."""

    class OwnCritic(IndependentCritic):
        """A user's."""

    class Own(IPPO):
        """With a critic of its own; the rest is ours."""

        critic_class = OwnCritic

    own = Own()
    own.build(SizesTask(), 0, [0])
    ours = built("IPPO")
    assert ppo_gradient.knows(ours.policies, ours.critic, ours.loss)
    assert not ppo_gradient.knows(own.policies, own.critic, own.loss)
    policies = OwnPolicies(SizesTask(), [4], False, [torch.Generator()])
    assert not ppo_gradient.knows(policies, ours.critic, ours.loss)


@pytest.mark.parametrize("name", PPOS)
def test_the_drift_is_measured_once_and_where_a_seed_breaks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked for in every epoch only if it can stop a seed: with ``kl_stop``, and where weights are NaN."""
    made = []
    drift = type(built(name))._drift
    monkeypatch.setattr("lit_maprops.targets.ppo.PPO._drift", lambda *a: made.append(1) or drift(*a))
    counts = []
    for broken, options in ((False, {}), (True, {}), (False, {"kl_stop": 1e9})):
        learner = built(name, **SMALL, epochs=4)
        learner.kl_stop = options.get("kl_stop")
        data = random_batch(learner)
        if broken:
            with torch.no_grad():
                learner.policies.net.flat[1] = torch.nan
        made.clear()
        stats = learner.update(filled(data))
        counts.append(len(made))
        assert stats["target_epochs"].tolist() == [4, 1 if broken else 4, 4]
        assert stats["target_kl"].isfinite().tolist() == [True, not broken, True]
    assert counts == [1, 4, 4]
