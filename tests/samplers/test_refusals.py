"""Mistakes of a loop are refused in one line that names the argument and the fix."""

import math
from collections.abc import Callable

import pytest
import torch
from sampler_helpers import ENVS, policy_of, run, sampler_of, theta_of
from torch import Tensor

from lit_maprops.behavior import MAPROPS, GaussianAdjustment, Greedy
from lit_maprops.samplers import JointSampler, SampledPolicy
from lit_maprops.system.errors import ConfigError

STATE = torch.ones(2, 3)
UNIFORM = torch.full((2, 2, 2), math.log(0.5))
NAN = torch.tensor(math.nan)


def fresh() -> JointSampler:
    return JointSampler(MAPROPS(hidden=[]), [2, 2], num_envs=2)


def started() -> JointSampler:
    sampler = fresh()
    sampler.act(STATE, UNIFORM)
    return sampler


def observed() -> JointSampler:
    sampler = started()
    sampler.observe()
    return sampler


CONSTRUCTIONS: list[tuple[Callable[[], object], str]] = [
    (lambda: JointSampler(MAPROPS(), num_envs=1), "n_actions and action_dims"),
    (lambda: JointSampler(MAPROPS(), [2], action_dims=[2], num_envs=1), "n_actions and action_dims"),
    (lambda: JointSampler(MAPROPS(), [], num_envs=1), "n_actions is []"),
    (lambda: JointSampler(MAPROPS(), [2, 0], num_envs=1), r"n_actions is [2, 0]"),
    (lambda: JointSampler(MAPROPS(), [2.0, 2.0], num_envs=1), "n_actions is 2.0: give an int"),  # type: ignore[list-item]
    (lambda: JointSampler(MAPROPS(), [2, 2], num_envs=0), "num_envs is 0"),
    (lambda: JointSampler(MAPROPS(), [2, 2], num_envs=1, seed=-1), "seed is -1"),
    (lambda: JointSampler("MAPROPS", [2, 2], num_envs=1), "behavior is 'MAPROPS'"),  # type: ignore[arg-type]
    (lambda: JointSampler(MAPROPS(), action_dims=[1], num_envs=1), "MAPROPS has no continuous actions"),
    (lambda: JointSampler(GaussianAdjustment(), [2], num_envs=1), "GaussianAdjustment has continuous actions only"),
    (lambda: JointSampler(observed().behavior, [2, 2], num_envs=2), "behavior has served a run already"),
    (lambda: JointSampler(MAPROPS(), [50] * 9, num_envs=1).act(STATE[:1], UNIFORM), "log_probs has shape"),
    (lambda: SampledPolicy(torch.nn.Identity(), fresh(), behavior_batch_size=3), "behavior_batch_size is 3"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("construct", "start"), CONSTRUCTIONS)
def test_construction(construct: Callable[[], object], start: str) -> None:
    with pytest.raises(ConfigError) as caught:
        construct()
    assert str(caught.value).startswith(start)
    assert "\n" not in str(caught.value)


def changed(place: tuple[int, ...], value: float) -> Tensor:
    tensor = UNIFORM.clone()
    tensor[place] = value
    return tensor


TENSORS: list[tuple[Tensor, Tensor, str]] = [
    (STATE[:1], UNIFORM, "state has shape [1, 3]: give [2, 3]"),
    (torch.ones(2, 4), UNIFORM, "state has shape [2, 4]: give [2, 3]"),
    (STATE * NAN, UNIFORM, "state holds NaN or infinity"),
    (STATE, UNIFORM[:1], "log_probs has shape [1, 2, 2]: give [2, 2, 2]"),
    (STATE, UNIFORM.flatten(1), "log_probs has shape [2, 4]"),
    (STATE, torch.zeros(2, 2, 3), "log_probs has shape [2, 2, 3]"),
    (STATE, torch.zeros(2, 2, 2), "log_probs is not normalized, its probabilities sum to exp(0.693)"),
    (STATE, changed((1, 1, 0), math.nan), "log_probs holds NaN"),
    (STATE, changed((1, 1), -math.inf), "log_probs leaves no action to agent 1 in environment 1: give at least one"),
    (STATE, [[0.5, 0.5]], "log_probs is of type list"),  # type: ignore[list-item]
]


@pytest.mark.parametrize("sampler", [fresh, observed])
@pytest.mark.parametrize(("state", "log_probs", "start"), TENSORS)
def test_tensors(sampler: Callable[[], JointSampler], state: Tensor, log_probs: Tensor, start: str) -> None:
    own = sampler()
    if own.task is None and "[2, 4]: give [2, 3]" in start:
        return  # the first state says how many numbers there are
    with pytest.raises(ConfigError) as caught:
        own.act(state, log_probs)
    assert str(caught.value).startswith(start.replace("[2, 3]", "[2, S]") if own.task is None else start)
    assert "\n" not in str(caught.value)
    own.act(STATE, UNIFORM)  # as if it had not happened


def test_probability_of_an_action_that_does_not_exist() -> None:
    sampler = sampler_of("MAPROPS", "discrete")
    with pytest.raises(ConfigError, match="log_probs gives probability to an action that its agent does not have"):
        sampler.act(torch.ones(ENVS, 3), torch.full((ENVS, 3, 3), -math.log(3)))
    continuous = sampler_of("GaussianAdjustment", "continuous")
    with pytest.raises(ConfigError, match="log_probs is not 0 for a component that its agent does not have"):
        continuous.act(torch.ones(ENVS, 3), torch.ones(ENVS, 3, 6))


def test_too_many_joint_actions() -> None:
    many = torch.full((1, 9, 50), -math.log(50))
    with pytest.raises(ConfigError, match="Autoregressive"):
        JointSampler(MAPROPS(), [50] * 9, num_envs=1).act(torch.ones(1, 1), many)


def test_observations_in_some_calls_only() -> None:
    sampler, observation = observed(), torch.ones(2, 2, 4)
    with pytest.raises(ConfigError, match="observation is given in some calls of act"):
        sampler.act(STATE, UNIFORM, observation)
    sampler.forget()
    sampler.act(STATE, UNIFORM, observation)
    sampler.observe()
    with pytest.raises(ConfigError, match="observation is given in some calls of act"):
        sampler.act(STATE, UNIFORM)
    with pytest.raises(ConfigError, match=r"observation has shape \[2, 2, 5\]: give \[2, 2, 4\]"):
        sampler.act(STATE, UNIFORM, torch.ones(2, 2, 5))


ORDERS: list[tuple[Callable[[], object], str]] = [
    (lambda: started().act(STATE, UNIFORM), "act() twice without observe()"),
    (lambda: fresh().observe(), "observe() without act()"),
    (lambda: observed().observe(), "observe() without act()"),
    (lambda: fresh().update(), "update() before observe()"),
    (lambda: started().update(), "update() between act() and observe()"),
    (lambda: started().reset(), "reset() between act() and observe()"),
    (lambda: started().state_dict(), "state_dict() between act() and observe()"),
]


@pytest.mark.parametrize(("calls", "start"), ORDERS)
def test_order_of_calls(calls: Callable[[], object], start: str) -> None:
    with pytest.raises(RuntimeError) as caught:
        calls()
    assert str(caught.value).startswith(start)
    assert "\n" not in str(caught.value)


def test_what_d_keeps() -> None:
    sampler = observed()
    with pytest.raises(ConfigError, match="new_log_probs is of 2 vector steps and D has 1"):
        sampler.reset(UNIFORM.expand(2, -1, -1, -1))
    with pytest.raises(ConfigError, match=r"new_log_probs has shape \[2, 2, 2\]: give \[T, 2, 2, 2\]"):
        sampler.reset(UNIFORM)
    with pytest.raises(ConfigError, match="new_log_probs is not normalized"):
        sampler.reset(torch.zeros(1, 2, 2, 2))
    assert len(sampler.steps) == 1
    sampler.reset(UNIFORM.unsqueeze(0))
    assert len(sampler.steps) == 1


def test_states_of_other_samplers() -> None:
    sampler = sampler_of("MAPROPS", "discrete")
    run(sampler, "discrete", range(4))
    saved = sampler.state_dict()
    others = [
        (JointSampler(Greedy(), [3, 2, 3], num_envs=ENVS), "behavior MAPROPS"),
        (JointSampler(MAPROPS(), [3, 3, 3], num_envs=ENVS), r"n_actions \[3, 2, 3\]"),
        (JointSampler(MAPROPS(), [3, 2, 3], num_envs=2), f"num_envs {ENVS}"),
        (JointSampler(policy_of("MAPROPS", hidden=[9]), [3, 2, 3], num_envs=ENVS), "networks of shapes"),
    ]
    for other, part in others:
        with pytest.raises(ConfigError, match=part) as caught:
            other.load_state_dict(saved)
        assert "\n" not in str(caught.value)
        assert other.task is None
    with pytest.raises(ConfigError, match="not a state_dict"):
        sampler.load_state_dict({})
    sampler.act(torch.ones(ENVS, 3), theta_of("discrete", ENVS))
