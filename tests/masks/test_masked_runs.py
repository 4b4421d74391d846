"""Every sampler and learner on a task whose states remove actions: trains, resumes bit for bit, mixes no seeds."""

from typing import Any

import pytest
import torch
from masked_game import LEGAL, Doors
from stepped import checkpoint_of, iterate, resume
from test_resume import differences

from lit_maprops import keys
from lit_maprops.behavior import BEHAVIORS
from lit_maprops.behavior.adjusted import AdjustedPolicy
from lit_maprops.data import MultiAgentData
from lit_maprops.envs import Task
from lit_maprops.module import LitMAPROPS
from lit_maprops.native.build import why_none
from lit_maprops.system.errors import ConfigError
from lit_maprops.targets import LEARNERS

N, ITERATIONS = 16, 3  # n, and target iterations of a run
SAMPLERS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in BEHAVIORS},
    "stratified": ("OnPolicy", {"draws": "stratified"}),
    "MAPROPS, low discrepancy": ("MAPROPS", {"draws": "low_discrepancy"}),
    "MAPROPS, merged states": ("MAPROPS", {"merge_states": True}),
    "MAPROPS, auto": ("MAPROPS", {"kl_cutoff": "auto"}),
    "PROPS, auto": ("PROPS", {"kl_cutoff": "auto"}),
    "Autoregressive, auto": ("Autoregressive", {"kl_cutoff": "auto"}),
    "CoordinationGraph, auto": ("CoordinationGraph", {"kl_cutoff": "auto"}),
    "TabularMAPROPS, auto": ("TabularMAPROPS", {"kl_cutoff": "auto"}),
    "joint coordinate": ("LowDiscrepancy", {"coordinates": "joint"}),
    "ordered by policy": ("LowDiscrepancy", {"order": "policy"}),
}
EVERY = [(sampler, learner) for sampler in BEHAVIORS for learner in LEARNERS]
EVERY += [(sampler, "IPPO") for sampler in SAMPLERS if sampler not in BEHAVIORS]


def prepared(sampler: str, learner: str, seed_ids: list[int], task: type[Task] = Doors, **data: Any) -> LitMAPROPS:
    """A run that has not begun, with two environments per seed."""
    name, arguments = SAMPLERS[sampler]
    kind = BEHAVIORS[name]
    if issubclass(kind, AdjustedPolicy):
        arguments = {
            "hidden": [4],
            "learning_rate": 0.1,
            "epochs": 3,
            "clip_epsilon": 1.0,
            "kl_cutoff": 0.3,
        } | arguments
        arguments = {"adam_epsilon": 1e-3} | arguments  # a gradient of 0 but for rounding must make no step
    tabular = "likelihood" if learner == "MAPPO" and task().masks_actions else "tabular"
    # Products of so few numbers are rounded alike wherever a seed's lie.
    policy: dict[str, Any] = {"hidden": [4], "learning_rate": 0.05}
    module = LitMAPROPS(
        kind(**arguments),
        LEARNERS[learner](**policy),
        num_seeds=len(seed_ids),
        total_env_steps=N * ITERATIONS,
        eval_interval=ITERATIONS,
        eval_episodes=3,
        sampling_error_interval=ITERATIONS,
        sampling_error="energy" if task.continuous_actions else tabular,
    )
    module.seed_ids = seed_ids
    defaults = {"num_envs": 2, "behavior_batch_size": 4, "target_batch_size": N, "history_batches": 2}
    module.prepare(MultiAgentData(task(), **(defaults | data)))
    return module


def resumed(saved: dict[str, Any], *made: Any) -> LitMAPROPS:
    return resume(prepared(*made), saved)


@pytest.mark.every(6)
@pytest.mark.parametrize(("sampler", "learner"), EVERY, ids=lambda name: name)
def test_every_sampler_and_learner(sampler: str, learner: str) -> None:
    if not BEHAVIORS[SAMPLERS[sampler][0]].discrete:
        with pytest.raises(ConfigError, match=r"^[^\n]*for continuous actions and Doors has discrete ones[^\n]*$"):
            prepared(sampler, learner, [0, 1, 2])
        return
    whole = prepared(sampler, learner, [0, 1, 2])
    whole.on_fit_start()
    rows = iterate(whole, 2)
    half = checkpoint_of(whole)
    rows += iterate(whole, ITERATIONS - 2)
    # Doors raises at an illegal action, so none was drawn; this says the same of what D holds.
    data = whole.buffer.flat(keys.ACTION, keys.ACTION_MASK, keys.STATE_INDEX, keys.PARAMETERS)
    legal = data.get(keys.ACTION_MASK)
    assert torch.equal(legal, LEGAL[data.get(keys.STATE_INDEX).squeeze(-1)])
    assert torch.equal(data.get(keys.PARAMETERS).isfinite(), legal)
    assert legal.gather(-1, data.get(keys.ACTION).unsqueeze(-1)).all()
    unknown = {name for name, value in rows[-1].items() if not value.isfinite().all()}
    allowed = {"train/success_rate"} | ({"behavior/kl"} if sampler == "Greedy" else set())  # which there are not
    assert unknown <= allowed, unknown
    assert all(p.isfinite().all() for p in whole.parameters())
    assert all(e.episode_return.isfinite().all() for e in whole.evaluations.values())

    again = resumed(half, sampler, learner, [0, 1, 2])
    rows_again = iterate(again, ITERATIONS - 2)
    assert differences(checkpoint_of(again), checkpoint_of(whole)) == []
    assert differences(rows_again, rows[2:]) == []

    order = [2, 0, 1]
    permuted = prepared(sampler, learner, order)
    permuted.on_fit_start()
    for row, expected in zip(iterate(permuted, ITERATIONS), rows, strict=True):
        for name, value in row.items():
            torch.testing.assert_close(
                value,
                expected[name][order],
                rtol=1e-4,
                atol=1e-5,
                equal_nan=True,
                msg=lambda text, name=name: f"{name}: {text}",
            )


class Blind(Doors):
    """Agents and critic see nothing, so that the same numbers stand for states with other legal actions."""

    def observe(self, state: Any) -> Any:
        return tuple(torch.ones_like(seen) for seen in super().observe(state))


def assert_engines_agree(sampler: str, learner: str, task: type[Task]) -> None:
    """Both measure and learn the same, in two iterations from the same random numbers."""
    both = [prepared(sampler, learner, [0, 1, 2], task) for _ in range(2)]
    parts = [both[1].learner, *([] if sampler == "OnPolicy" else [both[1].behavior])]
    for part in parts:
        assert part.why_not_native() is None
        part.use_kernel()
    rows = []
    for module in both:
        module.on_fit_start()
        rows.append(iterate(module, 2))
    for expected, found in zip(*rows, strict=True):
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=2e-3, atol=1e-4, equal_nan=True, msg=f"{name}: {value}")
    for expected, found in zip(*(module.parameters() for module in both), strict=True):
        torch.testing.assert_close(found, expected, rtol=2e-3, atol=1e-4)


@pytest.mark.skipif(why_none() is not None, reason=f"no kernels: {why_none()}")
@pytest.mark.parametrize("learner", ["IPPO", "MAPPO", "HAPPO"])
@pytest.mark.parametrize("sampler", ["MAPROPS", "MAPROPS, merged states", "MAPROPS, auto", "PROPS", "OnPolicy"])
def test_kernels_are_told_which_actions_are_legal(sampler: str, learner: str) -> None:
    assert_engines_agree(sampler, learner, Doors)


@pytest.mark.skipif(why_none() is not None, reason=f"no kernels: {why_none()}")
@pytest.mark.parametrize("sampler", ["MAPROPS, auto", "PROPS, auto", "MAPROPS, merged states"])
def test_states_with_other_legal_actions_are_others_to_kernels(sampler: str) -> None:
    assert_engines_agree(sampler, "IPPO", Blind)
