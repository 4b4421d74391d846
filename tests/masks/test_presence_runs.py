"""Every sampler and learner on tasks whose agents come and go: trains, resumes bit for bit, mixes no seeds."""

import pytest
import torch
from shifts import ContinuousShifts, MaskedShifts, Shifts, UnequalShifts
from stepped import checkpoint_of, iterate
from test_masked_runs import ITERATIONS, SAMPLERS, prepared, resumed
from test_resume import differences

from lit_maprops import keys
from lit_maprops.behavior import BEHAVIORS
from lit_maprops.envs import Task
from lit_maprops.envs.ends import ABSENT, RUNS, TERMINATED, TRUNCATED
from lit_maprops.targets import LEARNERS

DISCRETE = [name for name in SAMPLERS if BEHAVIORS[SAMPLERS[name][0]].discrete]
CONTINUOUS = [name for name in SAMPLERS if BEHAVIORS[SAMPLERS[name][0]].continuous and name != "joint coordinate"]
CONTINUOUS.remove("PROPS, auto")
SAMPLERS["correlated"] = "GaussianAdjustment", {"correlated": True}
SAMPLERS["by value"] = "LowDiscrepancy", {"order": "value"}
EVERY = [(Shifts, sampler, learner) for sampler in DISCRETE if sampler in BEHAVIORS for learner in LEARNERS]
EVERY += [(Shifts, sampler, "IPPO") for sampler in [*DISCRETE, "by value"] if sampler not in BEHAVIORS]
EVERY += [
    (ContinuousShifts, sampler, learner) for sampler in CONTINUOUS if sampler in BEHAVIORS for learner in LEARNERS
]
EVERY += [(ContinuousShifts, sampler, "MAPPO") for sampler in [*CONTINUOUS, "correlated"] if sampler not in BEHAVIORS]
EVERY += [(MaskedShifts, sampler, "IPPO") for sampler in ("OnPolicy", "MAPROPS", "LowDiscrepancy")]
EVERY += [(MaskedShifts, "Greedy", "MAPPO")]  # with the fitted sampling error
EVERY += [(UnequalShifts, sampler, "IPPO") for sampler in ("OnPolicy", "PROPS", "Autoregressive", "CoordinationGraph")]


@pytest.mark.every(7)
@pytest.mark.parametrize(("task", "sampler", "learner"), EVERY, ids=lambda part: getattr(part, "__name__", part))
def test_every_sampler_and_learner(task: type[Task], sampler: str, learner: str) -> None:
    whole = prepared(sampler, learner, [0, 1, 2], task)
    whole.on_fit_start()
    rows = iterate(whole, 2)
    half = checkpoint_of(whole)
    rows += iterate(whole, ITERATIONS - 2)
    stored = whole.buffer._stored()
    end, left = stored.get(keys.END), stored.get(keys.END) != RUNS
    assert {RUNS, ABSENT, TERMINATED, TRUNCATED} == set(end.unique().tolist())
    assert not stored.get(keys.LOG_PROB)[left].any() and (stored.get(keys.LOG_PROB)[~left] != 0).any()
    if task.continuous_actions:
        assert not stored.get(keys.ACTION)[left].any()
    nobody = left.all(-1)
    assert nobody.any()
    for key in (keys.TARGET_LOG_PROB, keys.BEHAVIOR_LOG_PROB, keys.BEHAVIOR_KL):
        if sampler != "Greedy" or key != keys.BEHAVIOR_KL:
            torch.testing.assert_close(stored.get(key)[nobody], torch.zeros(int(nobody.sum())), rtol=0, atol=2e-6)
    unknown = {name for name, value in rows[-1].items() if not value.isfinite().all()}
    allowed = {"train/success_rate"} | ({"behavior/kl"} if sampler == "Greedy" else set())  # which there are not
    assert unknown <= allowed, unknown
    assert all(p.isfinite().all() for p in whole.parameters())
    assert all(e.episode_return.isfinite().all() for e in whole.evaluations.values())

    again = resumed(half, sampler, learner, [0, 1, 2], task)
    rows_again = iterate(again, ITERATIONS - 2)
    assert differences(checkpoint_of(again), checkpoint_of(whole)) == []
    assert differences(rows_again, rows[2:]) == []

    order = [2, 0, 1]
    permuted = prepared(sampler, learner, order, task)
    permuted.on_fit_start()
    for row, expected in zip(iterate(permuted, ITERATIONS), rows, strict=True):
        for name, value in row.items():
            fitted = name.startswith("sampling_error/") and "kl" in name  # by a hundred steps of Adam
            close = {"rtol": 0.02, "atol": 1e-3} if fitted else {"rtol": 1e-4, "atol": 1e-5}
            message = f"{name}: {value} {expected[name][order]}"
            torch.testing.assert_close(value, expected[name][order], **close, equal_nan=True, msg=message)
