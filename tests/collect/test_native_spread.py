"""VMAS's simple_spread by the kernel against the simulator: from any state, and over episodes."""

from typing import Any

import pytest
import torch
from collect_helpers import acted, assert_same_state, collection, native, pair

from lit_maprops import keys
from lit_maprops.behavior import MAPROPS, OnPolicy
from lit_maprops.collect import NativeCollection, unsupported
from lit_maprops.collect.native_evaluation import evaluate as natively
from lit_maprops.envs import VMAS
from lit_maprops.envs.faults import Faults
from lit_maprops.envs.vmas import native as rules_
from lit_maprops.metrics.evaluate import evaluate
from lit_maprops.targets import MAPPO, TargetPolicies

vmas = pytest.importorskip("vmas")
pytestmark = native
ROWS = 4096
OPTIONS: dict[str, dict[str, Any]] = {
    "three agents": {},
    "alone": {"n_agents": 1},
    "five that do not see each other": {"n_agents": 5, "options": {"obs_agents": False}},
}


def body(task: VMAS, state: dict[str, torch.Tensor], number: int, part: str) -> torch.Tensor:
    """Position or velocity ``[..., 2]`` of an agent in a state, to be changed there."""
    first = task.simulator.begins(f"._world._agents.{number}._state.{part}")
    return state["float32"][..., first : first + 2]


def crowded(task: VMAS, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Agents that lie on each other, touch, or move apart: in most rows some are in contact."""
    state = task.initial_state(torch.rand(1, ROWS, 2, generator=generator))
    for number in range(task.n_agents):
        body(task, state, number, "_pos").mul_(0.4)
        body(task, state, number, "_vel").normal_(generator=generator)
    if task.n_agents > 1:
        one, other = (body(task, state, number, "_pos") for number in (0, 1))
        other[:, :16] = one[:, :16]  # no way to push
        other[:, 16:32] = one[:, 16:32] + 1e-7  # too near for one
        other[:, 32:64] = one[:, 32:64] + torch.tensor([0.0, 0.2995])
    return state


def close(one: torch.Tensor, other: torch.Tensor, rounding: float = 1e-5) -> None:
    torch.testing.assert_close(other, one, atol=rounding, rtol=rounding)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_step_follows_the_simulator_from_any_state(options: dict[str, Any]) -> None:
    """Then episodes start anew in half of the rows, in the very places that the simulator draws."""
    task, generator = VMAS("simple_spread", **options), torch.Generator().manual_seed(1)
    own = collection(NativeCollection, task, OnPolicy(), [0], ROWS, ROWS)
    state = crowded(task, generator)
    following = state | {"step": torch.randint(98, 100, (1, ROWS), generator=generator).int()}
    own.restore({"env": own.checkpoint_state()["env"] | {"state": following}})
    action = torch.randint(9, (1, ROWS, task.n_agents), generator=generator)
    noise = torch.rand(1, ROWS, 2, generator=generator)
    outcome, step = task.transition(state, action, noise[..., :0]), acted(own, action, noise)
    observation, everything = task.observe(outcome.state)
    close(outcome.reward, step.get(keys.REWARD).squeeze(-1))
    close(observation, step.get(keys.OBSERVATION))
    close(everything, step.get(keys.STATE))
    assert torch.equal(step.get(keys.TERMINATED).squeeze(-1), outcome.terminated)
    assert torch.equal(step.get(keys.SUCCESS).squeeze(-1), outcome.success)
    over, fresh = step.get(keys.DONE).squeeze(-1), task.initial_state(noise)
    for name in ("float32", "observation"):
        value = own.env.state[name]
        assert torch.equal(value[over], fresh[name][over]), name
        close(outcome.state[name][~over], value[~over])
    assert ROWS / 3 < over.sum() < ROWS
    # What it is about has happened: agents were pushed, beyond what drag and their own force do.
    before, after = (body(task, one, 0, "_vel") for one in (state, outcome.state))
    pushed = (after - 0.75 * before).abs().amax(-1) > 0.11
    assert (pushed.sum() > ROWS / 4) == (task.n_agents > 1)


def test_steps_are_those_of_vmas_itself() -> None:
    """Its own environment, without our task in between."""
    task, worlds = VMAS("simple_spread", max_steps=1000), 32
    own = collection(NativeCollection, task, OnPolicy(), [0], worlds, worlds)
    reference = vmas.make_env("simple_spread", worlds, continuous_actions=False, seed=3)
    state = own.env.state
    for number, agent in enumerate(reference.agents):
        agent.set_pos(body(task, state, number, "_pos")[0].clone(), batch_index=None)
    for number, landmark in enumerate(reference.world.landmarks):
        first = task.simulator.begins(f"._world._landmarks.{number}._state._pos")
        landmark.set_pos(state["float32"][0, :, first : first + 2].clone(), batch_index=None)
    generator = torch.Generator().manual_seed(5)
    for _ in range(25):
        action = torch.randint(9, (worlds, 3), generator=generator)
        seen, reward, _, _ = reference.step([one.unsqueeze(-1) for one in action.unbind(1)])
        step = acted(own, action.unsqueeze(0), torch.rand(1, worlds, 2, generator=generator))
        close(torch.stack(seen, 1), step.get(keys.OBSERVATION)[0], 1e-4)
        close(torch.stack(reward, 1), step.get(keys.REWARD)[0].squeeze(-1), 1e-4)


@pytest.mark.parametrize(
    ("behavior", "envs", "batch", "shared", "options"),
    [
        (OnPolicy, 3, 12, True, {}),
        (OnPolicy, 2, 8, False, {"n_agents": 4, "options": {"obs_agents": False}}),
        (lambda: OnPolicy(draws="stratified"), 3, 6, False, {}),
        (lambda: MAPROPS(hidden=[16]), 2, 8, False, {"n_agents": 2}),
    ],
    ids=["shared", "four agents", "stratified", "joint"],
)
def test_collections_play_the_same_episodes(behavior, envs, batch, shared, options) -> None:  # type: ignore[no-untyped-def]
    """Every action is equal; where agents touch, roundings grow within an episode."""
    task = VMAS("simple_spread", max_steps=20, **options)
    oracle, own = pair(task, behavior, [3, 5], envs, batch, shared=shared)
    ends = 0
    for _ in range(48 * envs // batch):
        one, other = oracle.collect(), own.collect()
        assert set(one.keys(True, True)) == set(other.keys(True, True))
        for name in one.keys(True, True):
            expected, value = one.get(name), other.get(name)
            assert value.dtype == expected.dtype and value.shape == expected.shape, name
            if expected.dtype == torch.float32:
                close(expected, value, 1e-4)
            else:
                assert torch.equal(value, expected), name
        ends += int(one.get(("next", "truncated")).sum())
    assert ends == 2 * envs * 2  # seeds, environments, episodes
    assert oracle.env.faults.env_steps == own.env.faults.env_steps > 0
    theirs, ours = (engine.checkpoint_state()["env"] for engine in (oracle, own))
    assert_same_state(theirs["streams"], ours["streams"])
    assert torch.equal(theirs["next_start_noise"], ours["next_start_noise"])
    for name, value in theirs["state"].items():
        close(value, ours["state"][name], 1e-4)


@pytest.mark.parametrize("first", [0, 1])
def test_either_engine_continues_the_others_checkpoint(first: int) -> None:
    engines = pair(VMAS("simple_spread", max_steps=9), OnPolicy, [0, 1], 2, 2)
    before, after = engines[first], engines[1 - first]
    for _ in range(13):
        before.collect()
    actor = {0: lambda c: c._collector.policy.behavior, 1: lambda c: c.behavior}
    after.restore(before.checkpoint_state())
    actor[1 - first](after).restore(actor[first](before).checkpoint_state())
    for _ in range(14):
        one, other = before.collect(), after.collect()
        assert torch.equal(one.get(keys.ACTION), other.get(keys.ACTION))
        close(one.get(("next", *keys.OBSERVATION)), other.get(("next", *keys.OBSERVATION)), 1e-4)


@pytest.mark.parametrize("greedy", [True, False])
def test_evaluations_play_the_same_episodes(greedy: bool) -> None:
    task, learner, seeds = VMAS("simple_spread", max_steps=25), MAPPO(hidden=[16]), [4, 0, 7]
    learner.build(task, 3, seeds)
    with torch.no_grad():
        learner.policies.net.flat.mul_(2.0)
        learner.policies.net.flat[1] = torch.nan
    arguments = learner.policies, task, 3, seeds, 6, greedy, "evaluation 5"
    expected, found = (play(*arguments, Faults("VMAS", seeds)) for play in (evaluate, natively))
    for one, other in zip(expected[:2], found[:2], strict=True):
        torch.testing.assert_close(other, one, equal_nan=True, atol=1e-4, rtol=1e-5)
    assert expected.episode_return.isnan().tolist() == [False, True, False]
    assert expected.tells_success == found.tells_success


def test_what_is_left_to_the_simulator_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def reason(scenario: str = "simple_spread", **options: Any) -> str:
        task = VMAS(scenario, **options)
        policies = TargetPolicies(task, [4], False, [torch.Generator()])
        return str(unsupported(task, policies, OnPolicy(), torch.device("cpu")))

    assert reason(n_agents=2, options={"obs_agents": False}) == "None"
    assert reason("balance") == "VMAS's scenario balance has no compiled rules"
    assert reason(options={"grad_enabled": True}) == "VMAS's simple_spread has no compiled rules with grad_enabled"
    continuous = rules_.why_not(VMAS("simple_spread", continuous=True))
    assert continuous == "VMAS's simple_spread has no compiled rules for continuous actions"
    monkeypatch.setattr(rules_, "version", lambda name: "1.5.9")
    assert reason() == "the compiled rules are those of vmas 1.5.2, and 1.5.9 is installed"
